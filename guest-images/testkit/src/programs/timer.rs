//! The local APIC's timer in its three modes, and the 8254 through both interrupt controllers.
//!
//! Source: SDM Vol. 3A, "APIC Timer"; Intel "8254 Programmable Interval Timer".

use super::{Verdict, expect, expect_within};
use crate::apic::{self, TIMER_VECTOR, TimerMode};
use crate::chipset::{self, Route};
use crate::machine::cpu::{rdtsc, wait_for_interrupt};
use crate::machine::measure::spin_until;
use crate::machine::trap::interrupts;

/// Rounds of a waiting loop before an interrupt is given up.
const PATIENCE: u64 = 400_000_000;

/// Whether `vector` is handled while the program spins.
fn comes(vector: u8) -> u64 {
    u64::from(spin_until(vector, || {}, PATIENCE).is_some())
}

/// One-shot, periodic and deadline.
pub(super) fn timer() -> Verdict {
    let modes = one_shot().and_then(|()| periodic());
    let modes = if apic::has_deadline() { modes.and_then(|()| deadline()) } else { modes };
    apic::stop_timer();
    modes
}

fn one_shot() -> Verdict {
    apic::set_timer(TimerMode::OneShot);
    expect("nothing counts before it is armed", apic::current_count(), 0u32)?;
    let before = interrupts(TIMER_VECTOR);
    apic::arm_count(2_000_000);
    expect_within("count runs down", u64::from(apic::current_count()), 1, 2_000_000)?;
    expect("one-shot comes", comes(TIMER_VECTOR), 1u64)?;
    expect("count ends at zero", apic::current_count(), 0u32)?;
    apic::arm_count(100_000);
    wait_for_interrupt();
    expect("one-shot wakes HLT", interrupts(TIMER_VECTOR), before + 2)?;
    expect("one-shot comes once", u64::from(spin_until(TIMER_VECTOR, || {}, 1_000_000).is_some()), 0u64)?;
    apic::arm_count(50_000_000);
    apic::arm_count(0);
    expect("a count of zero stops it", apic::current_count(), 0u32)
}

fn periodic() -> Verdict {
    apic::set_timer(TimerMode::Periodic);
    apic::arm_count(1_000_000);
    for _ in 0..5 {
        expect("periodic comes again", comes(TIMER_VECTOR), 1u64)?;
        expect_within("count was reloaded", u64::from(apic::current_count()), 1, 1_000_000)?;
    }
    wait_for_interrupt();
    apic::stop_timer();
    expect("stopped", u64::from(spin_until(TIMER_VECTOR, || {}, 1_000_000).is_some()), 0u64)
}

fn deadline() -> Verdict {
    apic::set_timer(TimerMode::Deadline);
    let target = rdtsc() + 1_000_000;
    apic::arm_deadline(target);
    expect("deadline comes", comes(TIMER_VECTOR), 1u64)?;
    expect("not too early", u64::from(rdtsc() >= target), 1u64)?;
    let target = rdtsc() + 1_000_000;
    apic::arm_deadline(target);
    wait_for_interrupt();
    expect("HLT sleeps until the deadline", u64::from(rdtsc() >= target), 1u64)?;
    apic::arm_deadline(1);
    expect("a deadline in the past comes at once", comes(TIMER_VECTOR), 1u64)?;
    apic::arm_deadline(rdtsc() + 1_000_000);
    apic::arm_deadline(0);
    expect("zero disarms", u64::from(spin_until(TIMER_VECTOR, || {}, 2_000_000).is_some()), 0u64)
}

/// The 8254's interrupt through the I/O APIC, then through the 8259.
pub(super) fn pit() -> Verdict {
    const MILLISECOND: u16 = 1193;
    expect_within("I/O APIC pins", u64::from(chipset::ioapic_read(1) >> 16 & 0xff) + 1, 24, 240)?;
    chipset::start_pit(MILLISECOND);
    chipset::route_pit_through_ioapic(Route::Deliver);
    let before = chipset::pit_interrupts();
    for _ in 0..5 {
        wait_for_interrupt();
    }
    chipset::route_pit_through_ioapic(Route::Mask);
    expect("through the I/O APIC", chipset::pit_interrupts(), before + 5)?;

    chipset::route_pit_through_8259(Route::Deliver);
    let before = interrupts(chipset::PIC_VECTORS);
    for _ in 0..5 {
        wait_for_interrupt();
    }
    chipset::route_pit_through_8259(Route::Mask);
    expect("through the 8259", interrupts(chipset::PIC_VECTORS), before + 5)?;
    expect("local APIC version", u64::from(apic::version() & 0xf0), 0x10u64)
}
