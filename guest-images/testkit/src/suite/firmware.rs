//! The firmware's tables.
//!
//! Source: ACPI Specification, "ACPI Software Programming Model".

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Check, Checked, Group, Stop, check};
use crate::machine::physical::{read_u8, read_u32, read_u64};
use crate::programs::{expect, expect_within};
use crate::smp;

pub(super) const GROUP: Group = Group::new(CHECKS)
    .needing(|| if RSDP.load(Relaxed) == 0 { Err(Stop::Skipped("no ACPI tables")) } else { Ok(()) });

const CHECKS: &[Check] = &[
    check("acpi.rsdp-checksum", || sums(RSDP.load(Relaxed), 20)),
    check("acpi.fadt-checksum", || checksum(*b"FACP")),
    check("acpi.madt-checksum", || checksum(*b"APIC")),
    check("acpi.dsdt", || {
        let dsdt = u64::from(read_u32(fadt()? + 40));
        expect("signature", read_u32(dsdt), u32::from_le_bytes(*b"DSDT"))?;
        sums(dsdt, read_u32(dsdt + 4))
    }),
    check("acpi.facs", || {
        let facs = u64::from(read_u32(fadt()? + 36));
        expect("signature", read_u32(facs), u32::from_le_bytes(*b"FACS"))?;
        expect("aligned to 64 bytes", facs & 63, 0u64)?;
        Ok(expect_within("length", u64::from(read_u32(facs + 4)), 64, 4096)?)
    }),
    check("acpi.madt-local-apic-address", || {
        Ok(expect("address", read_u32(needed(*b"APIC")? + 36), 0xfee0_0000u32)?)
    }),
    check("acpi.madt-has-every-cpu", || {
        Ok(expect("CPUs", madt_entries(0)?.max(madt_entries(9)?), smp::count() as u64)?)
    }),
    check("acpi.madt-has-an-ioapic", || Ok(expect("I/O APICs", madt_entries(1)?, 1u64)?)),
    check("acpi.madt-says-8259", || Ok(expect("PCAT_COMPAT", read_u32(needed(*b"APIC")? + 40) & 1, 1u32)?)),
    check("acpi.madt-timer-override", || {
        let mut found = 0;
        for_each_entry(|kind, at| {
            if kind == 2 && read_u8(at + 3) == 0 {
                found = u64::from(read_u32(at + 4));
            }
        })?;
        Ok(expect("pin of line 0", found, 2u64)?)
    }),
    check("acpi.fadt-pm-timer-length", || Ok(expect("bytes", read_u8(fadt()? + 91), 4u8)?)),
    check("acpi.fadt-pm1-lengths", || {
        expect("event bytes", read_u8(fadt()? + 88), 4u8)?;
        Ok(expect("control bytes", read_u8(fadt()? + 89), 2u8)?)
    }),
    check("acpi.fadt-sci", || Ok(expect_within("line", u64::from(read_u8(fadt()? + 46)), 5, 15)?)),
    check("acpi.hpet-checksum", || checksum(*b"HPET")),
    check("acpi.mcfg-checksum", || checksum(*b"MCFG")),
];

static RSDP: AtomicU64 = AtomicU64::new(0);

/// Takes down where the tables begin.
pub(super) fn remember(rsdp: Option<u64>) {
    RSDP.store(rsdp.unwrap_or(0), Relaxed);
}

/// Physical address of the table with `signature`.
pub(super) fn table(signature: [u8; 4]) -> Option<u64> {
    match RSDP.load(Relaxed) {
        0 => None,
        rsdp => crate::acpi::table(rsdp, signature),
    }
}

fn needed(signature: [u8; 4]) -> Checked<u64> {
    table(signature).ok_or(Stop::Skipped("no such table"))
}

/// The fixed description table.
pub(super) fn fadt() -> Checked<u64> {
    needed(*b"FACP")
}

fn sums(at: u64, length: u32) -> Checked {
    let sum = (0..u64::from(length)).fold(0u8, |sum, offset| sum.wrapping_add(read_u8(at + offset)));
    Ok(expect("sum of bytes", sum, 0u8)?)
}

fn checksum(signature: [u8; 4]) -> Checked {
    let table = needed(signature)?;
    sums(table, read_u32(table + 4))
}

fn for_each_entry(mut found: impl FnMut(u8, u64)) -> Checked {
    let madt = needed(*b"APIC")?;
    let end = madt + u64::from(read_u32(madt + 4));
    let mut at = madt + 44;
    while at + 2 <= end {
        found(read_u8(at), at);
        at += u64::from(read_u8(at + 1)).max(2);
    }
    Ok(())
}

fn madt_entries(wanted: u8) -> Checked<u64> {
    let mut count = 0;
    for_each_entry(|kind, at| {
        let flags = match kind {
            0 => read_u32(at + 4),
            9 => read_u32(at + 8),
            _ => 1,
        };
        if kind == wanted && flags & 1 != 0 {
            count += 1;
        }
    })?;
    Ok(count)
}

/// A block of registers of the fixed description table, by its old-fashioned field.
pub(super) fn block(offset: u64) -> Checked<u16> {
    match u16::try_from(read_u32(fadt()? + offset)) {
        Ok(0) | Err(_) => Err(Stop::Skipped("no such block")),
        Ok(port) => Ok(port),
    }
}

/// Where PCI's memory-mapped configuration space is, for bus 0.
pub(super) fn ecam() -> Checked<u64> {
    let table = needed(*b"MCFG")?;
    Ok(read_u64(table + 44))
}
