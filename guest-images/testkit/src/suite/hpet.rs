//! The high-precision event timers, where the firmware's tables have them.
//!
//! Source: Intel "IA-PC HPET (High Precision Event Timers) Specification".

use super::{Check, Checked, Group, Stop, check, clock, firmware, interrupt_flag, rest, value};
use crate::apic;
use crate::chipset::ioapic_write;
use crate::machine::cpu::{Mmio, disable_interrupts, enable_interrupts, rdtsc};
use crate::machine::physical::read_u64;
use crate::machine::trap::interrupts;
use crate::programs::{expect, expect_within};

pub(super) const GROUP: Group = Group::new(CHECKS).needing(present).resting(settle);

const CHECKS: &[Check] = &[
    check("hpet.period-is-sane", || Ok(expect_within("femtoseconds", u64::from(period()), 1, 100_000_000)?)),
    check("hpet.revision-not-zero", || Ok(expect("revision", u64::from(read(0) & 0xff != 0), 1u64)?)),
    value("hpet.timers", || Ok(u64::from(read(0) >> 8 & 0x1f))),
    value("hpet.counter-is-64-bits", || Ok(u64::from(read(0) >> 13 & 1))),
    value("hpet.legacy-replacement-capable", || Ok(u64::from(read(0) >> 15 & 1))),
    check("hpet.capabilities-read-only", capabilities),
    check("hpet.counter-stands-while-off", stands),
    check("hpet.counter-runs-while-on", runs),
    check("hpet.counter-can-be-set", can_be_set),
    check("hpet.counter-set-in-halves", halves),
    check("hpet.counter-carries-into-upper-half", carries),
    check("hpet.rate-against-the-clock", rate),
    check("hpet.configuration-reserved-bits-stay-clear", configuration),
    check("hpet.comparator-reads-back", comparator),
    check("hpet.timer-fixed-bits-read-only", timer_fixed),
    check("hpet.timer-has-a-route", route_capability),
    check("hpet.one-shot-interrupt", || one_shot(0)),
    check("hpet.one-shot-interrupt-of-timer-1", || one_shot(1)),
    check("hpet.one-shot-interrupt-of-timer-2", || one_shot(2)),
    check("hpet.one-shot-comes-once", once),
    check("hpet.disabled-timer-is-quiet", disabled),
    check("hpet.overall-disable-is-quiet", overall),
    check("hpet.periodic-interrupts", periodic),
    check("hpet.periodic-advances-comparator", periodic_comparator),
    check("hpet.periodic-capability-of-timer-0", || Ok(expect("bit", read(0x100) >> 4 & 1, 1u32)?)),
    check("hpet.32-bit-mode-compares-low-half", narrow),
    check("hpet.level-status-is-set", level_status),
    check("hpet.level-status-write-one-clears", level_clears),
    check("hpet.edge-leaves-status-clear", edge_status),
    check("hpet.comparator-in-the-past-waits", past),
    check("hpet.legacy-replacement-timer-0", || legacy(0, 2)),
    check("hpet.legacy-replacement-timer-1", || legacy(1, 8)),
    check("hpet.legacy-replacement-stops-pit", legacy_pit),
    check("hpet.status-of-other-timers-untouched", || {
        write(0x20, 0xff);
        Ok(expect("status", read(0x20), 0u32)?)
    }),
    check("hpet.64-bit-load", wide_load),
    check("hpet.byte-load", byte_load),
    value("hpet.msi-capable", || Ok(u64::from(read(0x100) >> 15 & 1))),
];

const VECTOR: u8 = 0x6c;
const ENABLE: u32 = 1;
const LEGACY: u32 = 2;
const LEVEL: u32 = 1 << 1;
const INTERRUPT: u32 = 1 << 2;
const PERIODIC: u32 = 1 << 3;
const SET_VALUE: u32 = 1 << 6;
const MODE_32: u32 = 1 << 8;

/// Where the specification proposes it, and where all machines have it that we know.
fn present() -> Checked {
    let Some(table) = firmware::table(*b"HPET") else {
        return Err(Stop::Skipped("no HPET in the firmware's tables"));
    };
    if read_u64(table + 44) != Mmio::Hpet.base() as u64 {
        return Err(Stop::Skipped("the HPET is somewhere else"));
    }
    Ok(())
}

fn read(offset: u16) -> u32 {
    Mmio::Hpet.read(offset)
}

fn write(offset: u16, value: u32) {
    Mmio::Hpet.write(offset, value);
}

