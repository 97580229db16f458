//! The real-time clock and its CMOS memory.
//!
//! Source: Motorola "MC146818A Real-Time Clock Plus RAM"; IBM "PC AT Technical Reference" for ports 0x70 and 0x71.

use super::{Check, Checked, Group, check, clock, rest};
use crate::apic;
use crate::chipset::ioapic_write;
use crate::machine::cpu::{disable_interrupts, enable_interrupts, in8, out8};
use crate::machine::trap::interrupts;
use crate::programs::{expect, expect_within};

pub(super) const GROUP: Group = Group::new(CHECKS).resting(|| {
    rest::interrupt_sources();
    rest::ioapic();
});

const CHECKS: &[Check] = &[
    check("rtc.memory-keeps", memory),
    check("rtc.data-port-reads-same-index-again", same_index),
    check("rtc.nmi-bit-does-not-select", nmi_bit),
    check("rtc.register-a-reads-back", register_a),
    check("rtc.register-b-reads-back", register_b),
    check("rtc.register-d-valid", || Ok(expect("valid RAM and time", read(0x0d), 0x80u8)?)),
    check("rtc.register-d-read-only", || {
        write(0x0d, 0);
        Ok(expect("valid RAM and time", read(0x0d), 0x80u8)?)
    }),
    check("rtc.register-c-read-only", || {
        let flags = |_| {
            read(C);
            write(C, 0xff);
            read(C) & 0xcf
        };
        // The periodic flag may come by itself in between, but not each time.
        Ok(expect("no flags", (0..3).map(flags).min().unwrap_or(0), 0u8)?)
    }),
    check("rtc.uip-read-only", || {
        write(A, 0xa6);
        Ok(expect("rest of the register", read(A) & 0x7f, 0x26u8)?)
    }),
    check("rtc.bcd-fields-in-range", bcd_fields),
    check("rtc.binary-format", binary),
    check("rtc.12-hour-format", twelve_hours),
    check("rtc.century", || Ok(expect_within("century", u64::from(read(0x32)), 0x19, 0x21)?)),
    check("rtc.set-stops-updates", set_stops),
    check("rtc.set-clears-uip", || {
        write(B, 0x82);
        Ok(expect("no update", read(A) & 0x80, 0u8)?)
    }),
    check("rtc.time-can-be-set", set_time),
    check("rtc.end-of-minute-hour-day", rollover),
    check("rtc.end-of-february-in-leap-year", || date_rollover([24, 2, 29], [24, 3, 1])),
    check("rtc.end-of-february", || date_rollover([25, 2, 28], [25, 3, 1])),
    check("rtc.end-of-year", || date_rollover([25, 12, 31], [26, 1, 1])),
    check("rtc.uip-before-update", uip),
    check("rtc.update-ended-flag", update_flag),
    check("rtc.reading-c-clears-flags", c_clears),
    check("rtc.periodic-flag-without-enable", periodic_flag),
    check("rtc.irqf-needs-enable", irqf_needs_enable),
    check("rtc.periodic-interrupt", || interrupt(0x42, 0x40)),
    check("rtc.periodic-needs-read-of-c", needs_read),
    check("rtc.periodic-rate-8192", || rate(3, 122)),
    check("rtc.periodic-rate-1024", || rate(6, 976)),
    check("rtc.periodic-rate-256-by-1", || rate(1, 3906)),
    check("rtc.periodic-off", periodic_off),
    check("rtc.update-interrupt", || {
        near_second();
        interrupt(0x12, 0x10)
    }),
    check("rtc.alarm-every-second", || alarm([0xff, 0xff, 0xff])),
    check("rtc.alarm-exact", || alarm([0x01, 0x02, 0x03])),
    check("rtc.alarm-of-another-second", alarm_misses),
    check("rtc.alarm-any-hour", || alarm([0x01, 0x02, 0xc0])),
];

const A: u8 = 0x0a;
const B: u8 = 0x0b;
const C: u8 = 0x0c;
const SECONDS: u8 = 0;
const MINUTES: u8 = 2;
const HOURS: u8 = 4;
/// What register B is at rest: 24 hours, BCD.
const B_REST: u8 = 0x02;
const VECTOR: u8 = 0x68;

fn read(index: u8) -> u8 {
    out8(0x70, index);
    in8(0x71)
}

fn write(index: u8, value: u8) {
    out8(0x70, index);
    out8(0x71, value);
}

fn memory() -> Checked {
    let before = read(0x4e);
    for value in [0x55, 0xaa, 0] {
        write(0x4e, value);
        expect("byte", read(0x4e), value)?;
    }
    write(0x4e, before);
    Ok(())
}

