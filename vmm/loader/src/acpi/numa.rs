//! Nodes of processors and memory: the system resource affinity table, and the system locality information table.
//!
//! ACPI Specification 6.5, "System Resource Affinity Table (SRAT)" and "System Locality Information Table (SLIT)".
//! Processors and memory are dealt out evenly, in the order of their numbers and addresses. Nothing is added while the
//! machine runs.

use super::madt::FIRST_WIDE_ID;
use super::sdt;
use crate::{MemoryLayout, MemoryRange, Nodes};
use acpi_tables::sdt::Sdt;
use alloc::vec::Vec;
use arch::{Gpa, MIB};
use core::num::NonZeroU32;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes, Unaligned};

const SRAT_REVISION: u8 = 3;
/// Its first reserved field, which is 1 for compatibility with what it once was.
const SRAT_RESERVED: u32 = 1;
const SLIT_REVISION: u8 = 1;
const ENABLED: u32 = 1;
/// Relative distance of a node from itself, as the specification sets it.
const HERE: u8 = 10;
/// From any other: twice as far.
const ELSEWHERE: u8 = 20;

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct ApicAffinity {
    kind: u8,
    length: u8,
    domain_low: u8,
    apic_id: u8,
    flags: U32,
    sapic_eid: u8,
    domain_high: [u8; 3],
    clock_domain: U32,
}

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct MemoryAffinity {
    kind: u8,
    length: u8,
    domain: U32,
    reserved: U16,
    base: U64,
    bytes: U64,
    reserved_2: U32,
    flags: U32,
    reserved_3: U64,
}

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct X2ApicAffinity {
    kind: u8,
    length: u8,
    reserved: U16,
    domain: U32,
    x2apic_id: U32,
    flags: U32,
    clock_domain: U32,
    reserved_2: U32,
}

const _: () = assert!(size_of::<ApicAffinity>() == 16);
const _: () = assert!(size_of::<MemoryAffinity>() == 40);
const _: () = assert!(size_of::<X2ApicAffinity>() == 24);

/// Which of `nodes` each of `vcpus` processors with APIC IDs from 0 is in, and each part of the RAM of `layout`.
pub(crate) fn affinity(nodes: Nodes, vcpus: NonZeroU32, layout: &MemoryLayout) -> Sdt {
    let mut table = sdt(*b"SRAT", SRAT_REVISION);
    table.append_slice(&SRAT_RESERVED.to_le_bytes());
    table.append_slice(&[0; 8]);
    for id in 0..vcpus.get() {
        let node = node_of(id, nodes, vcpus);
        match u8::try_from(id) {
            Ok(apic_id) if id < FIRST_WIDE_ID => {
                let entry = ApicAffinity {
                    kind: 0,
                    length: 16,
                    domain_low: node,
                    apic_id,
                    flags: ENABLED.into(),
                    sapic_eid: 0,
                    domain_high: [0; 3],
                    clock_domain: 0.into(),
                };
                table.append_slice(entry.as_bytes());
            }
            Ok(_) | Err(_) => {
                let entry = X2ApicAffinity {
                    kind: 2,
                    length: 24,
                    reserved: 0.into(),
                    domain: u32::from(node).into(),
                    x2apic_id: id.into(),
                    flags: ENABLED.into(),
                    clock_domain: 0.into(),
                    reserved_2: 0.into(),
                };
                table.append_slice(entry.as_bytes());
            }
        }
    }
    for node in 0..nodes.get() {
        for (base, bytes) in memory_of(node, nodes, layout) {
            let entry = MemoryAffinity {
                kind: 1,
                length: 40,
                domain: u32::from(node).into(),
                reserved: 0.into(),
                base: base.get().into(),
                bytes: bytes.into(),
                reserved_2: 0.into(),
                flags: ENABLED.into(),
                reserved_3: 0.into(),
            };
            table.append_slice(entry.as_bytes());
        }
    }
    table
}

/// How far `nodes` are from each other.
pub(crate) fn distances(nodes: Nodes) -> Sdt {
    let mut table = sdt(*b"SLIT", SLIT_REVISION);
    table.append_slice(&u64::from(nodes.get()).to_le_bytes());
    for from in 0..nodes.get() {
        let row: Vec<u8> = (0..nodes.get()).map(|to| if from == to { HERE } else { ELSEWHERE }).collect();
        table.append_slice(&row);
    }
    table
}

/// The node of the processor `id`.
pub(super) fn node_of(id: u32, nodes: Nodes, vcpus: NonZeroU32) -> u8 {
    let node = u64::from(id) * u64::from(nodes.get()) / u64::from(vcpus.get());
    u8::try_from(node).unwrap_or(u8::MAX)
}

