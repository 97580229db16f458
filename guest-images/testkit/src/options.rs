//! Numbers from the command line that programs ask for.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::loader::CommandLine;

/// A number that the command line may set.
pub(crate) struct Number {
    key: &'static str,
    value: AtomicU64,
}

impl Number {
    const fn new(key: &'static str, unless_given: u64) -> Self {
        Self { key, value: AtomicU64::new(unless_given) }
    }

    /// What the command line said, or else the program's own choice.
    pub(crate) fn get(&self) -> u64 {
        self.value.load(Relaxed)
    }
}

/// Rounds of `smp-hlt`.
pub(crate) static ROUNDS: Number = Number::new("rounds", 100_000);
/// Longest delays that `neighbour` accepts while it works and while it sleeps, in microseconds; 0: any.
pub(crate) static BOUND_US: Number = Number::new("bound_us", 0);
pub(crate) static ASLEEP_US: Number = Number::new("asleep_us", 0);
/// How long `neighbour` runs, in milliseconds.
pub(crate) static RUN_MS: Number = Number::new("ms", 200);

/// How many events `ticks` and `ipis` make, and how many cases `emulate-diff` and
/// `emulate-modes`.
pub(crate) static EVENTS: Number = Number::new("count", 1000);

/// Which random cases `emulate-diff` and `emulate-modes` make up, and whether flags that the manual leaves undefined count (not 0).
pub(crate) static SEED: Number = Number::new("seed", 1);
pub(crate) static STRICT: Number = Number::new("strict", 1);

/// Which modes and which kinds of paging `emulate-modes` tries: a bit each.
pub(crate) static MODE: Number = Number::new("mode", u64::MAX);
pub(crate) static PAGING: Number = Number::new("paging", u64::MAX);

const ALL: [&Number; 9] = [&MODE, &PAGING, &ROUNDS, &BOUND_US, &ASLEEP_US, &RUN_MS, &EVENTS, &SEED, &STRICT];

/// Takes over what `line` says.
pub(crate) fn read(line: &CommandLine) {
    for number in ALL {
        if let Some(value) = line.number(number.key) {
            number.value.store(value, Relaxed);
        }
    }
}
