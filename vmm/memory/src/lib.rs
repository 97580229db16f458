//! Guest-physical memory: what a guest's RAM is to the code that copies in and out of it.
//!
//! No slice into guest RAM ever exists. A guest may change its memory under us at any time, so every value is
//! copied out once and then judged.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

extern crate alloc;

mod chunk_index;
mod map;
mod switched;
mod vec_block;

pub use map::{Block, MapError, MemoryMap, Region};
pub use switched::{
    Arrangement, GuestMap, HasRom, MOST_WINDOWS, RomOf, Shown, Source, Switched, VIDEO_WINDOWS, VideoWindow,
    Window,
};
pub use vec_block::VecBlock;

use arch::Gpa;

/// Windows could not be changed: the host has no memory for the tables that it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotArranged;

/// An access outside of the guest's RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutsideRam {
    /// Where the access began, guest-physical.
    pub gpa: Gpa,
    /// Its length in bytes.
    pub length: u64,
}

/// What an aligned 64-bit word of guest memory is expected to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExpectedWord {
    /// Where the word is: a multiple of eight.
    pub gpa: Gpa,
    /// What it holds, little-endian, in the bits of `mask`; the others are clear.
    pub value: u64,
    /// The bits that matter.
    pub mask: u64,
}

impl ExpectedWord {
    /// Whether `word` is as expected.
    #[inline]
    pub const fn is_met_by(&self, word: u64) -> bool {
        (word ^ self.value) & self.mask == 0
    }
}

/// Typed copies in and out of guest-physical memory.
///
/// An access may cross regions that touch; one that leaves RAM fails whole or after a partial copy, never
/// with a panic.
pub trait GuestMemory {
    /// Copies guest memory at `gpa` into `into`.
    ///
    /// # Errors
    /// [`OutsideRam`] when any byte is not RAM.
    fn read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), OutsideRam>;

    /// Copies `from` to guest memory at `gpa`.
    ///
    /// # Errors
    /// [`OutsideRam`] when any byte is not RAM.
    fn write(&self, gpa: Gpa, from: &[u8]) -> Result<(), OutsideRam>;

    /// Puts `value` into the byte at `gpa` and returns what was there, in one atomic step: no write of a running
    /// guest falls between the two.
    ///
    /// # Errors
    /// [`OutsideRam`] when the byte is not RAM.
    fn swap_u8(&self, gpa: Gpa, value: u8) -> Result<u8, OutsideRam>;

    /// Puts `new` into the little-endian 32-bit word at `gpa` if `current` is there, in one atomic step, and returns
    /// whether it was.
    ///
    /// # Errors
    /// [`OutsideRam`] when the word is not RAM, or is not aligned.
    fn compare_exchange_u32(&self, gpa: Gpa, current: u32, new: u32) -> Result<bool, OutsideRam>;

    /// [`Self::compare_exchange_u32`] with a 64-bit word.
    ///
    /// # Errors
    /// [`OutsideRam`] when the word is not RAM, or is not aligned.
    fn compare_exchange_u64(&self, gpa: Gpa, current: u64, new: u64) -> Result<bool, OutsideRam>;

    /// Reads a little-endian 32-bit word.
    ///
    /// # Errors
    /// [`OutsideRam`] when any byte is not RAM.
    fn read_u32(&self, gpa: Gpa) -> Result<u32, OutsideRam> {
        let mut bytes = [0; 4];
        self.read(gpa, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads a little-endian 64-bit word.
    ///
    /// # Errors
    /// [`OutsideRam`] when any byte is not RAM.
    fn read_u64(&self, gpa: Gpa) -> Result<u64, OutsideRam> {
        let mut bytes = [0; 8];
        self.read(gpa, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Has the windows of the memory show what `arrangement` says, unless they show something newer. When this returns, no
    /// processor finds anything older behind them.
    ///
    /// The caller must hold no lock that another processor may wait for in an exit.
    ///
    /// # Errors
    /// [`NotArranged`]: what the windows show is undefined then.
    fn arrange(&self, _arrangement: &Arrangement) -> Result<(), NotArranged> {
        Ok(())
    }

    /// Whether all of `words` hold what is expected of them. They are read in order, each of them once; one that is not
    /// RAM, or not aligned, holds nothing.
    fn holds(&self, words: &[ExpectedWord]) -> bool {
        words.iter().all(|expected| {
            expected.gpa.is_aligned(8)
                && self.read_u64(expected.gpa).is_ok_and(|word| expected.is_met_by(word))
        })
    }

    /// Writes a little-endian 32-bit word.
    ///
    /// # Errors
    /// [`OutsideRam`] when any byte is not RAM.
    fn write_u32(&self, gpa: Gpa, value: u32) -> Result<(), OutsideRam> {
        self.write(gpa, &value.to_le_bytes())
    }

    /// Writes a little-endian 64-bit word.
    ///
    /// # Errors
    /// [`OutsideRam`] when any byte is not RAM.
    fn write_u64(&self, gpa: Gpa, value: u64) -> Result<(), OutsideRam> {
        self.write(gpa, &value.to_le_bytes())
    }
}

impl<T: GuestMemory + ?Sized> GuestMemory for alloc::sync::Arc<T> {
    fn read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), OutsideRam> {
        (**self).read(gpa, into)
    }

    fn write(&self, gpa: Gpa, from: &[u8]) -> Result<(), OutsideRam> {
        (**self).write(gpa, from)
    }

    fn swap_u8(&self, gpa: Gpa, value: u8) -> Result<u8, OutsideRam> {
        (**self).swap_u8(gpa, value)
    }

    fn compare_exchange_u32(&self, gpa: Gpa, current: u32, new: u32) -> Result<bool, OutsideRam> {
        (**self).compare_exchange_u32(gpa, current, new)
    }

    fn compare_exchange_u64(&self, gpa: Gpa, current: u64, new: u64) -> Result<bool, OutsideRam> {
        (**self).compare_exchange_u64(gpa, current, new)
    }

    #[inline]
    fn read_u32(&self, gpa: Gpa) -> Result<u32, OutsideRam> {
        (**self).read_u32(gpa)
    }

    #[inline]
    fn read_u64(&self, gpa: Gpa) -> Result<u64, OutsideRam> {
        (**self).read_u64(gpa)
    }

    fn arrange(&self, arrangement: &Arrangement) -> Result<(), NotArranged> {
        (**self).arrange(arrangement)
    }

    #[inline]
    fn holds(&self, words: &[ExpectedWord]) -> bool {
        (**self).holds(words)
    }
}
