//! The multiple APIC description table: processors, I/O APIC, and how ISA interrupts are connected.
//!
//! ACPI Specification 6.5, "Multiple APIC Description Table (MADT)".

use super::sdt;
use acpi_tables::sdt::Sdt;
use arch::platform_layout as pc;
use core::num::NonZeroU8;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{Immutable, IntoBytes, Unaligned};

const REVISION: u8 = 5;
/// PCAT_COMPAT: the 8259 pair is there too, and must be masked when the APICs are used.
const PCAT_COMPAT: u32 = 1;
const ENABLED: u32 = 1;
/// The bus that source overrides are about.
const ISA: u8 = 0;
/// MPS INTI flags: as the bus does it, which for ISA is edge-triggered and active high.
const CONFORMS: u16 = 0;
/// MPS INTI flags: active high, level-triggered.
const LEVEL_HIGH: u16 = 0b1101;
/// A processor UID that stands for all processors.
const ALL_PROCESSORS: u8 = 0xff;
/// The local APIC input that NMIs arrive on.
const NMI_LINT: u8 = 1;

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct LocalApic {
    kind: u8,
    length: u8,
    processor_uid: u8,
    apic_id: u8,
    flags: U32,
}

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct IoApic {
    kind: u8,
    length: u8,
    id: u8,
    reserved: u8,
    address: U32,
    gsi_base: U32,
}

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct SourceOverride {
    kind: u8,
    length: u8,
    bus: u8,
    source: u8,
    gsi: U32,
    flags: U16,
}

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct LocalApicNmi {
    kind: u8,
    length: u8,
    processor_uid: u8,
    flags: U16,
    lint: u8,
}

const _: () = assert!(size_of::<LocalApic>() == 8);
const _: () = assert!(size_of::<IoApic>() == 12);
const _: () = assert!(size_of::<SourceOverride>() == 10);
const _: () = assert!(size_of::<LocalApicNmi>() == 6);

/// The table for `vcpus` processors with APIC IDs from 0. None of them gets an x2APIC entry: those are for IDs from
/// 255 on, which a count of 8 bits does not reach.
pub(crate) fn table(vcpus: NonZeroU8) -> Sdt {
    let mut table = sdt(*b"APIC", REVISION);
    table.append_slice(&low_half(pc::LOCAL_APIC_BASE.get()).to_le_bytes());
    table.append_slice(&PCAT_COMPAT.to_le_bytes());
    for id in 0..vcpus.get() {
        let entry = LocalApic { kind: 0, length: 8, processor_uid: id, apic_id: id, flags: ENABLED.into() };
        table.append_slice(entry.as_bytes());
    }
    let io_apic = IoApic {
        kind: 1,
        length: 12,
        id: pc::IOAPIC_ID,
        reserved: 0,
        address: low_half(pc::IOAPIC_BASE.get()).into(),
        gsi_base: 0.into(),
    };
    table.append_slice(io_apic.as_bytes());
    table.append_slice(source_override(pc::TIMER_IRQ, pc::TIMER_GSI, CONFORMS).as_bytes());
    table.append_slice(source_override(pc::SCI_IRQ, pc::SCI_IRQ, LEVEL_HIGH).as_bytes());
    let nmi = LocalApicNmi {
        kind: 4,
        length: 6,
        processor_uid: ALL_PROCESSORS,
        flags: CONFORMS.into(),
        lint: NMI_LINT,
    };
    table.append_slice(nmi.as_bytes());
    table
}

fn source_override(irq: u8, gsi: u8, flags: u16) -> SourceOverride {
    SourceOverride {
        kind: 2,
        length: 10,
        bus: ISA,
        source: irq,
        gsi: u32::from(gsi).into(),
        flags: flags.into(),
    }
}

/// A device address, all of which are below 4 GiB.
#[expect(clippy::cast_possible_truncation, reason = "the APICs are below 4 GiB")]
const fn low_half(address: u64) -> u32 {
    address as u32
}
