//! A window of 4 KiB pages whose entries a check may set as it likes: what they show is memory of this module, or a
//! device.
//!
//! Source: SDM Vol. 3A, "4-Level Paging and 5-Level Paging".

use core::arch::asm;
use core::sync::atomic::{
    AtomicU8, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

use super::cpu::Mmio;

/// Where the window is: below the pages that `window` and `provoke` use. The 16-bit segments in `boot` begin here.
const BASE: u64 = 0xbfa0_0000;
const DIRECTORY_ENTRY: usize = 0xbfa0_0000 >> 21;
/// Entry of the page-directory-pointer table above it.
const POINTER_ENTRY: usize = 0xbfa0_0000 >> 30;

/// Bits of entries.
pub(crate) const PRESENT: u64 = 1;
pub(crate) const WRITABLE: u64 = 1 << 1;
pub(crate) const USER: u64 = 1 << 2;
pub(crate) const UNCACHED: u64 = 1 << 4;
pub(crate) const ACCESSED: u64 = 1 << 5;
pub(crate) const DIRTY: u64 = 1 << 6;
pub(crate) const NO_EXECUTE: u64 = 1 << 63;
/// A bit of the address that no CPU has memory for.
pub(crate) const RESERVED: u64 = 1 << 51;
/// The lowest bit of the protection key.
pub(crate) const KEY_SHIFT: u32 = 59;
/// What a check may set in an entry: everything but the address.
const CHOICE: u64 = 0xfff | RESERVED | 0xfff << 52;

/// Pages of memory to show.
pub(crate) const FRAMES: usize = 8;

#[repr(C, align(4096))]
struct Bytes([AtomicU8; 4096]);
#[repr(C, align(4096))]
struct Table([AtomicU64; 512]);

static MEMORY: [Bytes; FRAMES] = [const { Bytes([const { AtomicU8::new(0) }; 4096]) }; FRAMES];
static TABLE: Table = Table([const { AtomicU64::new(0) }; 512]);

unsafe extern "C" {
    static boot_pml4: [AtomicU64; 512];
    static boot_pdpt: [AtomicU64; 512];
    static boot_pd: [AtomicU64; 2048];
}

/// An address in the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place(u64);

impl Place {
    /// The first byte of `page`, below 512.
    pub(crate) const fn page(page: u64) -> Self {
        assert!(page < 512, "inside the window");
        Self(page << 12)
    }

    /// So many bytes behind it, or before it.
    pub(crate) const fn plus(self, bytes: i64) -> Self {
        Self(self.0.wrapping_add_signed(bytes) & 0x1f_ffff)
    }

    /// The linear address.
    pub(crate) const fn address(self) -> u64 {
        BASE + self.0
    }

    /// From the window's begin: what 16-bit code of the window calls it.
    pub(crate) const fn offset(self) -> u64 {
        self.0
    }
}

/// What a page shows.
#[derive(Clone, Copy)]
pub(crate) enum Shown {
    /// Memory, by number below [`FRAMES`].
    Memory(usize),
    /// A device's registers.
    Device(Mmio),
}

/// Has the window in place and each of the first [`FRAMES`] pages show its memory, writable, for ring 0; others are absent.
/// Memory is zero.
pub(crate) fn reset() {
    for bytes in &MEMORY {
        for byte in &bytes.0 {
            byte.store(0, Relaxed);
        }
    }
    for entry in &TABLE.0 {
        entry.store(0, Relaxed);
    }
    for page in 0..FRAMES {
        map(page, Shown::Memory(page), PRESENT | WRITABLE);
    }
    let table = (&raw const TABLE).expose_provenance() as u64;
    set_directory(table, PRESENT | WRITABLE);
    flush_all();
}

fn set_directory(table: u64, flags: u64) {
    // SAFETY: the tables exist for the whole run and are only touched by atomic operations.
    let (top, pointers, directory) = unsafe { (&boot_pml4, &boot_pdpt, &boot_pd) };
    // Ring 3 gets through where the last level lets it: nothing else of the program's is marked for it.
    top[0].fetch_or(USER, SeqCst);
    pointers[POINTER_ENTRY].fetch_or(USER, SeqCst);
    directory[DIRECTORY_ENTRY].store(table | flags | USER, SeqCst);
}

/// Has the directory's entry above the window carry `flags` besides the table's address.
pub(crate) fn map_table(flags: u64) {
    let table = (&raw const TABLE).expose_provenance() as u64;
    // SAFETY: as in `set_directory`.
    let directory = unsafe { &boot_pd };
    directory[DIRECTORY_ENTRY].store(table | flags & CHOICE, SeqCst);
    flush_all();
}

/// The directory's entry above the window, without the address.
pub(crate) fn table_flags() -> u64 {
    // SAFETY: as in `set_directory`.
    let directory = unsafe { &boot_pd };
    directory[DIRECTORY_ENTRY].load(SeqCst) & CHOICE
}

/// Has `page` show something, with these flags.
pub(crate) fn map(page: usize, shown: Shown, flags: u64) {
    let address = match shown {
        Shown::Memory(frame) => (&raw const MEMORY[frame]).expose_provenance() as u64,
        Shown::Device(device) => device.base() as u64,
    };
    TABLE.0[page].store(address | flags & CHOICE, SeqCst);
    flush(Place::page(page as u64));
}

/// The flags that `page`'s entry has by now.
pub(crate) fn flags(page: usize) -> u64 {
    TABLE.0[page].load(SeqCst) & CHOICE
}

/// INVLPG of a page of the window.
pub(crate) fn flush(place: Place) {
    // SAFETY: INVLPG only drops a cached translation.
    unsafe {
        asm!("invlpg [{}]", in(reg) place.address(), options(nostack, preserves_flags));
    }
}

/// Drops all translations that are not global.
fn flush_all() {
    // SAFETY: loads CR3 with what it holds.
    unsafe {
        asm!("mov {t}, cr3", "mov cr3, {t}", t = out(reg) _, options(nostack, preserves_flags));
    }
}

/// Writes to memory `frame` at `offset`, beside the window.
pub(crate) fn poke(frame: usize, offset: usize, bytes: &[u8]) {
    for (cell, byte) in MEMORY[frame].0[offset..].iter().zip(bytes) {
        cell.store(*byte, SeqCst);
    }
}

/// Reads eight bytes of memory `frame` at `offset`, beside the window.
pub(crate) fn peek(frame: usize, offset: usize) -> u64 {
    u64::from_le_bytes(core::array::from_fn(|i| MEMORY[frame].0[offset + i].load(SeqCst)))
}

/// Copies code to `place`, and UD2 behind it. The place must show its own memory.
pub(super) fn write_code(place: Place, begin: u64, end: u64) {
    let [frame, offset] = [place.0 >> 12, place.0 & 0xfff].map(|part| usize::try_from(part).unwrap_or(0));
    for (at, source) in (offset..).zip(begin..end) {
        poke(frame, at, &[super::physical::read_u8(source)]);
    }
    let length = usize::try_from(end - begin).unwrap_or(0);
    poke(frame, offset + length, &[0x0f, 0x0b]);
}
