//! Memory that the chipset shows and hides while the guest runs: firmware's read-only memory, and the RAM beneath it
//! below 1 MiB. Intel 3 Series Express Chipset Family datasheet, "PAM0 to PAM6", for what can be switched there.
//!
//! A [`Window`] is a fixed range of addresses; what is behind it is one of a few [`Shown`]. RAM lies beneath a window at
//! the window's own addresses, read-only memory at the addresses that the window names, so that one piece of it can be
//! seen in two places. What a window shows is one atomic byte: whoever copies in or out while it changes sees the old
//! or the new, as on the bus.

use crate::map::{Block, MapError, MemoryMap};
use crate::{GuestMemory, NotArranged, OutsideRam};
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::{Gpa, PAGE_SIZE};
use core::sync::atomic::{AtomicU8, Ordering};

/// How many windows a machine has at most.
pub const MOST_WINDOWS: usize = 16;

/// What is behind a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Shown {
    /// Devices alone: each access is theirs.
    #[default]
    Devices = 0,
    /// Reads and fetches find the read-only memory, where the window has some; writes are the devices'.
    Rom = 1,
    /// The same, but writes reach the RAM beneath.
    RomOverRam = 2,
    /// Reads and fetches find RAM; writes are the devices'.
    RamReadOnly = 3,
    /// RAM.
    Ram = 4,
}

impl Shown {
    const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Rom,
            2 => Self::RomOverRam,
            3 => Self::RamReadOnly,
            4 => Self::Ram,
            _ => Self::Devices,
        }
    }
}

/// How many windows to video memory there are at most.
pub const VIDEO_WINDOWS: usize = 2;

/// A range of addresses at which video memory is seen, where the guest has put it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VideoWindow {
    /// The first address, a multiple of 4 KiB.
    pub base: Gpa,
    /// The length in bytes, a multiple of 4 KiB.
    pub bytes: u64,
    /// Where in the video memory it begins, a multiple of 4 KiB. All of it is there.
    pub offset: u64,
}

/// What all windows show, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arrangement {
    /// Counts changes: of two arrangements the one with the higher number is the newer. 0 is the one that the windows
    /// were made with.
    pub generation: u64,
    /// What each window shows.
    pub shown: [Shown; MOST_WINDOWS],
    /// Where video memory is seen. The device finds the same at these addresses: that a window is not there makes
    /// accesses slow, and nothing else.
    pub video: [Option<VideoWindow>; VIDEO_WINDOWS],
}

/// A range of addresses behind which memory is switched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// The first address, a multiple of 4 KiB.
    pub base: Gpa,
    /// The length in bytes, a multiple of 4 KiB.
    pub bytes: u64,
    /// Where the read-only memory behind it begins, by that memory's own addresses.
    pub rom: Option<Gpa>,
    /// What it shows at first.
    pub shown: Shown,
}

/// The memory that reads and fetches in a window find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The RAM beneath.
    Ram {
        /// Where it begins.
        at: Gpa,
        /// Whether writes find it too.
        writable: bool,
    },
    /// The read-only memory.
    Rom {
        /// Where it begins, by its own addresses.
        at: Gpa,
    },
}

impl Window {
    /// What reads and fetches find while it shows `shown`, if that is memory.
    pub const fn source(&self, shown: Shown) -> Option<Source> {
        match (shown, self.rom) {
            (Shown::Devices, _) | (Shown::Rom | Shown::RomOverRam, None) => None,
            (Shown::Rom | Shown::RomOverRam, Some(at)) => Some(Source::Rom { at }),
            (Shown::RamReadOnly, _) => Some(Source::Ram { at: self.base, writable: false }),
            (Shown::Ram, _) => Some(Source::Ram { at: self.base, writable: true }),
        }
    }
}

#[derive(Debug)]
struct Place {
    window: Window,
    shown: AtomicU8,
}

