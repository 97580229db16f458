//! The search: plays inputs, keeps those that show something new, and varies them.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::mutate::{fresh, mutate};
use crate::random::Random;
use crate::{Bytes, Seen, Target};

/// The most inputs that are kept.
const MOST_KEPT: usize = 4096;
/// The most runs that making a failing input smaller may take.
const SHRINK_RUNS: usize = 4000;

/// An input that a target did not survive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The input.
    pub input: Vec<u8>,
    /// What the panic said, and where.
    pub message: String,
}

/// One search of one target.
#[derive(Debug)]
pub struct Campaign {
    target: &'static Target,
    random: Random,
    seen: Seen,
    /// What is to be played first, last to first.
    corpus: Vec<Vec<u8>>,
    kept: Vec<Vec<u8>>,
    runs: u64,
}

impl Campaign {
    /// A search of `target` that begins with the inputs `corpus`; `seed` makes it repeatable.
    pub fn new(target: &'static Target, seed: u64, mut corpus: Vec<Vec<u8>>) -> Self {
        quiet_panics();
        corpus.reverse();
        Self { target, random: Random::new(seed), seen: Seen::default(), corpus, kept: Vec::new(), runs: 0 }
    }

    /// The next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        if let Some(input) = self.corpus.pop() {
            return input;
        }
        if self.kept.is_empty() || self.random.below(16) == 0 {
            return fresh(&mut self.random);
        }
        let place = self.random.below(self.kept.len());
        let mut input = self.kept[place].clone();
        let other = self.random.below(self.kept.len());
        mutate(&mut input, &self.kept[other], &mut self.random);
        input
    }

    /// Plays `input`.
    ///
    /// # Errors
    /// [`Failure`] if the target panicked.
    pub fn play(&mut self, input: Vec<u8>) -> Result<(), Failure> {
        self.runs += 1;
        match run_one(self.target, &input, &mut self.seen) {
            Ok(()) => {
                if self.seen.take_new() {
                    self.keep(input);
                }
                Ok(())
            }
            Err(message) => Err(Failure { input, message }),
        }
    }

    /// How many inputs were played.
    pub const fn runs(&self) -> u64 {
        self.runs
    }

    /// How many are kept.
    pub const fn kept(&self) -> usize {
        self.kept.len()
    }

    /// How many different answers they brought.
    pub const fn answers(&self) -> usize {
        self.seen.count()
    }

    fn keep(&mut self, input: Vec<u8>) {
        if self.kept.len() < MOST_KEPT {
            self.kept.push(input);
        } else {
            let place = self.random.below(MOST_KEPT);
            self.kept[place] = input;
        }
    }
}

thread_local! {
    /// The last panic of this thread, while its panics are caught.
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    /// Whether this thread's panics are caught.
    static CATCHING: RefCell<bool> = const { RefCell::new(false) };
}

/// From now on panics that [`run_one`] catches are not printed.
pub fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if CATCHING.with_borrow(|catching| *catching) {
                LAST_PANIC.set(Some(info.to_string()));
            } else {
                before(info);
            }
        }));
    });
}

/// Plays `input` on `target`.
///
/// # Errors
/// What the panic said, if it panicked.
pub fn run_one(target: &Target, input: &[u8], seen: &mut Seen) -> Result<(), String> {
    CATCHING.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(Bytes::new(input), seen)));
    CATCHING.set(false);
    result.map_err(|_| LAST_PANIC.take().unwrap_or_else(|| String::from("a panic without a message")))
}

/// Makes a failing input smaller, as long as it fails.
pub fn shrink(target: &Target, failure: Failure) -> Failure {
    let mut smallest = failure;
    let mut runs = 0;
    let mut part = smallest.input.len() / 2;
    while part > 0 && runs < SHRINK_RUNS {
        let mut place = 0;
        let mut was_smaller = false;
        while place < smallest.input.len() && runs < SHRINK_RUNS {
            let mut input = smallest.input.clone();
            input.drain(place..(place + part).min(smallest.input.len()));
            runs += 1;
            match run_one(target, &input, &mut Seen::default()) {
                Ok(()) => place += part,
                Err(message) => {
                    smallest = Failure { input, message };
                    was_smaller = true;
                }
            }
        }
        if !was_smaller {
            part /= 2;
        }
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails on three bytes in a row, each of which shows that it was right.
    static COMBINATION: Target = Target {
        name: "combination",
        about: "a lock that opens one wheel at a time",
        run: |mut bytes, seen| {
            while !bytes.is_empty() {
                let wheels = [0x5a, 0x11, 0xc3];
                let right = wheels.iter().take_while(|wheel| bytes.byte() == **wheel).count();
                seen.note(0, right.try_into().expect("a small number"));
                assert!(right < wheels.len(), "open");
            }
        },
    };

    #[test]
    fn what_is_shown_steers_the_search_and_the_failure_becomes_small() {
        let mut campaign = Campaign::new(&COMBINATION, 1, Vec::new());
        let failure = loop {
            assert!(campaign.runs() < 200_000, "three bytes are found one by one");
            let input = campaign.next_input();
            if let Err(failure) = campaign.play(input) {
                break failure;
            }
        };
        assert!(failure.message.contains("open"));
        assert_eq!(shrink(&COMBINATION, failure).input, [0x5a, 0x11, 0xc3]);
    }

    #[test]
    fn a_seed_repeats_its_search() {
        let inputs = |seed| {
            let mut campaign = Campaign::new(&COMBINATION, seed, vec![vec![1, 2, 3]]);
            (0..100)
                .map(|_| {
                    let input = campaign.next_input();
                    let _outcome = campaign.play(input.clone());
                    input
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(inputs(5), inputs(5));
        assert_eq!(inputs(5)[0], [1, 2, 3]);
        assert_ne!(inputs(5), inputs(6));
    }
}
