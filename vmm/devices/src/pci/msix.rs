//! Message-signalled interrupts from a table in device memory. PCI Local Bus Specification 3.0, "MSI-X Capability and
//! Table Structures".
//!
//! A message that cannot go waits in the pending bits, while its vector or the function is masked and while the
//! function may not write to memory. One whose address is not the local APICs' is lost.
//!
//! Table and pending bits take accesses of any size; those of 4 and 8 bytes are the ones that the specification
//! defines. Pending bits ignore writes.

use super::bar::Bar;
use super::config_space::ConfigSpace;
use super::spec::{BUS_MASTER, CAPABILITY_MSIX, COMMAND};
use crate::lanes::{read_words, write_words};
use alloc::vec::Vec;
use arch::Width;
use bus::InterruptMessage;

const ENABLE: u32 = 1 << 31;
const FUNCTION_MASK: u32 = 1 << 30;

/// Bytes of an entry of the table.
const ENTRY_BYTES: u64 = 16;
/// Entry control: the vector is masked.
const MASKED: u32 = 1 << 0;
/// Entries of the largest table.
const MOST_VECTORS: u16 = 2048;

/// Where a function has its table and its pending bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsixLayout {
    /// Vectors, 1 to 2048.
    pub vectors: u16,
    /// The base address register that both are in.
    pub bar: u8,
    /// Offset of the table in it, a multiple of 8.
    pub table: u32,
    /// Offset of the pending bits in it, a multiple of 8.
    pub pending: u32,
}

/// Address low and high, data, control.
type Entry = [u32; 4];
const RESET: Entry = [0, 0, 0, MASKED];

/// Everything about the capability that a snapshot needs beside configuration space.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MsixState {
    entries: Vec<Entry>,
    /// A bit for each vector, lowest first.
    pending: Vec<u32>,
}

/// The capability of one function.
#[derive(Debug)]
pub(crate) struct Msix {
    offset: u16,
    layout: MsixLayout,
    state: MsixState,
}

impl Msix {
    /// Adds the capability to `space`.
    pub(crate) fn define(space: &mut ConfigSpace, layout: MsixLayout) -> Self {
        let vectors = layout.vectors.clamp(1, MOST_VECTORS);
        let layout = MsixLayout { vectors, ..layout };
        let bar = u32::from(layout.bar);
        let offset = space.add_capability(
            CAPABILITY_MSIX,
            &[
                (u32::from(vectors - 1) << 16, ENABLE | FUNCTION_MASK),
                (layout.table & !7 | bar, 0),
                (layout.pending & !7 | bar, 0),
            ],
        );
        let state = MsixState {
            entries: alloc::vec![RESET; usize::from(vectors)],
            pending: alloc::vec![0; usize::from(vectors.div_ceil(32))],
        };
        Self { offset, layout, state }
    }

    /// Whether table and pending bits lie in `bar` and outside of each other.
    pub(crate) fn fits(&self, bar: Bar) -> bool {
        let (table, pending) = (self.table(), self.pending());
        bar.index == self.layout.bar
            && table.end.max(pending.end) <= bar.bytes
            && (table.end <= pending.start || pending.end <= table.start)
    }

    pub(crate) fn is_enabled(&self, space: &ConfigSpace) -> bool {
        space.get(self.offset) & ENABLE != 0
    }

    /// Reads `width` at `offset` of base address register `bar`, `None` if table and pending bits are elsewhere.
    pub(crate) fn read(&self, bar: u8, offset: u64, width: Width) -> Option<u64> {
        let within = self.within(bar, offset, width)?;
        Some(match within {
            Place::Table(offset) => read_words(offset, width, |offset| {
                self.state.entries.get(entry_index(offset)).map_or(0, |entry| entry[word_index(offset)])
            }),
            Place::Pending(offset) => read_words(offset, width, |offset| {
                usize::try_from(offset / 4)
                    .ok()
                    .and_then(|word| self.state.pending.get(word))
                    .copied()
                    .unwrap_or(0)
            }),
        })
    }

