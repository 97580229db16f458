//! The memory of a video adapter: a block that the guest may also have mapped, and writes at any time.

use alloc::sync::Arc;
use core::fmt;
use memory::Block;

/// What is cleared at once, in bytes.
const ZEROES: [u8; 4096] = [0; 4096];

/// A video adapter's memory, shared with whoever maps it into the guest. Addresses beyond its end start again at 0.
#[derive(Clone)]
pub struct VideoMemory {
    block: Arc<dyn Block + Send + Sync>,
    /// The size is a power of two.
    mask: u64,
}

impl fmt::Debug for VideoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VideoMemory").field("bytes", &self.size()).finish_non_exhaustive()
    }
}

impl VideoMemory {
    /// `block` as video memory; its size is a power of two, at least 256 KiB.
    pub fn new(block: Arc<dyn Block + Send + Sync>) -> Self {
        let size = block.size();
        debug_assert!(size.is_power_of_two() && size >= 256 * 1024, "{size:#x}");
        Self { block, mask: size.saturating_sub(1) }
    }

    /// Its size in bytes.
    pub const fn size(&self) -> u64 {
        self.mask + 1
    }

    pub(super) fn byte(&self, at: u64) -> u8 {
        let mut byte = [0];
        self.block.copy_out(at & self.mask, &mut byte);
        byte[0]
    }

    pub(super) fn set_byte(&self, at: u64, value: u8) {
        self.block.copy_in(at & self.mask, &[value]);
    }

    /// The 32-bit word number `index`.
    pub(super) fn word(&self, index: u64) -> u32 {
        let mut bytes = [0; 4];
        self.block.copy_out((index << 2) & self.mask, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    pub(super) fn set_word(&self, index: u64, value: u32) {
        self.block.copy_in((index << 2) & self.mask, &value.to_le_bytes());
    }

    /// Copies out what begins at `at`.
    pub(super) fn copy_out(&self, at: u64, into: &mut [u8]) {
        let mut at = at & self.mask;
        let mut rest = into;
        while !rest.is_empty() {
            let room = usize::try_from(self.size() - at).unwrap_or(usize::MAX).min(rest.len());
            let (piece, behind) = rest.split_at_mut(room);
            self.block.copy_out(at, piece);
            rest = behind;
            at = 0;
        }
    }

    /// Clears the first `bytes`, at most all.
    pub(super) fn clear(&self, bytes: u64) {
        let end = bytes.min(self.size());
        let mut at = 0;
        while at < end {
            let piece = usize::try_from(end - at).unwrap_or(usize::MAX).min(ZEROES.len());
            self.block.copy_in(at, &ZEROES[..piece]);
            at += piece as u64;
        }
    }
}
