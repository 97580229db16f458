//! What is counted of each vCPU: exits and their cost by reason, and the last exits.

use crate::ExitReason;
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
    /// Why.
    pub reason: ExitReason,
    /// What the handler found worth keeping: the port, the address, the MSR, the leaf; else 0.
    pub detail: u64,
    /// The guest's RIP at the exit, if it was an instruction's; else 0.
    pub rip: u64,
    /// The host's TSC at the exit.
    pub at: Tsc,
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
    /// The newest record.
    newest: usize,
}

impl Default for Stats {
    fn default() -> Self {
        Self::new()
    }
}

impl Stats {
    /// All zero.
    pub const fn new() -> Self {
        let nothing = ExitRecord { reason: ExitReason::Unhandled, detail: 0, rip: 0, at: Tsc(0) };
        Self {
            by_reason: [ReasonStats { count: 0, host_ticks: 0 }; ROWS],
            turn_ticks: 0,
            records: [nothing; RECORDED_EXITS],
            newest: 0,
        }
    }

    /// Adds a turn on a core: from before the first entry to after the last exit was handled.
    pub(crate) const fn add_turn(&mut self, ticks: u64) {
        self.turn_ticks += ticks;
    }

    /// Notes an exit at `now`.
    #[inline]
    pub(crate) const fn exit(&mut self, reason: ExitReason, now: Tsc) {
        self.newest = (self.newest + 1) % RECORDED_EXITS;
        self.records[self.newest] = ExitRecord { reason, detail: 0, rip: 0, at: now };
    }

    /// Adds the guest's RIP to the last exit's record, where it was read anyway.
    #[inline]
    pub(crate) const fn note_rip(&mut self, rip: u64) {
        self.records[self.newest % RECORDED_EXITS].rip = rip;
    }

    /// Adds what the handler found worth keeping to the last exit's record.
    #[inline]
    pub(crate) const fn note_detail(&mut self, detail: u64) {
        self.records[self.newest % RECORDED_EXITS].detail = detail;
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
        let kept = usize::try_from(self.exits()).unwrap_or(usize::MAX).min(RECORDED_EXITS);
        let past_newest = self.newest + 1 + RECORDED_EXITS;
        (past_newest - kept..past_newest).map(|index| &self.records[index % RECORDED_EXITS])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_newest_in_order() {
        let mut stats = Stats::new();
        for at in 0..100 {
            stats.exit(ExitReason::Cpuid, Tsc(at));
            stats.charge(ExitReason::Cpuid, 1);
        }
        let times: Vec<u64> = stats.records().map(|record| record.at.0).collect();
        assert_eq!(times, (36..100).collect::<Vec<u64>>());
    }

    #[test]
    fn ticks_are_charged_to_the_reason_and_to_the_guest() {
        let mut stats = Stats::new();
        stats.exit(ExitReason::Hlt, Tsc(25));
        stats.charge(ExitReason::Hlt, 7);
        stats.add_turn(22);
        assert_eq!(stats.reason(ExitReason::Hlt), ReasonStats { count: 1, host_ticks: 7 });
        assert_eq!((stats.exits(), stats.host_ticks(), stats.guest_ticks()), (1, 7, 15));
    }
}
