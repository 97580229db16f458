//! Power management and the PC's small ports.
//!
//! Source: ACPI Specification, "ACPI Hardware Specification"; Intel "82371AB (PIIX4)" on ports 0x92 and 0xcf9; IBM "PC AT
//! Technical Reference" on the keyboard controller.

use super::{Check, Checked, Group, Stop, check, clock, firmware};
use crate::machine::cpu::{in8, in16, in32, out8, out16, out32, rdtsc};
use crate::programs::{expect, expect_within};

pub(super) const GROUP: Group = Group::new(CHECKS);

const CHECKS: &[Check] = &[
    check("pm.timer-counts", timer_counts),
    check("pm.timer-rate", timer_rate),
    check("pm.timer-write-is-ignored", timer_write),
    check("pm.timer-byte-reads", || {
        let port = firmware::block(76)?;
        let first = in32(port);
        let byte = in8(port + 2);
        Ok(expect_within(
            "third byte",
            u64::from(byte),
            u64::from(first >> 16 & 0xff),
            u64::from(first >> 16 & 0xff) + 1,
        )?)
    }),
    check("pm.status-write-one-clears", pm_status),
    check("pm.enable-reads-back", pm_enable),
    check("pm.enable-byte-lanes", pm_enable_bytes),
    check("pm.control-sci-enable", pm_control),
    check("pm.control-sleep-enable-reads-zero", || {
        Ok(expect("SLP_EN", in16(firmware::block(64)?) & 1 << 13, 0u16)?)
    }),
    check("pm.power-button-status-clear", || {
        Ok(expect("PWRBTN_STS", in16(firmware::block(56)?) & 1 << 8, 0u16)?)
    }),
    check("ports.92-reads-a20", || Ok(expect("A20", in8(0x92) & 2, 2u8)?)),
    check("ports.92-reset-bit-reads-zero", || Ok(expect("fast reset", in8(0x92) & 1, 0u8)?)),
    check("ports.92-keeps-a20", port_92),
    check("ports.cf9-keeps-kind-of-reset", port_cf9),
    check("ports.80-takes-anything", || {
        out8(0x80, 0x5a);
        out8(0x80, 0);
        Ok(())
    }),
    check("ports.i8042-status-idle", || {
        controller()?;
        // The input buffer is empty, and there is no error.
        let idle = clock::until(10_000, || in8(0x64) & 0xc2 == 0);
        Ok(expect("status", u64::from(idle), 1u64)?)
    }),
    check("ports.i8042-self-test", i8042_self_test),
    check("ports.i8042-command-byte-reads-back", i8042_command_byte),
    check("ports.i8042-disable-keyboard-bit", i8042_disable),
    check("ports.i8042-echo-of-output-buffer", i8042_echo),
    check("ports.i8042-aux-output-buffer", i8042_aux),
    check("ports.i8042-interface-test", i8042_interface),
    check("ports.i8042-output-port-a20", i8042_output_port),
    check("ports.i8042-status-follows-port", i8042_status),
    check("ports.absent-byte", || Ok(expect("all ones", in8(0x2468), 0xffu8)?)),
    check("ports.absent-word", || Ok(expect("all ones", in16(0x2468), 0xffffu16)?)),
    check("ports.absent-double-word", || Ok(expect("all ones", in32(0x2468), u32::MAX)?)),
    check("ports.absent-misaligned", || Ok(expect("all ones", in32(0x2467), u32::MAX)?)),
    check("ports.last-port", || Ok(expect("all ones", in8(0xffff), 0xffu8)?)),
    check("ports.uart-scratch-byte", || {
        out8(0x3ff, 0x5a);
        Ok(expect("scratch", in8(0x3ff), 0x5au8)?)
    }),
];

fn timer_counts() -> Checked {
    let port = firmware::block(76)?;
    let first = in32(port);
    clock::wait(100);
    Ok(expect("another count", u64::from(in32(port) != first), 1u64)?)
}

fn timer_rate() -> Checked {
    let port = firmware::block(76)?;
    let (start, first) = (rdtsc(), in32(port));
    clock::wait(10_000);
    let (ticks, last) = (rdtsc() - start, in32(port));
    let counted = u64::from(last.wrapping_sub(first) & 0xff_ffff);
    let us = ticks * 1000 / clock::ticks(1000).max(1);
    Ok(expect_within("thousandths of 3.579545 MHz", counted * 1_000_000 / (us * 3580).max(1), 950, 1050)?)
}

fn timer_write() -> Checked {
    let port = firmware::block(76)?;
    let first = in32(port);
    out32(port, first.wrapping_add(0x40_0000));
    let moved = u64::from(in32(port).wrapping_sub(first) & 0xff_ffff);
    Ok(expect_within("count", moved, 0, 0x1_0000)?)
}

fn pm_status() -> Checked {
    let port = firmware::block(56)?;
    out16(port, 0xffff);
    let status = in16(port);
    out16(port, 0);
    // The timer's carry may come at any time.
    Ok(expect("nothing is set", status & !1, 0u16)?)
}

