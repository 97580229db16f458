//! Decoded instructions of one virtual processor, so that a driver's hot access is decoded once.
//!
//! An entry is used only after the bytes in memory were fetched again and found the same, so code that changes
//! is always noticed.

use crate::MAX_INSTRUCTION_LENGTH;
use crate::context::CodeSize;
use crate::instruction::Instruction;

/// How many instructions are kept; a power of two.
const ENTRIES: usize = 16;

/// What decoding depended on, and what came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    rip: u64,
    code_size: CodeSize,
    bytes: [u8; MAX_INSTRUCTION_LENGTH],
    instruction: Instruction,
}

impl Entry {
    pub(crate) const fn new(
        rip: u64,
        code_size: CodeSize,
        bytes: [u8; MAX_INSTRUCTION_LENGTH],
        instruction: Instruction,
    ) -> Self {
        Self { rip, code_size, bytes, instruction }
    }

    /// The instruction's length in bytes.
    #[inline]
    pub(crate) fn length(&self) -> usize {
        usize::from(self.instruction.length)
    }

    /// The instruction, if `bytes` begins with the bytes that it was decoded from.
    #[inline]
    pub(crate) fn verified(&self, bytes: &[u8; MAX_INSTRUCTION_LENGTH]) -> Option<&Instruction> {
        let same = self.bytes.iter().zip(bytes).take(self.length()).all(|(kept, now)| kept == now);
        same.then_some(&self.instruction)
    }
}

/// A direct-mapped cache.
#[derive(Clone, Debug, Default)]
pub(crate) struct DecodeCache {
    entries: [Option<Entry>; ENTRIES],
}

impl DecodeCache {
    /// What was decoded at `rip` before, yet to be verified.
    #[inline]
    pub(crate) fn find(&self, rip: u64, code_size: CodeSize) -> Option<&Entry> {
        let entry = self.entries.get(slot(rip))?.as_ref()?;
        (entry.rip == rip && entry.code_size == code_size).then_some(entry)
    }

    /// Keeps `entry` in place of whatever had its slot.
    pub(crate) fn keep(&mut self, entry: Entry) {
        if let Some(slot) = self.entries.get_mut(slot(entry.rip)) {
            *slot = Some(entry);
        }
    }
}

/// Neighbouring instructions get different slots.
#[inline]
fn slot(rip: u64) -> usize {
    usize::from((rip ^ (rip >> 4)).to_le_bytes()[0]) % ENTRIES
}
