//! The multiple APIC description table: processors, I/O APIC, and how ISA interrupts are connected.
//!
//! ACPI Specification 6.5, "Multiple APIC Description Table (MADT)".

use super::sdt;
use acpi_tables::sdt::Sdt;
use arch::platform_layout as pc;
use core::num::NonZeroU32;
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
struct LocalX2Apic {
    kind: u8,
    length: u8,
    reserved: U16,
    x2apic_id: U32,
    flags: U32,
    processor_uid: U32,
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

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct LocalX2ApicNmi {
    kind: u8,
    length: u8,
    flags: U16,
    processor_uid: U32,
    lint: u8,
    reserved: [u8; 3],
}

const _: () = assert!(size_of::<LocalApic>() == 8);
const _: () = assert!(size_of::<LocalX2Apic>() == 16);
const _: () = assert!(size_of::<LocalX2ApicNmi>() == 12);
const _: () = assert!(size_of::<IoApic>() == 12);
const _: () = assert!(size_of::<SourceOverride>() == 10);
const _: () = assert!(size_of::<LocalApicNmi>() == 6);

/// The first APIC ID that does not fit the entry of a local APIC, where it would mean all.
pub(super) const FIRST_WIDE_ID: u32 = 255;

/// The table for `vcpus` processors with APIC IDs from 0, those from 255 on as x2APICs.
pub(crate) fn table(vcpus: NonZeroU32) -> Sdt {
    let mut table = sdt(*b"APIC", REVISION);
    table.append_slice(&low_half(pc::LOCAL_APIC_BASE.get()).to_le_bytes());
    table.append_slice(&PCAT_COMPAT.to_le_bytes());
    for id in 0..vcpus.get() {
        match u8::try_from(id) {
            Ok(id) if u32::from(id) < FIRST_WIDE_ID => {
                let entry =
                    LocalApic { kind: 0, length: 8, processor_uid: id, apic_id: id, flags: ENABLED.into() };
                table.append_slice(entry.as_bytes());
            }
            Ok(_) | Err(_) => {
                let entry = LocalX2Apic {
                    kind: 9,
                    length: 16,
                    reserved: 0.into(),
                    x2apic_id: id.into(),
                    flags: ENABLED.into(),
                    processor_uid: id.into(),
                };
                table.append_slice(entry.as_bytes());
            }
        }
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
    if vcpus.get() > FIRST_WIDE_ID {
        let nmi = LocalX2ApicNmi {
            kind: 0xa,
            length: 12,
            flags: CONFORMS.into(),
            processor_uid: u32::MAX.into(),
            lint: NMI_LINT,
            reserved: [0; 3],
        };
        table.append_slice(nmi.as_bytes());
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use acpi_tables::Aml;
    use alloc::vec::Vec;

    #[test]
    fn processors_past_the_narrow_ids_are_x2apics() {
        let mut bytes = Vec::new();
        table(NonZeroU32::new(300).expect("not zero")).to_aml_bytes(&mut bytes);
        let mut entries = &bytes[44..];
        let mut wide = Vec::new();
        let mut kinds = [0; 11];
        while let [kind, length, ..] = *entries {
            kinds[usize::from(kind)] += 1;
            if kind == 9 {
                wide.push(u32::from_le_bytes(entries[4..8].try_into().expect("four")));
                assert_eq!(entries[4..8], entries[12..16]);
            }
            entries = &entries[usize::from(length)..];
        }
        assert_eq!((kinds[0], kinds[4], kinds[10]), (255, 1, 1));
        assert_eq!(wide, (255..300).collect::<Vec<_>>());
        assert_eq!(bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0);
    }
}
