//! `KEY=VALUE` words: what `vm create` and `vm set` take.

use crate::command::ParseError;
use crate::definition::{
    Cap, Class, Cores, MOST_CAP, MOST_NODES, MOST_VCPUS, MOST_WEIGHT, Nodes, Overrides, Restart,
    SchedulingChange,
};
use alloc::string::String;
use alloc::vec::Vec;
use core::str::FromStr;

/// The keys that `vm set` takes.
pub(crate) const SET_KEYS: [&str; 4] = ["weight=", "cap=", "cores=", "class="];

/// The keys that `vm create` takes.
pub(crate) const CREATE_KEYS: [&str; 9] =
    ["memory=", "vcpus=", "numa_nodes=", "weight=", "cap=", "cores=", "class=", "restart=", "cmdline="];

/// The words that a value can be, with their keys, for completion.
pub(crate) const WORD_VALUES: [&str; 9] = [
    "numa_nodes=none",
    "cap=none",
    "cores=all",
    "class=normal",
    "class=latency",
    "class=exclusive",
    "restart=never",
    "restart=on-failure",
    "restart=always",
];

/// The least guest memory, in MiB.
const LEAST_MEMORY_MIB: u64 = 8;
/// The most, in MiB: 32 TiB.
const MOST_MEMORY_MIB: u64 = 32 << 20;

/// What is wrong with a `KEY=VALUE` word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BadValue<'a> {
    pub(crate) key: &'static str,
    pub(crate) value: &'a str,
    /// What it should be, to follow "use".
    pub(crate) wanted: &'static str,
}

/// One setting, read.
enum Setting {
    MemoryMib(u64),
    Vcpus(u8),
    Nodes(Nodes),
    Weight(u32),
    Cap(Cap),
    Cores(Cores),
    Class(Class),
    Restart(Restart),
    CommandLine(String),
}

/// Reads what follows `vm set NAME`.
///
/// # Errors
/// When a word is no setting, a value is out of its range, or a key comes twice.
pub(crate) fn change<'a>(words: impl Iterator<Item = &'a str>) -> Result<SchedulingChange, ParseError<'a>> {
    Ok(read(words, &SET_KEYS)?.scheduling)
}

/// Reads what follows `vm create NAME FROM`.
///
/// # Errors
/// As [`change`].
pub(crate) fn overrides<'a>(words: impl Iterator<Item = &'a str>) -> Result<Overrides, ParseError<'a>> {
    read(words, &CREATE_KEYS)
}

fn read<'a>(
    words: impl Iterator<Item = &'a str>,
    keys: &'static [&'static str],
) -> Result<Overrides, ParseError<'a>> {
    let mut all = Overrides::default();
    for word in words {
        apply(setting(word, keys)?, &mut all).map_err(ParseError::GivenTwice)?;
    }
    Ok(all)
}

fn setting<'a>(word: &'a str, keys: &'static [&'static str]) -> Result<Setting, ParseError<'a>> {
    let unknown = ParseError::UnknownKey { word, keys };
    let Some((name, value)) = word.split_once('=') else { return Err(unknown) };
    let Some(key) = keys.iter().find(|key| key.strip_suffix('=') == Some(name)) else { return Err(unknown) };
    let bad = |wanted| ParseError::BadValue(BadValue { key, value, wanted });
    Ok(match name {
        "memory" => Setting::MemoryMib(
            memory_mib(value).ok_or(bad("MiB, 8 or more, or a number with a unit: 512M, 2G"))?,
        ),
        "vcpus" => Setting::Vcpus(in_range(value, 1, MOST_VCPUS).ok_or(bad("a number from 1 to 64"))?),
        "numa_nodes" => Setting::Nodes(match value {
            "none" => Nodes::Untold,
            _ => Nodes::Count(in_range(value, 1, MOST_NODES).ok_or(bad("a number from 1 to 8, or none"))?),
        }),
        "weight" => Setting::Weight(in_range(value, 1, MOST_WEIGHT).ok_or(bad("a number from 1 to 10000"))?),
        "cap" => Setting::Cap(match value {
            "none" => Cap::Unlimited,
            _ => {
                Cap::Percent(in_range(value, 1, MOST_CAP).ok_or(bad("percent of a core, 1 to 100, or none"))?)
            }
        }),
        "cores" => Setting::Cores(match value {
            "all" => Cores::All,
            _ => core_list(value).ok_or(bad("core numbers like 0,2 or 0-3, or all"))?,
        }),
        "class" => Setting::Class(match value {
            "normal" => Class::Normal,
            "latency" => Class::Latency,
            "exclusive" => Class::Exclusive,
            _ => return Err(bad("normal, latency or exclusive")),
        }),
        "restart" => Setting::Restart(match value {
            "never" => Restart::Never,
            "on-failure" => Restart::OnFailure,
            "always" => Restart::Always,
            _ => return Err(bad("never, on-failure or always")),
        }),
        "cmdline" => Setting::CommandLine(String::from(value)),
        _ => return Err(unknown),
    })
}

/// Fills the field of `setting`.
///
/// # Errors
/// The key, when it is filled already.
fn apply(setting: Setting, all: &mut Overrides) -> Result<(), &'static str> {
    fn fill<T>(field: &mut Option<T>, value: T, key: &'static str) -> Result<(), &'static str> {
        match field.replace(value) {
            None => Ok(()),
            Some(_) => Err(key),
        }
    }
    match setting {
        Setting::MemoryMib(mib) => fill(&mut all.memory_mib, mib, "memory="),
        Setting::Vcpus(count) => fill(&mut all.vcpus, count, "vcpus="),
        Setting::Nodes(nodes) => fill(&mut all.nodes, nodes, "numa_nodes="),
        Setting::Weight(weight) => fill(&mut all.scheduling.weight, weight, "weight="),
        Setting::Cap(cap) => fill(&mut all.scheduling.cap, cap, "cap="),
        Setting::Cores(cores) => fill(&mut all.scheduling.cores, cores, "cores="),
        Setting::Class(class) => fill(&mut all.scheduling.class, class, "class="),
        Setting::Restart(restart) => fill(&mut all.restart, restart, "restart="),
        Setting::CommandLine(text) => fill(&mut all.command_line, text, "cmdline="),
    }
}

