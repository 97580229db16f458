//! Where unsafe code may be, found by the words of the sources themselves, without comments and strings.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::paths;

/// Where the word `unsafe` may stand, and why.
const UNSAFE_PLACES: [(&str, &str); 3] = [
    ("kernel/hal/", "the one crate that touches the hardware"),
    ("guest-images/testkit/src/machine/", "a bare-metal test guest boots and traps by itself"),
    ("tests/bench/kvm-runner/", "hands memory to KVM, outside of Craton"),
];
/// Directories without sources of ours.
const SKIPPED: [&str; 3] = ["target", "build", ".git"];

/// The word `unsafe` outside of its places is an error.
pub(super) fn check_unsafe() -> Result<()> {
    let root = paths::root();
    let mut found = Vec::new();
    for file in rust_files(root)? {
        let relative = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        if UNSAFE_PLACES.iter().any(|(place, _)| relative.starts_with(place)) {
            continue;
        }
        let text = read(&file)?;
        found.extend(
            words(&text).filter(|word| word.text == "unsafe").map(|word| format!("{relative}:{}", word.line)),
        );
    }
    if !found.is_empty() {
        let places: Vec<String> =
            UNSAFE_PLACES.iter().map(|(place, why)| format!("  {place}: {why}")).collect();
        bail!(
            "`unsafe` outside of its places:\n  {}\nits places are:\n{}",
            found.join("\n  "),
            places.join("\n")
        );
    }
    Ok(())
}

/// Every crate under `vmm/`, the monitor and the turns, forbids unsafe code and does without the standard library.
pub(super) fn check_crate_attributes() -> Result<()> {
    let root = paths::root();
    let mut crates = vec![root.join("vmm"), root.join("kernel/monitor"), root.join("kernel/turns")];
    for entry in std::fs::read_dir(root.join("vmm"))? {
        let path = entry?.path();
        if path.join("Cargo.toml").is_file() {
            crates.push(path);
        }
    }
    crates.sort();
    let mut missing = Vec::new();
    for folder in crates {
        let file = folder.join("src/lib.rs");
        let text = read(&file)?;
        for wanted in missing_attributes(&text) {
            missing.push(format!("{}: {wanted}", file.strip_prefix(root).unwrap_or(&file).display()));
        }
    }
    if !missing.is_empty() {
        bail!("missing:\n  {}", missing.join("\n  "));
    }
    Ok(())
}

/// What the crate root `text` lacks.
fn missing_attributes(text: &str) -> Vec<&'static str> {
    let words: Vec<&str> = words(text).map(|word| word.text).collect();
    let mut missing = Vec::new();
    if !words.windows(2).any(|pair| pair == ["forbid", "unsafe_code"]) {
        missing.push("#![forbid(unsafe_code)]");
    }
    if !words.contains(&"no_std") {
        missing.push("#![cfg_attr(not(test), no_std)]");
    }
    missing
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// All Rust sources below `directory`, in order.
fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?
        {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && !SKIPPED.contains(&name.as_ref()) {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// A word (identifier, keyword or number) of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word<'a> {
    text: &'a str,
    line: usize,
}

/// The words of Rust source `text`, outside of comments, strings and character literals.
///
/// The Rust Reference, "Lexical structure".
fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let mut rest = text;
    let mut line = 1;
    std::iter::from_fn(move || {
        loop {
            let (length, is_word) = token(rest)?;
            let (token, behind) = rest.split_at(length);
            rest = behind;
            let here = line;
            line += token.bytes().filter(|byte| *byte == b'\n').count();
            if is_word {
                return Some(Word { text: token, line: here });
            }
        }
    })
}

