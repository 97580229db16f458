//! The local APIC's timer, the same checks in both modes.
//!
//! Source: SDM Vol. 3A, "APIC Timer".

use super::{Check, Checked, Group, Phase, Stop, check, clock};
use crate::apic::{self, MASKED, TIMER_VECTOR, TimerMode};
use crate::machine::cpu::{disable_interrupts, enable_interrupts, rdtsc};
use crate::machine::msr::TestMsr;
use crate::machine::trap::interrupts;
use crate::programs::{expect, expect_within};

macro_rules! in_both_modes {
    ($($name:literal = $body:expr;)+) => {
        const XAPIC: &[Check] = &[$(check(concat!("xapic-timer.", $name), $body)),+];
        const X2APIC: &[Check] = &[$(check(concat!("x2apic-timer.", $name), $body)),+];
    };
}

pub(super) const GROUP_XAPIC: Group = Group::new(XAPIC).resting(rest);
pub(super) const GROUP_X2APIC: Group = Group::new(X2APIC).resting(rest).in_phase(Phase::X2Apic);

in_both_modes! {
    "one-shot-comes-once" = one_shot_once;
    "one-shot-ends-at-zero" = one_shot_zero;
    "periodic-comes-again" = periodic_again;
    "periodic-reloads" = periodic_reloads;
    "initial-count-reads-back" = initial_reads_back;
    "new-initial-count-starts-again" = new_initial;
    "zero-initial-count-stops" = zero_stops;
    "masked-does-not-come" = masked;
    "masked-counts" = masked_counts;
    "unmasking-does-not-bring-what-was-missed" = unmask_late;
    "mode-change-keeps-counting" = mode_change;
    "divide-by-2" = || divides(0b0000, 2);
    "divide-by-4" = || divides(0b0001, 4);
    "divide-by-8" = || divides(0b0010, 8);
    "divide-by-16" = || divides(0b0011, 16);
    "divide-by-32" = || divides(0b1000, 32);
    "divide-by-64" = || divides(0b1001, 64);
    "divide-by-128" = || divides(0b1010, 128);
    "divide-by-1" = || divides(0b1011, 1);
    "deadline-comes" = deadline_comes;
    "deadline-past-comes-at-once" = deadline_past;
    "deadline-reads-back" = deadline_reads_back;
    "deadline-reads-zero-when-fired" = deadline_fired;
    "deadline-zero-disarms" = deadline_disarms;
    "deadline-rewritten-moves" = deadline_moves;
    "deadline-masked-fires-silently" = deadline_masked;
    "deadline-write-ignored-in-other-modes" = deadline_ignored;
    "deadline-mode-ignores-initial-count" = deadline_no_count;
    "leaving-deadline-mode-disarms" = deadline_left;
    "entering-deadline-mode-stops-count" = deadline_entered;
    "software-disable-stops-delivery" = disabled;
    "vector-changes-while-counting" = vector_change;
}

const LVT_TIMER: u16 = 0x320;
const INITIAL: u16 = 0x380;

fn rest() {
    // In case the deadline mode is on.
    TestMsr::TSC_DEADLINE.write(0).ok();
    apic::stop_timer();
}

/// Interrupts of the timer within `us` microseconds, interrupts on.
fn come_within(us: u64) -> u64 {
    let before = interrupts(TIMER_VECTOR);
    enable_interrupts();
    clock::wait(us);
    disable_interrupts();
    interrupts(TIMER_VECTOR) - before
}

/// Waits until the timer has interrupted, for a while; how often it did.
fn comes() -> u64 {
    let before = interrupts(TIMER_VECTOR);
    enable_interrupts();
    clock::until(200_000, || interrupts(TIMER_VECTOR) != before);
    disable_interrupts();
    interrupts(TIMER_VECTOR) - before
}

fn needs_deadline() -> Checked {
    if apic::has_deadline() { Ok(()) } else { Err(Stop::Skipped("no TSC deadline")) }
}

fn one_shot_once() -> Checked {
    apic::set_timer(TimerMode::OneShot);
    apic::arm_count(10_000);
    expect("comes", comes(), 1u64)?;
    Ok(expect("and not again", come_within(1000), 0u64)?)
}

