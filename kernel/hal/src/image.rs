//! The kernel's own image: where its segments are, and its symbols for backtraces.

use arch::Hpa;
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::section::SectionHeaderTable;
use elf::string_table::StringTable;
use elf::symbol::SymbolTable;
use spin::Once;

use crate::memory::direct_map;

/// What a segment of the image may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rights {
    /// Read and execute.
    Execute,
    /// Read.
    Read,
    /// Read and write.
    Write,
}

/// A page-aligned stretch of the image with one kind of access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// What it is for.
    pub rights: Rights,
}

mod bounds {
    // SAFETY: the linker script (kernel/link.ld) defines these; only their addresses are taken.
    unsafe extern "C" {
        pub(super) static __text_start: u8;
        pub(super) static __text_end: u8;
        pub(super) static __rodata_start: u8;
        pub(super) static __rodata_end: u8;
        pub(super) static __data_start: u8;
        pub(super) static __data_end: u8;
        pub(super) static __fixups_start: [u64; 2];
        pub(super) static __fixups_end: [u64; 2];
    }
}

/// The image's segments, as the linker script lays them out.
pub fn segments() -> [Segment; 3] {
    let segment = |start: *const u8, end: *const u8, rights| Segment {
        start: start.addr() as u64,
        end: end.addr() as u64,
        rights,
    };
    [
        segment(&raw const bounds::__text_start, &raw const bounds::__text_end, Rights::Execute),
        segment(&raw const bounds::__rodata_start, &raw const bounds::__rodata_end, Rights::Read),
        segment(&raw const bounds::__data_start, &raw const bounds::__data_end, Rights::Write),
    ]
}

/// Where to go on after a fault at `rip`, when the instruction there was expected to fault.
pub(crate) fn fixup(rip: u64) -> Option<u64> {
    let start = &raw const bounds::__fixups_start;
    let end = &raw const bounds::__fixups_end;
    let count = (end.addr() - start.addr()) / size_of::<[u64; 2]>();
    // SAFETY: the linker script places the pairs between the two symbols, aligned to 8 bytes, in read-only memory.
    let pairs = unsafe { core::slice::from_raw_parts(start, count) };
    pairs.iter().find(|[fault, _]| *fault == rip).map(|[_, resume]| *resume)
}

static SYMBOLS: Once<Symbols> = Once::new();

/// The image's symbol table.
struct Symbols {
    table: SymbolTable<'static, LittleEndian>,
    names: StringTable<'static>,
}

/// Finds the symbols in the loader's copy of the ELF file at `hpa`, `length` bytes long. Without effect when
/// the file has none.
///
/// # Safety
/// The copy must be intact, but for the pages that are the image's writable data, and stay.
pub(crate) unsafe fn keep_symbols(hpa: Hpa, length: u64) {
    let part = |offset: u64, size: u64| -> Option<&'static [u8]> {
        if offset.checked_add(size)? > length {
            return None;
        }
        // SAFETY: inside the file's copy. Headers, symbols and names are in no segment of the image, and nobody
        // writes them.
        Some(unsafe {
            core::slice::from_raw_parts(direct_map::pointer(hpa + offset), usize::try_from(size).ok()?)
        })
    };
    let find = || -> Option<Symbols> {
        let ident = elf::file::parse_ident::<LittleEndian>(part(0, 16)?).ok()?;
        let header = elf::file::FileHeader::parse_tail(ident, part(16, 48)?).ok()?;
        let table_bytes = u64::from(header.e_shentsize) * u64::from(header.e_shnum);
        let sections =
            SectionHeaderTable::new(LittleEndian, Class::ELF64, part(header.e_shoff, table_bytes)?);
        let symbols = sections.iter().find(|section| section.sh_type == elf::abi::SHT_SYMTAB)?;
        let names = sections.get(usize::try_from(symbols.sh_link).ok()?).ok()?;
        Some(Symbols {
            table: SymbolTable::new(LittleEndian, Class::ELF64, part(symbols.sh_offset, symbols.sh_size)?),
            names: StringTable::new(part(names.sh_offset, names.sh_size)?),
        })
    };
    if let Some(symbols) = find() {
        SYMBOLS.call_once(|| symbols);
    }
}

/// The function that holds `address` and the distance from its start, in bytes. The name is mangled.
pub fn symbol(address: u64) -> Option<(&'static str, u64)> {
    let text = segments()[0];
    if !(text.start..text.end).contains(&address) {
        return None;
    }
    let symbols = SYMBOLS.get()?;
    let nearest = symbols
        .table
        .iter()
        .filter(|symbol| symbol.st_symtype() == elf::abi::STT_FUNC && symbol.st_value <= address)
        .max_by_key(|symbol| symbol.st_value)?;
    let name = symbols.names.get(usize::try_from(nearest.st_name).ok()?).ok()?;
    Some((name, address - nearest.st_value))
}

/// Whether `address` is in the image's code.
pub fn is_code(address: u64) -> bool {
    let text = segments()[0];
    (text.start..text.end).contains(&address)
}
