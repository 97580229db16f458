//! Tests of the tables' shape: checksums, links, and what they say of the machine.

use super::{ACPI_ROOM, FirmwareTables};
use crate::{MemoryLayout, Nodes};
use arch::platform_layout as pc;
use core::num::NonZeroU8;

const BASE: u32 = 0xe_0000;

fn tables(vcpus: u8) -> Vec<u8> {
    tables_with_nodes(vcpus, None)
}

fn tables_with_nodes(vcpus: u8, nodes: Option<Nodes>) -> Vec<u8> {
    let layout = MemoryLayout::new(8 << 30).expect("a fair size");
    FirmwareTables::new(BASE, NonZeroU8::new(vcpus).expect("not zero"), &layout, nodes).bytes().to_vec()
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
    assert_eq!((u32_at(fadt, 48), fadt[52], fadt[53]), (0xb2, pc::ACPI_ENABLE, pc::ACPI_DISABLE));
    assert_eq!((u32_at(fadt, 80), fadt[92]), (u32::from(pc::GPE0.0), 4));
    assert_eq!(fadt[109], 0b111, "legacy devices, an 8042 and a CMOS clock, no VGA");
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

/// UID, APIC ID and flags of each processor in the MADT.
fn processors(vcpus: u8) -> Vec<(u8, u8, u32)> {
    let bytes = tables(vcpus);
    let mut entries = &find(&bytes, b"APIC")[44..];
    let mut processors = Vec::new();
    while let [kind, length, ..] = *entries {
        assert_ne!(kind, 9, "an x2APIC entry is for IDs that do not fit the other kind");
        if kind == 0 {
            processors.push((entries[2], entries[3], u32_at(entries, 4)));
        }
        entries = &entries[usize::from(length)..];
    }
    processors
}

#[test]
fn processors_count_from_zero_and_each_has_a_device_of_its_uid() {
    for vcpus in [1, 2, 3, 64] {
        let expected: Vec<_> = (0..vcpus).map(|id| (id, id, 1)).collect();
        assert_eq!(processors(vcpus), expected);

        let bytes = tables(vcpus);
        let dsdt = table(&bytes, u32_at(find(&bytes, b"FACP"), 40));
        for id in 0..=vcpus {
            // Name, then the string of _HID, then _UID as Zero, One or a byte.
            let mut device = format!("C{id:03}").into_bytes();
            device.extend(b"\x08_HID\x0dACPI0007\0\x08_UID");
            match id {
                0 | 1 => device.push(id),
                _ => device.extend([0x0a, id]),
            }
            let is_there = dsdt.windows(device.len()).any(|window| window == device);
            assert_eq!(is_there, id < vcpus, "device {id} of {vcpus}");
        }
    }
}

#[test]
fn the_hpet_table_says_what_its_registers_say() {
    let bytes = tables(1);
    let hpet = find(&bytes, b"HPET");
    assert_eq!((hpet.len(), u32_at(hpet, 36)), (56, pc::HPET_ID));
    assert_eq!((hpet[40], u32_at(hpet, 44), u32_at(hpet, 48)), (0, 0xfed0_0000, 0), "in memory");
    assert_eq!(u16::from_le_bytes([hpet[53], hpet[54]]), pc::HPET_MINIMUM_TICK);
}

#[test]
fn mcfg_says_where_configuration_space_is() {
    let bytes = tables(1);
    let mcfg = find(&bytes, b"MCFG");
    assert_eq!(mcfg.len(), 60);
    assert_eq!((u32_at(mcfg, 44), u32_at(mcfg, 48)), (0xb000_0000, 0));
    assert_eq!(mcfg[52..56], [0, 0, 0, 0], "segment 0, the one bus");
}

#[test]
fn the_root_bridge_has_a_route_for_each_pin_in_both_models() {
    let bytes = tables(1);
    let dsdt = table(&bytes, u32_at(find(&bytes, b"FACP"), 40));
    let at = |needle: &[u8]| dsdt.windows(needle.len()).position(|window| window == needle);
    // PNP0A08, and a bus of 256.
    assert!(at(b"PCI0\x08_HID\x0c\x41\xd0\x0a\x08").is_some());
    for table in [b"PRTA\x12", b"PRTP\x12"] {
        let start = at(table).expect("a routing table");
        // Package, length in two bytes, 128 elements.
        assert_eq!(dsdt[start + 7], 128);
    }
    // Device 1, pin B: line G, input 22.
    assert!(at(b"\x0c\xff\xff\x01\x00\x01\x00\x0a\x16").is_some());
    assert!(at(b"\x0c\xff\xff\x01\x00\x01LNKG\x00").is_some());
    // Device 31, pin A: line A, input 16.
    assert!(at(b"\x0c\xff\xff\x1f\x00\x00\x00\x0a\x10").is_some());
}

#[test]
fn tables_for_the_most_processors_fit_their_room() {
    assert!(tables(255).len() as u64 <= ACPI_ROOM);
    assert!(tables_with_nodes(255, Nodes::new(Nodes::MOST)).len() as u64 <= ACPI_ROOM);
}

#[test]
fn nodes_are_told_when_they_are_asked_for() {
    let listed = |bytes: &[u8], signature: &[u8]| {
        let rsdt = table(bytes, u32_at(bytes, 16));
        rsdt[36..].chunks(4).any(|entry| table(bytes, u32_at(entry, 0)).starts_with(signature))
    };
    let (without, with) = (tables(2), tables_with_nodes(2, Nodes::new(2)));
    for signature in [b"SRAT", b"SLIT"] {
        assert!(!listed(&without, signature) && listed(&with, signature));
    }
    // The second processor and the root of PCI are near to a node of their own.
    let dsdt = |bytes: &[u8]| table(bytes, u32_at(find(bytes, b"FACP"), 40)).to_vec();
    let has = |bytes: &[u8], text: &[u8]| dsdt(bytes).windows(text.len()).any(|window| window == text);
    assert!(has(&with, b"ACPI0007\0\x08_UID\x01\x08_PXM\x01") && has(&with, b"_BBN\0\x08_PXM\0"));
    assert!(!has(&without, b"_PXM"));
    // Two processors, and memory in three parts.
    assert_eq!(find(&with, b"SRAT").len(), 48 + 2 * 16 + 3 * 40);
}
