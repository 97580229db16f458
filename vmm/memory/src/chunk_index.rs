//! A shortcut from an address to its region: one entry for each 2 MiB of address space.
//!
//! A walk of page tables reads guest memory many times, so a lookup must cost a few instructions however many
//! regions there are. The index is a hint: what it says is checked against the region, and what it does not know
//! is searched.

use alloc::vec::Vec;
use arch::{GIB, Gpa};

/// log2 of the bytes that one entry stands for.
const CHUNK_SHIFT: u32 = 21;
/// How many chunks have an entry: 64 GiB of address space. RAM beyond is searched.
const MAX_CHUNKS: u64 = (64 * GIB) >> CHUNK_SHIFT;

/// For each chunk the position in the list of a region that has bytes in it.
#[derive(Debug)]
pub(crate) struct ChunkIndex {
    positions: Vec<u16>,
}

impl ChunkIndex {
    /// A chunk without RAM, or one whose region has too high a position.
    const NONE: u16 = u16::MAX;

    pub(crate) const fn new() -> Self {
        Self { positions: Vec::new() }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.positions.clear();
    }

    /// Records the region of `size` bytes at `base`, which stands at `position`. Of several regions in one chunk,
    /// the last recorded stays.
    pub(crate) fn record(&mut self, position: usize, base: Gpa, size: u64) {
        let position = u16::try_from(position).unwrap_or(Self::NONE);
        let first = base.get() >> CHUNK_SHIFT;
        let end = ((base + (size - 1)).get() >> CHUNK_SHIFT).saturating_add(1).min(MAX_CHUNKS);
        let (Ok(first), Ok(end)) = (usize::try_from(first), usize::try_from(end)) else {
            return;
        };
        if self.positions.len() < end {
            self.positions.resize(end, Self::NONE);
        }
        if let Some(entries) = self.positions.get_mut(first..end) {
            entries.fill(position);
        }
    }

    /// The position of a region that may hold `gpa`; one past any list if none is known.
    #[inline]
    pub(crate) fn position(&self, gpa: Gpa) -> usize {
        let chunk = usize::try_from(gpa.get() >> CHUNK_SHIFT).unwrap_or(usize::MAX);
        usize::from(self.positions.get(chunk).copied().unwrap_or(Self::NONE))
    }
}