/// Windows, and the memory behind them.
#[derive(Debug)]
pub struct Switched<B> {
    ram: MemoryMap<B>,
    rom: MemoryMap<B>,
    places: Vec<Place>,
}

impl<B: Block> Default for Switched<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Block> Switched<B> {
    /// Without any window or memory.
    pub const fn new() -> Self {
        Self { ram: MemoryMap::new(), rom: MemoryMap::new(), places: Vec::new() }
    }

    /// Adds `block` as RAM beneath windows.
    ///
    /// # Errors
    /// [`MapError`] when the extent is empty, wraps, or overlaps another block of RAM.
    pub fn add_ram(&mut self, base: Gpa, block: B) -> Result<(), MapError> {
        self.ram.add(base, block)
    }

    /// Adds `block` as read-only memory, `base` being its own address.
    ///
    /// # Errors
    /// [`MapError`] when the extent is empty, wraps, or overlaps another block of read-only memory.
    pub fn add_rom(&mut self, base: Gpa, block: B) -> Result<(), MapError> {
        self.rom.add(base, block)
    }

    /// Adds a window behind those that are there. Windows come in order of address.
    ///
    /// # Errors
    /// [`MapError`] when its extent is empty, wraps, is not made of pages, or begins before the last window's end.
    pub fn add_window(&mut self, window: Window) -> Result<(), MapError> {
        let pages = window.base.is_aligned(PAGE_SIZE) && window.bytes.is_multiple_of(PAGE_SIZE);
        let end = window.base.checked_add(window.bytes);
        if !pages || window.bytes == 0 || end.is_none() || self.places.len() == MOST_WINDOWS {
            return Err(MapError::BadExtent);
        }
        if let Some(last) = self.places.last()
            && window.base < last.window.base + last.window.bytes
        {
            return Err(MapError::Overlaps(last.window.base));
        }
        self.places.push(Place { window, shown: AtomicU8::new(window.shown as u8) });
        Ok(())
    }

    /// The windows with what they show, in order.
    pub fn windows(&self) -> impl Iterator<Item = (&Window, Shown)> {
        self.places.iter().map(|place| (&place.window, Shown::from_byte(place.shown.load(Ordering::Relaxed))))
    }

    /// Has window number `index` show `shown`.
    pub fn show(&self, index: usize, shown: Shown) {
        if let Some(place) = self.places.get(index) {
            place.shown.store(shown as u8, Ordering::Relaxed);
        }
    }

    /// All of the memory behind windows, in bytes.
    pub fn size(&self) -> u64 {
        self.ram.size() + self.rom.size()
    }

    /// Calls `visit` with each block's piece of the memory that `source` names, as far as `bytes` reach: how far from the
    /// beginning it is, its block, the offset in that, and its length.
    ///
    /// # Errors
    /// [`OutsideRam`] when a part of it is not there.
    pub fn for_each_piece(
        &self,
        source: Source,
        bytes: u64,
        visit: impl FnMut(u64, &B, u64, u64),
    ) -> Result<(), OutsideRam> {
        match source {
            Source::Ram { at, .. } => self.ram.visit(at, bytes, visit),
            Source::Rom { at } => self.rom.visit(at, bytes, visit),
        }
    }

    /// The window that holds `gpa`, and what it shows.
    fn find(&self, gpa: Gpa) -> Option<(&Window, Shown)> {
        let index = self.places.partition_point(|place| place.window.base <= gpa).checked_sub(1)?;
        let Place { window, shown } = self.places.get(index)?;
        (gpa - window.base < window.bytes).then(|| (window, Shown::from_byte(shown.load(Ordering::Relaxed))))
    }