fn pm_enable() -> Checked {
    let port = firmware::block(56)? + 2;
    let before = in16(port);
    for value in [0x0120, 0x0100, 0x0020, 0] {
        out16(port, value);
        let seen = in16(port);
        if seen != value {
            out16(port, before);
        }
        expect("register", seen & 0x0120, value)?;
    }
    out16(port, before);
    Ok(())
}

fn pm_enable_bytes() -> Checked {
    let port = firmware::block(56)? + 2;
    let before = in16(port);
    out16(port, 0);
    out8(port + 1, 1);
    let seen = (in16(port), in8(port + 1));
    out16(port, before);
    expect("word", seen.0, 0x100u16)?;
    Ok(expect("byte", seen.1, 1u8)?)
}

fn pm_control() -> Checked {
    let port = firmware::block(64)?;
    let before = in16(port);
    out16(port, 1);
    expect("SCI_EN", in16(port) & 1, 1u16)?;
    out16(port, before & !(1 << 13));
    Ok(())
}

fn port_92() -> Checked {
    let before = in8(0x92) & !1;
    out8(0x92, before | 2);
    Ok(expect("A20", in8(0x92) & 3, 2u8)?)
}

/// Bit 1 chooses the kind of reset, bit 2 does it: the former alone is kept.
fn port_cf9() -> Checked {
    out8(0xcf9, 2);
    expect("hard", in8(0xcf9) & 6, 2u8)?;
    out8(0xcf9, 0);
    Ok(expect("soft", in8(0xcf9) & 6, 0u8)?)
}

/// Whether there is a keyboard controller: its status does not read as open bus.
fn controller() -> Checked {
    if in8(0x64) == 0xff {
        return Err(Stop::Skipped("no keyboard controller"));
    }
    for _ in 0..32 {
        if in8(0x64) & 1 == 0 {
            break;
        }
        in8(0x60);
    }
    Ok(())
}

fn command(byte: u8) -> Checked {
    let ready = clock::until(20_000, || in8(0x64) & 2 == 0);
    expect("input buffer empty", u64::from(ready), 1u64)?;
    out8(0x64, byte);
    Ok(())
}

fn answer() -> Checked<u8> {
    let came = clock::until(50_000, || in8(0x64) & 1 == 1);
    expect("output buffer full", u64::from(came), 1u64)?;
    Ok(in8(0x60))
}

fn data(byte: u8) -> Checked {
    let ready = clock::until(20_000, || in8(0x64) & 2 == 0);
    expect("input buffer empty", u64::from(ready), 1u64)?;
    out8(0x60, byte);
    Ok(())
}

fn i8042_self_test() -> Checked {
    controller()?;
    command(0x20)?;
    let before = answer()?;
    command(0xaa)?;
    expect("passed", answer()?, 0x55u8)?;
    command(0x60)?;
    data(before)
}

fn i8042_command_byte() -> Checked {
    controller()?;
    command(0x20)?;
    let before = answer()?;
    // Interrupts off, translation on.
    command(0x60)?;
    data(0x44)?;
    command(0x20)?;
    let seen = answer()?;
    command(0x60)?;
    data(before)?;
    Ok(expect("command byte", seen, 0x44u8)?)
}

fn i8042_disable() -> Checked {
    controller()?;
    command(0xad)?;
    command(0x20)?;
    let off = answer()?;
    command(0xae)?;
    command(0x20)?;
    let on = answer()?;
    expect("disabled", off & 0x10, 0x10u8)?;
    Ok(expect("enabled", on & 0x10, 0u8)?)
}

fn i8042_echo() -> Checked {
    controller()?;
    command(0xd2)?;
    data(0x5a)?;
    expect("output buffer", u64::from(clock::until(20_000, || in8(0x64) & 1 == 1)), 1u64)?;
    expect("not of the mouse", in8(0x64) & 0x20, 0u8)?;
    Ok(expect("byte", in8(0x60), 0x5au8)?)
}

fn i8042_aux() -> Checked {
    controller()?;
    command(0xd3)?;
    data(0xa5)?;
    expect("output buffer", u64::from(clock::until(20_000, || in8(0x64) & 1 == 1)), 1u64)?;
    expect("of the mouse", in8(0x64) & 0x20, 0x20u8)?;
    Ok(expect("byte", in8(0x60), 0xa5u8)?)
}

fn i8042_interface() -> Checked {
    controller()?;
    command(0xab)?;
    Ok(expect("no error", answer()?, 0u8)?)
}

fn i8042_output_port() -> Checked {
    controller()?;
    command(0xd0)?;
    Ok(expect("A20 and no reset", answer()? & 3, 3u8)?)
}

fn i8042_status() -> Checked {
    controller()?;
    command(0xae)?;
    clock::until(20_000, || in8(0x64) & 2 == 0);
    expect("the last write was a command", in8(0x64) & 8, 8u8)?;
    command(0x60)?;
    data(0x44 | 1)?;
    clock::until(20_000, || in8(0x64) & 2 == 0);
    Ok(expect("the last write was data", in8(0x64) & 8, 0u8)?)
}
