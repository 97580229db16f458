//! Counting the ticks of a fixed frequency in a virtual machine's time, both ways and exactly.

use arch::Nanos;

/// Nanoseconds in a second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// A frequency whose ticks are counted from the machine's creation on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frequency {
    hz: u64,
}

impl Frequency {
    /// A frequency of `hz`, at least 1 and below 2^29, so that no product here leaves 64 bits.
    pub(crate) const fn new(hz: u64) -> Self {
        assert!(hz > 0 && hz < 1 << 29, "products must fit");
        Self { hz }
    }

    /// Whole ticks from time zero to `now`.
    #[inline]
    pub(crate) const fn ticks_at(self, now: Nanos) -> u64 {
        (now.0 / SECOND_NS) * self.hz + (now.0 % SECOND_NS) * self.hz / SECOND_NS
    }

    /// The first time at which [`Self::ticks_at`] is at least `ticks`, [`Nanos::NEVER`] if that is out of range.
    pub(crate) const fn time_of(self, ticks: u64) -> Nanos {
        let whole = (ticks / self.hz).saturating_mul(SECOND_NS);
        Nanos(whole.saturating_add(((ticks % self.hz) * SECOND_NS).div_ceil(self.hz)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PM: Frequency = Frequency::new(3_579_545);

    #[test]
    fn a_second_has_as_many_ticks_as_the_frequency_says() {
        assert_eq!(PM.ticks_at(Nanos(SECOND_NS)), 3_579_545);
        assert_eq!(PM.ticks_at(Nanos(SECOND_NS - 1)), 3_579_544);
        assert_eq!(PM.time_of(3_579_545), Nanos(SECOND_NS));
    }

    #[test]
    fn the_far_future_does_not_overflow() {
        let ticks = PM.ticks_at(Nanos::NEVER);
        assert!(PM.time_of(ticks) <= Nanos::NEVER);
        assert_eq!(PM.time_of(u64::MAX), Nanos::NEVER);
    }

    proptest! {
        #[test]
        fn time_of_is_the_first_moment_of_a_tick(ticks in 1u64..1 << 50) {
            let time = PM.time_of(ticks);
            prop_assert_eq!(PM.ticks_at(time), ticks);
            prop_assert_eq!(PM.ticks_at(Nanos(time.0 - 1)), ticks - 1);
        }
    }
}
