//! A well-behaved guest that measures what it gets of the machine: how late its timer comes, and how far it gets.
//!
//! It works for half of the time and sleeps for the other, each with a timer every half millisecond or so. It prints
//! `neighbour: worst N mean N progress N` for the working half (lateness in TSC ticks, rounds a second) and
//! `neighbour: asleep worst N mean N` for the other. With `bound_us=` (working) and `asleep_us=` on the command line, a
//! worst lateness above the bound is a failure.

use super::random::Random;
use super::time::tsc_hz;
use super::{Verdict, expect, expect_within};
use crate::apic::{self, TIMER_VECTOR, TimerMode};
use crate::console::report;
use crate::machine::cpu::rdtsc;
use crate::machine::measure::{halt_until_deadline, spin_until};
use crate::options;

/// Rounds of a waiting loop before an interrupt is given up: minutes.
const PATIENCE: u64 = 10_000_000_000;
/// Instructions of a round, as `spin_until` counts.
const INSTRUCTIONS_A_ROUND: u64 = 4;

/// Lateness of many timers, in TSC ticks.
#[derive(Default)]
struct Lateness {
    worst: u64,
    sum: u64,
    count: u64,
}

impl Lateness {
    fn add(&mut self, ticks: u64) {
        self.worst = self.worst.max(ticks);
        self.sum += ticks;
        self.count += 1;
    }

    fn mean(&self) -> u64 {
        self.sum.checked_div(self.count).unwrap_or(0)
    }

    /// Fails if the worst is above `bound_us` microseconds; 0 is no bound.
    fn within(&self, what: &'static str, bound_us: u64) -> Verdict {
        if bound_us == 0 {
            return Ok(());
        }
        let us = u128::from(self.worst) * 1_000_000 / u128::from(tsc_hz());
        expect_within(what, u64::try_from(us).unwrap_or(u64::MAX), 0, bound_us)
    }
}

/// Works, sleeps, and reports.
pub(super) fn neighbour() -> Verdict {
    expect("TSC-deadline timer", u64::from(apic::has_deadline()), 1u64)?;
    apic::set_timer(TimerMode::Deadline);
    let half =
        u64::try_from(u128::from(tsc_hz()) * u128::from(options::RUN_MS.get()) / 2000).unwrap_or(u64::MAX);
    let mut random = Random::new(7);
    let (working, progress) = work(half, &mut random)?;
    let asleep = sleep(half, &mut random);
    apic::stop_timer();
    report!("neighbour: worst {} mean {} progress {progress}", working.worst, working.mean());
    report!("neighbour: asleep worst {} mean {}", asleep.worst, asleep.mean());
    working.within("microseconds late at work", options::BOUND_US.get())?;
    asleep.within("microseconds late asleep", options::ASLEEP_US.get())
}

/// A time until the next timer: a quarter to three quarters of a millisecond.
fn period(random: &mut Random) -> u64 {
    let millisecond = tsc_hz() / 1000;
    millisecond / 4 + random.below(millisecond / 2 + 1)
}

/// Spins between timers for `duration` ticks; how late they came, and how many rounds a second it spun.
fn work(duration: u64, random: &mut Random) -> Result<(Lateness, u64), super::Failure> {
    let mut lateness = Lateness::default();
    let mut rounds = 0u64;
    let start = rdtsc();
    loop {
        let deadline = rdtsc() + period(random);
        let Some(tick) = spin_until(TIMER_VECTOR, || apic::arm_deadline(deadline), PATIENCE) else {
            return Err(super::Failure { what: "the timer comes", got: 0, want: 1 });
        };
        let now = rdtsc();
        lateness.add(now.saturating_sub(deadline));
        rounds += tick.waiting / INSTRUCTIONS_A_ROUND;
        if now - start >= duration {
            let progress = u128::from(rounds) * u128::from(tsc_hz()) / u128::from(now - start);
            return Ok((lateness, u64::try_from(progress).unwrap_or(u64::MAX)));
        }
    }
}

/// Sleeps between timers for `duration` ticks.
fn sleep(duration: u64, random: &mut Random) -> Lateness {
    let mut lateness = Lateness::default();
    let start = rdtsc();
    while rdtsc() - start < duration {
        lateness.add(halt_until_deadline(period(random)));
    }
    lateness
}
