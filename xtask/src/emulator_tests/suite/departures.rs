//! Where verdicts may differ, and why: the table `departures.txt`.
//!
//! A line is `KIND | CHECK | REASON`, KIND with the number of processors behind an `@` where it holds for that number alone.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

use super::verdict::{Verdict, Verdicts};

const TABLE: &str = include_str!("departures.txt");

/// Who departs from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Bochs departs from the PC; the guest passes, and so does QEMU natively.
    Bochs,
    /// Both emulators depart or lack the part; the guest passes.
    Emulators,
    /// The check fails natively and as a guest.
    Native,
    /// The two machines are rightly of different make.
    Platform,
    /// The guest's machine does not do it yet.
    Craton,
}

impl Kind {
    fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "bochs" => Self::Bochs,
            "emulators" => Self::Emulators,
            "native" => Self::Native,
            "platform" => Self::Platform,
            "craton" => Self::Craton,
            other => bail!("{other} is no kind of departure"),
        })
    }

    /// Whether the verdicts are such a departure.
    fn fits(self, native: &Verdict, guest: &Verdict, qemu: Option<&Verdict>) -> bool {
        let agree = native.agrees_with(guest);
        match self {
            Self::Bochs => {
                !native.is_sound() && guest.is_sound() && qemu.is_none_or(|qemu| qemu.agrees_with(guest))
            }
            Self::Emulators => {
                !native.is_sound() && guest.is_sound() && qemu.is_none_or(|qemu| !qemu.agrees_with(guest))
            }
            Self::Native => !native.is_sound() && agree,
            Self::Platform => !agree && native.is_sound() && guest.is_sound(),
            Self::Craton => !agree && (!guest.is_sound() || native.is_sound()),
        }
    }
}

/// The part of the table that a run is about.
pub(super) struct Departures<'a>(BTreeMap<&'a str, Kind>);

impl Departures<'static> {
    /// The entries for checks whose names begin with one of `filter`'s parts, on so many processors.
    pub(super) fn listed(filter: &str, processors: u32) -> Result<Self> {
        Self::parse(TABLE, filter, processors)
    }
}

impl<'a> Departures<'a> {
    fn parse(table: &'a str, filter: &str, processors: u32) -> Result<Self> {
        let mut found = BTreeMap::new();
        for line in table.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut parts = line.splitn(3, '|').map(str::trim);
            let (Some(kind), Some(name), Some(reason)) = (parts.next(), parts.next(), parts.next()) else {
                bail!("departures.txt: \"{line}\" has not three parts");
            };
            ensure!(!reason.is_empty(), "departures.txt: {name} without a reason");
            let (kind, only) = match kind.split_once('@') {
                Some((kind, number)) => (kind, Some(number.parse::<u32>()?)),
                None => (kind, None),
            };
            let kind = Kind::parse(kind).with_context(|| format!("departures.txt: {name}"))?;
            if !filter.split(',').any(|prefix| name.starts_with(prefix))
                || only.is_some_and(|only| only != processors)
            {
                continue;
            }
            ensure!(found.insert(name, kind).is_none(), "departures.txt: {name} twice");
        }
        Ok(Departures(found))
    }

    /// The checks in which QEMU has a say, with commas between.
    pub(super) fn asked_of_qemu(&self) -> String {
        let has_a_say = |kind: &Kind| matches!(kind, Kind::Bochs | Kind::Emulators);
        let names: Vec<&str> =
            self.0.iter().filter(|(_, kind)| has_a_say(kind)).map(|(name, _)| *name).collect();
        names.join(",")
    }

    /// Everything that is not as listed, a line each.
    pub(super) fn compare(
        &self,
        native: &Verdicts,
        guest: &Verdicts,
        qemu: Option<&Verdicts>,
    ) -> Vec<String> {
        let names: BTreeSet<&str> =
            native.0.keys().chain(guest.0.keys()).map(String::as_str).chain(self.0.keys().copied()).collect();
        names.into_iter().filter_map(|name| self.problem(name, native, guest, qemu)).collect()
    }

    fn problem(
        &self,
        name: &str,
        native: &Verdicts,
        guest: &Verdicts,
        qemu: Option<&Verdicts>,
    ) -> Option<String> {
        let (native, guest) = (native.of(name), guest.of(name));
        let qemu = qemu.map(|qemu| qemu.of(name));
        let saw = || {
            let qemu = qemu.map(|qemu| format!(", in QEMU {qemu}")).unwrap_or_default();
            format!("natively {native}, as a guest {guest}{qemu}")
        };
        match self.0.get(name) {
            None if native.agrees_with(guest) && native.is_sound() => None,
            None => Some(format!("{name}: {}", saw())),
            Some(kind) if kind.fits(native, guest, qemu) => None,
            Some(kind) => Some(format!("{name}: listed as {kind:?}, but {}", saw())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# comment\nbochs | a | wrong\ncraton | b | to do\nnative@2 | c | broken\n";

    fn problems(list: &str, processors: u32, native: &str, guest: &str, qemu: Option<&str>) -> Vec<String> {
        let departures = Departures::parse(list, "", processors).expect("valid");
        let qemu = qemu.map(Verdicts::parse);
        departures.compare(&Verdicts::parse(native), &Verdicts::parse(guest), qemu.as_ref())
    }

    #[test]
    fn the_table_is_valid() {
        for processors in [1, 2] {
            Departures::listed("", processors).expect("valid");
        }
    }

    #[test]
    fn what_is_listed_may_depart() {
        let native = "check a: fail x\ncheck b: pass\ncheck c: fail y\ncheck d: pass";
        let guest = "check a: pass\ncheck b: fail x\ncheck c: fail z\ncheck d: pass";
        assert_eq!(problems(LIST, 2, native, guest, Some("check a: pass")), [""; 0]);
        assert_eq!(problems(LIST, 1, native, guest, None).len(), 1);
    }

    #[test]
    fn what_no_longer_departs_is_a_problem() {
        let all = "check a: pass\ncheck b: pass";
        assert_eq!(problems(LIST, 1, all, all, None).len(), 2);
    }

    #[test]
    fn qemu_must_bear_out_what_is_said_of_bochs() {
        let (native, guest) = ("check a: fail x\ncheck b: pass", "check a: pass\ncheck b: fail y");
        assert_eq!(problems(LIST, 1, native, guest, Some("check a: fail z")).len(), 1);
    }

    #[test]
    fn failing_on_both_sides_is_listed_too() {
        assert_eq!(problems("", 1, "check e: fail x", "check e: fail x", None).len(), 1);
    }

    #[test]
    fn a_check_that_never_came_is_a_problem() {
        assert_eq!(problems("", 1, "check e: pass", "check e: ", None).len(), 1);
    }
}