/// Length in bytes of the token at the beginning of `text`, and whether it is a word. `None` at the end.
fn token(text: &str) -> Option<(usize, bool)> {
    let first = text.chars().next()?;
    if text.starts_with("//") {
        return Some((text.find('\n').unwrap_or(text.len()), false));
    }
    if text.starts_with("/*") {
        return Some((block_comment(text), false));
    }
    if let Some(length) = string(text) {
        return Some((length, false));
    }
    if first == '\'' {
        return Some((quote(text), false));
    }
    let length = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    if length > 0 { Some((length, true)) } else { Some((first.len_utf8(), false)) }
}

/// Length of the block comment that `text` begins with. Block comments nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Length of the string literal that `text` begins with, whatever its prefix.
fn string(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r"].into_iter().find(|prefix| {
        let behind = text.strip_prefix(prefix).map(|rest| rest.trim_start_matches('#'));
        behind.is_some_and(|rest| rest.starts_with('"'))
    });
    let prefix = prefix.unwrap_or("");
    let body = &text[prefix.len()..];
    let hashes = body.len() - body.trim_start_matches('#').len();
    if prefix.ends_with('r') {
        let end = format!("\"{}", "#".repeat(hashes));
        let start = prefix.len() + hashes + 1;
        return Some(text[start..].find(&end).map_or(text.len(), |found| start + found + end.len()));
    }
    if hashes > 0 || !body.starts_with('"') {
        return None;
    }
    Some(prefix.len() + escaped_until(body, '"'))
}

/// Length of what begins with the quote `end` in `text` and reaches to the next one without a backslash before it.
fn escaped_until(text: &str, end: char) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' {
            is_escaped = true;
        } else if c == end {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// Length of the character literal or the lifetime's quote that `text` begins with.
fn quote(text: &str) -> usize {
    let mut characters = text.chars().skip(1);
    match (characters.next(), characters.next()) {
        (Some('\\'), _) => escaped_until(text, '\''),
        (Some(c), Some('\'')) => 2 + c.len_utf8(),
        // A lifetime: its name is a word that cannot be a keyword.
        (Some(_) | None, _) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        words(text).map(|word| word.text).collect()
    }

    #[test]
    fn comments_and_strings_hold_no_words() {
        assert_eq!(found("a // unsafe\nb /* unsafe /* unsafe */ unsafe */ c"), ["a", "b", "c"]);
        assert_eq!(found(r#"x("unsafe \" unsafe", b"unsafe", c"unsafe") y"#), ["x", "y"]);
        assert_eq!(found(r###"r"unsafe" r#"un"safe"# br##"unsafe"# "## z"###), ["z"]);
        assert_eq!(found("\"unsafe\nunsafe\" q"), ["q"]);
    }

    #[test]
    fn character_literals_and_lifetimes_do_not_open_strings() {
        assert_eq!(
            found(r#"'"' unsafe '\'' unsafe '\u{22}' fn f<'a>(x: &'a str) "unsafe""#),
            ["unsafe", "unsafe", "fn", "f", "a", "x", "a", "str"]
        );
    }

    #[test]
    fn words_that_only_contain_unsafe_are_other_words() {
        assert_eq!(
            found("#![forbid(unsafe_code)] r#unsafe unsafe{}"),
            ["forbid", "unsafe_code", "r", "unsafe", "unsafe"]
        );
    }

    #[test]
    fn lines_are_counted_through_everything() {
        let text = "/* one\ntwo */\n\"three\nfour\"\nunsafe\n// six\nunsafe";
        assert_eq!(words(text).map(|word| word.line).collect::<Vec<_>>(), [5, 7]);
    }

    #[test]
    fn attributes_in_comments_do_not_count() {
        let text = "//! #![forbid(unsafe_code)]\n#![cfg_attr(not(test), no_std)]\n";
        assert_eq!(missing_attributes(text), ["#![forbid(unsafe_code)]"]);
        assert!(missing_attributes("#![no_std]\n#![forbid(unsafe_code)]").is_empty());
    }

    #[test]
    fn unfinished_source_ends() {
        for text in ["\"abc", "/* abc", "r#\"abc", "'", "'\\", "b'"] {
            assert!(words(text).count() < 3, "{text}");
        }
    }
}
