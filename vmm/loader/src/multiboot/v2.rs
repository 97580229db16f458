//! "Multiboot2 Specification version 2.0": "OS image format", "Boot information format".

use super::{Addresses, Kernel, LOADER_NAME, MultibootProblem, Told, low_half, memory_kib, search, words};
use crate::layout::HIGH_MEMORY;
use crate::program::{ElfFile, Program};
use crate::space::{NoRoom, Space};
use crate::{Image, LoadError, NotKernel};
use alloc::vec::Vec;
use arch::Gpa;

/// What EAX holds at the entry point.
pub(super) const BOOTED: u32 = 0x36d7_6289;
/// The header's first word.
const MAGIC: u32 = 0xe852_50d6;
/// The header is in so many bytes of the file.
const SEARCHED: usize = 32768;
/// Length of the header without its tags.
const FIXED_BYTES: usize = 16;
/// The architecture "32-bit (protected) mode of i386".
const I386: u32 = 0;

/// Tags of the header.
mod tag {
    pub(super) const END: u16 = 0;
    pub(super) const INFORMATION_REQUEST: u16 = 1;
    pub(super) const ADDRESS: u16 = 2;
    pub(super) const ENTRY_ADDRESS: u16 = 3;
    pub(super) const CONSOLE: u16 = 4;
    pub(super) const FRAMEBUFFER: u16 = 5;
    pub(super) const MODULE_ALIGNMENT: u16 = 6;
    pub(super) const EFI_BOOT_SERVICES: u16 = 7;
    pub(super) const EFI_I386_ENTRY: u16 = 8;
    pub(super) const EFI_AMD64_ENTRY: u16 = 9;
    pub(super) const RELOCATABLE: u16 = 10;
}

/// Flag of a header tag: who does not know it may ignore it.
const OPTIONAL: u16 = 1 << 0;
/// Flag in the console tag: one of the consoles must be there.
const CONSOLE_REQUIRED: u32 = 1 << 0;

/// Tags of the boot information.
mod told {
    pub(super) const END: u32 = 0;
    pub(super) const COMMAND_LINE: u32 = 1;
    pub(super) const LOADER_NAME: u32 = 2;
    pub(super) const MODULE: u32 = 3;
    pub(super) const BASIC_MEMORY: u32 = 4;
    pub(super) const MEMORY_MAP: u32 = 6;
    pub(super) const OLD_RSDP: u32 = 14;
    pub(super) const NEW_RSDP: u32 = 15;
    pub(super) const LOAD_BASE: u32 = 21;
    /// All that are given, where there is something to tell.
    pub(super) const ALL: [u32; 9] =
        [END, COMMAND_LINE, LOADER_NAME, MODULE, BASIC_MEMORY, MEMORY_MAP, OLD_RSDP, NEW_RSDP, LOAD_BASE];
}

/// The fixed part of the header.
pub(super) struct Header {
    offset: usize,
    architecture: u32,
    /// With the fixed part, in bytes.
    length: usize,
}

/// What the tags ask for.
#[derive(Default)]
struct Wishes {
    addresses: Option<Addresses>,
    entry: Option<u32>,
    relocatable: Option<Relocatable>,
}

/// Where a kernel can be moved to.
#[derive(Clone, Copy)]
struct Relocatable {
    lowest: u32,
    highest: u32,
    alignment: u32,
    preference: u32,
}

/// [`Relocatable::preference`]: the highest address that can be.
const PREFER_HIGHEST: u32 = 2;

impl Header {
    /// Looks for it.
    pub(super) fn find(bytes: &[u8]) -> Option<Self> {
        let (offset, [_, architecture, length, _]) = search(bytes, MAGIC, SEARCHED, 8)?;
        Some(Self { offset, architecture, length: usize::try_from(length).ok()? })
    }

    /// Looks for it in `file`.
    pub(super) fn read(file: Image<'_>) -> Result<Self, LoadError> {
        let problem = |why| LoadError::Multiboot { file: file.name.into(), why };
        let header = Self::find(file.bytes).ok_or_else(|| {
            crate::image::other_file(file).unwrap_or_else(|| problem(MultibootProblem::NoHeader2))
        })?;
        if header.architecture != I386 {
            return Err(problem(MultibootProblem::Architecture(header.architecture)));
        }
        Ok(header)
    }

