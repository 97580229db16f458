//! Tab completion.

use crate::command::{LEVELS, VM_VERBS, names};
use crate::settings::{CREATE_KEYS, SET_KEYS, WORD_VALUES};
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
    let fitting: Vec<&str> = expected_after(&earlier, word, vms)
        .into_iter()
        .filter(|candidate| candidate.starts_with(word))
        .collect();
    let Some((first, rest)) = fitting.split_first() else { return Completion::Nothing };
    if rest.is_empty() {
        // A key waits for its value.
        let end = if first.ends_with('=') { "" } else { " " };
        return Completion::Replace { start, word: alloc::format!("{first}{end}") };
    }
    let common = rest.iter().fold(*first, |common, other| common_prefix(common, other));
    if common.len() > word.len() {
        return Completion::Replace { start, word: String::from(common) };
    }
    Completion::Choices(fitting.iter().copied().map(String::from).collect())
}

/// The words that may follow `earlier`; `word` is what there is of the next one.
fn expected_after<'a>(earlier: &[&str], word: &str, vms: &'a [String]) -> Vec<&'a str> {
    let names_of_vms = || vms.iter().map(String::as_str);
    match earlier {
        [] | ["help" | "?"] => names().to_vec(),
        ["vm"] => VM_VERBS.to_vec(),
        ["log"] => LEVELS.to_vec(),
        ["stats"] => names_of_vms().chain(["host"]).collect(),
        ["stats", name] if *name != "host" => ["vcpu"].to_vec(),
        ["exits" | "console" | "screen" | "screenshot" | "keys"]
        | ["vm", "start" | "pause" | "resume" | "stop" | "reset" | "console" | "info" | "set" | "destroy"]
        | ["vm", "create", _] => names_of_vms().collect(),
        ["vm", "create", _, _, ..] => settings(&CREATE_KEYS, word),
        ["vm", "set", _, ..] => settings(&SET_KEYS, word),
        _ => Vec::new(),
    }
}

/// The keys, or behind an equals sign the values that are words.
fn settings(keys: &[&'static str], word: &str) -> Vec<&'static str> {
    let Some((name, _)) = word.split_once('=') else { return keys.to_vec() };
    let is_known = keys.iter().any(|key| key.strip_suffix('=') == Some(name));
    WORD_VALUES.into_iter().filter(|_| is_known).collect()
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
        assert_eq!(replaced("vm pause p"), (9, "probe ".into()));
        assert_eq!(replaced("vm create new p"), (14, "probe ".into()));
        assert_eq!(replaced("stats h"), (6, "host ".into()));
        assert_eq!(replaced("stats probe "), (12, "vcpu ".into()));
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

    #[test]
    fn keys_are_completed_up_to_their_value_and_values_that_are_words_too() {
        assert_eq!(replaced("vm set probe w"), (13, "weight=".into()));
        assert_eq!(replaced("vm set probe weight=5 cor"), (22, "cores=".into()));
        assert_eq!(replaced("vm set probe cap="), (13, "cap=none ".into()));
        assert_eq!(replaced("vm create n probe class=l"), (18, "class=latency ".into()));
        assert_eq!(replaced("vm create n probe m"), (18, "memory=".into()));
        for line in
            ["vm set probe memory", "vm set probe restart=", "vm create n probe memory=", "vm create "]
        {
            assert_eq!(complete(line, &vms()), Completion::Nothing, "{line}");
        }
    }
}
