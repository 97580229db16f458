//! SMBIOS: who made this machine, how it is called, what sits in its one processor socket, and its memory.
//!
//! DMTF DSP0134, "System Management BIOS Reference Specification" 2.8: "SMBIOS 2.1 (32-bit) Entry Point",
//! "Required structures and data". All memory is one device in one slot.

use crate::layout::{SMBIOS_ROOM, SMBIOS_TABLES};
use crate::{LoadError, MemoryLayout, copy};
use alloc::vec::Vec;
use arch::{Gpa, KIB, MIB};
use core::num::NonZeroU8;
use memory::GuestMemory;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{Immutable, IntoBytes, Unaligned};

/// Room for the entry point before the structures, in bytes.
const ENTRY_ROOM: u64 = 32;
/// Offset of the part of the entry point with a checksum of its own.
const INTERMEDIATE: usize = 0x10;

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct EntryPoint {
    anchor: [u8; 4],
    checksum: u8,
    length: u8,
    major: u8,
    minor: u8,
    largest_structure: U16,
    entry_revision: u8,
    formatted_area: [u8; 5],
    intermediate_anchor: [u8; 5],
    intermediate_checksum: u8,
    table_length: U16,
    table_address: U32,
    structures: U16,
    bcd_revision: u8,
}

/// The entry point's length, in bytes.
const ENTRY_LENGTH: u8 = 0x1f;
const _: () = assert!(size_of::<EntryPoint>() == ENTRY_LENGTH as usize);

/// Kinds of structure.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Kind {
    Firmware = 0,
    System = 1,
    Chassis = 3,
    Processor = 4,
    PhysicalMemoryArray = 16,
    MemoryDevice = 17,
    MemoryArrayMappedAddress = 19,
    Boot = 32,
    End = 127,
}

/// The structures as they are built up.
#[derive(Default)]
struct Structures {
    bytes: Vec<u8>,
    count: u16,
    largest: u16,
}

impl Structures {
    /// Adds a structure: the formatted part after the header, and the strings that it numbers from 1. Returns the
    /// handle by which others name it.
    fn add(&mut self, kind: Kind, formatted: &[u8], strings: &[&str]) -> u16 {
        const HEADER: usize = 4;
        let before = self.bytes.len();
        let length = u8::try_from(HEADER + formatted.len()).expect("formatted parts are short constants");
        let handle = self.count;
        self.bytes.extend([kind as u8, length]);
        self.bytes.extend(handle.to_le_bytes());
        self.bytes.extend(formatted);
        for string in strings {
            self.bytes.extend(string.bytes().chain([0]));
        }
        if strings.is_empty() {
            self.bytes.push(0);
        }
        self.bytes.push(0);
        let size = u16::try_from(self.bytes.len() - before).expect("structures are short constants");
        self.largest = self.largest.max(size);
        self.count += 1;
        handle
    }
}

const VENDOR: &str = "Craton";
const PRODUCT: &str = "Craton Virtual Machine";
const PROCESSOR: &str = "Craton Virtual Processor";
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The specification wants a date; it is that of the table's layout and changes with it.
const RELEASE_DATE: &str = "11/21/2026";

/// Writes entry point and structures for a machine with memory as in `layout` and `vcpus` processors.
pub(crate) fn write_tables(
    memory: &impl GuestMemory,
    layout: &MemoryLayout,
    vcpus: NonZeroU8,
) -> Result<(), LoadError> {
    let structures = structures(layout, vcpus);
    let table = SMBIOS_TABLES + ENTRY_ROOM;
    assert!(ENTRY_ROOM + structures.bytes.len() as u64 <= SMBIOS_ROOM, "structures are short constants");
    copy::write(memory, SMBIOS_TABLES, &entry_point(&structures, table))?;
    copy::write(memory, table, &structures.bytes)
}

/// The same as two parts for firmware that finds a place for them: the entry point, without an address, and the
/// structures.
pub(crate) fn parts(layout: &MemoryLayout, vcpus: NonZeroU8) -> (Vec<u8>, Vec<u8>) {
    let structures = structures(layout, vcpus);
    (entry_point(&structures, Gpa::new(0)), structures.bytes)
}

