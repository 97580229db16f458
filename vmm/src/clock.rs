//! A virtual machine's clock: nanoseconds since its creation, from the host's TSC.

use arch::{Nanos, Tsc};

/// Converts between the host's TSC and a virtual machine's time.
///
/// Both directions are a multiplication and a shift: `ns = ticks * multiplier >> 32`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// The host's TSC at time zero.
    origin: Tsc,
    /// Ticks per second.
    frequency_hz: u64,
    /// Nanoseconds per tick, 32.32 fixed point.
    nanos_per_tick: u64,
    /// Ticks per nanosecond, 32.32 fixed point.
    ticks_per_nano: u64,
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;

#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the product of a 64-bit time by a rate wraps after centuries"
)]
const fn scale(value: u64, rate: u64) -> u64 {
    ((value as u128 * rate as u128) >> 32) as u64
}

#[expect(clippy::cast_possible_truncation, reason = "frequencies are between 1 MHz and 100 GHz")]
const fn ratio(numerator: u64, denominator: u64) -> u64 {
    (((numerator as u128) << 32) / denominator as u128) as u64
}

/// A saved clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockState {
    /// Ticks of the TSC since time zero.
    pub age: Tsc,
    /// The TSC's frequency in Hz.
    pub frequency_hz: u64,
}

/// A saved clock cannot go on here: the guest's TSC would change its pace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadClock {
    /// The TSC's frequency where it was saved, in Hz.
    pub saved_hz: u64,
    /// The TSC's frequency here, in Hz.
    pub host_hz: u64,
}

/// Two frequencies that differ by less than one part in this many are the same one, measured twice.
const MEASURING_ERROR: u64 = 4000;

impl Clock {
    /// The clock's state at `now` of the host's TSC.
    pub const fn save(&self, now: Tsc) -> ClockState {
        ClockState { age: Tsc(now.0.wrapping_sub(self.origin.0)), frequency_hz: self.frequency_hz }
    }

    /// This host's clock, with the time of `state` at `now` of its TSC.
    ///
    /// # Errors
    /// [`BadClock`] when the TSC's frequency was another one.
    pub const fn resumed(&self, state: &ClockState, now: Tsc) -> Result<Self, BadClock> {
        let (saved_hz, host_hz) = (state.frequency_hz, self.frequency_hz);
        if saved_hz.abs_diff(host_hz) > host_hz / MEASURING_ERROR {
            return Err(BadClock { saved_hz, host_hz });
        }
        let mut age = state.age;
        if saved_hz != host_hz {
            let saved = Self::new(Tsc(0), saved_hz);
            let here = Self::new(Tsc(0), host_hz);
            age = here.tsc(saved.nanos(age));
        }
        Ok(Self { origin: Tsc(now.0.wrapping_sub(age.0)), ..*self })
    }

    /// A clock that reads zero when the host's TSC, running at `frequency_hz`, reads `origin`.
    ///
    /// `frequency_hz` below 1 MHz is taken as 1 MHz: no TSC is that slow.
    pub const fn new(origin: Tsc, frequency_hz: u64) -> Self {
        let frequency_hz = if frequency_hz < 1_000_000 { 1_000_000 } else { frequency_hz };
        Self {
            origin,
            frequency_hz,
            nanos_per_tick: ratio(NANOS_PER_SECOND, frequency_hz),
            ticks_per_nano: ratio(frequency_hz, NANOS_PER_SECOND),
        }
    }

    /// The TSC's frequency in Hz.
    pub const fn frequency_hz(&self) -> u64 {
        self.frequency_hz
    }

    /// The host's TSC at time zero.
    pub const fn origin(&self) -> Tsc {
        self.origin
    }

    /// The virtual machine's time at `tsc` of the host.
    #[inline]
    pub const fn nanos(&self, tsc: Tsc) -> Nanos {
        Nanos(scale(tsc.0.wrapping_sub(self.origin.0), self.nanos_per_tick))
    }

    /// How long `ticks` of the TSC take.
    #[inline]
    pub const fn span(&self, ticks: Tsc) -> Nanos {
        Nanos(scale(ticks.0, self.nanos_per_tick))
    }

    /// The first TSC of the host at which [`Self::nanos`] is `time` or later.
    #[inline]
    pub const fn tsc(&self, time: Nanos) -> Tsc {
        if time.0 >= u64::MAX / 2 {
            return Tsc::NEVER;
        }
        // Both rates are rounded down, so the estimate is early by less than one part in 2^31 or so: step on.
        let mut ticks = scale(time.0, self.ticks_per_nano);
        while scale(ticks, self.nanos_per_tick) < time.0 {
            let missing = time.0 - scale(ticks, self.nanos_per_tick);
            ticks += scale(missing, self.ticks_per_nano) + 1;
        }
        Tsc(self.origin.0.wrapping_add(ticks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_a_second() {
        for frequency in [1_000_000, 100_000_000, 2_893_202_417, 5_000_000_000] {
            let clock = Clock::new(Tsc(77), frequency);
            let nanos = clock.nanos(Tsc(77 + frequency)).0;
            assert!(NANOS_PER_SECOND - nanos < 10, "{frequency}: {nanos}");
        }
    }

    #[test]
    fn a_resumed_clock_goes_on_where_it_was() {
        let clock = Clock::new(Tsc(77), 2_893_202_417);
        let saved = clock.save(Tsc(1 << 33));
        for host_hz in [2_893_202_417, 2_893_202_999] {
            let resumed = Clock::new(Tsc(5), host_hz).resumed(&saved, Tsc(100)).expect("the same frequency");
            let (was, is) = (clock.nanos(Tsc(1 << 33)), resumed.nanos(Tsc(100)));
            assert!(is >= was && is.0 - was.0 < 2, "{was:?}, {is:?}");
        }
    }

    #[test]
    fn a_clock_does_not_go_on_at_another_pace() {
        let saved = Clock::new(Tsc(0), 3_000_000_000).save(Tsc(1000));
        let refused = Clock::new(Tsc(0), 2_500_000_000).resumed(&saved, Tsc(1000));
        assert_eq!(refused, Err(BadClock { saved_hz: 3_000_000_000, host_hz: 2_500_000_000 }));
    }

    #[test]
    fn a_deadline_is_reached_exactly_when_its_tsc_is() {
        let clock = Clock::new(Tsc(1_000), 2_893_202_417);
        for time in [0, 1, 999, 1_000_000, 3_600_000_000_000, 86_400_000_000_000 * 365] {
            let tsc = clock.tsc(Nanos(time));
            assert!(clock.nanos(tsc) >= Nanos(time), "{time}");
            assert!(tsc == Tsc(1_000) || clock.nanos(Tsc(tsc.0 - 1)) < Nanos(time) + Nanos(2), "{time}");
        }
        assert_eq!(clock.tsc(Nanos::NEVER), Tsc::NEVER);
    }
}
