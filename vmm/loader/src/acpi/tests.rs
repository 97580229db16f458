//! Tests of the tables' shape: checksums, links, and what they say of the machine.

use super::{ACPI_ROOM, FirmwareTables};
use arch::platform_layout as pc;
use core::num::NonZeroU8;

const BASE: u32 = 0xe_0000;

fn tables(vcpus: u8) -> Vec<u8> {
    FirmwareTables::new(BASE, NonZeroU8::new(vcpus).expect("not zero")).bytes().to_vec()
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four"))
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// The table at guest-physical `address`, its checksum checked.
fn table(bytes: &[u8], address: u32) -> &[u8] {
    let start = (address - BASE) as usize;
    let length = u32_at(bytes, start + 4) as usize;
    let table = &bytes[start..start + length];
    assert_eq!(sum(table), 0, "checksum of {:?}", &table[..4]);
    table
}

fn find<'a>(bytes: &'a [u8], signature: &[u8]) -> &'a [u8] {
    let rsdt = table(bytes, u32_at(bytes, 16));
    rsdt[36..]
        .chunks(4)
        .map(|entry| table(bytes, u32_at(entry, 0)))
        .find(|table| table.starts_with(signature))
        .expect("in the RSDT")
}

#[test]
fn root_pointer_leads_to_both_lists_of_the_same_tables() {
    let bytes = tables(1);
    assert_eq!(&bytes[..8], b"RSD PTR ");
    assert_eq!((sum(&bytes[..20]), sum(&bytes[..36])), (0, 0));
    let rsdt = table(&bytes, u32_at(&bytes, 16));
    let xsdt = table(&bytes, u32_at(&bytes, 24));
    assert_eq!((&rsdt[..4], &xsdt[..4]), (b"RSDT".as_slice(), b"XSDT".as_slice()));
    let narrow: Vec<_> = rsdt[36..].chunks(4).map(|entry| u32_at(entry, 0)).collect();
    let wide: Vec<_> = xsdt[36..].chunks(8).map(|entry| u32_at(entry, 0)).collect();
    assert_eq!(narrow, wide);
}

#[test]
fn fadt_says_where_power_management_is() {
    let bytes = tables(1);
    let fadt = find(&bytes, b"FACP");
    assert_eq!((fadt.len(), fadt[8]), (276, 6));
    assert_eq!(u32_at(fadt, 56), u32::from(pc::PM1A_EVENT.0));
    assert_eq!(u32_at(fadt, 64), u32::from(pc::PM1A_CONTROL.0));
    assert_eq!(u32_at(fadt, 76), u32::from(pc::PM_TIMER.0));
    assert_eq!((fadt[46], fadt[128]), (pc::SCI_IRQ, pc::RESET_VALUE));
    assert_eq!(u32_at(fadt, 48), 0, "no SMI command: always in ACPI mode");
    assert_eq!(fadt[109], 0b101, "legacy devices and no VGA, a CMOS clock and no 8042");
    assert_eq!(u32_at(fadt, 36) % 64, 0, "the FACS is aligned");
    assert_eq!(table(&bytes, u32_at(fadt, 40))[..4], *b"DSDT");
    assert_eq!(u32_at(fadt, 40), u32_at(fadt, 140));
}

#[test]
fn madt_lists_each_processor_and_the_overrides() {
    let bytes = tables(3);
    let madt = find(&bytes, b"APIC");
    let mut entries = &madt[44..];
    let mut kinds = Vec::new();
    while let [kind, length, ..] = *entries {
        kinds.push(kind);
        if kind == 2 {
            let expected = if entries[3] == 0 { (2, 0) } else { (9, 0xd) };
            assert_eq!((entries[4], entries[8]), expected);
        }
        entries = &entries[usize::from(length)..];
    }
    assert_eq!(kinds, [0, 0, 0, 1, 2, 2, 4]);
}

#[test]
fn tables_for_the_most_processors_fit_their_room() {
    assert!(tables(255).len() as u64 <= ACPI_ROOM);
}
