//! Device memory that remembers what is written to it, like RAM: a guest that accesses it has its instructions emulated,
//! and can compare what comes out with the same instructions on RAM. Ours; there is no datasheet.
//!
//! Only machines with test devices have it. Accesses of every width and alignment are those of memory;
//! what reaches past the end reads all ones and is not written.

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use arch::Width;
use arch::platform_layout::SCRATCH_BYTES;
use core::fmt;

#[expect(clippy::cast_possible_truncation, reason = "a few pages")]
const BYTES: usize = SCRATCH_BYTES as usize;

/// The contents.
#[derive(Clone, PartialEq, Eq)]
pub struct ScratchState {
    bytes: Box<[u8]>,
}

impl fmt::Debug for ScratchState {
    /// Says where the first bytes are that are not zero: all would drown whatever else is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.bytes.iter().position(|byte| *byte != 0);
        f.debug_struct("ScratchState").field("first", &first).finish_non_exhaustive()
    }
}

/// The device.
#[derive(Debug)]
pub struct Scratch {
    state: ScratchState,
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    /// The device, all zero.
    pub fn new() -> Self {
        Self { state: ScratchState { bytes: alloc::vec![0; BYTES].into_boxed_slice() } }
    }

    /// Reads `width` at `offset` from the device's first byte.
    pub fn read(&self, offset: u64, width: Width) -> u64 {
        let mut value = [0xff; 8];
        for (byte, place) in value.iter_mut().zip(self.state.bytes.iter().skip(index(offset))) {
            *byte = *place;
        }
        u64::from_le_bytes(value) & width.mask()
    }

    /// Writes `width` at `offset` from the device's first byte.
    pub fn write(&mut self, offset: u64, width: Width, value: u64) {
        let places = self.state.bytes.iter_mut().skip(index(offset)).take(usize::from(width as u8));
        for (place, byte) in places.zip(value.to_le_bytes()) {
            *place = byte;
        }
    }

    /// As after power-on.
    pub fn reset(&mut self) {
        self.state.bytes.fill(0);
    }

    /// The state, to be restored later.
    pub fn save(&self) -> ScratchState {
        self.state.clone()
    }

    /// Becomes what [`Self::save`] saw.
    pub fn restore(&mut self, state: &ScratchState) {
        self.state = state.clone();
    }
}

/// `offset` as an index; one past the end where it does not fit.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(BYTES)
}
