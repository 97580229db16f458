//! From the tables' bytes to [`Platform`]. Every length and address is checked; firmware makes mistakes.

use alloc::vec::Vec;
use core::fmt;

use arch::{Hpa, Port};

use super::soft_off;
use super::{
    Cpu, IoApic, IsaLine, Override, Place, Platform, PmTimer, Polarity, Power, Register, SoftOff, Trigger,
};

/// Physical memory that may be read.
pub trait PhysicalMemory {
    /// `length` bytes at `hpa`, unless they are not there.
    fn bytes(&self, hpa: Hpa, length: u64) -> Option<&[u8]>;
}

/// Why the tables are of no use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AcpiError {
    /// The root pointer is not one.
    BadRootPointer(Hpa),
    /// A table is outside of memory or shorter than its header.
    BadTable(Hpa),
    /// This table is missing.
    Missing(&'static str),
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRootPointer(hpa) => write!(f, "no ACPI root pointer at {hpa}"),
            Self::BadTable(hpa) => write!(f, "bad ACPI table at {hpa}"),
            Self::Missing(name) => write!(f, "the firmware has no {name} table"),
        }
    }
}

const HEADER_BYTES: u64 = 36;
/// Longer tables are taken for garbage.
const LONGEST_TABLE: u64 = 16 << 20;

fn u8_at(bytes: &[u8], offset: usize) -> Option<u8> {
    bytes.get(offset).copied()
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}

/// A whole table, header included.
fn table(memory: &impl PhysicalMemory, hpa: Hpa) -> Option<&[u8]> {
    let header = memory.bytes(hpa, HEADER_BYTES)?;
    let length = u64::from(u32_at(header, 4)?);
    if !(HEADER_BYTES..=LONGEST_TABLE).contains(&length) {
        return None;
    }
    memory.bytes(hpa, length)
}

/// The addresses of all tables.
fn table_list(memory: &impl PhysicalMemory, rsdp: Hpa) -> Result<Vec<Hpa>, AcpiError> {
    let bad = AcpiError::BadRootPointer(rsdp);
    let root = memory.bytes(rsdp, 20).filter(|bytes| bytes.starts_with(b"RSD PTR ")).ok_or(bad)?;
    let revision = u8_at(root, 15).ok_or(bad)?;
    let extended = match revision {
        0 | 1 => None,
        _ => memory.bytes(rsdp, 36).and_then(|bytes| u64_at(bytes, 24)).filter(|address| *address != 0),
    };
    let (list, width) = match extended {
        Some(address) => (Hpa::new(address), 8),
        None => (Hpa::new(u64::from(u32_at(root, 16).ok_or(bad)?)), 4),
    };
    let bytes = table(memory, list).ok_or(AcpiError::BadTable(list))?;
    let entries = bytes.get(36..).unwrap_or_default();
    Ok(entries
        .chunks_exact(width)
        .filter_map(|entry| if width == 8 { u64_at(entry, 0) } else { u32_at(entry, 0).map(u64::from) })
        .map(Hpa::new)
        .collect())
}

/// Reads all tables that matter, from the root pointer on.
///
/// # Errors
/// [`AcpiError`] when the root pointer, the table list or the MADT is of no use; a missing or odd FADT costs power
/// management only.
pub fn parse(memory: &impl PhysicalMemory, rsdp: Hpa) -> Result<Platform, AcpiError> {
    let list = table_list(memory, rsdp)?;
    let find = |signature: &[u8]| {
        list.iter().filter_map(|hpa| table(memory, *hpa)).find(|bytes| bytes.starts_with(signature))
    };
    let mut platform = Platform::default();
    let madt = find(b"APIC").ok_or(AcpiError::Missing("MADT"))?;
    parse_madt(madt, &mut platform).ok_or(AcpiError::Missing("complete MADT"))?;
    if let Some(fadt) = find(b"FACP") {
        parse_fadt(memory, fadt, &mut platform);
    }
    Ok(platform)
}

