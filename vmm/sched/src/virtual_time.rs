//! Virtual time: what an entity has paid for the ticks that it ran, in ticks at weight one.
//!
//! One tick more at weight `w` costs `1/w`. The whole part orders entities; the rest is carried, so that nothing is lost
//! however short the turns. At weight one and 4 GHz the counter lasts for 146 years; it saturates then.

use crate::spec::Weight;

/// Binary places of a [`Pace`] and of what [`Progress`] carries.
const PLACES: u32 = 26;

/// No more ticks than this are charged at once: what fits.
pub(crate) const LONGEST_CHARGE: u64 = 1 << 36;

/// Virtual time a tick: the inverse of the weight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pace(u32);

impl Pace {
    pub(crate) const fn of(weight: Weight) -> Self {
        let weight = weight.get();
        Self(((1 << PLACES) + weight / 2) / weight)
    }

    /// What `ticks` cost, rounded down. `ticks` are at most [`LONGEST_CHARGE`].
    #[inline]
    pub(crate) const fn cost(self, ticks: u64) -> u64 {
        (ticks * self.0 as u64) >> PLACES
    }

    #[inline]
    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    #[inline]
    pub(crate) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

/// How far an entity has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Progress {
    /// What it has paid, in virtual time.
    pub(crate) at: u64,
    /// The part below one, with [`PLACES`] places.
    rest: u32,
}

impl Progress {
    #[inline]
    pub(crate) const fn from_parts(at: u64, rest: u32) -> Self {
        Self { at, rest }
    }

    #[inline]
    pub(crate) const fn parts(self) -> (u64, u32) {
        (self.at, self.rest)
    }

    /// Pays for `ticks`, which are at most [`LONGEST_CHARGE`].
    #[inline]
    pub(crate) const fn advance(&mut self, ticks: u64, pace: Pace) {
        let cost = ticks * pace.0 as u64 + self.rest as u64;
        self.at = self.at.saturating_add(cost >> PLACES);
        self.rest = (cost & ((1 << PLACES) - 1)) as u32;
    }

    /// Moves to the nearest place from `low` to `high`.
    #[inline]
    pub(crate) const fn clamp(&mut self, low: u64, high: u64) {
        if self.at < low {
            *self = Self { at: low, rest: 0 };
        } else if self.at > high {
            *self = Self { at: high, rest: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn many_short_turns_cost_what_one_long_turn_costs(
            weight in 1u32..=10_000,
            turns in prop::collection::vec(0u64..5_000, 1..200),
        ) {
            let pace = Pace::of(Weight::new(weight).expect("in range"));
            let mut short = Progress::default();
            for ticks in &turns {
                short.advance(*ticks, pace);
            }
            let mut long = Progress::default();
            long.advance(turns.iter().sum(), pace);
            prop_assert_eq!(short, long);
        }

        #[test]
        fn the_price_is_right_within_a_hundredth_of_a_percent(weight in 1u32..=10_000) {
            let pace = Pace::of(Weight::new(weight).expect("in range"));
            let ticks = 1u64 << 36;
            let exact = ticks / u64::from(weight);
            prop_assert!(pace.cost(ticks).abs_diff(exact) * 10_000 <= exact);
        }
    }

    #[test]
    fn the_end_of_time_does_not_overflow() {
        let pace = Pace::of(Weight::new(1).expect("in range"));
        let mut progress = Progress { at: u64::MAX - 5, ..Progress::default() };
        progress.advance(LONGEST_CHARGE, pace);
        assert_eq!(progress.at, u64::MAX);
        progress.clamp(0, 100);
        assert_eq!(progress.at, 100);
    }
}