fn one_shot_zero() -> Checked {
    apic::set_timer(TimerMode::OneShot);
    apic::arm_count(10_000);
    comes();
    Ok(expect("current count", apic::current_count(), 0u32)?)
}

fn periodic_again() -> Checked {
    apic::set_timer(TimerMode::Periodic);
    apic::arm_count(100_000);
    for _ in 0..3 {
        expect("comes", u64::from(comes() > 0), 1u64)?;
    }
    Ok(())
}

fn periodic_reloads() -> Checked {
    apic::set_timer(TimerMode::Periodic);
    apic::arm_count(1_000_000);
    comes();
    Ok(expect_within("current count", u64::from(apic::current_count()), 1, 1_000_000)?)
}

fn initial_reads_back() -> Checked {
    apic::set_timer(TimerMode::OneShot);
    apic::arm_count(0x1234_5678);
    Ok(expect("initial count", apic::read(INITIAL), 0x1234_5678u32)?)
}

fn new_initial() -> Checked {
    apic::set_timer(TimerMode::OneShot);
    apic::arm_count(1_000_000);
    apic::arm_count(800_000_000);
    Ok(expect_within("current count", u64::from(apic::current_count()), 700_000_000, 800_000_000)?)
}

fn zero_stops() -> Checked {
    apic::set_timer(TimerMode::OneShot);
    apic::arm_count(100_000);
    apic::arm_count(0);
    expect("current count", apic::current_count(), 0u32)?;
    Ok(expect("does not come", come_within(2000), 0u64)?)
}

fn masked() -> Checked {
    apic::set_timer(TimerMode::OneShot);
    apic::write(LVT_TIMER, MASKED | u32::from(TIMER_VECTOR));
    apic::arm_count(1000);
    Ok(expect("does not come", come_within(1000), 0u64)?)
}

fn masked_counts() -> Checked {
    apic::set_timer(TimerMode::OneShot);
    apic::write(LVT_TIMER, MASKED | u32::from(TIMER_VECTOR));
    apic::arm_count(u32::MAX);
    let first = apic::current_count();
    clock::wait(100);
    Ok(expect("counts", u64::from(apic::current_count() < first), 1u64)?)
}

fn unmask_late() -> Checked {
    apic::set_timer(TimerMode::OneShot);
    apic::write(LVT_TIMER, MASKED | u32::from(TIMER_VECTOR));
    apic::arm_count(1000);
    expect("ends", u64::from(clock::until(100_000, || apic::current_count() == 0)), 1u64)?;
    apic::write(LVT_TIMER, u32::from(TIMER_VECTOR));
    Ok(expect("does not come", come_within(1000), 0u64)?)
}

fn mode_change() -> Checked {
    apic::set_timer(TimerMode::OneShot);
    apic::arm_count(u32::MAX);
    apic::write(LVT_TIMER, 1 << 17 | u32::from(TIMER_VECTOR));
    Ok(expect("counts on", u64::from(apic::current_count() > 0xf000_0000), 1u64)?)
}

/// Counts that pass in a given number of ticks, with this divider.
fn counts(configuration: u32, ticks: u64) -> u64 {
    apic::write(0x3e0, configuration);
    apic::write(LVT_TIMER, MASKED | u32::from(TIMER_VECTOR));
    apic::arm_count(u32::MAX);
    let (start, first) = (rdtsc(), apic::current_count());
    while rdtsc() - start < ticks {}
    let (end, last) = (rdtsc(), apic::current_count());
    u64::from(first - last) * 1_000_000 / (end - start)
}

/// Against the undivided clock, as counts in a million ticks.
fn divides(configuration: u32, by: u64) -> Checked {
    let ticks = clock::ticks(2000);
    let undivided = counts(0b1011, ticks);
    let divided = counts(configuration, ticks);
    Ok(expect_within("undivided counts a count", undivided * 100 / divided.max(1), by * 93, by * 107)?)
}

fn deadline_comes() -> Checked {
    needs_deadline()?;
    apic::set_timer(TimerMode::Deadline);
    let target = rdtsc() + clock::ticks(300);
    apic::arm_deadline(target);
    expect("comes", comes(), 1u64)?;
    expect("not early", u64::from(rdtsc() >= target), 1u64)?;
    Ok(expect("not again", come_within(1000), 0u64)?)
}

