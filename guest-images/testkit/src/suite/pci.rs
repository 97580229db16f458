//! PCI configuration space, by ports and by memory.
//!
//! Source: PCI Local Bus Specification, "Configuration Space", "Configuration Mechanism #1"; PCI Express Base Specification,
//! "PCI Express Enhanced Configuration Access Mechanism (ECAM)".

use super::{Check, Checked, Group, Stop, check, firmware, value};
use crate::machine::cpu::{in8, in16, in32, out8, out16, out32};
use crate::machine::physical::read_u8;
use crate::programs::expect;

pub(super) const GROUP: Group = Group::new(CHECKS);

const CHECKS: &[Check] = &[
    check("pci.address-reads-back", address_reads_back),
    check("pci.address-ignores-bytes", address_bytes),
    check("pci.address-ignores-words", address_words),
    check("pci.absent-device-double-word", || Ok(expect("all ones", config_read(ABSENT, 0), u32::MAX)?)),
    check("pci.absent-device-word", || {
        select(ABSENT, 0);
        Ok(expect("all ones", in16(0xcfc), u16::MAX)?)
    }),
    check("pci.absent-device-byte", || {
        select(ABSENT, 0);
        Ok(expect("all ones", in8(0xcff), u8::MAX)?)
    }),
    check("pci.absent-bus", || Ok(expect("all ones", config_read(0xfe << 8, 0), u32::MAX)?)),
    check("pci.absent-device-write-is-lost", || {
        config_write(ABSENT, 0x10, 0);
        Ok(expect("all ones", config_read(ABSENT, 0x10), u32::MAX)?)
    }),
    check("pci.enable-bit-clear-does-not-configure", enable_clear),
    check("pci.host-bridge-is-there", || {
        Ok(expect("vendor", u64::from(!matches!(config_read(HOST, 0) & 0xffff, 0 | 0xffff)), 1u64)?)
    }),
    check("pci.host-bridge-class", || {
        Ok(expect("class", config_read(HOST, 8) >> 8 & 0xff_ff00, 0x06_0000u32)?)
    }),
    check("pci.byte-lanes-of-a-read", byte_lanes),
    check("pci.word-lanes-of-a-read", word_lanes),
    check("pci.vendor-read-only", vendor_read_only),
    check("pci.command-memory-and-io-bits", command_bits),
    check("pci.byte-write-changes-one-byte", byte_write),
    check("pci.interrupt-line-keeps", interrupt_line),
    check("pci.multifunction-bit", multifunction),
    check("pci.bars-size-and-come-back", bars),
    check("pci.capabilities-are-well-formed", capabilities),
    check("pci.status-write-of-zero-does-nothing", status_zero),
    check("pci.ecam-is-the-same-space", ecam_same),
    check("pci.ecam-absent-device", || {
        Ok(expect("all ones", u64::from(read_u8(firmware::ecam()? + (u64::from(ABSENT) << 12))), 0xffu64)?)
    }),
    value("pci.register-behind-255-by-mechanism-1", || Ok(u64::from(config_read(ABSENT, 0xfc)))),
];

/// A device that no machine has: the last one of bus 0, its last function.
const ABSENT: u16 = 0x1e << 3 | 7;
const HOST: u16 = 0;

/// Chooses a function (bus, device and function as 16 bits) and a register.
fn select(function: u16, register: u8) {
    out32(0xcf8, 1 << 31 | u32::from(function) << 8 | u32::from(register & 0xfc));
}

pub(super) fn config_read(function: u16, register: u8) -> u32 {
    select(function, register);
    in32(0xcfc)
}

pub(super) fn config_write(function: u16, register: u8, value: u32) {
    select(function, register);
    out32(0xcfc, value);
}

fn address_reads_back() -> Checked {
    for value in [0x8000_0000u32, 0x80ff_fffc, 0x8012_3454, 0] {
        out32(0xcf8, value);
        expect("register", in32(0xcf8), value)?;
    }
    Ok(())
}

fn address_bytes() -> Checked {
    out32(0xcf8, 0x8012_3454);
    out8(0xcf8, 0);
    out8(0xcfa, 0);
    Ok(expect("register", in32(0xcf8), 0x8012_3454u32)?)
}

fn address_words() -> Checked {
    out32(0xcf8, 0x8012_3454);
    out16(0xcfa, 0);
    Ok(expect("register", in32(0xcf8), 0x8012_3454u32)?)
}

fn enable_clear() -> Checked {
    let vendor = config_read(HOST, 0);
    out32(0xcf8, u32::from(HOST) << 8);
    Ok(expect("not the vendor", u64::from(in32(0xcfc) != vendor), 1u64)?)
}

fn byte_lanes() -> Checked {
    let whole = config_read(HOST, 0).to_le_bytes();
    for (port, byte) in (0xcfc..).zip(whole) {
        expect("byte", in8(port), byte)?;
    }
    Ok(())
}

