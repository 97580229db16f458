//! Loads an ELF kernel and starts it by the PVH protocol: 32-bit protected mode, paging off.
//!
//! Xen, "x86/HVM direct boot ABI"; System V ABI, "Program Header" and "Note Section".

mod spec;
#[cfg(test)]
mod tests;

use crate::image::{ELF_MAGIC, has, not_kernel};
use crate::layout::{COMMAND_LINE, HIGH_MEMORY, MemoryLayout, PVH_START_INFO};
use crate::payload::{CommandLine, Ramdisk};
use crate::{EntryState, Image, LoadError, NotKernel, OtherArchitecture, VmDescription, copy, end_of};
use alloc::string::ToString;
use alloc::vec::Vec;
use arch::{Gpa, Gpr};
use elf::ElfBytes;
use elf::abi::{EM_386, EM_X86_64, PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::note::{Note, NoteIterator};
use elf::segment::ProgramHeader;
use memory::GuestMemory;
use spec::{MemmapEntry, ModlistEntry, StartInfo};
use zerocopy::IntoBytes;

/// A loadable segment that was checked against the file and the memory.
struct Segment<'a> {
    start: Gpa,
    end: u64,
    /// What the file has of it; the rest is zero.
    bytes: &'a [u8],
}

/// Loads the ELF file that `vm` names; `rsdp` is where the ACPI tables begin.
pub(crate) fn load(
    memory: &impl GuestMemory,
    vm: &VmDescription<'_>,
    layout: &MemoryLayout,
    rsdp: Gpa,
) -> Result<EntryState, LoadError> {
    let kernel = Kernel::parse(vm.kernel)?;
    let segments = kernel.segments(layout)?;
    let entry = kernel.entry()?;
    if !segments.iter().any(|segment| (segment.start.get()..segment.end).contains(&entry.get())) {
        return Err(LoadError::EntryOutside { file: vm.kernel.name.into(), entry });
    }
    let command_line = CommandLine::new(vm.cmdline, spec::COMMAND_LINE_MOST)?;
    let kernel_end = segments.iter().map(|segment| segment.end).max().unwrap_or_default();
    let ramdisk = match vm.initramfs {
        Some(file) => Some(Ramdisk::place(file, kernel_end, u64::MAX, layout)?),
        None => None,
    };

    for segment in &segments {
        copy::write(memory, segment.start, segment.bytes)?;
        let loaded = segment.bytes.len() as u64;
        copy::zero(memory, segment.start + loaded, segment.end - segment.start.get() - loaded)?;
    }
    command_line.write(memory)?;
    if let Some(ramdisk) = &ramdisk {
        copy::write(memory, ramdisk.start, ramdisk.file.bytes)?;
    }
    write_start_info(memory, ramdisk.as_ref(), layout, rsdp)?;
    Ok(EntryState::protected_mode(entry.get()).with(Gpr::Rbx, PVH_START_INFO.get()))
}

/// An ELF file for this machine.
struct Kernel<'a> {
    file: Image<'a>,
    elf: ElfBytes<'a, LittleEndian>,
}

impl<'a> Kernel<'a> {
    /// Checks `file`'s header.
    fn parse(file: Image<'a>) -> Result<Self, LoadError> {
        if !has(file.bytes, ELF_MAGIC) {
            return Err(not_kernel(file, NotKernel::NotElf));
        }
        let elf =
            ElfBytes::<LittleEndian>::minimal_parse(file.bytes).map_err(|error| bad_elf(file, &error))?;
        match elf.ehdr.e_machine {
            EM_X86_64 | EM_386 => Ok(Self { file, elf }),
            machine => Err(LoadError::WrongArchitecture {
                file: file.name.into(),
                found: OtherArchitecture::Elf(machine),
            }),
        }
    }