fn deadline_past() -> Checked {
    needs_deadline()?;
    apic::set_timer(TimerMode::Deadline);
    apic::arm_deadline(1);
    Ok(expect("comes", come_within(100), 1u64)?)
}

fn deadline_reads_back() -> Checked {
    needs_deadline()?;
    apic::set_timer(TimerMode::Deadline);
    let target = rdtsc() + clock::ticks(1_000_000);
    apic::arm_deadline(target);
    Ok(expect("deadline", TestMsr::TSC_DEADLINE.read().unwrap_or(u64::MAX), target)?)
}

fn deadline_fired() -> Checked {
    needs_deadline()?;
    apic::set_timer(TimerMode::Deadline);
    apic::arm_deadline(rdtsc() + clock::ticks(10));
    comes();
    Ok(expect("deadline", TestMsr::TSC_DEADLINE.read().unwrap_or(u64::MAX), 0u64)?)
}

fn deadline_disarms() -> Checked {
    needs_deadline()?;
    apic::set_timer(TimerMode::Deadline);
    apic::arm_deadline(rdtsc() + clock::ticks(300));
    apic::arm_deadline(0);
    Ok(expect("does not come", come_within(1000), 0u64)?)
}

fn deadline_moves() -> Checked {
    needs_deadline()?;
    apic::set_timer(TimerMode::Deadline);
    apic::arm_deadline(rdtsc() + clock::ticks(300));
    apic::arm_deadline(rdtsc() + clock::ticks(1_000_000));
    Ok(expect("does not come", come_within(1000), 0u64)?)
}

fn deadline_masked() -> Checked {
    needs_deadline()?;
    apic::set_timer(TimerMode::Deadline);
    apic::write(LVT_TIMER, MASKED | 2 << 17 | u32::from(TIMER_VECTOR));
    apic::arm_deadline(rdtsc() + clock::ticks(100));
    expect("does not come", come_within(500), 0u64)?;
    Ok(expect("deadline", TestMsr::TSC_DEADLINE.read().unwrap_or(u64::MAX), 0u64)?)
}

fn deadline_ignored() -> Checked {
    needs_deadline()?;
    apic::set_timer(TimerMode::OneShot);
    apic::arm_deadline(rdtsc() + clock::ticks(100));
    expect("deadline", TestMsr::TSC_DEADLINE.read().unwrap_or(u64::MAX), 0u64)?;
    Ok(expect("does not come", come_within(500), 0u64)?)
}

fn deadline_no_count() -> Checked {
    needs_deadline()?;
    apic::set_timer(TimerMode::Deadline);
    apic::arm_count(1000);
    expect("current count", apic::current_count(), 0u32)?;
    Ok(expect("does not come", come_within(500), 0u64)?)
}

fn deadline_left() -> Checked {
    needs_deadline()?;
    apic::set_timer(TimerMode::Deadline);
    apic::arm_deadline(rdtsc() + clock::ticks(300));
    apic::set_timer(TimerMode::OneShot);
    expect("does not come", come_within(1000), 0u64)?;
    apic::set_timer(TimerMode::Deadline);
    Ok(expect("deadline", TestMsr::TSC_DEADLINE.read().unwrap_or(u64::MAX), 0u64)?)
}

fn deadline_entered() -> Checked {
    needs_deadline()?;
    apic::set_timer(TimerMode::OneShot);
    apic::arm_count(50_000);
    apic::set_timer(TimerMode::Deadline);
    expect("does not come", come_within(2000), 0u64)?;
    Ok(expect("current count", apic::current_count(), 0u32)?)
}

fn disabled() -> Checked {
    apic::set_timer(TimerMode::OneShot);
    apic::arm_count(50_000);
    apic::write(0xf0, 0xff);
    let count = come_within(2000);
    apic::write(0xf0, 0x1ff);
    Ok(expect("does not come", count, 0u64)?)
}

fn vector_change() -> Checked {
    const OTHER: u8 = 0x72;
    apic::set_timer(TimerMode::OneShot);
    apic::arm_count(100_000);
    apic::write(LVT_TIMER, u32::from(OTHER));
    let before = interrupts(OTHER);
    expect("not by the old one", come_within(5000), 0u64)?;
    Ok(expect("by the new one", interrupts(OTHER), before + 1)?)
}
