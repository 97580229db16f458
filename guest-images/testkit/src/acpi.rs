//! The CPUs that the firmware's tables name.
//!
//! Source: ACPI Specification, "Root System Description Pointer (RSDP)", "Multiple APIC Description Table (MADT)".

use crate::machine::physical::{read_u8, read_u16, read_u32, read_u64};

/// Longest table that is believed, in bytes.
const TABLE_MOST: u64 = 1 << 20;
/// Bytes of the header that every table begins with.
const HEADER_BYTES: u64 = 36;
/// Where the MADT's entries begin.
const MADT_ENTRIES: u64 = 44;
/// Entry kinds: a local APIC with an 8-bit identifier, and one with 32 bits.
const LOCAL_APIC: u8 = 0;
const LOCAL_X2APIC: u8 = 9;
/// Entry flag: the CPU can be used as it is.
const ENABLED: u32 = 1;

/// Calls `found` with the APIC identifier of each enabled CPU, in the table's order. `rsdp` is a physical address.
pub(crate) fn for_each_cpu(rsdp: u64, mut found: impl FnMut(u32)) {
    let Some(madt) = table(rsdp, *b"APIC") else { return };
    let end = madt + u64::from(read_u32(madt + 4)).min(TABLE_MOST);
    let mut entry = madt + MADT_ENTRIES;
    while entry + 2 <= end {
        let (id, flags) = match read_u8(entry) {
            LOCAL_APIC => (u32::from(read_u8(entry + 3)), read_u32(entry + 4)),
            LOCAL_X2APIC => (read_u32(entry + 4), read_u32(entry + 8)),
            _ => (0, 0),
        };
        if flags & ENABLED != 0 {
            found(id);
        }
        entry += u64::from(read_u8(entry + 1)).max(2);
    }
}

/// Physical address of the table with `signature`, looked up in the XSDT or, before ACPI 2.0, in the RSDT.
pub(crate) fn table(rsdp: u64, signature: [u8; 4]) -> Option<u64> {
    let revision = read_u8(rsdp + 15);
    let xsdt = if revision >= 2 { Some(read_u64(rsdp + 24)).filter(|&at| at != 0) } else { None };
    let (root, width) = match xsdt {
        Some(xsdt) => (xsdt, 8),
        None => (u64::from(read_u32(rsdp + 16)), 4),
    };
    let end = root + u64::from(read_u32(root + 4)).min(TABLE_MOST);
    let mut pointer = root + HEADER_BYTES;
    while pointer + width <= end {
        let table = if width == 8 { read_u64(pointer) } else { u64::from(read_u32(pointer)) };
        if u32::from(read_u16(table)) | u32::from(read_u16(table + 2)) << 16 == u32::from_le_bytes(signature)
        {
            return Some(table);
        }
        pointer += width;
    }
    None
}