fn structures(layout: &MemoryLayout, vcpus: NonZeroU8) -> Structures {
    let memory_bytes = layout.total_bytes();
    let mut structures = Structures::default();
    structures.add(Kind::Firmware, &firmware(), &[VENDOR, VERSION, RELEASE_DATE]);
    // Manufacturer, product, version; no serial number; UUID not set; woken by the power switch; no SKU, no family.
    let mut system = Vec::from([1, 2, 3, 0]);
    system.extend([0; 16]);
    system.extend([6, 0, 0]);
    structures.add(Kind::System, &system, &[VENDOR, PRODUCT, VERSION]);
    // Manufacturer; kind "other"; states "safe"; no security.
    let mut chassis = Vec::from([1, 1, 0, 0, 0, 3, 3, 3, 3]);
    chassis.extend([0; 8]);
    structures.add(Kind::Chassis, &chassis, &[VENDOR]);
    structures.add(Kind::Processor, &processor(vcpus), &["CPU 0", VENDOR, PROCESSOR]);
    let array = structures.add(Kind::PhysicalMemoryArray, &memory_array(memory_bytes), &[]);
    structures.add(Kind::MemoryDevice, &memory_device(memory_bytes, array), &["DIMM 0", VENDOR]);
    for range in layout.ram() {
        let mapped = mapped_address(range.start.get(), range.bytes, array);
        structures.add(Kind::MemoryArrayMappedAddress, &mapped, &[]);
    }
    // No error at boot.
    structures.add(Kind::Boot, &[0; 7], &[]);
    structures.add(Kind::End, &[], &[]);
    structures
}

/// "BIOS Information (Type 0)".
fn firmware() -> Vec<u8> {
    const CHARACTERISTICS_NOT_SUPPORTED: u64 = 1 << 3;
    /// Extension byte 2: this is a virtual machine.
    const VIRTUAL_MACHINE: u8 = 1 << 4;
    /// Extension byte 1: ACPI.
    const ACPI: u8 = 1 << 0;
    const UNKNOWN: u8 = 0xff;
    let mut part = Vec::from([1, 2]);
    part.extend(0xf000_u16.to_le_bytes());
    part.extend([3, 0]);
    part.extend(CHARACTERISTICS_NOT_SUPPORTED.to_le_bytes());
    part.extend([ACPI, VIRTUAL_MACHINE, 0, 1, UNKNOWN, UNKNOWN]);
    part
}

/// "Processor Information (Type 4)": a socket with a core of one thread for each of `vcpus`, as CPUID tells it too.
/// What a guest can ask CPUID is left open: the identification, the clocks and the caches.
fn processor(vcpus: NonZeroU8) -> Vec<u8> {
    const CENTRAL_PROCESSOR: u8 = 3;
    const FAMILY_UNKNOWN: u8 = 2;
    const VOLTAGE_UNKNOWN: u8 = 0;
    const POPULATED_AND_ENABLED: u8 = 1 << 6 | 1;
    const UPGRADE_NONE: u8 = 6;
    const NO_CACHE_STRUCTURE: u16 = 0xffff;
    const CAPABLE_OF_64_BITS: u16 = 1 << 2;
    const MULTI_CORE: u16 = 1 << 3;
    const EXECUTE_PROTECTION: u16 = 1 << 5;
    let cores = vcpus.get();
    let several = if cores > 1 { MULTI_CORE } else { 0 };

    // Strings: the socket, the manufacturer, the version.
    let mut part = Vec::from([1, CENTRAL_PROCESSOR, FAMILY_UNKNOWN, 2]);
    part.extend([0; 8]);
    part.extend([3, VOLTAGE_UNKNOWN]);
    // External clock, largest and present speed: unknown.
    part.extend([0; 6]);
    part.extend([POPULATED_AND_ENABLED, UPGRADE_NONE]);
    for _level in 1..=3 {
        part.extend(NO_CACHE_STRUCTURE.to_le_bytes());
    }
    // No serial number, asset tag or part number; cores, those enabled, and threads.
    part.extend([0, 0, 0, cores, cores, cores]);
    part.extend((CAPABLE_OF_64_BITS | several | EXECUTE_PROTECTION).to_le_bytes());
    part.extend(u16::from(FAMILY_UNKNOWN).to_le_bytes());
    part
}

/// Slots for memory.
const MEMORY_DEVICES: u16 = 1;
/// There is no structure about errors.
const NO_ERROR_INFORMATION: u16 = 0xfffe;

