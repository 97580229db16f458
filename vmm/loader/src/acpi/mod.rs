//! The ACPI tables of the virtual PC, as [`arch::platform_layout`] lays it out.
//!
//! ACPI Specification 6.5, "ACPI Software Programming Model". There is no embedded controller and no sleep state
//! but S5.

mod dsdt;
mod fadt;
mod hpet;
mod madt;
mod numa;
mod pci;
#[cfg(test)]
mod tests;

use crate::layout::{ACPI_ROOM, ACPI_TABLES};
use crate::{LoadError, MemoryLayout, Nodes, copy};
use acpi_tables::facs::FACS;
use acpi_tables::mcfg::MCFG;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, Checksum};
use alloc::vec::Vec;
use arch::Gpa;
use arch::platform_layout::ECAM_BASE;
use core::num::NonZeroU8;
use memory::GuestMemory;

const OEM_ID: [u8; 6] = *b"CRATON";
const OEM_TABLE_ID: [u8; 8] = *b"CRATONPC";
const OEM_REVISION: u32 = 1;

/// Alignment of the tables in bytes: the FACS needs it, the others do not mind.
const TABLE_ALIGNMENT: usize = 64;
/// Size of the root pointer structure, in bytes.
pub(crate) const RSDP_BYTES: usize = 36;
/// The same as its length field has it.
const RSDP_LENGTH: u32 = 36;

/// The tables as one block of bytes that goes to a fixed address, the root pointer (RSDP) first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FirmwareTables {
    base: u32,
    bytes: Vec<u8>,
    places: Places,
}

/// Where the tables are that have addresses of others in them, as offsets in the block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Places {
    pub(crate) fadt: u32,
    pub(crate) rsdt: u32,
    pub(crate) xsdt: u32,
}

impl FirmwareTables {
    /// The tables for a machine with `vcpus` processors and memory as in `layout`, to be put at `base`, a multiple of 64
    /// below 4 GiB. With `nodes`, processors and memory are divided among so many.
    pub fn new(base: u32, vcpus: NonZeroU8, layout: &MemoryLayout, nodes: Option<Nodes>) -> Self {
        let mut tables = Self { base, bytes: alloc::vec![0; RSDP_BYTES], places: Places::default() };
        let facs = tables.add(&FACS::new());
        let dsdt = tables.add(&dsdt::table(vcpus, layout, nodes));
        let fadt = tables.add(&fadt::table(facs, dsdt));
        let madt = tables.add(&madt::table(vcpus.into()));
        let mut mcfg = MCFG::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
        mcfg.add_ecam(ECAM_BASE.get(), 0, 0, pci::LAST_BUS);
        let mcfg = tables.add(&mcfg);
        let hpet = tables.add(&hpet::table());
        let mut listed = Vec::from([fadt, madt, mcfg, hpet]);
        if let Some(nodes) = nodes {
            listed.push(tables.add(&numa::affinity(nodes, vcpus.into(), layout)));
            listed.push(tables.add(&numa::distances(nodes)));
        }

        let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
        let mut rsdt = sdt(*b"RSDT", 1);
        for table in listed {
            xsdt.add_entry(u64::from(table));
            rsdt.append_slice(&table.to_le_bytes());
        }
        let rsdt = tables.add(&rsdt);
        let xsdt = tables.add(&xsdt);
        let [fadt, rsdt_place, xsdt_place] = [fadt, rsdt, xsdt].map(|table| table.saturating_sub(base));
        tables.places = Places { fadt, rsdt: rsdt_place, xsdt: xsdt_place };
        let root = root_pointer(rsdt, xsdt);
        if let Some(place) = tables.bytes.get_mut(..RSDP_BYTES) {
            place.copy_from_slice(&root);
        }
        tables
    }

    /// The tables' bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) const fn places(&self) -> Places {
        self.places
    }

    /// Appends `table` and returns its address.
    fn add(&mut self, table: &dyn Aml) -> u32 {
        self.bytes.resize(self.bytes.len().next_multiple_of(TABLE_ALIGNMENT), 0);
        let offset = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        table.to_aml_bytes(&mut self.bytes);
        self.base.saturating_add(offset)
    }
}

/// Writes the tables for `vcpus` processors and memory as in `layout`, divided among `nodes` if there are such, to
/// [`ACPI_TABLES`], and returns where the root pointer is.
pub(crate) fn write_tables(
    memory: &impl GuestMemory,
    vcpus: NonZeroU8,
    layout: &MemoryLayout,
    nodes: Option<Nodes>,
) -> Result<Gpa, LoadError> {
    let base = u32::try_from(ACPI_TABLES.get()).expect("the tables are below 1 MiB");
    let tables = FirmwareTables::new(base, vcpus, layout, nodes);
    assert!(tables.bytes.len() as u64 <= ACPI_ROOM, "the tables for 255 processors fit, as a test shows");
    copy::write(memory, ACPI_TABLES, &tables.bytes)?;
    Ok(ACPI_TABLES)
}

/// A system description table with only its header.
fn sdt(signature: [u8; 4], revision: u8) -> Sdt {
    const HEADER_BYTES: u32 = 36;
    Sdt::new(signature, HEADER_BYTES, revision, OEM_ID, OEM_TABLE_ID, OEM_REVISION)
}

/// ACPI Specification, "Root System Description Pointer (RSDP) Structure", revision 2.
fn root_pointer(rsdt: u32, xsdt: u32) -> [u8; RSDP_BYTES] {
    const CHECKSUM: usize = 8;
    const FIRST_PART: usize = 20;
    const EXTENDED_CHECKSUM: usize = 32;
    let mut root = [0; RSDP_BYTES];
    root[..8].copy_from_slice(b"RSD PTR ");
    root[9..15].copy_from_slice(&OEM_ID);
    root[15] = 2;
    root[16..20].copy_from_slice(&rsdt.to_le_bytes());
    root[20..24].copy_from_slice(&RSDP_LENGTH.to_le_bytes());
    root[24..32].copy_from_slice(&u64::from(xsdt).to_le_bytes());
    root[CHECKSUM] = checksum(&root[..FIRST_PART]);
    root[EXTENDED_CHECKSUM] = checksum(&root);
    root
}

/// The byte that makes the sum of `bytes` zero.
fn checksum(bytes: &[u8]) -> u8 {
    let mut sum = Checksum::default();
    sum.append(bytes);
    sum.value()
}
