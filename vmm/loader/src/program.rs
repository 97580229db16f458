//! A kernel as parts with a place in memory each, whatever format its file has.
//!
//! System V ABI, "ELF Header", "Program Header" and "Note Section".

use crate::image::{ELF_MAGIC, has, not_kernel};
use crate::space::Space;
use crate::{Image, LoadError, NotKernel, OtherArchitecture, copy};
use alloc::string::ToString;
use alloc::vec::Vec;
use arch::Gpa;
use elf::ElfBytes;
use elf::abi::{EM_386, EM_X86_64, PT_LOAD};
use elf::endian::LittleEndian;
use elf::note::{Note, NoteIterator};
use elf::segment::ProgramHeader;
use memory::GuestMemory;

/// The most program headers that are looked at. Linkers make a dozen.
const MOST_PROGRAM_HEADERS: usize = 1024;

/// A part of a kernel that was checked against its file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    /// Where it goes.
    pub(crate) start: Gpa,
    /// The first address past it.
    pub(crate) end: u64,
    /// What the file has of it; the rest is zero.
    pub(crate) bytes: &'a [u8],
}

/// A kernel's parts, at least one.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    file: Image<'a>,
    segments: Vec<Segment<'a>>,
}

impl<'a> Program<'a> {
    /// A program of one part: `bytes` at `start`, and zeroes to `end`.
    pub(crate) fn flat(file: Image<'a>, start: Gpa, end: u64, bytes: &'a [u8]) -> Self {
        Self { file, segments: [Segment { start, end, bytes }].into() }
    }

    /// The lowest address.
    pub(crate) fn start(&self) -> Gpa {
        self.segments.iter().map(|segment| segment.start).min().unwrap_or_default()
    }

    /// The first address past all parts.
    pub(crate) fn end(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end).max().unwrap_or_default()
    }

    /// Whether `address` is in one of the parts.
    pub(crate) fn contains(&self, address: u64) -> bool {
        self.segments.iter().any(|segment| (segment.start.get()..segment.end).contains(&address))
    }

    /// The same program with its lowest address at `start`, where it must fit below 4 GiB.
    pub(crate) fn moved_to(mut self, start: Gpa) -> Self {
        let old = self.start().get();
        for segment in &mut self.segments {
            let bytes = segment.end - segment.start.get();
            segment.start = start + (segment.start.get() - old);
            segment.end = segment.start.get() + bytes;
        }
        self
    }

    /// Takes the places of all parts.
    ///
    /// # Errors
    /// [`LoadError`] when one of them is not free RAM.
    pub(crate) fn claim(&self, space: &mut Space) -> Result<(), LoadError> {
        self.segments.iter().try_for_each(|segment| space.claim(self.file, segment.start, segment.end))
    }

    /// Copies all parts to their places.
    pub(crate) fn write(&self, memory: &impl GuestMemory) -> Result<(), LoadError> {
        for segment in &self.segments {
            copy::write(memory, segment.start, segment.bytes)?;
            let loaded = segment.bytes.len() as u64;
            copy::zero(memory, segment.start + loaded, segment.end - segment.start.get() - loaded)?;
        }
        Ok(())
    }
}

/// An ELF file for this machine, of 32 or 64 bits.
pub(crate) struct ElfFile<'a> {
    file: Image<'a>,
    elf: ElfBytes<'a, LittleEndian>,
}

impl<'a> ElfFile<'a> {
    /// Checks `file`'s header; `otherwise` says what is wrong if it has none.
    pub(crate) fn parse(file: Image<'a>, otherwise: NotKernel) -> Result<Self, LoadError> {
        if !has(file.bytes, ELF_MAGIC) {
            return Err(not_kernel(file, otherwise));
        }
        let elf =
            ElfBytes::<LittleEndian>::minimal_parse(file.bytes).map_err(|error| bad_elf(file, &error))?;
        match elf.ehdr.e_machine {
            EM_X86_64 | EM_386 => {}
            machine => {
                return Err(LoadError::WrongArchitecture {
                    file: file.name.into(),
                    found: OtherArchitecture::Elf(machine),
                });
            }
        }
        let headers = elf.segments().map_or(0, |table| table.len());
        if headers > MOST_PROGRAM_HEADERS {
            return Err(bad_field(file, "e_phnum", headers as u64));
        }
        Ok(Self { file, elf })
    }