/// The RAM of `node`: start and length of each part. What does not divide evenly by whole MiB is the last node's.
fn memory_of(node: u8, nodes: Nodes, layout: &MemoryLayout) -> Vec<(Gpa, u64)> {
    let total = layout.total_bytes();
    let share = total / u64::from(nodes.get()) / MIB * MIB;
    let first = share * u64::from(node);
    let end = if node == nodes.get() - 1 { total } else { first + share };
    // The part of each range that lies between the two, counted in RAM without its hole.
    let mut parts = Vec::new();
    let mut before = 0;
    for MemoryRange { start, bytes, .. } in layout.ram() {
        let (from, to) = (first.clamp(before, before + bytes), end.clamp(before, before + bytes));
        if from < to {
            parts.push((Gpa::new(start.get() + (from - before)), to - from));
        }
        before += bytes;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use acpi_tables::Aml;
    use arch::GIB;
    use proptest::prelude::*;

    fn layout(bytes: u64) -> MemoryLayout {
        MemoryLayout::new(bytes).expect("a fair size")
    }

    fn bytes_of(table: &Sdt) -> Vec<u8> {
        let mut bytes = Vec::new();
        table.to_aml_bytes(&mut bytes);
        assert_eq!(bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
        bytes
    }

    fn word(bytes: &[u8], offset: usize) -> u32 {
        u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four"))
    }

    fn long(bytes: &[u8], offset: usize) -> u64 {
        u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight"))
    }

    /// What the table says: kind, APIC ID and node of each processor, node, start and length of each part of memory.
    #[expect(clippy::type_complexity, reason = "rows of two tables")]
    fn read(nodes: u8, vcpus: u32, memory_bytes: u64) -> (Vec<(u8, u32, u32)>, Vec<(u32, u64, u64)>) {
        let (nodes, vcpus) = (Nodes::new(nodes).expect("some"), NonZeroU32::new(vcpus).expect("some"));
        let bytes = bytes_of(&affinity(nodes, vcpus, &layout(memory_bytes)));
        assert_eq!((bytes[8], word(&bytes, 36), long(&bytes, 40)), (3, 1, 0));
        let (mut processors, mut memory) = (Vec::new(), Vec::new());
        let mut entries = &bytes[48..];
        while let [kind, length, ..] = *entries {
            let (entry, rest) = entries.split_at(length.into());
            match kind {
                0 => {
                    assert_eq!((length, word(entry, 4)), (16, 1));
                    let domain = u32::from_le_bytes([entry[2], entry[9], entry[10], entry[11]]);
                    processors.push((kind, u32::from(entry[3]), domain));
                }
                1 => {
                    assert_eq!((length, word(entry, 28)), (40, 1), "there, and not to be removed");
                    memory.push((word(entry, 2), long(entry, 8), long(entry, 16)));
                }
                2 => {
                    assert_eq!((length, word(entry, 12)), (24, 1));
                    processors.push((kind, word(entry, 8), word(entry, 4)));
                }
                other => panic!("entry of kind {other}"),
            }
            entries = rest;
        }
        (processors, memory)
    }

    #[test]
    fn two_nodes_have_half_of_everything() {
        let (processors, memory) = read(2, 4, 256 * MIB);
        assert_eq!(processors, [(0, 0, 0), (0, 1, 0), (0, 2, 1), (0, 3, 1)]);
        assert_eq!(memory, [(0, 0, 128 * MIB), (1, 128 * MIB, 128 * MIB)]);
    }

    #[test]
    fn a_node_around_the_hole_has_two_parts() {
        let (_, memory) = read(2, 2, 8 * GIB);
        let hole = 0xb000_0000;
        assert_eq!(
            memory,
            [(0, 0, hole), (0, 4 * GIB, 4 * GIB - hole), (1, 8 * GIB - hole, 4 * GIB)],
            "the first node ends above 4 GiB"
        );
        assert_eq!(read(2, 2, 2 * 0xb000_0000).1, [(0, 0, hole), (1, 4 * GIB, hole)]);
    }

    #[test]
    fn what_is_left_over_is_the_last_nodes() {
        let (processors, memory) = read(3, 5, 64 * MIB + 4096);
        assert_eq!(processors.iter().map(|entry| entry.2).collect::<Vec<_>>(), [0, 0, 1, 1, 2]);
        assert_eq!(memory[2], (2, 42 * MIB, 22 * MIB + 4096));
    }

    #[test]
    fn wide_apic_ids_have_entries_of_their_own() {
        let (processors, _) = read(4, 300, GIB);
        let kinds: Vec<u8> = processors.iter().map(|entry| entry.0).collect();
        assert_eq!((kinds.iter().filter(|kind| **kind == 0).count(), kinds[254], kinds[255]), (255, 0, 2));
        assert!(processors.iter().map(|entry| entry.1).eq(0..300));
        assert_eq!(processors[299].2, 3);
    }

    #[test]
    fn distances_are_ten_to_oneself_and_the_same_both_ways() {
        let bytes = bytes_of(&distances(Nodes::new(3).expect("some")));
        assert_eq!(long(&bytes, 36), 3);
        assert_eq!(bytes[44..], [10, 20, 20, 20, 10, 20, 20, 20, 10]);
    }

    proptest! {
        #[test]
        fn every_byte_of_ram_and_every_processor_is_in_one_node(
            nodes in 1..=Nodes::MOST, vcpus in 1_u32..600, pages in 512_u64..1 << 22,
        ) {
            let (processors, memory) = read(nodes, vcpus, pages * 4096);
            prop_assert!(processors.iter().map(|entry| entry.1).eq(0..vcpus));
            prop_assert!(processors.is_sorted_by_key(|entry| entry.2));
            prop_assert!(processors.iter().all(|entry| entry.2 < u32::from(nodes)));
            prop_assert!(memory.is_sorted_by_key(|part| part.0));
            // Put together again, the parts are the ranges.
            let mut joined: Vec<(u64, u64)> = Vec::new();
            for (_, start, bytes) in memory {
                match joined.last_mut() {
                    Some((first, length)) if *first + *length == start => *length += bytes,
                    Some(_) | None => joined.push((start, bytes)),
                }
            }
            let ram: Vec<_> = layout(pages * 4096).ram().iter().map(|range| (range.start.get(), range.bytes)).collect();
            prop_assert_eq!(joined, ram);
        }
    }
}
