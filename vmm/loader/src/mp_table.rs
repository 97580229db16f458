//! The tables of the MultiProcessor Specification, for kernels from before ACPI: processors, buses, the I/O APIC, and
//! where interrupts lead.
//!
//! Intel MultiProcessor Specification 1.4, "MP Configuration Table".

use crate::layout::{MP_TABLE, MP_TABLE_ROOM};
use crate::{LoadError, copy};
use alloc::vec::Vec;
use arch::platform_layout as pc;
use core::num::NonZeroU8;
use memory::GuestMemory;

const REVISION: u8 = 4;
/// Room for the floating pointer before the table, in bytes.
const POINTER_BYTES: usize = 16;
const HEADER_BYTES: usize = 44;

/// Bus numbers: PCI's is its own.
const PCI: u8 = 0;
const ISA: u8 = 1;
/// ISA interrupts; 2 is the cascade of the 8259s.
const ISA_INTERRUPTS: u8 = 16;
const CASCADE: u8 = 2;
/// PCI devices on a bus, and pins of each.
const DEVICES: u8 = 32;
const PINS: u8 = 4;
/// All local APICs, as a destination.
const ALL_APICS: u8 = 0xff;

/// Version of the local APIC, and the family, model and stepping of a Pentium Pro, with FPU and APIC: what a kernel
/// of the time reads; others ask CPUID.
const LOCAL_APIC_VERSION: u8 = 0x14;
const PROCESSOR_SIGNATURE: u32 = 0x600;
const PROCESSOR_FEATURES: u32 = 1 << 9 | 1;
const IO_APIC_VERSION: u8 = 0x11;

/// How an interrupt is delivered.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Delivery {
    Vectored = 0,
    Nmi = 1,
    ExtInt = 3,
}

/// Polarity and trigger mode.
#[derive(Clone, Copy)]
#[repr(u16)]
enum Signal {
    /// As the bus has it.
    Conforms = 0,
    /// Active high, level-triggered.
    LevelHigh = 0b1101,
}

/// Writes pointer and table for `vcpus` processors.
pub(crate) fn write(memory: &impl GuestMemory, vcpus: NonZeroU8) -> Result<(), LoadError> {
    let bytes = tables(vcpus);
    assert!(bytes.len() as u64 <= MP_TABLE_ROOM, "the table for 255 processors fits, as a test shows");
    copy::write(memory, MP_TABLE, &bytes)
}

fn tables(vcpus: NonZeroU8) -> Vec<u8> {
    let table_at = MP_TABLE + POINTER_BYTES as u64;
    let mut bytes = pointer(u32::try_from(table_at.get()).expect("the table is below 1 MiB"));
    bytes.extend(table(vcpus));
    bytes
}

/// "MP Floating Pointer Structure".
fn pointer(table: u32) -> Vec<u8> {
    /// In units of 16 bytes.
    const LENGTH: u8 = 1;
    const CHECKSUM: usize = 10;
    let mut bytes = Vec::from(b"_MP_".as_slice());
    bytes.extend(table.to_le_bytes());
    // No default configuration; interrupts are in virtual wire mode.
    bytes.extend([LENGTH, REVISION, 0, 0, 0, 0, 0, 0]);
    finish(&mut bytes, CHECKSUM);
    bytes
}