fn in_range<T: FromStr + PartialOrd>(text: &str, least: T, most: T) -> Option<T> {
    text.parse().ok().filter(|number| (least..=most).contains(number))
}

/// "512", "512M", "512MiB", "2G" in MiB.
fn memory_mib(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let mib_a_unit = match unit {
        "" | "M" | "MiB" => 1,
        "G" | "GiB" => 1 << 10,
        _ => return None,
    };
    let mib = number.parse::<u64>().ok()?.checked_mul(mib_a_unit)?;
    (LEAST_MEMORY_MIB..=MOST_MEMORY_MIB).contains(&mib).then_some(mib)
}

/// "0,2" or "0-3,6"; a number has eight bits.
fn core_list(text: &str) -> Option<Cores> {
    let mut numbers: Vec<u8> = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u8, u8) = (first.parse().ok()?, last.parse().ok()?);
        if first > last {
            return None;
        }
        numbers.extend(first..=last);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Some(Cores::These(numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(words: &str) -> Result<Overrides, String> {
        overrides(words.split(' ')).map_err(|error| error.to_string())
    }

    fn set(words: &str) -> Result<SchedulingChange, String> {
        change(words.split(' ')).map_err(|error| error.to_string())
    }

    #[test]
    fn every_setting_is_read() {
        assert_eq!(
            create(
                "memory=2G vcpus=4 numa_nodes=2 weight=300 cap=50 cores=0,2-3 class=latency restart=on-failure"
            ),
            Ok(Overrides {
                memory_mib: Some(2048),
                vcpus: Some(4),
                nodes: Some(Nodes::Count(2)),
                scheduling: SchedulingChange {
                    weight: Some(300),
                    cap: Some(Cap::Percent(50)),
                    cores: Some(Cores::These(vec![0, 2, 3])),
                    class: Some(Class::Latency),
                },
                restart: Some(Restart::OnFailure),
                command_line: None,
            })
        );
        assert_eq!(
            set("cap=none cores=all class=exclusive"),
            Ok(SchedulingChange {
                weight: None,
                cap: Some(Cap::Unlimited),
                cores: Some(Cores::All),
                class: Some(Class::Exclusive),
            })
        );
    }

    #[test]
    fn memory_takes_units_and_stays_in_its_range() {
        for (text, mib) in [("8", 8), ("512", 512), ("512M", 512), ("512MiB", 512), ("3GiB", 3072)] {
            assert_eq!(memory_mib(text), Some(mib), "{text}");
        }
        for text in
            ["", "M", "7", "0", "1K", "512 M", "-1", "33554433", "18446744073709551615G", "9e9", "\u{e9}"]
        {
            assert_eq!(memory_mib(text), None, "{text}");
        }
    }

    #[test]
    fn core_lists_are_sorted_and_bounded() {
        assert_eq!(core_list("3,1,1-2"), Some(Cores::These(vec![1, 2, 3])));
        assert_eq!(core_list("255"), Some(Cores::These(vec![255])));
        for text in ["", ",", "0,", "3-1", "256", "0-4294967295", "a", "-", "1-"] {
            assert_eq!(core_list(text), None, "{text}");
        }
    }

    #[test]
    fn mistakes_say_what_would_do() {
        for (words, message) in [
            ("weight=0", "weight=0: use a number from 1 to 10000"),
            ("weight=10001", "weight=10001: use a number from 1 to 10000"),
            ("cap=101", "cap=101: use percent of a core, 1 to 100, or none"),
            ("cap=", "cap=: use percent of a core, 1 to 100, or none"),
            ("cores=x", "cores=x: use core numbers like 0,2 or 0-3, or all"),
            ("class=fast", "class=fast: use normal, latency or exclusive"),
            ("weight=1 weight=2", "weight= is given twice"),
            (
                "weihgt=1",
                "'weihgt=1' is no setting; there are weight=, cap=, cores=, class=; did you mean 'weight='?",
            ),
            ("vcpus=2", "'vcpus=2' is no setting; there are weight=, cap=, cores=, class="),
            ("fast", "'fast' is no setting; there are weight=, cap=, cores=, class="),
        ] {
            assert_eq!(set(words), Err(String::from(message)), "{words}");
        }
        for (words, message) in [
            ("vcpus=65", "vcpus=65: use a number from 1 to 64"),
            ("vcpus=99999999999999999999", "vcpus=99999999999999999999: use a number from 1 to 64"),
            ("memory=4", "memory=4: use MiB, 8 or more, or a number with a unit: 512M, 2G"),
            ("numa_nodes=9", "numa_nodes=9: use a number from 1 to 8, or none"),
            ("restart=maybe", "restart=maybe: use never, on-failure or always"),
        ] {
            assert_eq!(create(words), Err(String::from(message)), "{words}");
        }
    }

    #[test]
    fn every_key_and_every_word_value_is_understood() {
        for word in WORD_VALUES {
            assert!(create(word).is_ok(), "{word}");
        }
        for key in CREATE_KEYS.iter().chain(&SET_KEYS) {
            let error = setting(key, &CREATE_KEYS).err();
            assert!(!matches!(error, Some(ParseError::UnknownKey { .. })), "{key}");
        }
    }
}
