//! Loads an ELF kernel and starts it by the PVH protocol: 32-bit protected mode, paging off.
//!
//! Xen, "x86/HVM direct boot ABI"; System V ABI, "Program Header" and "Note Section".

mod spec;
#[cfg(test)]
mod tests;

use crate::layout::{COMMAND_LINE, HIGH_MEMORY, MemoryLayout, PVH_INFORMATION_ROOM, PVH_START_INFO};
use crate::payload::{CommandLine, Ramdisk};
use crate::program::ElfFile;
use crate::space::Space;
use crate::{EntryState, Image, LoadError, NotKernel, VmDescription, copy};
use alloc::vec::Vec;
use arch::{Gpa, Gpr};
use memory::GuestMemory;
use spec::{MemmapEntry, ModlistEntry, StartInfo};
use zerocopy::IntoBytes;

/// Loads the ELF file that `vm` names; `rsdp` is where the ACPI tables begin.
pub(crate) fn load(
    memory: &impl GuestMemory,
    vm: &VmDescription<'_>,
    layout: &MemoryLayout,
    rsdp: Gpa,
) -> Result<EntryState, LoadError> {
    let elf = ElfFile::parse(vm.kernel, NotKernel::NotElf)?;
    let program = elf.program()?;
    if program.start() < HIGH_MEMORY {
        let file = vm.kernel.name.into();
        return Err(LoadError::KernelTooLow { file, start: program.start(), lowest: HIGH_MEMORY });
    }
    let mut space = Space::new(layout);
    program.claim(&mut space)?;
    let entry = note(&elf)?.ok_or_else(|| LoadError::NoPvhEntry { file: vm.kernel.name.into() })?;
    if !program.contains(entry.get()) {
        return Err(LoadError::EntryOutside { file: vm.kernel.name.into(), entry });
    }
    let command_line = CommandLine::new(vm.cmdline, spec::COMMAND_LINE_MOST)?;
    let ramdisk = match vm.initramfs {
        Some(file) => Some(Ramdisk::place(file, program.end(), u64::MAX, layout)?),
        None => None,
    };
    if let Some(ramdisk) = &ramdisk {
        space.claim(ramdisk.file, ramdisk.start, ramdisk.start.get() + ramdisk.file.bytes.len() as u64)?;
    }
    let mut modules: Vec<Placed<'_>> = ramdisk
        .iter()
        .map(|ramdisk| Placed { file: ramdisk.file, start: ramdisk.start, string: None })
        .collect();
    for module in vm.modules {
        module.check()?;
        let start = space.module(module.file, Gpa::new(program.end()))?;
        modules.push(Placed { file: module.file, start, string: Some(module.string) });
    }
    let information = information(&modules, layout, rsdp)?;

    program.write(memory)?;
    command_line.write(memory)?;
    for module in &modules {
        copy::write(memory, module.start, module.file.bytes)?;
    }
    copy::write(memory, PVH_START_INFO, &information)?;
    Ok(EntryState::protected_mode(entry.get()).with(Gpr::Rbx, PVH_START_INFO.get()))
}

/// The entry point in the PVH note of `file`, if there is one.
pub(crate) fn entry_note(file: Image<'_>) -> Result<Option<Gpa>, LoadError> {
    note(&ElfFile::parse(file, NotKernel::NotElf)?)
}

fn note(elf: &ElfFile<'_>) -> Result<Option<Gpa>, LoadError> {
    // Linux emits 4 or 8 bytes; the entry point is a 32-bit address by definition.
    let entry = elf.note(spec::NOTE_NAME, spec::PHYS32_ENTRY)?.and_then(|bytes| bytes.first_chunk::<4>());
    Ok(entry.map(|low| Gpa::new(u64::from(u32::from_le_bytes(*low)))))
}

/// A file with its place in memory.
struct Placed<'a> {
    file: Image<'a>,
    start: Gpa,
    string: Option<&'a str>,
}

/// The start info, and after it the memory map, the module list and the modules' texts.
fn information(modules: &[Placed<'_>], layout: &MemoryLayout, rsdp: Gpa) -> Result<Vec<u8>, LoadError> {
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
    let map_at = PVH_START_INFO + size_of::<StartInfo>() as u64;
    let list_at = map_at + map.as_bytes().len() as u64;
    let mut string_at = list_at + (modules.len() * size_of::<ModlistEntry>()) as u64;
    let mut list = Vec::with_capacity(modules.len());
    let mut strings = Vec::new();
    for module in modules {
        let cmdline_paddr = module.string.map_or(0, |_| string_at.get());
        if let Some(string) = module.string {
            strings.extend(string.as_bytes());
            strings.push(0);
            string_at = string_at + (string.len() as u64 + 1);
        }
        list.push(ModlistEntry {
            paddr: module.start.get().into(),
            size: (module.file.bytes.len() as u64).into(),
            cmdline_paddr: cmdline_paddr.into(),
            reserved: 0.into(),
        });
    }
    let info = StartInfo {
        magic: spec::MAGIC.into(),
        version: spec::VERSION.into(),
        flags: 0.into(),
        nr_modules: count(list.len()).into(),
        modlist_paddr: if list.is_empty() { 0 } else { list_at.get() }.into(),
        cmdline_paddr: COMMAND_LINE.get().into(),
        rsdp_paddr: rsdp.get().into(),
        memmap_paddr: map_at.get().into(),
        memmap_entries: count(map.len()).into(),
        reserved: 0.into(),
    };
    let bytes = [info.as_bytes(), map.as_bytes(), list.as_bytes(), &strings].concat();
    match bytes.len() as u64 {
        bytes if bytes > PVH_INFORMATION_ROOM => {
            Err(LoadError::NoRoomForBootInformation { bytes, room: PVH_INFORMATION_ROOM })
        }
        _ => Ok(bytes),
    }
}

fn count(entries: usize) -> u32 {
    u32::try_from(entries).unwrap_or(u32::MAX)
}
