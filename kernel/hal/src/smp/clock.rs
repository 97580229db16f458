//! Whether two CPUs have the same time.
//!
//! A CPU that is asked between two readings of ours must answer with a value between them. When it does not, its counter
//! is off for certain, and by how much is known to within half of the time that the answer took.

use arch::Tsc;

use crate::time;

/// How often the other CPU is asked. Few are enough to notice; many find a quick answer, which tells most.
const ROUNDS: u32 = 64;
/// Where answers are slow, the rest of the rounds is left out after so many microseconds.
const BUDGET_US: u64 = 5_000;
/// What may stay after a correction, in nanoseconds. A vCPU takes longer from one core to another, so it never sees time
/// go backwards.
const TOLERABLE_NS: u64 = 1_000;

/// How another CPU's counter stands against this one's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Skew {
    /// No difference can be shown.
    None,
    /// It is ahead of this CPU's by about so many ticks.
    Off(i64),
}

/// The skew that may stay.
pub(super) fn tolerable() -> Tsc {
    Tsc(time::tsc_hz() / 1_000_000 * TOLERABLE_NS / 1_000)
}

/// One question: the time before, the answer, the time after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Round {
    before: Tsc,
    answer: Tsc,
    after: Tsc,
}

impl Round {
    fn took(self) -> u64 {
        self.after.since(self.before).0
    }

    fn shows_skew(self) -> bool {
        self.answer < self.before || self.answer > self.after
    }

    /// How far the answer is ahead of the middle of the round.
    fn ahead(self) -> i64 {
        self.answer.0.wrapping_sub(self.before.0 + self.took() / 2).cast_signed()
    }
}

/// What the rounds say together: the quickest one tells how much, any one whether.
fn judge(rounds: impl Iterator<Item = Round>) -> Skew {
    let mut quickest: Option<Round> = None;
    let mut is_off = false;
    for round in rounds {
        is_off |= round.shows_skew();
        if quickest.is_none_or(|best| round.took() < best.took()) {
            quickest = Some(round);
        }
    }
    match quickest {
        Some(round) if is_off => Skew::Off(round.ahead()),
        Some(_) | None => Skew::None,
    }
}

/// Compares another CPU's counter, which `ask` reads there, with this one's.
pub(super) fn compare(mut ask: impl FnMut() -> Option<Tsc>) -> Skew {
    let end = time::now() + time::ticks(BUDGET_US);
    judge((0..ROUNDS).map_while(|round| {
        let before = time::now();
        if round > 0 && before > end {
            return None;
        }
        let answer = ask()?;
        Some(Round { before, answer, after: time::now() })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(before: u64, answer: u64, after: u64) -> Round {
        Round { before: Tsc(before), answer: Tsc(answer), after: Tsc(after) }
    }

    #[test]
    fn answers_between_the_readings_show_no_skew() {
        assert_eq!(judge([round(100, 100, 180), round(200, 290, 290)].into_iter()), Skew::None);
        assert_eq!(judge([].into_iter()), Skew::None);
    }

    #[test]
    fn one_impossible_answer_is_enough_and_the_quickest_round_measures() {
        let rounds = [round(1_000, 1_900, 2_000), round(3_000, 3_220, 3_200), round(4_000, 4_210, 4_100)];
        assert_eq!(judge(rounds.into_iter()), Skew::Off(160));
    }

    #[test]
    fn a_counter_that_is_behind_has_a_negative_skew() {
        assert_eq!(judge([round(5_000, 40, 5_100)].into_iter()), Skew::Off(-5_010));
    }
}