    fn program_headers(&self) -> impl Iterator<Item = ProgramHeader> + use<'a> {
        self.elf.segments().into_iter().flat_map(|table| table.into_iter())
    }

    fn loadable(&self) -> impl Iterator<Item = ProgramHeader> + use<'a> {
        self.program_headers().filter(|header| header.p_type == PT_LOAD && header.p_memsz > 0)
    }

    /// The loadable segments, each inside the file, at their physical addresses.
    pub(crate) fn program(&self) -> Result<Program<'a>, LoadError> {
        let segments: Vec<Segment<'a>> =
            self.loadable().map(|header| self.segment(&header)).collect::<Result<_, _>>()?;
        if segments.is_empty() {
            return Err(LoadError::NothingToLoad { file: self.file.name.into() });
        }
        Ok(Program { file: self.file, segments })
    }

    fn segment(&self, header: &ProgramHeader) -> Result<Segment<'a>, LoadError> {
        if header.p_filesz > header.p_memsz {
            return Err(bad_field(self.file, "p_filesz", header.p_filesz));
        }
        let start = Gpa::new(header.p_paddr);
        let end = crate::end_of(start, header.p_memsz)
            .ok_or_else(|| bad_field(self.file, "p_paddr", header.p_paddr))?;
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

    /// The physical address of the entry point in the header, which is a virtual one where the kernel is linked to
    /// run at other addresses than it is loaded to.
    pub(crate) fn entry(&self) -> Result<u64, LoadError> {
        let entry = self.elf.ehdr.e_entry;
        let inside = |start: u64, header: &ProgramHeader| {
            entry.checked_sub(start).filter(|offset| *offset < header.p_memsz)
        };
        let by_virtual = self.loadable().find_map(|header| {
            inside(header.p_vaddr, &header).map(|offset| header.p_paddr.wrapping_add(offset))
        });
        let is_physical = || self.loadable().any(|header| inside(header.p_paddr, &header).is_some());
        by_virtual
            .or_else(|| is_physical().then_some(entry))
            .ok_or_else(|| LoadError::EntryOutside { file: self.file.name.into(), entry: Gpa::new(entry) })
    }

    /// The contents of the first note of `name` and `kind`.
    ///
    /// # Errors
    /// [`LoadError::Truncated`] where a note is outside of the file.
    pub(crate) fn note(&self, name: &[u8], kind: u64) -> Result<Option<&'a [u8]>, LoadError> {
        for header in self.program_headers().filter(|header| header.p_type == elf::abi::PT_NOTE) {
            // The notes of interest are 4-byte aligned; the only other alignment in use is 8, for properties.
            let alignment = if header.p_align == 8 { 8 } else { 4 };
            let data = self.data(&header)?;
            for note in NoteIterator::new(LittleEndian, self.elf.ehdr.class, alignment, data) {
                if let Note::Unknown(note) = note
                    && note.n_type == kind
                    // With or without its end mark.
                    && note.name.strip_suffix(b"\0").unwrap_or(note.name) == name
                {
                    return Ok(Some(note.desc));
                }
            }
        }
        Ok(None)
    }
}

fn bad_field(file: Image<'_>, field: &'static str, value: u64) -> LoadError {
    LoadError::BadHeader { file: file.name.into(), field, value }
}

fn bad_elf(file: Image<'_>, error: &elf::ParseError) -> LoadError {
    LoadError::BadElf { file: file.name.into(), detail: error.to_string() }
}
