//! The figures that the test guest prints, and the table that compares them.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::exits;

/// Instructions per operation, in the order in which the guest measured them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures(Vec<(String, u64)>);

impl Figures {
    /// Collects the lines `bench: OPERATION INSTRUCTIONS` of a console's `text`.
    ///
    /// # Errors
    /// When there is no `bench: done`: the guest did not get to the end.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text.split_once("bench: done") {
            Some((text, _)) => Ok(Self::lines(text)),
            None => bail!("the test guest did not finish: no `bench: done` on its console"),
        }
    }

    /// Collects the lines of `text` that are there.
    pub(crate) fn lines(text: &str) -> Self {
        // Another machine's log may share the line; the figures come last.
        let figure = |line: &str| {
            let mut words = line.split_once("bench: ")?.1.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        };
        Self(text.lines().filter_map(figure).collect())
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a figure.
    pub(crate) fn push(&mut self, operation: &str, value: u64) {
        self.0.push((operation.to_owned(), value));
    }

    /// Adds those of `others`.
    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Instructions of `operation`.
    pub(crate) fn get(&self, operation: &str) -> Option<u64> {
        self.0.iter().find(|(name, _)| name == operation).map(|(_, instructions)| *instructions)
    }

    /// Operations and instructions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, instructions)| (name.as_str(), *instructions))
    }

    /// As a JSON object.
    pub(crate) fn to_json(&self) -> Value {
        self.iter().map(|(name, instructions)| (name.to_owned(), json!(instructions))).collect()
    }

    /// Reads what [`Figures::to_json`] wrote.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let figure = |(name, value): (&String, &Value)| Some((name.clone(), value.as_u64()?));
        Some(Self(value.as_object()?.iter().map(figure).collect::<Option<_>>()?))
    }

    /// The operations in which two runs differ, one line each; empty when they are the same.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .iter()
            .filter(|(name, instructions)| other.get(name) != Some(*instructions))
            .map(|(name, instructions)| {
                let then = other.get(name).map_or("nothing".into(), |value| value.to_string());
                format!("{name}: {instructions}, then {then}")
            })
            .collect();
        lines.extend(
            other
                .iter()
                .filter(|(name, _)| self.get(name).is_none())
                .map(|(name, instructions)| format!("{name}: nothing, then {instructions}")),
        );
        lines
    }
}

/// What an operation should cost.
struct Target {
    operation: &'static str,
    /// Instructions to reach now.
    now: Option<u64>,
    /// Instructions to reach in the end.
    goal: u64,
}

const TARGETS: [Target; 15] = [
    Target { operation: "vmcall", now: Some(150), goal: 80 },
    Target { operation: "cpuid", now: Some(200), goal: 110 },
    Target { operation: "rdmsr-apic-base", now: None, goal: 120 },
    Target { operation: "out-com1-scratch", now: Some(400), goal: 250 },
    Target { operation: "mmio-read-ioapic-index", now: Some(600), goal: 400 },
    Target { operation: "mmio-write-ioapic-index", now: Some(600), goal: 400 },
    Target { operation: "mmio-read-ioapic-window", now: Some(600), goal: 400 },
    Target { operation: "self-ipi", now: None, goal: 300 },
    Target { operation: "switch", now: Some(800), goal: 400 },
    Target { operation: "decision", now: Some(150), goal: 100 },
    // To one that runs on another processor, with the notification.
    Target { operation: "x2apic-icr-other", now: Some(250), goal: 250 },
    // There and back.
    Target { operation: "ipi-round-trip", now: None, goal: 600 },
    // Hundredths of an exit.
    Target { operation: exits::PERIODIC_TICK, now: Some(100), goal: 100 },
    // To arm a deadline is an exit, and so is its passing.
    Target { operation: exits::TIMER_TICK, now: None, goal: 100 },
    Target { operation: exits::IPI, now: Some(100), goal: 100 },
];

/// What exits cost in first light, the first version: none is to get dearer. Those of interrupts are averages, with what
/// happened besides.
const FIRST_LIGHT: [(&str, u64); 12] = [
    ("vmcall", 140),
    ("cpuid", 167),
    ("rdmsr-apic-base", 154),
    ("out-com1-scratch", 254),
    ("in-com1-scratch", 273),
    ("out-unused-port", 252),
    ("mmio-read-ioapic-index", 1241),
    ("mmio-write-ioapic-index", 1224),
    ("self-ipi", 1125),
    ("wrmsr-tsc-deadline", 209),
    ("timer-tick", 1128),
    ("hlt-wake", 1395),
];

/// Exits that cost more than in first light, one line each.
pub(crate) fn dearer(craton: &Figures) -> Vec<String> {
    FIRST_LIGHT
        .iter()
        .filter_map(|(operation, then)| {
            let now = craton.get(operation)?;
            (now > *then).then(|| format!("{operation}: {now}, then {then}"))
        })
        .collect()
}

fn target(operation: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.operation == operation)
}

/// Operations whose figure is above what should be reached now, one line each.
pub(crate) fn missed(craton: &Figures, unit: Unit) -> Vec<String> {
    TARGETS
        .iter()
        .filter_map(|target| {
            let (limit, figure) = (target.now?, craton.get(target.operation)?);
            let line =
                || format!("{}: {}, to reach now: {}", target.operation, unit.show(figure), unit.show(limit));
            (figure > limit + unit.tolerance()).then(line)
        })
        .collect()
}

