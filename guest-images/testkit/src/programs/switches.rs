//! What it costs to take one CPU off a processor and put another one on: for a machine with more CPUs than it is given
//! processors.
//!
//! CPUs 0 and 1 note the time as fast as they can. A CPU that finds a gap in its own notes had to wait for the other one;
//! from the other's last note to its own first one there was the switch, as both clocks are the same.
//!
//! Prints `bench: switch TICKS`, the average, and `bench: skip switch` when nobody had to wait.

use core::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use super::Verdict;
use crate::console::report;
use crate::machine::cpu::rdtsc;
use crate::machine::percpu;
use crate::smp;

/// A gap that is no mere interruption, in TSC ticks.
const GAP: u64 = 50_000;
/// Switches per figure, and the ones before that are not counted.
const SWITCHES: u64 = 50;
const WARM_UP: u64 = 5;
/// Looks at the clock before gaps are given up.
const PATIENCE: u64 = 100_000_000;

/// When CPUs 0 and 1 last looked at the clock.
static NOTES: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static IS_OVER: AtomicBool = AtomicBool::new(false);

/// Measures.
pub(super) fn switches() -> Verdict {
    let other = percpu::of(1);
    smp::start(other)?;
    IS_OVER.store(false, Release);
    NOTES[1].store(0, Release);
    smp::give(other, note);
    smp::wait_until(|| NOTES[1].load(Acquire) != 0);
    let (mut count, mut sum) = (0, 0);
    let mut last = rdtsc();
    for _ in 0..PATIENCE {
        let now = rdtsc();
        if now - last > GAP {
            count += 1;
            if count > WARM_UP {
                sum += now.saturating_sub(NOTES[1].load(Relaxed));
            }
            if count == SWITCHES + WARM_UP {
                break;
            }
        }
        last = now;
    }
    IS_OVER.store(true, Release);
    smp::join(other)?;
    match count.checked_sub(WARM_UP) {
        Some(counted @ 1..) => report!("bench: switch {}", sum / counted),
        Some(_) | None => report!("bench: skip switch"),
    }
    Ok(())
}

/// Run by the other CPU.
fn note() -> Verdict {
    while !IS_OVER.load(Relaxed) {
        NOTES[1].store(rdtsc(), Relaxed);
    }
    Ok(())
}