fn table(vcpus: NonZeroU8) -> Vec<u8> {
    const LENGTH: usize = 4;
    const CHECKSUM: usize = 7;
    const COUNT: usize = 34;
    let mut entries = Entries::default();
    for id in 0..vcpus.get() {
        entries.processor(id);
    }
    entries.bus(PCI, *b"PCI   ");
    entries.bus(ISA, *b"ISA   ");
    entries.io_apic();
    for irq in (0..ISA_INTERRUPTS).filter(|irq| *irq != CASCADE) {
        let pin = if irq == pc::TIMER_IRQ { pc::TIMER_GSI } else { irq };
        let signal = if irq == pc::SCI_IRQ { Signal::LevelHigh } else { Signal::Conforms };
        entries.interrupt(3, Delivery::Vectored, signal, (ISA, irq), (pc::IOAPIC_ID, pin));
    }
    for device in 0..DEVICES {
        for pin in 0..PINS {
            let input = pc::PIRQ_GSI + pc::pirq_of(device, pin);
            let source = (PCI, device << 2 | pin);
            entries.interrupt(3, Delivery::Vectored, Signal::Conforms, source, (pc::IOAPIC_ID, input));
        }
    }
    entries.interrupt(4, Delivery::ExtInt, Signal::Conforms, (ISA, 0), (ALL_APICS, 0));
    entries.interrupt(4, Delivery::Nmi, Signal::Conforms, (ISA, 0), (ALL_APICS, 1));

    let mut bytes = Vec::from(b"PCMP".as_slice());
    bytes.extend([0, 0, REVISION, 0]);
    bytes.extend(b"CRATON  VIRTUAL PC  ");
    // No table of the manufacturer's; count; the local APICs; no extended table.
    bytes.extend([0; 8]);
    bytes.extend(u32::try_from(pc::LOCAL_APIC_BASE.get()).expect("it is below 4 GiB").to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(&entries.bytes);
    let length = u16::try_from(bytes.len()).expect("255 processors fit");
    bytes[LENGTH..LENGTH + 2].copy_from_slice(&length.to_le_bytes());
    bytes[COUNT..COUNT + 2].copy_from_slice(&entries.count.to_le_bytes());
    finish(&mut bytes, CHECKSUM);
    bytes
}

/// Makes the sum of `bytes` zero by the one at `checksum`.
fn finish(bytes: &mut [u8], checksum: usize) {
    bytes[checksum] = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
}

const _: () = assert!(HEADER_BYTES == 8 + 20 + 8 + 4 + 4);

#[derive(Default)]
struct Entries {
    bytes: Vec<u8>,
    count: u16,
}

impl Entries {
    fn processor(&mut self, id: u8) {
        const ENABLED: u8 = 1 << 0;
        const BOOTSTRAP: u8 = 1 << 1;
        let flags = if id == 0 { ENABLED | BOOTSTRAP } else { ENABLED };
        self.add(&[0, id, LOCAL_APIC_VERSION, flags]);
        self.bytes.extend(PROCESSOR_SIGNATURE.to_le_bytes());
        self.bytes.extend(PROCESSOR_FEATURES.to_le_bytes());
        self.bytes.extend([0; 8]);
    }

    fn bus(&mut self, id: u8, kind: [u8; 6]) {
        self.add(&[1, id]);
        self.bytes.extend(kind);
    }

    fn io_apic(&mut self) {
        const ENABLED: u8 = 1;
        self.add(&[2, pc::IOAPIC_ID, IO_APIC_VERSION, ENABLED]);
        let address = u32::try_from(pc::IOAPIC_BASE.get()).expect("it is below 4 GiB");
        self.bytes.extend(address.to_le_bytes());
    }

    /// An entry of type `kind`: 3 for inputs of an I/O APIC, 4 for those of local ones. `source` is a bus and its
    /// interrupt, `to` an APIC and its input.
    fn interrupt(&mut self, kind: u8, delivery: Delivery, signal: Signal, source: (u8, u8), to: (u8, u8)) {
        self.add(&[kind, delivery as u8]);
        self.bytes.extend((signal as u16).to_le_bytes());
        self.bytes.extend([source.0, source.1, to.0, to.1]);
    }

    fn add(&mut self, start: &[u8]) {
        self.bytes.extend(start);
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(vcpus: u8) -> Vec<Vec<u8>> {
        let bytes = tables(NonZeroU8::new(vcpus).expect("not zero"));
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!((&bytes[..4], sum(&bytes[..16])), (b"_MP_".as_slice(), 0));
        assert_eq!(bytes[4..8], 0xf_8010_u32.to_le_bytes());
        let table = &bytes[16..];
        assert_eq!((&table[..4], sum(table)), (b"PCMP".as_slice(), 0));
        assert_eq!(usize::from(u16::from_le_bytes([table[4], table[5]])), table.len());
        assert_eq!(table[36..40], 0xfee0_0000_u32.to_le_bytes());
        let mut rest = &table[44..];
        let mut entries = Vec::new();
        while let [kind, ..] = *rest {
            let (entry, after) = rest.split_at(if kind == 0 { 20 } else { 8 });
            entries.push(entry.to_vec());
            rest = after;
        }
        assert_eq!(entries.len(), usize::from(u16::from_le_bytes([table[34], table[35]])));
        entries
    }

    #[test]
    fn processors_come_first_and_the_first_is_the_bootstrap_processor() {
        let entries = parse(3);
        let processors: Vec<_> = entries.iter().filter(|entry| entry[0] == 0).collect();
        assert_eq!(
            processors.iter().map(|entry| (entry[1], entry[3])).collect::<Vec<_>>(),
            [(0, 3), (1, 1), (2, 1)]
        );
        assert!(entries.is_sorted_by_key(|entry| entry[0]), "types in rising order");
    }

    #[test]
    fn interrupts_lead_where_the_machine_has_them() {
        let entries = parse(1);
        assert!(entries.contains(&vec![2, 0, 0x11, 1, 0, 0, 0xc0, 0xfe]));
        assert!(entries.contains(&vec![3, 0, 0, 0, 1, 0, 0, 2]), "the timer");
        assert!(entries.contains(&vec![3, 0, 0xd, 0, 1, 9, 0, 9]), "the SCI");
        assert!(entries.contains(&vec![3, 0, 0, 0, 0, 1 << 2, 0, 21]), "device 1, pin A");
        assert!(entries.contains(&vec![4, 3, 0, 0, 1, 0, 0xff, 0]), "the 8259s");
        assert!(!entries.iter().any(|entry| entry[0] == 3 && entry[4..6] == [1, 2]), "the cascade");
    }

    #[test]
    fn the_table_for_the_most_processors_fits() {
        assert!(tables(NonZeroU8::MAX).len() as u64 <= MP_TABLE_ROOM);
    }
}