    /// Writes `width` at `offset` of base address register `bar`. Returns whether that is for table or pending bits.
    pub(crate) fn write(&mut self, bar: u8, offset: u64, width: Width, value: u64) -> bool {
        match self.within(bar, offset, width) {
            Some(Place::Table(offset)) => write_words(offset, width, value, |offset, value, mask| {
                if let Some(entry) = self.state.entries.get_mut(entry_index(offset)) {
                    let word = &mut entry[word_index(offset)];
                    let mask = mask & writable(word_index(offset));
                    *word = (*word & !mask) | (value & mask);
                }
            }),
            Some(Place::Pending(_)) => {}
            None => return false,
        }
        true
    }

    /// To be called when configuration space was written: disabled, nothing stays pending.
    pub(crate) fn written(&mut self, space: &ConfigSpace) {
        if !self.is_enabled(space) {
            self.state.pending.fill(0);
        }
    }

    /// The function sends its message number `index`. There is none past the end of the table.
    pub(crate) fn send(&mut self, space: &ConfigSpace, index: u16) {
        if self.is_enabled(space) && index < self.layout.vectors {
            self.state.pending[usize::from(index / 32)] |= 1 << (index % 32);
        }
    }

    /// Whether a message can go.
    pub(crate) fn is_ready(&self, space: &ConfigSpace) -> bool {
        self.next(space).is_some()
    }

    /// Takes a message that can go, of the lowest vector first.
    pub(crate) fn take(&mut self, space: &ConfigSpace) -> Option<InterruptMessage> {
        while let Some(vector) = self.next(space) {
            self.state.pending[vector / 32] &= !(1 << (vector % 32));
            let [low, high, data, _] = self.state.entries[vector];
            let message = InterruptMessage::from_msi(u64::from(low) | u64::from(high) << 32, data);
            if message.is_some() {
                return message;
            }
        }
        None
    }

    pub(crate) fn reset(&mut self) {
        self.state.entries.fill(RESET);
        self.state.pending.fill(0);
    }

    pub(crate) fn save(&self) -> MsixState {
        self.state.clone()
    }

    pub(crate) fn restore(&mut self, state: &MsixState) {
        for (entry, saved) in self.state.entries.iter_mut().zip(&state.entries) {
            *entry = *saved;
        }
        for (word, saved) in self.state.pending.iter_mut().zip(&state.pending) {
            *word = *saved;
        }
    }

    /// The lowest vector that is pending and not masked, if messages may be sent at all.
    fn next(&self, space: &ConfigSpace) -> Option<usize> {
        let control = space.get(self.offset);
        if control & ENABLE == 0 || control & FUNCTION_MASK != 0 || space.get(COMMAND) & BUS_MASTER == 0 {
            return None;
        }
        for (word, &pending) in self.state.pending.iter().enumerate() {
            let mut pending = pending;
            while pending != 0 {
                let vector = word * 32 + pending.trailing_zeros() as usize;
                if self.state.entries.get(vector).is_some_and(|entry| entry[3] & MASKED == 0) {
                    return Some(vector);
                }
                pending &= pending - 1;
            }
        }
        None
    }

    /// Table or pending bits, and the offset in them.
    fn within(&self, bar: u8, offset: u64, width: Width) -> Option<Place> {
        if bar != self.layout.bar {
            return None;
        }
        let inside = |range: core::ops::Range<u64>| {
            (range.contains(&offset) && range.end - offset >= width.bytes()).then(|| offset - range.start)
        };
        inside(self.table()).map(Place::Table).or_else(|| inside(self.pending()).map(Place::Pending))
    }

    fn table(&self) -> core::ops::Range<u64> {
        let start = u64::from(self.layout.table & !7);
        start..start + u64::from(self.layout.vectors) * ENTRY_BYTES
    }

    fn pending(&self) -> core::ops::Range<u64> {
        let start = u64::from(self.layout.pending & !7);
        // In units of 8 bytes.
        start..start + u64::from(self.layout.vectors.div_ceil(64)) * 8
    }
}

/// What an offset in the base address register is in, and where.
enum Place {
    Table(u64),
    Pending(u64),
}

/// The bits of an entry's word that are kept.
const fn writable(word: usize) -> u32 {
    match word {
        0 => !3,
        3 => MASKED,
        _ => u32::MAX,
    }
}

fn entry_index(offset: u64) -> usize {
    usize::try_from(offset / ENTRY_BYTES).unwrap_or(usize::MAX)
}

/// Of four.
fn word_index(offset: u64) -> usize {
    usize::try_from(offset / 4 % 4).unwrap_or(0)
}
