//! What a core shows to the others, so that they need not lock its queue to compare it with their own.
//!
//! Values are read one by one while they may change: a guess, to be checked under the lock where it matters.

use crate::virtual_time::{LONGEST_CHARGE, Pace};
use arch::Tsc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct Front {
    /// The virtual time of who runs, at `time`.
    at: AtomicU64,
    time: AtomicU64,
    /// The pace of who runs, zero when nobody does.
    pace: AtomicU32,
    /// The virtual time of the first who waits and may run elsewhere.
    waiting: AtomicU64,
    /// How many are runnable, with the running one.
    load: AtomicU32,
    /// The weight of the runnable.
    weight: AtomicU64,
    /// Their round in virtual time.
    round: AtomicU64,
    /// See [`crate::queue::Queue`].
    floor: AtomicU64,
}

/// A virtual time later than all.
pub(crate) const NOBODY: u64 = u64::MAX;

/// In place of a pace: who runs does not pay.
const FREE: u32 = u32::MAX;

impl Default for Front {
    fn default() -> Self {
        Self {
            at: AtomicU64::new(0),
            time: AtomicU64::new(0),
            pace: AtomicU32::new(0),
            waiting: AtomicU64::new(NOBODY),
            load: AtomicU32::new(0),
            weight: AtomicU64::new(0),
            round: AtomicU64::new(1),
            floor: AtomicU64::new(0),
        }
    }
}

impl Front {
    #[inline]
    pub(crate) fn show_running(&self, at: u64, pace: Pace, time: Tsc) {
        self.at.store(at, Ordering::Relaxed);
        self.time.store(time.0, Ordering::Relaxed);
        self.pace.store(pace.bits(), Ordering::Relaxed);
    }

    /// Who runs does not pay for it.
    pub(crate) fn show_free(&self, at: u64) {
        self.at.store(at, Ordering::Relaxed);
        self.pace.store(FREE, Ordering::Relaxed);
    }

    /// Whether who runs does not pay for it.
    pub(crate) fn is_free(&self) -> bool {
        self.pace.load(Ordering::Relaxed) == FREE
    }

    #[inline]
    pub(crate) fn show_waiting(&self, first: u64) {
        self.waiting.store(first, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn show_nobody(&self) {
        self.pace.store(0, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn show_load(&self, load: u32, weight: u64, round: u64) {
        self.load.store(load, Ordering::Relaxed);
        self.weight.store(weight, Ordering::Relaxed);
        self.round.store(round, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn show_floor(&self, floor: u64) {
        self.floor.store(floor, Ordering::Relaxed);
    }

    /// Where the running entity has come to if it has run since; `None` if nobody runs.
    pub(crate) fn running_at(&self, now: Tsc) -> Option<u64> {
        let pace = self.pace.load(Ordering::Relaxed);
        let since = now.since(Tsc(self.time.load(Ordering::Relaxed))).0.min(LONGEST_CHARGE);
        let cost = if pace == FREE { 0 } else { Pace::from_bits(pace).cost(since) };
        (pace != 0).then(|| self.at.load(Ordering::Relaxed).saturating_add(cost))
    }

    /// Whether a tick of who runs costs much more than one at `pace`.
    pub(crate) fn is_dearer_than(&self, pace: Pace) -> bool {
        let own = self.pace.load(Ordering::Relaxed);
        own != FREE && own / 2 > pace.bits()
    }

    /// Where the first of those who wait and may run elsewhere has come to; later than all if there is none.
    #[inline]
    pub(crate) fn waiting_at(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn load(&self) -> u32 {
        self.load.load(Ordering::Relaxed)
    }

    pub(crate) fn weight(&self) -> u64 {
        self.weight.load(Ordering::Relaxed)
    }

    /// A round of the runnable, in virtual time.
    #[inline]
    pub(crate) fn round(&self) -> u64 {
        self.round.load(Ordering::Relaxed)
    }

    pub(crate) fn floor(&self) -> u64 {
        self.floor.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Weight;

    #[test]
    fn who_runs_is_where_it_would_be_by_now() {
        let front = Front::default();
        assert_eq!(front.running_at(Tsc(5)), None);
        front.show_running(1000, Pace::of(Weight::new(2).expect("in range")), Tsc(50));
        assert_eq!(front.running_at(Tsc(60)), Some(1005));
        assert_eq!(front.running_at(Tsc(20)), Some(1000), "it does not go back");
        assert_eq!(front.running_at(Tsc::NEVER), Some(1000 + LONGEST_CHARGE / 2), "nor too far");
        front.show_nobody();
        assert_eq!(front.running_at(Tsc(60)), None);
    }
}
