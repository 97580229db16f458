//! What a cap leaves an entity to run.
//!
//! Time is divided into periods; in each the entity gets its allowance. What it does not use is lost; what it uses too
//! much, because a turn ended late, is taken from the next periods. So in any `k` periods in a row it runs for at most
//! `k + 1` allowances and one late end.

use crate::spec::Cap;
use arch::Tsc;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Budget {
    /// Ticks that it may still run in this period; negative when it ran too long.
    pub(crate) left: i64,
    /// Ticks that each period allows.
    allowance: i64,
    /// When the next period begins.
    pub(crate) ends: Tsc,
}

impl Budget {
    /// A full budget, whose first period ends when it is first [refreshed](Self::refresh).
    pub(crate) fn new(cap: Cap, period: u64) -> Self {
        let allowance = allowance(cap, period);
        Self { left: allowance, allowance, ends: Tsc(0) }
    }

    /// The same with another cap.
    #[must_use]
    pub(crate) fn with(self, cap: Cap, period: u64) -> Self {
        let allowance = allowance(cap, period);
        Self { left: self.left.min(allowance), allowance, ..self }
    }

    /// Begins the period in which `now` is, if it has not begun.
    pub(crate) fn refresh(&mut self, now: Tsc, period: u64) {
        // A clock that went back would never reach the end of the period.
        if self.ends.since(now).0 > period {
            self.ends = now;
        }
        if now < self.ends {
            return;
        }
        let late = now.since(self.ends).0;
        let passed = 1 + if late < period { 0 } else { late / period };
        let allowed = i64::try_from(passed).unwrap_or(i64::MAX).saturating_mul(self.allowance);
        self.left = self.left.saturating_add(allowed).min(self.allowance);
        self.ends =
            if self.ends.0 == 0 { now + Tsc(period) } else { self.ends + Tsc(passed.saturating_mul(period)) };
    }
}

fn allowance(cap: Cap, period: u64) -> i64 {
    let ticks = period * u64::from(cap.percent()) / 100;
    i64::try_from(ticks).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(percent: u32) -> Budget {
        let mut budget = Budget::new(Cap::new(percent).expect("in range"), 1000);
        budget.refresh(Tsc(5000), 1000);
        budget
    }

    #[test]
    fn unused_time_is_lost() {
        let mut budget = budget(30);
        assert_eq!((budget.left, budget.ends), (300, Tsc(6000)));
        budget.refresh(Tsc(9500), 1000);
        assert_eq!((budget.left, budget.ends), (300, Tsc(10_000)));
    }

    #[test]
    fn too_much_is_paid_back() {
        let mut budget = budget(30);
        budget.left -= 300 + 450;
        budget.refresh(Tsc(6000), 1000);
        assert_eq!(budget.left, -150);
        budget.refresh(Tsc(6999), 1000);
        assert_eq!(budget.left, -150, "the period has not ended");
        budget.refresh(Tsc(7000), 1000);
        assert_eq!(budget.left, 150);
    }

    #[test]
    fn a_clock_that_jumps_does_not_hold_it_for_ever() {
        let mut budget = budget(30);
        budget.left = 0;
        budget.refresh(Tsc(100), 1000);
        assert_eq!((budget.left, budget.ends), (300, Tsc(1100)));
        budget.left = i64::MIN;
        budget.refresh(Tsc::NEVER, 1000);
        assert!(budget.left < 0);
    }

    #[test]
    fn a_lower_cap_counts_at_once() {
        let lower = budget(30).with(Cap::new(10).expect("in range"), 1000);
        assert_eq!((lower.left, lower.ends), (100, Tsc(6000)));
    }
}
