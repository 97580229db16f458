//! "Multiboot Specification version 0.6.96": "OS image format", "Machine state", "Boot information format".

use super::{Addresses, Kernel, LOADER_NAME, MultibootProblem, Told, low_half, memory_kib, search, words};
use crate::program::ElfFile;
use crate::space::Space;
use crate::{Image, LoadError, NotKernel};
use alloc::vec::Vec;
use arch::Gpa;

/// What EAX holds at the entry point.
pub(super) const BOOTED: u32 = 0x2bad_b002;
/// The header's first word.
const MAGIC: u32 = 0x1bad_b002;
/// The header is in so many bytes of the file.
const SEARCHED: usize = 8192;
/// Header flags: modules on page boundaries, memory information. Both are given to everyone.
const ALIGN_MODULES: u32 = 1 << 0;
const MEMORY_INFORMATION: u32 = 1 << 1;
/// Header flag: a video mode.
const VIDEO: u32 = 1 << 2;
/// The header flags that must be understood.
const REQUIRED: u32 = 0xffff;
/// Header flag: the header has addresses, which count, whatever format the file has.
const HAS_ADDRESSES: u32 = 1 << 16;

/// The header, as far as it was looked for.
pub(super) struct Header {
    offset: usize,
    flags: u32,
}

impl Header {
    /// Looks for it.
    pub(super) fn find(bytes: &[u8]) -> Option<Self> {
        let (offset, [_, flags, _]) = search(bytes, MAGIC, SEARCHED, 4)?;
        Some(Self { offset, flags })
    }

    /// Looks for it in `file` and checks that it asks for nothing that is not there.
    pub(super) fn read(file: Image<'_>) -> Result<Self, LoadError> {
        let problem = |why| LoadError::Multiboot { file: file.name.into(), why };
        let header = Self::find(file.bytes).ok_or_else(|| {
            crate::image::other_file(file).unwrap_or_else(|| problem(MultibootProblem::NoHeader1))
        })?;
        if header.flags & VIDEO != 0 {
            return Err(problem(MultibootProblem::Screen));
        }
        let unknown = header.flags & REQUIRED & !(ALIGN_MODULES | MEMORY_INFORMATION);
        if unknown != 0 {
            return Err(problem(MultibootProblem::Flags(unknown)));
        }
        Ok(header)
    }

    /// The kernel in `file`, its places taken of `space`.
    pub(super) fn kernel<'a>(self, file: Image<'a>, space: &mut Space) -> Result<Kernel<'a>, LoadError> {
        let (program, entry) = if self.flags & HAS_ADDRESSES == 0 {
            let elf = ElfFile::parse(file, NotKernel::NoAddresses)?;
            (elf.program()?, elf.entry()?)
        } else {
            let words = words(file.bytes, self.offset).ok_or_else(|| LoadError::Truncated {
                file: file.name.into(),
                has: file.bytes.len() as u64,
                needs: self.offset as u64 + 32,
            })?;
            let [_, _, _, header, load, load_end, bss_end, entry] = words;
            let addresses = Addresses { header, load, load_end, bss_end };
            (addresses.program(file, self.offset)?, entry.into())
        };
        program.claim(space)?;
        Ok(Kernel { program, entry, base: None })
    }
}

/// Length of the information structure with all its fields, those of the video included.
const INFORMATION_BYTES: usize = 120;
/// Its flags: memory sizes, command line, modules, memory map, the loader's name.
const TOLD: u32 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9;
/// A memory map entry's length without the field that says it.
const MAP_ENTRY_BYTES: u32 = 20;

/// The information structure at `at` with all that it points to behind it.
pub(super) fn information(told: &Told<'_>, at: Gpa) -> Vec<u8> {
    let mut bytes = alloc::vec![0; INFORMATION_BYTES];
    // Where the next byte comes to lie.
    let here = |bytes: &Vec<u8>| low_half(at.get() + bytes.len() as u64);

    let modules_at = here(&bytes);
    let mut string_at = modules_at + low_half(told.modules.len() as u64 * 16);
    for placed in &told.modules {
        for word in [low_half(placed.start.get()), low_half(placed.end().get()), string_at, 0] {
            bytes.extend(word.to_le_bytes());
        }
        string_at += low_half(placed.module.string.len() as u64 + 1);
    }
    for placed in &told.modules {
        bytes.extend(placed.module.string.as_bytes());
        bytes.push(0);
    }
    let command_line_at = here(&bytes);
    bytes.extend(told.command_line.as_bytes());
    bytes.push(0);
    let name_at = here(&bytes);
    bytes.extend(LOADER_NAME);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let map_at = here(&bytes);
    for range in told.layout.firmware_map() {
        bytes.extend(MAP_ENTRY_BYTES.to_le_bytes());
        bytes.extend(range.start.get().to_le_bytes());
        bytes.extend(range.bytes.to_le_bytes());
        bytes.extend((range.kind as u32).to_le_bytes());
    }
    let map_bytes = here(&bytes) - map_at;

    let (lower, upper) = memory_kib(told.layout);
    let modules = low_half(told.modules.len() as u64);
    for (offset, word) in [
        (0, TOLD),
        (4, lower),
        (8, upper),
        (16, command_line_at),
        (20, modules),
        (24, modules_at),
        (44, map_bytes),
        (48, map_at),
        (64, name_at),
    ] {
        if let Some(place) = bytes.get_mut(offset..offset + 4) {
            place.copy_from_slice(&u32::to_le_bytes(word));
        }
    }
    bytes
}