fn settle() {
    if present().is_err() {
        return;
    }
    write(0x10, 0);
    for timer in 0..3 {
        write(0x100 + 0x20 * timer, 0);
    }
    write(0x20, 7);
    write(0xf0, 0);
    write(0xf4, 0);
    rest::ioapic();
    rest::interrupt_sources();
}

/// Femtoseconds of a count.
fn period() -> u32 {
    read(4)
}

fn counts(us: u64) -> u32 {
    u32::try_from(us * 1_000_000_000 / u64::from(period().max(1))).unwrap_or(u32::MAX)
}

fn counter() -> u64 {
    u64::from(read(0xf4)) << 32 | u64::from(read(0xf0))
}

fn on() {
    write(0x10, ENABLE);
}

fn capabilities() -> Checked {
    let before = (read(0), read(4));
    write(0, !before.0);
    write(4, !before.1);
    expect("low half", read(0), before.0)?;
    Ok(expect("high half", read(4), before.1)?)
}

fn stands() -> Checked {
    let before = counter();
    clock::wait(100);
    Ok(expect("counter", counter(), before)?)
}

fn runs() -> Checked {
    on();
    let before = counter();
    clock::wait(100);
    Ok(expect("counter goes up", u64::from(counter() > before), 1u64)?)
}

fn can_be_set() -> Checked {
    write(0xf0, 0x1234_5678);
    write(0xf4, 0);
    Ok(expect("counter", counter(), 0x1234_5678u64)?)
}

fn halves() -> Checked {
    write(0xf4, 0x11);
    write(0xf0, 0x22);
    Ok(expect("counter", counter(), 0x11_0000_0022u64)?)
}

fn carries() -> Checked {
    write(0xf0, 0xffff_fff0);
    write(0xf4, 0x11);
    on();
    clock::wait(100);
    Ok(expect("upper half", read(0xf4), 0x12u32)?)
}

fn rate() -> Checked {
    on();
    let (start, first) = (rdtsc(), counter());
    clock::wait(5000);
    let (ticks, counts_seen) = (rdtsc() - start, counter() - first);
    let us = ticks * 1000 / clock::ticks(1000).max(1);
    Ok(expect_within("thousandths", counts_seen * 1000 / u64::from(counts(us)).max(1), 950, 1050)?)
}

fn configuration() -> Checked {
    write(0x10, !3);
    expect("low half", read(0x10), 0u32)?;
    write(0x14, u32::MAX);
    Ok(expect("high half", read(0x14), 0u32)?)
}

fn comparator() -> Checked {
    for timer in 0..3 {
        write(0x108 + 0x20 * timer, 0x1234_5678 + u32::from(timer));
        expect("comparator", read(0x108 + 0x20 * timer), 0x1234_5678 + u32::from(timer))?;
    }
    Ok(())
}

fn timer_fixed() -> Checked {
    for timer in 0..3 {
        let at = 0x100 + 0x20 * timer;
        let fixed = read(at) & 0x8031;
        write(at, 0x8031);
        expect("bits 0, 4, 5 and 15", read(at) & 0x8031, fixed)?;
    }
    Ok(())
}

fn route_capability() -> Checked {
    for timer in 0..3 {
        expect("pins", u64::from(read(0x104 + 0x20 * timer) != 0), 1u64)?;
    }
    Ok(())
}

/// A pin that `timer` can use.
fn pin(timer: u16) -> u32 {
    let pins = read(0x104 + 0x20 * timer);
    31 - pins.leading_zeros().min(31)
}

/// Routes `timer` to this processor with these bits; it is still disabled.
fn route(timer: u16, bits: u32) -> u32 {
    let pin = pin(timer);
    let level = if bits & LEVEL == 0 { 0 } else { 1 << 15 };
    ioapic_write(0x11 + 2 * pin, apic::id() << 24);
    ioapic_write(0x10 + 2 * pin, level | u32::from(VECTOR));
    bits | pin << 9
}

/// Interrupts within `us`.
fn come_within(us: u64) -> u64 {
    let before = interrupts(VECTOR);
    enable_interrupts();
    clock::wait(us);
    disable_interrupts();
    interrupts(VECTOR) - before
}

fn arm(timer: u16, bits: u32, us: u64) {
    let bits = route(timer, bits);
    write(0x10c + 0x20 * timer, 0);
    write(0x108 + 0x20 * timer, counts(us));
    write(0x100 + 0x20 * timer, bits);
}

