//! How long turns are, and the bounds on delays that follow.

use crate::spec::{Class, MAX_ENTITIES};
use arch::Tsc;

/// How the scheduler divides time. Values out of range are taken as the nearest in range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Params {
    /// The time in which all of up to eight entities that want one core get a turn, and the longest turn while others
    /// wait: 2^10 to 2^32 ticks. A few milliseconds.
    pub slice: Tsc,
    /// Caps are held in each stretch of this many ticks: an eighth of a slice to 2^36 ticks. Zero stands for two slices.
    pub period: Tsc,
}

impl Default for Params {
    fn default() -> Self {
        Self { slice: Tsc(1 << 24), period: Tsc(0) }
    }
}

impl Params {
    /// The longest that an entity waits for its first turn after it wakes, in ticks, beyond the way of the interrupt: `6 R`,
    /// with the round `R = max(slice, n * slice/8)` of the `n` entities that were runnable on its core at any time during
    /// the wait, itself among them. Time during which its cap holds it does not count.
    pub fn delay_bound(self, entities: u32) -> Tsc {
        Tsc(6 * Lengths::new(self).round(entities))
    }

    /// The longest that an entity of the latency class that has not had its share waits for its first turn after it wakes,
    /// in ticks, beyond the way of the interrupt: `slice/32 + m * slice/8`, where `m` others of the latency class want the
    /// same core during the wait.
    pub fn latency_bound(self, others: u32) -> Tsc {
        let turns = Lengths::new(self);
        Tsc(turns.latency_guard + u64::from(others) * turns.granule)
    }
}

/// More entities than this are not on one core.
const MOST: u64 = MAX_ENTITIES as u64;

/// Binary places of [`Lengths::share`].
const SHARE_PLACES: u32 = 16;

/// [`Params`], worked out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lengths {
    /// The longest turn while others wait.
    pub(crate) slice: u64,
    /// What an average entity gets at a time when there are many, and the latency class at most.
    pub(crate) granule: u64,
    /// The shortest turn, for the lightest.
    shortest: u64,
    /// What a normal entity lets the one that runs finish before it takes the core.
    pub(crate) guard: u64,
    /// The same for one of the latency class.
    pub(crate) latency_guard: u64,
    /// See [`Params::period`].
    pub(crate) period: u64,
    /// No more than this is charged to virtual time at once while others wait, so that a clock that jumps does not ruin
    /// the shares.
    pub(crate) longest_charge: u64,
}

impl Lengths {
    pub(crate) fn new(params: Params) -> Self {
        let slice = params.slice.0.clamp(1 << 10, 1 << 32);
        let period = match params.period.0 {
            0 => 2 * slice,
            period => period.clamp(slice / 8, 1 << 36),
        };
        Self {
            slice,
            granule: slice / 8,
            shortest: slice / 1024,
            guard: slice / 16,
            latency_guard: slice / 32,
            period,
            longest_charge: 16 * slice,
        }
    }

    /// The time in which `entities` on one core all get a turn.
    #[inline]
    pub(crate) fn round(&self, entities: u32) -> u64 {
        self.slice.max(u64::from(entities).min(MOST) * self.granule)
    }

    /// What one unit of weight gets of a round, with [`SHARE_PLACES`] binary places.
    #[inline]
    pub(crate) fn share(&self, entities: u32, weight: u64) -> u64 {
        (self.round(entities) << SHARE_PLACES).div_ceil(weight.max(1))
    }

    /// A round in virtual time where one unit of weight gets `share`.
    #[inline]
    pub(crate) const fn virtual_round(share: u64) -> u64 {
        (share >> SHARE_PLACES) + 1
    }

    /// How long one of the weight `own` runs at a time where one unit of weight gets `share`, and no longer than `longest`.
    #[inline(always)]
    pub(crate) fn turn(&self, share: u64, own: u64, longest: u64) -> u64 {
        // No more than a round, as its weight is among those that share it: that fits.
        let part = share.wrapping_mul(own) >> SHARE_PLACES;
        part.max(self.shortest).min(longest)
    }

    /// The longest turn of `class` while others wait.
    pub(crate) const fn longest(&self, class: Class) -> u64 {
        match class {
            Class::Latency => self.granule,
            Class::Normal | Class::Exclusive => self.slice,
        }
    }
}