    /// Copies out what is shown at `gpa`; the copy lies on one page.
    fn read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), OutsideRam> {
        let outside = OutsideRam { gpa, length: into.len() as u64 };
        let (window, shown) = self.find(gpa).ok_or(outside)?;
        match window.source(shown).ok_or(outside)? {
            Source::Ram { .. } => self.ram.read(gpa, into),
            Source::Rom { at } => self.rom.read(at + (gpa - window.base), into).map_err(|_| outside),
        }
    }

    /// Copies in where writes find RAM at `gpa`; the copy lies on one page.
    fn write(&self, gpa: Gpa, from: &[u8]) -> Result<(), OutsideRam> {
        let outside = OutsideRam { gpa, length: from.len() as u64 };
        match self.find(gpa).ok_or(outside)?.1 {
            Shown::Ram | Shown::RomOverRam => self.ram.write(gpa, from),
            Shown::Devices | Shown::Rom | Shown::RamReadOnly => Err(outside),
        }
    }

    /// The RAM at `gpa`, if that is all that is shown there.
    fn plain_ram(&self, gpa: Gpa, length: u64) -> Result<&MemoryMap<B>, OutsideRam> {
        match self.find(gpa) {
            Some((_, Shown::Ram)) => Ok(&self.ram),
            Some((_, Shown::Devices | Shown::Rom | Shown::RomOverRam | Shown::RamReadOnly)) | None => {
                Err(OutsideRam { gpa, length })
            }
        }
    }
}

/// Memory with read-only parts that have addresses of their own.
pub trait HasRom {
    /// The read-only memory.
    type Rom: GuestMemory;

    /// The read-only memory by its own addresses, written by those who fill it and by models of flash memory.
    fn rom(&self) -> &Self::Rom;
}

/// The read-only memory of a guest's, by its own addresses.
#[derive(Debug)]
pub struct RomOf<M>(pub Arc<M>);

impl<M: HasRom> GuestMemory for RomOf<M> {
    fn read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), OutsideRam> {
        self.0.rom().read(gpa, into)
    }

    fn write(&self, gpa: Gpa, from: &[u8]) -> Result<(), OutsideRam> {
        self.0.rom().write(gpa, from)
    }

    fn swap_u8(&self, gpa: Gpa, value: u8) -> Result<u8, OutsideRam> {
        self.0.rom().swap_u8(gpa, value)
    }

    fn compare_exchange_u32(&self, gpa: Gpa, current: u32, new: u32) -> Result<bool, OutsideRam> {
        self.0.rom().compare_exchange_u32(gpa, current, new)
    }

    fn compare_exchange_u64(&self, gpa: Gpa, current: u64, new: u64) -> Result<bool, OutsideRam> {
        self.0.rom().compare_exchange_u64(gpa, current, new)
    }
}

impl<B: Block> HasRom for GuestMap<B> {
    type Rom = MemoryMap<B>;

    fn rom(&self) -> &MemoryMap<B> {
        &self.switched.rom
    }
}

/// All of a guest's memory: RAM that is always where it is, and what is behind windows.
#[derive(Debug)]
pub struct GuestMap<B> {
    /// RAM that is always there.
    pub ram: MemoryMap<B>,
    /// What is behind windows.
    pub switched: Switched<B>,
}

impl<B: Block> Default for GuestMap<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Block> GuestMap<B> {
    /// Without memory.
    pub const fn new() -> Self {
        Self { ram: MemoryMap::new(), switched: Switched::new() }
    }

    #[cold]
    fn read_anywhere(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), OutsideRam> {
        let outside = OutsideRam { gpa, length: into.len() as u64 };
        for_each_page(gpa, into.len(), |at, range| {
            let piece = into.get_mut(range).ok_or(outside)?;
            self.ram.read(at, piece).or_else(|_| self.switched.read(at, piece)).map_err(|_| outside)
        })
    }

    #[cold]
    fn write_anywhere(&self, gpa: Gpa, from: &[u8]) -> Result<(), OutsideRam> {
        let outside = OutsideRam { gpa, length: from.len() as u64 };
        for_each_page(gpa, from.len(), |at, range| {
            let piece = from.get(range).ok_or(outside)?;
            self.ram.write(at, piece).or_else(|_| self.switched.write(at, piece)).map_err(|_| outside)
        })
    }