fn one_shot(timer: u16) -> Checked {
    arm(timer, INTERRUPT, 300);
    on();
    Ok(expect("interrupts", come_within(1500), 1u64)?)
}

fn once() -> Checked {
    one_shot(0)?;
    Ok(expect("interrupts", come_within(2000), 0u64)?)
}

fn disabled() -> Checked {
    arm(0, 0, 300);
    on();
    Ok(expect("interrupts", come_within(1500), 0u64)?)
}

fn overall() -> Checked {
    arm(0, INTERRUPT, 300);
    Ok(expect("interrupts", come_within(1500), 0u64)?)
}

fn arm_periodic(us: u64) {
    let bits = route(0, INTERRUPT | PERIODIC | SET_VALUE);
    write(0x100, bits);
    write(0x108, counts(us));
    write(0x108, counts(us));
    on();
}

fn periodic() -> Checked {
    arm_periodic(500);
    Ok(expect_within("interrupts", come_within(5250), 8, 11)?)
}

fn periodic_comparator() -> Checked {
    arm_periodic(500);
    let first = read(0x108);
    clock::wait(2250);
    interrupt_flag();
    let periods = read(0x108).wrapping_sub(first) / counts(500).max(1);
    Ok(expect_within("periods", u64::from(periods), 3, 5)?)
}

fn narrow() -> Checked {
    write(0xf4, 5);
    arm(0, INTERRUPT | MODE_32, 300);
    on();
    Ok(expect("interrupts", come_within(1500), 1u64)?)
}

fn level_status() -> Checked {
    let bits = route(0, INTERRUPT | LEVEL);
    ioapic_write(0x10 + 2 * pin(0), apic::MASKED);
    write(0x108, counts(100));
    write(0x100, bits);
    on();
    clock::wait(500);
    Ok(expect("status", read(0x20) & 1, 1u32)?)
}

fn level_clears() -> Checked {
    level_status()?;
    write(0x20, 0);
    expect("a zero does nothing", read(0x20) & 1, 1u32)?;
    write(0x20, 1);
    Ok(expect("a one clears", read(0x20) & 1, 0u32)?)
}

fn edge_status() -> Checked {
    one_shot(0)?;
    Ok(expect("status", read(0x20) & 1, 0u32)?)
}

fn past() -> Checked {
    write(0xf0, 0x10_0000);
    arm(0, INTERRUPT, 0);
    on();
    Ok(expect("interrupts", come_within(1000), 0u64)?)
}

fn legacy(timer: u16, pin: u32) -> Checked {
    if read(0) >> 15 & 1 == 0 {
        return Err(Stop::Skipped("no legacy replacement"));
    }
    ioapic_write(0x11 + 2 * pin, apic::id() << 24);
    ioapic_write(0x10 + 2 * pin, u32::from(VECTOR));
    write(0x108 + 0x20 * timer, counts(300));
    write(0x100 + 0x20 * timer, INTERRUPT);
    write(0x10, ENABLE | LEGACY);
    Ok(expect("interrupts", come_within(1500), 1u64)?)
}

fn legacy_pit() -> Checked {
    if read(0) >> 15 & 1 == 0 {
        return Err(Stop::Skipped("no legacy replacement"));
    }
    write(0x10, ENABLE | LEGACY);
    crate::chipset::start_pit(500);
    for pin in [0, 2] {
        ioapic_write(0x11 + 2 * pin, apic::id() << 24);
        ioapic_write(0x10 + 2 * pin, u32::from(VECTOR));
    }
    interrupt_flag();
    Ok(expect("interrupts", come_within(3000), 0u64)?)
}

fn wide_load() -> Checked {
    write(0xf0, 0x1234_5678);
    write(0xf4, 0x9a);
    let mut registers = crate::machine::snippet::Registers {
        rdi: Mmio::Hpet.base() as u64 + 0xf0,
        ..crate::machine::snippet::Registers::ZERO
    };
    super::fault_free(crate::machine::snippet::run(crate::machine::snippets::LOAD_RAX, &mut registers))?;
    Ok(expect("counter", registers.rax, 0x9a_1234_5678u64)?)
}

fn byte_load() -> Checked {
    let mut registers = crate::machine::snippet::Registers {
        rdi: Mmio::Hpet.base() as u64 + 5,
        ..crate::machine::snippet::Registers::ZERO
    };
    super::fault_free(crate::machine::snippet::run(crate::machine::snippets::LOAD_AL, &mut registers))?;
    Ok(expect("second byte of the period", registers.rax & 0xff, period() >> 8 & 0xff)?)
}