fn word_lanes() -> Checked {
    let whole = config_read(HOST, 0);
    expect("low", u32::from(in16(0xcfc)), whole & 0xffff)?;
    Ok(expect("high", u32::from(in16(0xcfe)), whole >> 16)?)
}

fn vendor_read_only() -> Checked {
    let before = config_read(HOST, 0);
    config_write(HOST, 0, !before);
    Ok(expect("vendor and device", config_read(HOST, 0), before)?)
}

/// Calls `found` with each function of bus 0.
fn for_each_function(mut found: impl FnMut(u16) -> Checked) -> Checked {
    for device in 0..32 {
        if config_read(device << 3, 0) == u32::MAX {
            continue;
        }
        let several = config_read(device << 3, 12) >> 23 & 1 == 1;
        for function in 0..if several { 8 } else { 1 } {
            let function = device << 3 | function;
            if config_read(function, 0) != u32::MAX {
                found(function)?;
            }
        }
    }
    Ok(())
}

fn command_bits() -> Checked {
    let before = config_read(HOST, 4) & 0xffff;
    config_write(HOST, 4, before | 2);
    let seen = config_read(HOST, 4) & 2;
    config_write(HOST, 4, before);
    Ok(expect("memory space of the host bridge", seen, 2u32)?)
}

/// A function other than the host bridge that has an interrupt pin, and with it a line register.
fn some_function() -> Checked<u16> {
    let mut some = Err(Stop::Skipped("no function with a pin"));
    for_each_function(|function| {
        let (is_plain, has_pin) =
            (config_read(function, 12) >> 16 & 0x7f == 0, config_read(function, 0x3c) >> 8 & 0xff != 0);
        if function != HOST && is_plain && has_pin {
            some = Ok(function);
        }
        Ok(())
    })?;
    some
}

fn byte_write() -> Checked {
    let function = some_function()?;
    let before = config_read(function, 0x3c);
    out8(0xcfc, 0x5a);
    let seen = config_read(function, 0x3c);
    config_write(function, 0x3c, before);
    Ok(expect("line and pin", seen, before & !0xff | 0x5a)?)
}

fn interrupt_line() -> Checked {
    let function = some_function()?;
    let before = config_read(function, 0x3c);
    for value in [0x05u32, 0xff, 0] {
        config_write(function, 0x3c, before & !0xff | value);
        expect("line", config_read(function, 0x3c) & 0xff, value)?;
    }
    config_write(function, 0x3c, before);
    Ok(())
}

/// Functions above 0 answer where the bit is set alone.
fn multifunction() -> Checked {
    for device in 0..32 {
        let first = config_read(device << 3, 0) != u32::MAX;
        let several = first && config_read(device << 3, 12) >> 23 & 1 == 1;
        if !several {
            for function in 1..8 {
                expect("nothing answers", config_read(device << 3 | function, 0), u32::MAX)?;
            }
        }
    }
    Ok(())
}

fn bars() -> Checked {
    for_each_function(|function| {
        if function == HOST || config_read(function, 12) >> 16 & 0x7f != 0 {
            return Ok(());
        }
        let command = config_read(function, 4) & 0xffff;
        config_write(function, 4, command & !3);
        let mut verdict = Ok(());
        for register in (0x10..0x28).step_by(4) {
            let before = config_read(function, register);
            config_write(function, register, u32::MAX);
            let mask = config_read(function, register);
            config_write(function, register, before);
            let size = if mask & 1 == 1 { mask & !3 } else { mask & !0xf };
            // What is set is contiguous from the top.
            let is_contiguous =
                size == 0 || size.leading_ones() + size.trailing_zeros() == 32 || mask & 1 == 1;
            verdict = verdict
                .and_then(|()| expect("size is a power of two", u64::from(is_contiguous), 1u64))
                .and_then(|()| expect("back", config_read(function, register), before));
        }
        config_write(function, 4, command);
        Ok(verdict?)
    })
}

fn capabilities() -> Checked {
    for_each_function(|function| {
        if config_read(function, 4) >> 20 & 1 == 0 {
            return Ok(());
        }
        let mut at = config_read(function, 0x34) & 0xfc;
        for _ in 0..48 {
            if at == 0 {
                return Ok(());
            }
            expect("behind the header", u64::from(at >= 0x40), 1u64)?;
            at = config_read(function, at.to_le_bytes()[0]) >> 8 & 0xfc;
        }
        Ok(expect("the list ends", 0u64, 1u64)?)
    })
}

fn status_zero() -> Checked {
    let before = config_read(HOST, 4);
    config_write(HOST, 4, before & 0xffff);
    Ok(expect("command and status", config_read(HOST, 4), before)?)
}

fn ecam_same() -> Checked {
    let ecam = firmware::ecam()?;
    for_each_function(|function| {
        for register in [0u8, 8, 12] {
            let whole = config_read(function, register);
            for (offset, byte) in (u64::from(register)..).zip(whole.to_le_bytes()) {
                expect("byte", read_u8(ecam + (u64::from(function) << 12) + offset), byte)?;
            }
        }
        Ok(())
    })
}