    /// The kernel in `file`, its places taken of `space`.
    pub(super) fn kernel<'a>(self, file: Image<'a>, space: &mut Space) -> Result<Kernel<'a>, LoadError> {
        let wishes = self.wishes(file)?;
        let (program, file_entry) = match wishes.addresses {
            Some(addresses) => (addresses.with_load_address(self.offset).program(file, self.offset)?, None),
            None => {
                let elf = ElfFile::parse(file, NotKernel::NoAddresses)?;
                (elf.program()?, Some(elf.entry()))
            }
        };
        let entry = match (wishes.entry, file_entry) {
            (Some(entry), _) => entry.into(),
            (None, Some(entry)) => entry?,
            (None, None) => return Err(bad_header(file, "entry_addr", 0_u32)),
        };
        let Some(relocatable) = wishes.relocatable else {
            program.claim(space)?;
            return Ok(Kernel { program, entry, base: None });
        };
        let linked = program.start().get();
        let base = relocatable.place(file, &program, space)?;
        let entry = entry.wrapping_sub(linked).wrapping_add(base.get());
        Ok(Kernel { program: program.moved_to(base), entry, base: Some(base) })
    }

    /// Reads the tags.
    fn wishes(&self, file: Image<'_>) -> Result<Wishes, LoadError> {
        let truncated = |needs: usize| LoadError::Truncated {
            file: file.name.into(),
            has: file.bytes.len() as u64,
            needs: needs as u64,
        };
        let end = self.offset.saturating_add(self.length);
        let tags = self.offset + FIXED_BYTES..end;
        let mut rest = match file.bytes.get(tags) {
            Some(rest) => rest,
            None if self.length < FIXED_BYTES => {
                return Err(bad_header(file, "header_length", self.length as u64));
            }
            None => return Err(truncated(end)),
        };
        let mut wishes = Wishes::default();
        // Each round takes eight bytes or more.
        while let Some([first, size]) = words(rest, 0) {
            let [kind, flags] = halves(first);
            let bytes = usize::try_from(size).unwrap_or(usize::MAX);
            let content = rest.get(8..bytes).ok_or_else(|| bad_header(file, "tag size", u64::from(size)))?;
            if kind == tag::END {
                return Ok(wishes);
            }
            wishes.read(file, kind, flags, content)?;
            rest = rest.get(bytes.next_multiple_of(8)..).unwrap_or_default();
        }
        Ok(wishes)
    }
}

impl Wishes {
    /// Reads a tag, or finds that it asks for what is not there.
    fn read(&mut self, file: Image<'_>, kind: u16, flags: u16, content: &[u8]) -> Result<(), LoadError> {
        let is_required = flags & OPTIONAL == 0;
        let refuse = |why| Err(LoadError::Multiboot { file: file.name.into(), why });
        let short = || bad_header(file, "tag size", content.len() as u64 + 8);
        match kind {
            tag::INFORMATION_REQUEST => {
                let kinds = content.chunks_exact(4).filter_map(|bytes| words(bytes, 0)).map(|[kind]| kind);
                let mut missing = kinds.filter(|kind| !told::ALL.contains(kind));
                if let Some(kind) = missing.next().filter(|_| is_required) {
                    return refuse(MultibootProblem::Information(kind));
                }
            }
            tag::ADDRESS => {
                let [header, load, load_end, bss_end] = words(content, 0).ok_or_else(short)?;
                self.addresses = Some(Addresses { header, load, load_end, bss_end });
            }
            tag::ENTRY_ADDRESS => {
                let [entry] = words(content, 0).ok_or_else(short)?;
                self.entry = Some(entry);
            }
            tag::CONSOLE => {
                let [console] = words(content, 0).ok_or_else(short)?;
                if is_required && console & CONSOLE_REQUIRED != 0 {
                    return refuse(MultibootProblem::Screen);
                }
            }
            tag::FRAMEBUFFER if is_required => return refuse(MultibootProblem::Screen),
            tag::RELOCATABLE => {
                let [lowest, highest, alignment, preference] = words(content, 0).ok_or_else(short)?;
                if alignment != 0 && !alignment.is_power_of_two() {
                    return Err(bad_header(file, "align", alignment));
                }
                self.relocatable = Some(Relocatable { lowest, highest, alignment, preference });
            }
            // Modules are always aligned, and there is no EFI to be entered by.
            tag::FRAMEBUFFER
            | tag::MODULE_ALIGNMENT
            | tag::EFI_BOOT_SERVICES
            | tag::EFI_I386_ENTRY
            | tag::EFI_AMD64_ENTRY => {}
            unknown if is_required => return refuse(MultibootProblem::Tag(unknown)),
            _ => {}
        }
        Ok(())
    }
}