    fn program_headers(&self) -> impl Iterator<Item = ProgramHeader> + use<'a> {
        self.elf.segments().into_iter().flat_map(|table| table.into_iter())
    }

    /// The loadable segments, each inside the file and inside RAM.
    fn segments(&self, layout: &MemoryLayout) -> Result<Vec<Segment<'a>>, LoadError> {
        self.program_headers()
            .filter(|header| header.p_type == PT_LOAD && header.p_memsz > 0)
            .map(|header| self.segment(&header, layout))
            .collect()
    }

    fn segment(&self, header: &ProgramHeader, layout: &MemoryLayout) -> Result<Segment<'a>, LoadError> {
        let file = || self.file.name.into();
        if header.p_filesz > header.p_memsz {
            return Err(LoadError::BadHeader { file: file(), field: "p_filesz", value: header.p_filesz });
        }
        let start = Gpa::new(header.p_paddr);
        let end = end_of(start, header.p_memsz).ok_or_else(|| LoadError::BadHeader {
            file: file(),
            field: "p_paddr",
            value: header.p_paddr,
        })?;
        if start < HIGH_MEMORY {
            return Err(LoadError::KernelTooLow { file: file(), start, lowest: HIGH_MEMORY });
        }
        if end > layout.low_end().get() {
            return Err(LoadError::KernelTooLarge { file: file(), end, memory_end: layout.low_end() });
        }
        Ok(Segment { start, end, bytes: self.data(header)? })
    }

    /// What the file has of a segment.
    fn data(&self, header: &ProgramHeader) -> Result<&'a [u8], LoadError> {
        self.elf.segment_data(header).map_err(|_| LoadError::Truncated {
            file: self.file.name.into(),
            has: self.file.bytes.len() as u64,
            needs: header.p_offset.saturating_add(header.p_filesz),
        })
    }

    /// The entry point in the PVH note.
    fn entry(&self) -> Result<Gpa, LoadError> {
        for header in self.program_headers().filter(|header| header.p_type == PT_NOTE) {
            // The notes of interest are 4-byte aligned; the only other alignment in use is 8, for properties.
            let alignment = if header.p_align == 8 { 8 } else { 4 };
            let data = self.data(&header)?;
            for note in NoteIterator::new(LittleEndian, self.elf.ehdr.class, alignment, data) {
                if let Note::Unknown(note) = note
                    && note.n_type == spec::PHYS32_ENTRY
                    && spec::NOTE_NAME.starts_with(note.name)
                    && note.name.starts_with(b"Xen")
                    && let Some(low) = note.desc.first_chunk::<4>()
                {
                    // Linux emits 4 or 8 bytes; the entry point is a 32-bit address by definition.
                    return Ok(Gpa::new(u64::from(u32::from_le_bytes(*low))));
                }
            }
        }
        Err(LoadError::NoPvhEntry { file: self.file.name.into() })
    }
}

fn bad_elf(file: Image<'_>, error: &elf::ParseError) -> LoadError {
    LoadError::BadElf { file: file.name.into(), detail: error.to_string() }
}

/// Writes the start info, and after it the module list and the memory map.
fn write_start_info(
    memory: &impl GuestMemory,
    ramdisk: Option<&Ramdisk<'_>>,
    layout: &MemoryLayout,
    rsdp: Gpa,
) -> Result<(), LoadError> {
    let modules = PVH_START_INFO + size_of::<StartInfo>() as u64;
    let map_at = modules + size_of::<ModlistEntry>() as u64;
    let module = ramdisk.map(|ramdisk| ModlistEntry {
        paddr: ramdisk.start.get().into(),
        size: (ramdisk.file.bytes.len() as u64).into(),
        cmdline_paddr: 0.into(),
        reserved: 0.into(),
    });
    let map: Vec<MemmapEntry> = layout
        .firmware_map()
        .iter()
        .map(|range| MemmapEntry {
            addr: range.start.get().into(),
            size: range.bytes.into(),
            kind: (range.kind as u32).into(),
            reserved: 0.into(),
        })
        .collect();
    let info = StartInfo {
        magic: spec::MAGIC.into(),
        version: spec::VERSION.into(),
        flags: 0.into(),
        nr_modules: u32::from(module.is_some()).into(),
        modlist_paddr: module.as_ref().map_or(0, |_| modules.get()).into(),
        cmdline_paddr: COMMAND_LINE.get().into(),
        rsdp_paddr: rsdp.get().into(),
        memmap_paddr: map_at.get().into(),
        memmap_entries: u32::try_from(map.len()).unwrap_or(u32::MAX).into(),
        reserved: 0.into(),
    };
    copy::write(memory, PVH_START_INFO, info.as_bytes())?;
    if let Some(module) = &module {
        copy::write(memory, modules, module.as_bytes())?;
    }
    copy::write(memory, map_at, map.as_bytes())
}
