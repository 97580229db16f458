//! Layouts of the PVH boot protocol.
//!
//! Xen, "x86/HVM direct boot ABI", and its header `arch-x86/hvm/start_info.h`; names are the header's.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{Immutable, IntoBytes, Unaligned};

/// `hvm_start_info`, version 1.
#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct StartInfo {
    pub(crate) magic: U32,
    pub(crate) version: U32,
    pub(crate) flags: U32,
    pub(crate) nr_modules: U32,
    pub(crate) modlist_paddr: U64,
    pub(crate) cmdline_paddr: U64,
    pub(crate) rsdp_paddr: U64,
    pub(crate) memmap_paddr: U64,
    pub(crate) memmap_entries: U32,
    pub(crate) reserved: U32,
}

const _: () = assert!(size_of::<StartInfo>() == 56);

/// `hvm_modlist_entry`.
#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct ModlistEntry {
    pub(crate) paddr: U64,
    pub(crate) size: U64,
    pub(crate) cmdline_paddr: U64,
    pub(crate) reserved: U64,
}

const _: () = assert!(size_of::<ModlistEntry>() == 32);

/// `hvm_memmap_table_entry`.
#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct MemmapEntry {
    pub(crate) addr: U64,
    pub(crate) size: U64,
    pub(crate) kind: U32,
    pub(crate) reserved: U32,
}

const _: () = assert!(size_of::<MemmapEntry>() == 24);

/// `XEN_HVM_START_MAGIC_VALUE`: "xEn3" with the top bit of the first byte set.
pub(crate) const MAGIC: u32 = 0x336e_c578;
/// The version with a memory map.
pub(crate) const VERSION: u32 = 1;
/// `XEN_ELFNOTE_PHYS32_ENTRY`: the note with the entry point.
pub(crate) const PHYS32_ENTRY: u64 = 18;
/// The name of Xen's notes.
pub(crate) const NOTE_NAME: &[u8] = b"Xen";
/// The longest command line that is passed on, in bytes; Linux takes as much on x86.
pub(crate) const COMMAND_LINE_MOST: u64 = 2047;