fn same_index() -> Checked {
    let before = read(0x4e);
    write(0x4e, 0x5a);
    out8(0x70, 0x4e);
    in8(0x71);
    let again = in8(0x71);
    write(0x4e, before);
    Ok(expect("byte", again, 0x5au8)?)
}

fn nmi_bit() -> Checked {
    let before = read(0x4e);
    write(0x4e, 0x5a);
    out8(0x70, 0xce);
    let seen = in8(0x71);
    out8(0x70, 0x0d);
    in8(0x71);
    write(0x4e, before);
    Ok(expect("the same byte", seen, 0x5au8)?)
}

fn register_a() -> Checked {
    for value in [0x20, 0x2f, 0x23, 0x26] {
        write(A, value);
        expect("register", read(A) & 0x7f, value)?;
    }
    Ok(())
}

fn register_b() -> Checked {
    for value in [0x82u8, 0x86, 0x80, 0x06, 0x02] {
        write(B, value);
        expect("register", read(B), value)?;
    }
    Ok(())
}

fn bcd_fields() -> Checked {
    settle();
    for (index, most) in [(SECONDS, 0x59), (MINUTES, 0x59), (HOURS, 0x23), (7, 0x31), (8, 0x12), (9, 0x99)] {
        let value = read(index);
        expect("decimal digits", u64::from(value & 0xf <= 9), 1u64)?;
        expect_within("field", u64::from(value), 0, most)?;
    }
    Ok(())
}

/// Waits until no update is near.
fn settle() {
    clock::sleep_until(20, || read(A) & 0x80 == 0);
}

/// Sets the clock, with updates stopped meanwhile: second, minute, hour in register B's format.
fn set(time: [u8; 3], format: u8) {
    write(B, 0x80 | format);
    for (index, value) in [SECONDS, MINUTES, HOURS].into_iter().zip(time) {
        write(index, value);
    }
    // From a divider reset, the first update is half a second away.
    write(A, 0x76);
    write(A, 0x26);
    write(B, format);
}

fn time() -> [u8; 3] {
    settle();
    [read(SECONDS), read(MINUTES), read(HOURS)]
}

fn expect_time(what: &'static str, got: [u8; 3], want: [u8; 3]) -> Checked {
    let number = |[s, m, h]: [u8; 3]| u64::from(h) << 16 | u64::from(m) << 8 | u64::from(s);
    Ok(expect(what, number(got), number(want))?)
}

fn binary() -> Checked {
    write(B, 0x86);
    for (index, value) in [(SECONDS, 59), (MINUTES, 58), (HOURS, 23)] {
        write(index, value);
        expect("field", read(index), value)?;
    }
    Ok(())
}

fn twelve_hours() -> Checked {
    set([0x10, 0x20, 0x91], 0);
    expect("11 at night", time()[2], 0x91u8)?;
    // At midnight it is 12 in the morning.
    set([0x59, 0x59, 0x91], 0);
    let came = clock::sleep_until(1200, || time()[1] == 0);
    expect("an hour later", u64::from(came), 1u64)?;
    Ok(expect("12 at night", time()[2], 0x12u8)?)
}

fn set_stops() -> Checked {
    write(B, 0x82);
    for (index, value) in [(SECONDS, 0x30), (MINUTES, 0x31), (HOURS, 0x12)] {
        write(index, value);
    }
    write(A, 0x76);
    write(A, 0x26);
    clock::sleep_until(1100, || false);
    Ok(expect("second", read(SECONDS), 0x30u8)?)
}

fn set_time() -> Checked {
    set([0x10, 0x20, 0x13], B_REST);
    expect_time("time", time(), [0x10, 0x20, 0x13])?;
    let came = clock::sleep_until(1200, || time()[0] != 0x10);
    expect("goes on", u64::from(came), 1u64)?;
    expect_time("a second later", time(), [0x11, 0x20, 0x13])
}

fn rollover() -> Checked {
    set([0x59, 0x59, 0x23], B_REST);
    let came = clock::sleep_until(1200, || time()[0] != 0x59);
    expect("goes on", u64::from(came), 1u64)?;
    expect_time("midnight", time(), [0, 0, 0])
}

const fn bcd(value: u8) -> u8 {
    value / 10 * 16 + value % 10
}

/// Year, month, day at midnight.
fn date_rollover(from: [u8; 3], to: [u8; 3]) -> Checked {
    let fields = [9, 8, 7];
    let before = fields.map(read);
    write(B, 0x82);
    for (index, value) in fields.into_iter().zip(from) {
        write(index, bcd(value));
    }
    set([0x59, 0x59, 0x23], B_REST);
    let came = clock::sleep_until(1200, || time()[0] != 0x59);
    let after = fields.map(read);
    write(B, 0x82);
    for (index, value) in fields.into_iter().zip(before) {
        write(index, value);
    }
    write(B, B_REST);
    expect("goes on", u64::from(came), 1u64)?;
    for (got, want) in after.into_iter().zip(to) {
        expect("date", got, bcd(want))?;
    }
    Ok(())
}