impl Addresses {
    /// With the load address filled in where the tag leaves it out, as it does to have all of the file loaded.
    fn with_load_address(mut self, header_offset: usize) -> Self {
        if self.load == u32::MAX {
            // A header too low for that is found out later.
            self.load = self.header.saturating_sub(low_half(header_offset as u64));
        }
        self
    }
}

impl Relocatable {
    /// Finds a place for `program`.
    fn place(self, file: Image<'_>, program: &Program<'_>, space: &mut Space) -> Result<Gpa, LoadError> {
        let bytes = program.end() - program.start().get();
        let from = Gpa::new(self.lowest.into()).max(HIGH_MEMORY);
        let limit = u64::from(self.highest).saturating_add(1);
        let alignment = u64::from(self.alignment.max(1));
        let place = if self.preference == PREFER_HIGHEST {
            space.highest(bytes, alignment, from, limit)
        } else {
            space.lowest(bytes, alignment, from, limit)
        };
        place.map_err(|NoRoom(room)| LoadError::Multiboot {
            file: file.name.into(),
            why: MultibootProblem::NoPlace { bytes, lowest: self.lowest, highest: self.highest, room },
        })
    }
}

/// The low and the high half of `word`.
const fn halves(word: u32) -> [u16; 2] {
    let [a, b, c, d] = word.to_le_bytes();
    [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d])]
}

fn bad_header(file: Image<'_>, field: &'static str, value: impl Into<u64>) -> LoadError {
    LoadError::BadHeader { file: file.name.into(), field, value: value.into() }
}

/// Length of the memory map's entries, and their version.
const MAP_ENTRY_BYTES: u32 = 24;
const MAP_ENTRY_VERSION: u32 = 0;
/// Length of the RSDP of ACPI 1.0.
const OLD_RSDP_BYTES: usize = 20;

/// The boot information. Nothing in it depends on its place.
pub(super) fn information(told: &Told<'_>) -> Vec<u8> {
    let mut information = Tags(alloc::vec![0; 8]);
    information.add(told::COMMAND_LINE, &[told.command_line.as_bytes(), &[0]]);
    information.add(told::LOADER_NAME, &[LOADER_NAME]);
    for placed in &told.modules {
        let [start, end] = [placed.start, placed.end()].map(|at| low_half(at.get()).to_le_bytes());
        information.add(told::MODULE, &[&start, &end, placed.module.string.as_bytes(), &[0]]);
    }
    let (lower, upper) = memory_kib(told.layout);
    information.add(told::BASIC_MEMORY, &[&lower.to_le_bytes(), &upper.to_le_bytes()]);
    let mut map = Vec::new();
    for word in [MAP_ENTRY_BYTES, MAP_ENTRY_VERSION] {
        map.extend(word.to_le_bytes());
    }
    for range in told.layout.firmware_map() {
        map.extend(range.start.get().to_le_bytes());
        map.extend(range.bytes.to_le_bytes());
        map.extend(u64::from(range.kind as u32).to_le_bytes());
    }
    information.add(told::MEMORY_MAP, &[&map]);
    information.add(told::OLD_RSDP, &[told.rsdp.get(..OLD_RSDP_BYTES).unwrap_or_default()]);
    information.add(told::NEW_RSDP, &[&told.rsdp]);
    if let Some(base) = told.base {
        information.add(told::LOAD_BASE, &[&low_half(base.get()).to_le_bytes()]);
    }
    information.add(told::END, &[]);
    let Tags(mut bytes) = information;
    let total = low_half(bytes.len() as u64).to_le_bytes();
    if let Some(first) = bytes.first_chunk_mut() {
        *first = total;
    }
    bytes
}

/// Boot information that is written tag by tag.
struct Tags(Vec<u8>);

impl Tags {
    /// Adds a tag whose content is `parts`, one behind the other.
    fn add(&mut self, kind: u32, parts: &[&[u8]]) {
        let content: usize = parts.iter().map(|part| part.len()).sum();
        self.0.extend(kind.to_le_bytes());
        self.0.extend(low_half(content as u64 + 8).to_le_bytes());
        for part in parts {
            self.0.extend(*part);
        }
        self.0.resize(self.0.len().next_multiple_of(8), 0);
    }
}