/// "Memory Device (Type 17)": all memory, in the array with the handle `array`.
fn memory_device(memory_bytes: u64, array: u16) -> Vec<u8> {
    const WIDTH_BITS: u16 = 64;
    const DIMM: u8 = 9;
    const RAM: u8 = 7;
    const DETAIL_OTHER: u16 = 1 << 1;
    /// The size is in the extended field.
    const EXTENDED: u16 = 0x7fff;
    let mib = memory_bytes / MIB;
    let short = u16::try_from(mib).ok().filter(|mib| *mib < EXTENDED);
    let mut part = Vec::new();
    for word in [array, NO_ERROR_INFORMATION, WIDTH_BITS, WIDTH_BITS, short.unwrap_or(EXTENDED)] {
        part.extend(word.to_le_bytes());
    }
    // Form; in no set; locator, no bank; type.
    part.extend([DIMM, 0, 1, 0, RAM]);
    part.extend(DETAIL_OTHER.to_le_bytes());
    // Speed unknown; manufacturer; no serial number, asset tag or part number; attributes unknown.
    part.extend([0, 0, 2, 0, 0, 0, 0]);
    let extended = if short.is_some() { 0 } else { u32::try_from(mib).unwrap_or(u32::MAX) };
    part.extend(extended.to_le_bytes());
    // Speed and voltages unknown.
    part.extend([0; 8]);
    part
}

/// "Memory Array Mapped Address (Type 19)".
fn mapped_address(start: u64, bytes: u64, array: u16) -> Vec<u8> {
    const DEVICES_IN_A_ROW: u8 = 1;
    let last = start + (bytes - 1);
    let short = u32::try_from(start / KIB).ok().zip(u32::try_from(last / KIB).ok());
    let (first_kib, last_kib) = short.filter(|(_, last)| *last != u32::MAX).unwrap_or((u32::MAX, u32::MAX));
    let mut part = Vec::new();
    part.extend(first_kib.to_le_bytes());
    part.extend(last_kib.to_le_bytes());
    part.extend(array.to_le_bytes());
    part.push(DEVICES_IN_A_ROW);
    let is_short = last_kib != u32::MAX;
    for address in [start, last] {
        part.extend(if is_short { 0 } else { address }.to_le_bytes());
    }
    part
}

/// "Physical Memory Array (Type 16)".
fn memory_array(memory_bytes: u64) -> Vec<u8> {
    const LOCATION_OTHER: u8 = 1;
    const USE_SYSTEM_MEMORY: u8 = 3;
    const NO_CORRECTION: u8 = 3;
    /// The capacity is in the extended field.
    const EXTENDED: u32 = 0x8000_0000;
    let kib = u32::try_from(memory_bytes / KIB).ok().filter(|kib| *kib < EXTENDED);
    let mut part = Vec::from([LOCATION_OTHER, USE_SYSTEM_MEMORY, NO_CORRECTION]);
    part.extend(kib.unwrap_or(EXTENDED).to_le_bytes());
    part.extend(NO_ERROR_INFORMATION.to_le_bytes());
    part.extend(MEMORY_DEVICES.to_le_bytes());
    part.extend(if kib.is_some() { 0 } else { memory_bytes / MIB * MIB }.to_le_bytes());
    part
}

fn entry_point(structures: &Structures, table: Gpa) -> Vec<u8> {
    let entry = EntryPoint {
        anchor: *b"_SM_",
        checksum: 0,
        length: ENTRY_LENGTH,
        major: 2,
        minor: 8,
        largest_structure: structures.largest.into(),
        entry_revision: 0,
        formatted_area: [0; 5],
        intermediate_anchor: *b"_DMI_",
        intermediate_checksum: 0,
        table_length: u16::try_from(structures.bytes.len()).expect("structures are short constants").into(),
        table_address: u32::try_from(table.get()).expect("the tables are below 1 MiB").into(),
        structures: structures.count.into(),
        bcd_revision: 0x28,
    };
    let mut bytes = Vec::from(entry.as_bytes());
    let negated_sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
    bytes[INTERMEDIATE + 5] = negated_sum(&bytes[INTERMEDIATE..]);
    bytes[4] = negated_sum(&bytes);
    bytes
}