/// "Multiple APIC Description Table (MADT)".
fn parse_madt(madt: &[u8], platform: &mut Platform) -> Option<()> {
    const USABLE: u32 = 0b1;
    platform.local_apic = u64::from(u32_at(madt, 36)?);
    let mut rest = madt.get(44..)?;
    while let (Some(kind), Some(length)) = (u8_at(rest, 0), u8_at(rest, 1)) {
        let length = usize::from(length);
        if length < 2 {
            break;
        }
        let Some(entry) = rest.get(..length) else { break };
        parse_madt_entry(kind, entry, platform, USABLE);
        rest = rest.get(length..)?;
    }
    Some(())
}

/// One entry; one that is too short for its kind is skipped.
fn parse_madt_entry(kind: u8, entry: &[u8], platform: &mut Platform, usable: u32) -> Option<()> {
    match kind {
        // Processor local APIC.
        0 if u32_at(entry, 4)? & usable != 0 => {
            platform.cpus.push(Cpu { apic_id: u32::from(u8_at(entry, 3)?) });
        }
        // I/O APIC.
        1 => platform.io_apics.push(IoApic {
            id: u8_at(entry, 2)?,
            address: u64::from(u32_at(entry, 4)?),
            first_gsi: u32_at(entry, 8)?,
        }),
        // Interrupt source override, of the ISA bus.
        2 if u8_at(entry, 2)? == 0 => {
            let flags = u16_at(entry, 8)?;
            platform.overrides.push(Override {
                irq: u8_at(entry, 3)?,
                line: IsaLine {
                    gsi: u32_at(entry, 4)?,
                    // "As the bus has it" is high and edge on ISA.
                    polarity: if flags & 0b11 == 0b11 { Polarity::ActiveLow } else { Polarity::ActiveHigh },
                    trigger: if flags >> 2 & 0b11 == 0b11 { Trigger::Level } else { Trigger::Edge },
                },
            });
        }
        // Local APIC address override.
        5 => platform.local_apic = u64_at(entry, 4)?,
        // Processor local x2APIC.
        9 if u32_at(entry, 8)? & usable != 0 => {
            let apic_id = u32_at(entry, 4)?;
            if !platform.cpus.iter().any(|cpu| cpu.apic_id == apic_id) {
                platform.cpus.push(Cpu { apic_id });
            }
        }
        _ => {}
    }
    Some(())
}

/// A port number at `offset`, zero meaning none.
fn port_at(bytes: &[u8], offset: usize) -> Option<Port> {
    u16::try_from(u32_at(bytes, offset)?).ok().filter(|port| *port != 0).map(Port)
}

/// "Fixed ACPI Description Table (FADT)". What is missing is left out.
fn parse_fadt(memory: &impl PhysicalMemory, fadt: &[u8], platform: &mut Platform) {
    const TIMER_32_BIT: u32 = 1 << 8;
    const RESET_SUPPORTED: u32 = 1 << 10;
    let flags = u32_at(fadt, 112).unwrap_or(0);
    platform.pm_timer = port_at(fadt, 76).map(|port| PmTimer { port, is_32_bit: flags & TIMER_32_BIT != 0 });
    let acpi_enable = match (port_at(fadt, 48), u8_at(fadt, 52)) {
        (Some(port), Some(value)) if value != 0 => Some((port, value)),
        _ => None,
    };
    let reset = if flags & RESET_SUPPORTED != 0 { reset_register(fadt) } else { None };
    let dsdt = u64_at(fadt, 140)
        .filter(|address| *address != 0)
        .or_else(|| u32_at(fadt, 40).map(u64::from))
        .and_then(|address| table(memory, Hpa::new(address)));
    let sleep_types = dsdt.and_then(soft_off::sleep_types);
    let soft_off = match (port_at(fadt, 64), sleep_types) {
        (Some(pm1a_control), Some((type_a, type_b))) => {
            Some(SoftOff { pm1a_control, pm1b_control: port_at(fadt, 68), type_a, type_b })
        }
        _ => None,
    };
    platform.power = Power { soft_off, acpi_enable, reset };
}

fn reset_register(fadt: &[u8]) -> Option<(Register, u8)> {
    let place = match u8_at(fadt, 116)? {
        0 => Place::Memory,
        1 => Place::Port,
        _ => return None,
    };
    let address = u64_at(fadt, 120).filter(|address| *address != 0)?;
    Some((Register { place, address }, u8_at(fadt, 128)?))
}
