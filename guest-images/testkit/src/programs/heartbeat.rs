//! A guest that beats like a clock, for watching from outside: whether it goes on, and how late its timer comes.
//!
//! It sleeps until a timer, again and again, and prints `heartbeat: beats N late N ever N` each tenth of a second: how
//! often it woke since its start, and by how many microseconds the latest timer came behind its deadline, of those since
//! the line before and of all.

use super::time::tsc_hz;
use super::{Verdict, expect};
use crate::apic::{self, TimerMode};
use crate::console::report;
use crate::machine::measure::halt_until_deadline;

/// Beats a second.
const RATE: u64 = 200;
/// Beats between two lines.
const BEATS_A_LINE: u64 = RATE / 10;

/// Beats for ever.
pub(super) fn heartbeat() -> Verdict {
    expect("TSC-deadline timer", u64::from(apic::has_deadline()), 1u64)?;
    apic::set_timer(TimerMode::Deadline);
    let ticks_a_us = (tsc_hz() / 1_000_000).max(1);
    let (mut beats, mut ever_us) = (0u64, 0);
    loop {
        let mut late_us = 0;
        for _ in 0..BEATS_A_LINE {
            late_us = late_us.max(halt_until_deadline(tsc_hz() / RATE) / ticks_a_us);
        }
        beats += BEATS_A_LINE;
        ever_us = late_us.max(ever_us);
        report!("heartbeat: beats {beats} late {late_us} ever {ever_us}");
    }
}
