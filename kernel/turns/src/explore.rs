//! Runs small programs of several cores in every order in which their accesses to shared words can interleave.
//!
//! One thread of the host plays all cores. A program is run again from its start for each of its steps, with the
//! results of its earlier accesses replayed, and is left by unwinding when it comes to the access after the next: so a
//! state is the words' values and each program's results so far, and states that were reached before are not explored
//! again. Accesses are totally ordered here; the fences in the code under test give the same on a processor.

use crate::word::Word;
use std::cell::RefCell;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// A word whose every access is a step.
#[derive(Debug)]
pub(crate) struct Step(usize);

#[derive(Default)]
struct Play {
    words: Vec<u32>,
    /// The results of the program that is played.
    results: Vec<u32>,
    replayed: usize,
    stepped: bool,
}

thread_local! {
    static PLAY: RefCell<Play> = RefCell::default();
}

/// Why a program was left.
enum Left {
    /// It made its step and has come to its next access.
    Paused,
    /// It waits for a word.
    Waits,
}

/// One access. `access` returns nothing when the program must wait.
fn step(access: impl FnOnce(&mut Vec<u32>) -> Option<u32>) -> u32 {
    let result = PLAY.with_borrow_mut(|play| {
        if let Some(&result) = play.results.get(play.replayed) {
            play.replayed += 1;
            return Ok(result);
        }
        if play.stepped {
            return Err(Left::Paused);
        }
        let result = access(&mut play.words).ok_or(Left::Waits)?;
        play.stepped = true;
        play.results.push(result);
        play.replayed += 1;
        Ok(result)
    });
    result.unwrap_or_else(|left| resume_unwind(Box::new(left)))
}

impl Step {
    /// Waits until the word is `old`, and makes it `new` in the same step.
    pub(crate) fn await_and_set(&self, old: u32, new: u32) {
        step(|words| {
            (words[self.0] == old).then(|| {
                words[self.0] = new;
                old
            })
        });
    }

    /// Waits until the word is not `not`, or `other` is `value`.
    pub(crate) fn await_not(&self, not: u32, other: &Self, value: u32) {
        step(|words| (words[self.0] != not || words[other.0] == value).then_some(0));
    }

    /// Replaces the value and returns what it was.
    pub(crate) fn swap(&self, new: u32) -> u32 {
        step(|words| Some(std::mem::replace(&mut words[self.0], new)))
    }

    /// The value, outside of any program.
    pub(crate) fn look(&self, words: &[u32]) -> u32 {
        words[self.0]
    }
}

impl Word for Step {
    fn new(value: u32) -> Self {
        PLAY.with_borrow_mut(|play| {
            play.words.push(value);
            Self(play.words.len() - 1)
        })
    }

    fn load(&self) -> u32 {
        step(|words| Some(words[self.0]))
    }

    fn store(&self, value: u32) {
        step(|words| {
            words[self.0] = value;
            Some(0)
        });
    }

    fn replace(&self, old: u32, new: u32) -> bool {
        let replaced = step(|words| {
            let equal = words[self.0] == old;
            if equal {
                words[self.0] = new;
            }
            Some(u32::from(equal))
        });
        replaced != 0
    }

    fn add(&self, amount: u32) -> u32 {
        step(|words| {
            let before = words[self.0];
            words[self.0] = before.wrapping_add(amount);
            Some(before)
        })
    }

    fn fence() {}
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    words: Vec<u32>,
    results: Vec<Vec<u32>>,
}

/// Explores all orders of `programs` over the world that `make` makes. Wherever nothing can go on, `check` is called
/// with the world and its words. Returns how many states there are.
pub(crate) fn explore<World>(
    make: impl FnOnce() -> World,
    programs: &[&dyn Fn(&World)],
    check: impl Fn(&World, &[u32]),
) -> usize {
    PLAY.with_borrow_mut(|play| *play = Play::default());
    let world = make();
    let words = PLAY.with_borrow(|play| play.words.clone());
    let first = State { words, results: vec![Vec::new(); programs.len()] };
    let mut seen = HashSet::from([first.clone()]);
    let mut waiting = vec![first];
    while let Some(state) = waiting.pop() {
        let mut goes_on = false;
        for (number, program) in programs.iter().enumerate() {
            let Some(next) = advance(&state, number, || program(&world)) else { continue };
            goes_on = true;
            if seen.insert(next.clone()) {
                waiting.push(next);
            }
        }
        if !goes_on {
            check(&world, &state.words);
        }
    }
    seen.len()
}

/// The state after the next step of `program`; nothing when it has none.
fn advance(state: &State, number: usize, program: impl Fn()) -> Option<State> {
    PLAY.with_borrow_mut(|play| {
        *play =
            Play { words: state.words.clone(), results: state.results[number].clone(), ..Play::default() };
    });
    if let Err(left) = catch_unwind(AssertUnwindSafe(program)) {
        match left.downcast::<Left>() {
            Ok(left) => {
                if matches!(*left, Left::Waits) && !PLAY.with_borrow(|play| play.stepped) {
                    return None;
                }
            }
            // An assertion of the program's.
            Err(panic) => resume_unwind(panic),
        }
    }
    PLAY.with_borrow_mut(|play| {
        play.stepped.then(|| {
            let mut results = state.results.clone();
            results[number] = std::mem::take(&mut play.results);
            State { words: std::mem::take(&mut play.words), results }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_unlocked_increments_are_seen_to_lose_one() {
        let outcomes = RefCell::new(HashSet::new());
        let increment = |word: &Step| word.store(word.load() + 1);
        explore(
            || Step::new(0),
            &[&increment, &increment],
            |word, words| {
                outcomes.borrow_mut().insert(word.look(words));
            },
        );
        assert_eq!(outcomes.into_inner(), HashSet::from([1, 2]));
    }
}