/// The goals as a JSON object.
pub(crate) fn targets_json() -> Value {
    TARGETS
        .iter()
        .map(|target| (target.operation.to_owned(), json!({ "now": target.now, "goal": target.goal })))
        .collect()
}

/// What the figures of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Instructions.
    Instructions,
    /// Hundredths of a VM exit.
    Exits,
}

impl Unit {
    /// What is not the operation's own: while it goes on, hypervisors have some exits a second for other reasons.
    fn tolerance(self) -> u64 {
        match self {
            Self::Instructions => 0,
            Self::Exits => 2,
        }
    }

    /// A figure as it is printed.
    pub(crate) fn show(self, figure: u64) -> String {
        match self {
            Self::Instructions => figure.to_string(),
            Self::Exits => format!("{}.{:02}", figure / 100, figure % 100),
        }
    }
}

/// The table: one line an operation, Craton's figure first, KVM's and the ratio when there are any.
pub(crate) fn table(title: &str, unit: Unit, craton: &Figures, kvm: Option<&Figures>) -> String {
    let mut text =
        format!("{:<30}{:>9}{:>9}{:>10}{:>8}{:>7}\n", title, "Craton", "KVM", "KVM/ours", "now", "goal");
    let cell = |value: Option<u64>| value.map_or("-".to_owned(), |value| unit.show(value));
    for (operation, ours) in craton.iter() {
        let theirs = kvm.and_then(|figures| figures.get(operation));
        let ratio = theirs.map_or("-".to_owned(), |theirs| ratio(theirs, ours));
        let target = target(operation);
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            text,
            "{operation:<30}{:>9}{:>9}{ratio:>10}{:>8}{:>7}",
            unit.show(ours),
            cell(theirs),
            cell(target.and_then(|target| target.now)),
            cell(target.map(|target| target.goal)),
        );
    }
    text
}

/// `theirs / ours` with one decimal.
fn ratio(theirs: u64, ours: u64) -> String {
    match theirs.saturating_mul(10).checked_div(ours) {
        Some(tenths) => format!("{}.{}x", tenths / 10, tenths % 10),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "[vm] noise\r\nbench: empty-loop 2\r\nbench: vmcall 120\r\nbench: skip hlt-wake\r\n\
                           bench: out-com1-scratch 390\r\nbench: done\r\ntestkit: bench: ok\r\n";

    #[test]
    fn figures_are_read_up_to_the_end_mark() {
        let figures = Figures::parse(CONSOLE).expect("complete");
        let all: Vec<_> = figures.iter().collect();
        assert_eq!(all, [("empty-loop", 2), ("vmcall", 120), ("out-com1-scratch", 390)]);
    }

    #[test]
    fn guest_that_stops_early_is_an_error() {
        assert!(Figures::parse("bench: vmcall 120\n").is_err());
    }

    #[test]
    fn table_shows_ratio_and_goal() {
        let ours = Figures::parse(CONSOLE).expect("complete");
        let kvm = Figures::parse("bench: vmcall 1020\nbench: done\n").expect("complete");
        let table = table("per", Unit::Instructions, &ours, Some(&kvm));
        let line = table.lines().find(|line| line.starts_with("vmcall")).expect("a line");
        let cells: Vec<_> = line.split_whitespace().collect();
        assert_eq!(cells, ["vmcall", "120", "1020", "8.5x", "150", "80"]);
        assert!(table.lines().any(|line| line.split_whitespace().eq([
            "empty-loop",
            "2",
            "-",
            "-",
            "-",
            "-"
        ])));
    }

    #[test]
    fn only_figures_above_their_limit_are_missed() {
        let ours = Figures::parse("bench: vmcall 151\nbench: cpuid 200\nbench: done\n").expect("complete");
        assert_eq!(missed(&ours, Unit::Instructions), ["vmcall: 151, to reach now: 150"]);
    }

    #[test]
    fn exits_are_shown_and_judged_in_hundredths() {
        let mut ours = Figures::default();
        ours.push(exits::PERIODIC_TICK, 205);
        ours.push(exits::IPI, 102);
        assert!(table("exits per", Unit::Exits, &ours, None).contains(" 2.05 "));
        assert_eq!(missed(&ours, Unit::Exits), ["exits-periodic-tick: 2.05, to reach now: 1.00"]);
    }

    #[test]
    fn figures_survive_json_in_whole_or_not_at_all() {
        let figures = Figures::lines("bench: a 1\nnoise bench: b 22\nbench: skip c\n");
        assert_eq!(figures.iter().count(), 2);
        assert_eq!(Figures::from_json(&figures.to_json()), Some(figures));
        assert_eq!(Figures::from_json(&json!({ "a": "text" })), None);
    }

    #[test]
    fn what_got_dearer_since_the_first_version_is_named() {
        let ours = Figures::lines("bench: vmcall 141\nbench: cpuid 167\nbench: switch 9\n");
        assert_eq!(dearer(&ours), ["vmcall: 141, then 140"]);
    }

    #[test]
    fn differences_name_both_values() {
        let one = Figures::parse("bench: a 1\nbench: b 2\nbench: done\n").expect("complete");
        let two = Figures::parse("bench: a 1\nbench: b 3\nbench: c 4\nbench: done\n").expect("complete");
        assert_eq!(one.differences(&one), Vec::<String>::new());
        assert_eq!(one.differences(&two), ["b: 2, then 3", "c: nothing, then 4"]);
    }
}
