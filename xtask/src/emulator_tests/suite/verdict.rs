//! What the suite prints, as verdicts.

use std::collections::BTreeMap;
use std::fmt;

/// What one check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it should be.
    Pass,
    /// What it saw; there is no right or wrong.
    Value(String),
    /// The machine has no such part.
    Skip(String),
    /// Not as it should be.
    Fail(String),
    /// The machine said nothing more behind the check's name, or did not get there.
    Nothing,
}

impl Verdict {
    fn parse(text: &str) -> Self {
        let (word, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        match word {
            "pass" => Self::Pass,
            "value" => Self::Value(rest.to_owned()),
            "skip" => Self::Skip(rest.to_owned()),
            "fail" => Self::Fail(rest.to_owned()),
            _ => Self::Nothing,
        }
    }

    /// Whether both say the same of the machine, whatever they saw on the way.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pass, Self::Pass)
            | (Self::Skip(_), Self::Skip(_))
            | (Self::Fail(_), Self::Fail(_))
            | (Self::Nothing, Self::Nothing) => true,
            (Self::Value(one), Self::Value(other)) => one == other,
            _ => false,
        }
    }

    /// Whether nothing is wrong with it.
    pub(super) fn is_sound(&self) -> bool {
        match self {
            Self::Pass | Self::Value(_) | Self::Skip(_) => true,
            Self::Fail(_) | Self::Nothing => false,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => f.write_str("pass"),
            Self::Value(value) => write!(f, "value {value}"),
            Self::Skip(why) => write!(f, "skip ({why})"),
            Self::Fail(what) => write!(f, "fail ({what})"),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

/// The name of the check that was last begun.
pub(super) fn last_name(text: &str) -> Option<&str> {
    Some(text.lines().rev().find_map(|line| line.trim().strip_prefix("check "))?.split_once(':')?.0)
}

/// The verdicts of one run, by the checks' names.
#[derive(Debug, Default)]
pub(super) struct Verdicts(pub(super) BTreeMap<String, Verdict>);

impl Verdicts {
    /// Reads what a machine printed.
    pub(super) fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("check ")?.split_once(':'));
        Self(lines.map(|(name, rest)| (name.to_owned(), Verdict::parse(rest))).collect())
    }

    /// The verdict on `name`.
    pub(super) fn of(&self, name: &str) -> &Verdict {
        self.0.get(name).unwrap_or(&Verdict::Nothing)
    }

    /// How many there are of each kind.
    pub(super) fn summary(&self) -> String {
        let count = |is: fn(&Verdict) -> bool| self.0.values().filter(|verdict| is(verdict)).count();
        format!(
            "{} checks: {} pass, {} values, {} skipped, {} fail",
            self.0.len(),
            count(|verdict| matches!(verdict, Verdict::Pass)),
            count(|verdict| matches!(verdict, Verdict::Value(_))),
            count(|verdict| matches!(verdict, Verdict::Skip(_))),
            count(|verdict| !verdict.is_sound()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_is_read() {
        let text = "noise\ncheck a.b: pass\r\ncheck c: fail what got 0x1 want 0x2\ncheck d: value 0x3\n\
                    check e: skip no such part\ncheck f: ";
        let verdicts = Verdicts::parse(text);
        assert_eq!(verdicts.of("a.b"), &Verdict::Pass);
        assert_eq!(verdicts.of("c"), &Verdict::Fail("what got 0x1 want 0x2".into()));
        assert_eq!(verdicts.of("d"), &Verdict::Value("0x3".into()));
        assert_eq!(verdicts.of("e"), &Verdict::Skip("no such part".into()));
        assert_eq!(verdicts.of("f"), &Verdict::Nothing);
        assert_eq!(verdicts.of("absent"), &Verdict::Nothing);
        assert_eq!(verdicts.summary(), "5 checks: 1 pass, 1 values, 1 skipped, 2 fail");
    }

    #[test]
    fn the_check_that_ended_the_machine_is_known() {
        assert_eq!(last_name("check a: pass\ncheck b.c: [0m stopped\nmore"), Some("b.c"));
        assert_eq!(last_name("nothing"), None);
    }

    #[test]
    fn failures_agree_whatever_they_saw_but_values_do_not() {
        assert!(Verdict::Fail("a".into()).agrees_with(&Verdict::Fail("b".into())));
        assert!(!Verdict::Value("1".into()).agrees_with(&Verdict::Value("2".into())));
        assert!(!Verdict::Pass.agrees_with(&Verdict::Skip("x".into())));
    }
}
