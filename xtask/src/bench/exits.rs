//! Exits per event: how many a timer tick and an interprocessor interrupt cause.
//!
//! The test guest's programs `ticks` and `ipis` do one thing over and over, as often as the command line says. Of two
//! runs with different numbers, starting and ending cost the same, so the difference is what the events cost.

use anyhow::{Context, Result};

use super::boot_stats::BootStats;
use super::figures::Figures;

/// A tick of the local APIC's timer that goes on by itself: delivered, ended.
pub(crate) const PERIODIC_TICK: &str = "exits-periodic-tick";
/// A tick of the timer that is armed anew for each: armed, delivered, ended.
pub(crate) const TIMER_TICK: &str = "exits-timer-tick";
/// An interrupt from one running processor to another: sent, delivered, ended.
pub(crate) const IPI: &str = "exits-ipi";
/// What is behind these names for a processor that does not virtualize the local APIC.
const PLAIN: &str = "-no-apicv";

/// Events of the shorter and of the longer run.
pub(crate) const RUNS: [u64; 2] = [500, 2500];

/// A program that causes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// What the test guest calls it.
    pub(crate) name: &'static str,
    /// What the figure is called.
    figure: &'static str,
    /// How many processors it takes.
    pub(crate) cpus: u32,
}

/// All programs.
pub(crate) const PROGRAMS: [Program; 3] = [
    Program { name: "periodic-ticks", figure: PERIODIC_TICK, cpus: 1 },
    Program { name: "ticks", figure: TIMER_TICK, cpus: 1 },
    Program { name: "ipis", figure: IPI, cpus: 2 },
];

impl Program {
    /// The figure's name with the local APIC virtualized by the processor, or not.
    pub(crate) fn figure(self, apic: super::emulation::Apic) -> String {
        match apic {
            super::emulation::Apic::Virtualized => self.figure.to_owned(),
            super::emulation::Apic::Plain => format!("{}{PLAIN}", self.figure),
        }
    }

    /// The guest's command line for `events` events.
    pub(crate) fn command_line(self, events: u64) -> String {
        format!("test={} count={events}", self.name)
    }
}

/// Hundredths of an exit per event, from the exits of the two [`RUNS`].
pub(crate) fn per_event(exits: [u64; 2]) -> Result<u64> {
    let events = RUNS[1] - RUNS[0];
    let more =
        exits[1].checked_sub(exits[0]).context("the longer run had fewer exits than the shorter one")?;
    Ok((more * 100 + events / 2) / events)
}

/// What the exits of an event are, the most frequent first, from the accounts of the two [`RUNS`].
pub(crate) fn by_reason(runs: &[BootStats; 2]) -> Figures {
    let mut figures = Figures::default();
    for (reason, count, _) in &runs[1].reasons {
        let before =
            runs[0].reasons.iter().find(|(other, ..)| other == reason).map_or(0, |(_, count, _)| *count);
        if let Ok(hundredths @ 1..) = per_event([before.min(*count), *count]) {
            figures.push(reason, hundredths);
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_runs_have_is_not_counted() {
        assert_eq!(per_event([1_500, 3_500]).expect("more"), 100);
        assert_eq!(per_event([1_500, 5_515]).expect("more"), 201);
        assert!(per_event([2, 1]).is_err());
    }

    #[test]
    fn reasons_that_do_not_grow_with_the_events_are_left_out() {
        let run = |ticks, prints| BootStats {
            reasons: vec![
                ("timer".into(), ticks, 1),
                ("io".into(), prints, 1),
                ("late".into(), ticks / 2, 1),
            ],
            ..BootStats::default()
        };
        let figures = by_reason(&[run(500, 77), run(2_500, 78)]);
        assert_eq!(figures.iter().collect::<Vec<_>>(), [("timer", 100), ("late", 50)]);
    }
}
