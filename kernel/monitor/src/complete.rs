//! Tab completion.

use crate::command::{LEVELS, VM_VERBS, names};
use alloc::string::String;
use alloc::vec::Vec;

/// What completing the word left of the cursor gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Completion {
    /// Nothing fits.
    Nothing,
    /// Replace the text from `start` to the cursor.
    Replace {
        /// Where the word begins.
        start: usize,
        /// The longer word, with a blank if it is complete.
        word: String,
    },
    /// Several words fit and have no more in common than what is typed.
    Choices(Vec<String>),
}

/// Completes the last word of `before_cursor`; `vms` are the names of the virtual machines.
pub(crate) fn complete(before_cursor: &str, vms: &[String]) -> Completion {
    let start = before_cursor.rfind(' ').map_or(0, |blank| blank + 1);
    let (before, word) = before_cursor.split_at(start);
    let earlier: Vec<&str> = before.split_ascii_whitespace().collect();
    let fitting: Vec<&str> =
        expected_after(&earlier, vms).into_iter().filter(|candidate| candidate.starts_with(word)).collect();
    let Some((first, rest)) = fitting.split_first() else { return Completion::Nothing };
    if rest.is_empty() {
        return Completion::Replace { start, word: alloc::format!("{first} ") };
    }
    let common = rest.iter().fold(*first, |common, other| common_prefix(common, other));
    if common.len() > word.len() {
        return Completion::Replace { start, word: String::from(common) };
    }
    Completion::Choices(fitting.iter().copied().map(String::from).collect())
}

/// The words that may follow `earlier`.
fn expected_after<'a>(earlier: &[&str], vms: &'a [String]) -> Vec<&'a str> {
    match earlier {
        [] | ["help" | "?"] => names().to_vec(),
        ["vm"] => VM_VERBS.to_vec(),
        ["log"] => LEVELS.to_vec(),
        ["stats" | "exits" | "console"] | ["vm", "start" | "stop" | "reset" | "console" | "info"] => {
            vms.iter().map(String::as_str).collect()
        }
        _ => Vec::new(),
    }
}

fn common_prefix<'a>(a: &'a str, b: &str) -> &'a str {
    let length = a.chars().zip(b.chars()).take_while(|(x, y)| x == y).map(|(x, _)| x.len_utf8()).sum();
    a.get(..length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vms() -> Vec<String> {
        vec!["debian-1".into(), "debian-2".into(), "probe".into()]
    }

    fn replaced(line: &str) -> (usize, String) {
        match complete(line, &vms()) {
            Completion::Replace { start, word } => (start, word),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_single_fit_is_completed_with_a_blank() {
        assert_eq!(replaced("po"), (0, "poweroff ".into()));
        assert_eq!(replaced("vm sta"), (3, "start ".into()));
        assert_eq!(replaced("vm info p"), (8, "probe ".into()));
        assert_eq!(replaced("log d"), (4, "debug ".into()));
        assert_eq!(replaced("help ex"), (5, "exits ".into()));
    }

    #[test]
    fn several_fits_are_completed_as_far_as_they_agree_then_listed() {
        assert_eq!(replaced("stats d"), (6, "debian-".into()));
        assert_eq!(
            complete("stats debian-", &vms()),
            Completion::Choices(vec!["debian-1".into(), "debian-2".into()])
        );
        assert_eq!(complete("vm start ", &vms()), Completion::Choices(vms()));
    }

    #[test]
    fn nothing_is_offered_where_nothing_is_expected() {
        for line in ["zz", "host ", "vm list ", "vm stop probe ", "stats x"] {
            assert_eq!(complete(line, &vms()), Completion::Nothing, "{line}");
        }
    }
}