/// Has the next update half a second away at most.
fn near_second() {
    set([0x10, 0x20, 0x13], B_REST);
}

fn uip() -> Checked {
    near_second();
    let came = clock::until(1_200_000, || read(A) & 0x80 != 0);
    expect("an update is announced", u64::from(came), 1u64)?;
    expect("not done yet", read(C) & 0x10, 0u8)?;
    let over = clock::until(5000, || read(A) & 0x80 == 0);
    Ok(expect("and is over soon", u64::from(over), 1u64)?)
}

fn update_flag() -> Checked {
    near_second();
    read(C);
    let came = clock::sleep_until(1200, || read(C) & 0x10 != 0);
    Ok(expect("update ended", u64::from(came), 1u64)?)
}

fn c_clears() -> Checked {
    write(B, 0x42);
    read(C);
    clock::wait(2000);
    expect("the periodic flag", read(C) & 0x40, 0x40u8)?;
    Ok(expect("cleared", read(C) & 0x40, 0u8)?)
}

fn periodic_flag() -> Checked {
    read(C);
    let came = clock::until(10_000, || read(C) & 0x40 != 0);
    Ok(expect("periodic flag", u64::from(came), 1u64)?)
}

fn irqf_needs_enable() -> Checked {
    clock::wait(2000);
    Ok(expect("no request", read(C) & 0x80, 0u8)?)
}

/// Routes the clock's line to this processor.
fn route() {
    ioapic_write(0x11 + 2 * 8, apic::id() << 24);
    ioapic_write(0x10 + 2 * 8, u32::from(VECTOR));
}

/// With register B as given, an interrupt comes, and register C says why.
fn interrupt(b: u8, why: u8) -> Checked {
    route();
    read(C);
    let before = interrupts(VECTOR);
    write(B, b);
    let came = clock::sleep_until(1200, || interrupts(VECTOR) != before);
    expect("interrupt", u64::from(came), 1u64)?;
    let flags = read(C);
    Ok(expect("request and its reason", flags & (0x80 | why), 0x80 | why)?)
}

fn needs_read() -> Checked {
    interrupt(0x42, 0x40)?;
    let came = clock::until(10_000, || read(C) & 0x80 != 0);
    expect("next request", u64::from(came), 1u64)?;
    // From here on nobody reads register C.
    let wait = |us| {
        enable_interrupts();
        clock::wait(us);
        disable_interrupts();
    };
    wait(3000);
    let before = interrupts(VECTOR);
    wait(10_000);
    expect("no more", interrupts(VECTOR), before)?;
    read(C);
    wait(5000);
    Ok(expect("again", u64::from(interrupts(VECTOR) > before), 1u64)?)
}

/// The period between flags is `us`.
fn rate(select: u8, us: u64) -> Checked {
    const PERIODS: u64 = 8;
    write(A, 0x20 | select);
    write(B, 0x42);
    read(C);
    expect("flag", u64::from(clock::until(50_000, || read(C) & 0x40 != 0)), 1u64)?;
    let start = crate::machine::cpu::rdtsc();
    for _ in 0..PERIODS {
        expect("flag", u64::from(clock::until(50_000, || read(C) & 0x40 != 0)), 1u64)?;
    }
    let took = crate::machine::cpu::rdtsc() - start;
    let want = clock::ticks(us * PERIODS);
    Ok(expect_within("thousandths of the period", took * 1000 / want.max(1), 850, 1150)?)
}

fn periodic_off() -> Checked {
    write(A, 0x20);
    read(C);
    clock::wait(10_000);
    Ok(expect("no flag", read(C) & 0x40, 0u8)?)
}

/// One second before the time that [`alarm`] sets.
const BEFORE: [u8; 3] = [0x00, 0x02, 0x03];

fn alarm(at: [u8; 3]) -> Checked {
    for (index, value) in [1, 3, 5].into_iter().zip(at) {
        write(index, value);
    }
    set(BEFORE, B_REST);
    interrupt(0x22, 0x20)
}

fn alarm_misses() -> Checked {
    for (index, value) in [1, 3, 5].into_iter().zip([0x30, 0xff, 0xff]) {
        write(index, value);
    }
    set(BEFORE, B_REST);
    read(C);
    let came = clock::sleep_until(1200, || time()[0] != 0);
    expect("goes on", u64::from(came), 1u64)?;
    Ok(expect("no alarm", read(C) & 0x20, 0u8)?)
}