    #[cold]
    fn word_anywhere(&self, gpa: Gpa) -> Result<u64, OutsideRam> {
        let mut bytes = [0; 8];
        self.read_anywhere(gpa, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    #[cold]
    fn holds_anywhere(&self, words: &[crate::ExpectedWord]) -> bool {
        words.iter().all(|expected| {
            expected.gpa.is_aligned(8)
                && self.word_anywhere(expected.gpa).is_ok_and(|word| expected.is_met_by(word))
        })
    }
}

/// Calls `copy` with the pages' parts of `length` bytes at `gpa`: where each is, and its range of the buffer.
fn for_each_page(
    gpa: Gpa,
    length: usize,
    mut copy: impl FnMut(Gpa, core::ops::Range<usize>) -> Result<(), OutsideRam>,
) -> Result<(), OutsideRam> {
    let mut done = 0;
    while done < length {
        let at = gpa.checked_add(done as u64).ok_or(OutsideRam { gpa, length: length as u64 })?;
        let rest = usize::try_from(PAGE_SIZE - at.get() % PAGE_SIZE).unwrap_or(1);
        let piece = rest.min(length - done);
        copy(at, done..done + piece)?;
        done += piece;
    }
    Ok(())
}

impl<B: Block> GuestMemory for GuestMap<B> {
    #[inline]
    fn read_u32(&self, gpa: Gpa) -> Result<u32, OutsideRam> {
        match self.ram.read_u32(gpa) {
            Ok(word) => Ok(word),
            Err(_) => {
                let mut bytes = [0; 4];
                self.read_anywhere(gpa, &mut bytes)?;
                Ok(u32::from_le_bytes(bytes))
            }
        }
    }

    #[inline]
    fn read_u64(&self, gpa: Gpa) -> Result<u64, OutsideRam> {
        match self.ram.read_u64(gpa) {
            Ok(word) => Ok(word),
            Err(_) => self.word_anywhere(gpa),
        }
    }

    #[inline]
    fn holds(&self, words: &[crate::ExpectedWord]) -> bool {
        self.ram.holds(words) || (!self.switched.places.is_empty() && self.holds_anywhere(words))
    }

    // There are no tables here, and nobody who would have found anything older.
    fn arrange(&self, arrangement: &Arrangement) -> Result<(), NotArranged> {
        for (index, shown) in arrangement.shown.into_iter().enumerate() {
            self.switched.show(index, shown);
        }
        Ok(())
    }

    fn read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), OutsideRam> {
        self.ram.read(gpa, into).or_else(|_| self.read_anywhere(gpa, into))
    }

    fn write(&self, gpa: Gpa, from: &[u8]) -> Result<(), OutsideRam> {
        self.ram.write(gpa, from).or_else(|_| self.write_anywhere(gpa, from))
    }

    #[inline]
    fn swap_u8(&self, gpa: Gpa, value: u8) -> Result<u8, OutsideRam> {
        self.ram.swap_u8(gpa, value).or_else(|_| self.switched.plain_ram(gpa, 1)?.swap_u8(gpa, value))
    }

    fn compare_exchange_u32(&self, gpa: Gpa, current: u32, new: u32) -> Result<bool, OutsideRam> {
        self.ram
            .compare_exchange_u32(gpa, current, new)
            .or_else(|_| self.switched.plain_ram(gpa, 4)?.compare_exchange_u32(gpa, current, new))
    }

    fn compare_exchange_u64(&self, gpa: Gpa, current: u64, new: u64) -> Result<bool, OutsideRam> {
        self.ram
            .compare_exchange_u64(gpa, current, new)
            .or_else(|_| self.switched.plain_ram(gpa, 8)?.compare_exchange_u64(gpa, current, new))
    }
}

#[cfg(test)]
mod tests;
