//! What lies in the guest's memory when it starts: its image, the start information, and the table of its processors.
//!
//! Sources: Xen, "x86/HVM direct boot ABI"; ACPI Specification, "Multiple APIC Description Table (MADT)".

use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink};
use anyhow::{Context, Result, ensure};
use elf::{ElfBytes, abi::PT_LOAD, abi::PT_NOTE, endian::LittleEndian};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Where the start information lies: below the guest's image at 1 MiB.
pub(crate) const START_INFO: u64 = 0x6000;
const COMMAND_LINE: u64 = 0x7000;
const COMMAND_LINE_MAX: usize = 0x1000;
const START_INFO_MAGIC: u32 = 0x336e_c578;
const PHYS32_ENTRY: u64 = 18;

const RSDP: u64 = 0x8000;
const XSDT_AT: u64 = 0x8040;
const MADT_AT: u64 = 0x8080;
const OEM: [u8; 6] = *b"CRATON";
const OEM_TABLE: [u8; 8] = *b"KVMBENCH";
const LOCAL_APIC: u32 = 0xfee0_0000;
const IO_APIC: u32 = 0xfec0_0000;

/// Copies the loadable segments and returns the PVH entry point.
pub(crate) fn load(image: &[u8], memory: &GuestMemoryMmap) -> Result<u64> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(image).context("not an ELF file")?;
    let mut entry = None;
    for segment in file.segments().context("no program headers")? {
        match segment.p_type {
            PT_LOAD => memory
                .write_slice(file.segment_data(&segment)?, GuestAddress(segment.p_paddr))
                .context("a segment does not fit the guest's memory")?,
            PT_NOTE => {
                for note in file.segment_data_as_notes(&segment)? {
                    if let elf::note::Note::Unknown(note) = note
                        && note.n_type == PHYS32_ENTRY
                        && note.name_str().is_ok_and(|name| name == "Xen")
                    {
                        let low = note.desc.first_chunk().context("the entry note is too short")?;
                        entry = Some(u64::from(u32::from_le_bytes(*low)));
                    }
                }
            }
            // Segments of other kinds say nothing about the memory image.
            _ => {}
        }
    }
    entry.context("no PVH entry note in the guest's image")
}

/// `hvm_start_info`, version 1, with a command line and the ACPI tables of a machine with `cpus` processors.
pub(crate) fn write_start_info(memory: &GuestMemoryMmap, command_line: &str, cpus: u8) -> Result<()> {
    ensure!(command_line.len() < COMMAND_LINE_MAX, "the command line is too long");
    let mut text = command_line.as_bytes().to_vec();
    text.push(0);
    memory.write_slice(&text, GuestAddress(COMMAND_LINE))?;
    memory.write_obj(START_INFO_MAGIC, GuestAddress(START_INFO))?;
    memory.write_obj(1u32, GuestAddress(START_INFO + 4))?;
    memory.write_obj(COMMAND_LINE, GuestAddress(START_INFO + 24))?;
    memory.write_obj(RSDP, GuestAddress(START_INFO + 32))?;

    let mut xsdt = XSDT::new(OEM, OEM_TABLE, 1);
    xsdt.add_entry(MADT_AT);
    let mut madt = MADT::new(OEM, OEM_TABLE, 1, LocalInterruptController::Address(LOCAL_APIC));
    for id in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, IO_APIC, 0));
    write_table(memory, RSDP, &Rsdp::new(OEM, XSDT_AT))?;
    write_table(memory, XSDT_AT, &xsdt)?;
    write_table(memory, MADT_AT, &madt)
}

/// The bytes of a table.
struct Table(Vec<u8>);

impl AmlSink for Table {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }
}

fn write_table(memory: &GuestMemoryMmap, at: u64, table: &dyn Aml) -> Result<()> {
    let mut bytes = Table(Vec::new());
    table.to_aml_bytes(&mut bytes);
    memory.write_slice(&bytes.0, GuestAddress(at)).context("the ACPI tables do not fit the guest's memory")
}
