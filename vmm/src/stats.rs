//! What is counted of each vCPU: exits and their cost by reason, and the last exits.

use crate::{ExitReason, VmExit};
use arch::Tsc;

/// Count and cost of one kind of exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReasonStats {
    /// How often.
    pub count: u64,
    /// Ticks of the TSC in the hypervisor, from exit to entry.
    pub host_ticks: u64,
}

/// One exit, as the flight recorder keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExitRecord {
    /// The exit.
    pub exit: VmExit,
    /// The guest's RIP at the exit, if it was an instruction's; else 0.
    pub rip: u64,
    /// The host's TSC at the exit.
    pub at: Tsc,
}

impl ExitRecord {
    /// Why.
    pub const fn reason(&self) -> ExitReason {
        self.exit.reason()
    }

    /// The port, address or qualification, by reason.
    pub fn detail(&self) -> u64 {
        self.exit.detail()
    }
}

/// How many exits the flight recorder keeps.
pub const RECORDED_EXITS: usize = 64;

/// Rows of the table by reason: a power of two, so that no index needs a check.
const ROWS: usize = ExitReason::COUNT.next_power_of_two();

/// Counters of one vCPU. They belong to the core that runs it: nothing here is shared.
#[derive(Clone, Debug)]
pub struct Stats {
    by_reason: [ReasonStats; ROWS],
    /// Ticks of all turns on a core, guest and hypervisor together.
    turn_ticks: u64,
    records: [ExitRecord; RECORDED_EXITS],
    /// How many exits were recorded in all.
    recorded: usize,
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

impl Stats {
    /// All zero.
    pub const fn new() -> Self {
        let nothing = ExitRecord { exit: VmExit::ExternalInterrupt, rip: 0, at: Tsc(0) };
        Self {
            by_reason: [ReasonStats { count: 0, host_ticks: 0 }; ROWS],
            turn_ticks: 0,
            records: [nothing; RECORDED_EXITS],
            recorded: 0,
        }
    }

    /// Adds a turn on a core: from before the first entry to after the last exit was handled.
    pub(crate) const fn add_turn(&mut self, ticks: u64) {
        self.turn_ticks += ticks;
    }

    /// Notes an exit at `now`. The record is filled in place, and what is in it is handed on.
    #[inline]
    pub(crate) fn exit(&mut self, exit: impl FnOnce() -> (VmExit, Tsc)) -> &mut ExitRecord {
        let record = &mut self.records[self.recorded % RECORDED_EXITS];
        (record.exit, record.at) = exit();
        record.rip = 0;
        self.recorded = self.recorded.wrapping_add(1);
        record
    }

    /// Adds the guest's RIP to the last exit's record, where it was read anyway.
    #[inline]
    pub(crate) const fn note_rip(&mut self, rip: u64) {
        self.records[self.recorded.wrapping_sub(1) % RECORDED_EXITS].rip = rip;
    }

    /// Charges `ticks` of handling to `reason`.
    #[inline]
    pub(crate) const fn charge(&mut self, reason: ExitReason, ticks: u64) {
        let row = &mut self.by_reason[reason as usize % ROWS];
        row.count += 1;
        row.host_ticks += ticks;
    }

    /// Count and cost of `reason`.
    pub const fn reason(&self, reason: ExitReason) -> ReasonStats {
        self.by_reason[reason as usize]
    }

    /// All exits.
    pub fn exits(&self) -> u64 {
        self.by_reason.iter().map(|row| row.count).sum()
    }

    /// Ticks in the hypervisor on behalf of this vCPU.
    pub fn host_ticks(&self) -> u64 {
        self.by_reason.iter().map(|row| row.host_ticks).sum()
    }

    /// Ticks in the guest, up to the end of its last turn.
    pub fn guest_ticks(&self) -> u64 {
        self.turn_ticks.saturating_sub(self.host_ticks())
    }

    /// The last exits, oldest first.
    pub fn records(&self) -> impl Iterator<Item = &ExitRecord> {
        let kept = self.recorded.min(RECORDED_EXITS);
        (self.recorded - kept..self.recorded).map(|index| &self.records[index % RECORDED_EXITS])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_newest_in_order() {
        let mut stats = Stats::new();
        for at in 0..100 {
            stats.exit(|| (VmExit::Cpuid, Tsc(at)));
        }
        let times: Vec<u64> = stats.records().map(|record| record.at.0).collect();
        assert_eq!(times, (36..100).collect::<Vec<u64>>());
    }

    #[test]
    fn ticks_are_charged_to_the_reason_and_to_the_guest() {
        let mut stats = Stats::new();
        stats.exit(|| (VmExit::Hlt, Tsc(25)));
        stats.charge(ExitReason::Hlt, 7);
        stats.add_turn(22);
        assert_eq!(stats.reason(ExitReason::Hlt), ReasonStats { count: 1, host_ticks: 7 });
        assert_eq!((stats.exits(), stats.host_ticks(), stats.guest_ticks()), (1, 7, 15));
    }
}
