//! Decoded instructions of one virtual processor, so that a driver's hot access is decoded once.
//!
//! An entry is used only after the bytes in memory were fetched again and found the same, so code that changes
//! is always noticed.

use crate::context::CodeSize;
use crate::fetch::LeadingBytes;
use crate::instruction::Instruction;

/// How many instructions are kept; a power of two.
const ENTRIES: usize = 16;

/// What decoding depended on, and what came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    rip: u64,
    code_size: CodeSize,
    bytes: LeadingBytes,
    instruction: Instruction,
}

/// A direct-mapped cache.
#[derive(Clone, Debug, Default)]
pub(crate) struct DecodeCache {
    entries: [Option<Entry>; ENTRIES],
}

impl DecodeCache {
    /// Whether something was decoded at `rip` before, so that it is worth fetching its bytes for [`Self::find`].
    #[inline]
    pub(crate) fn may_have(&self, rip: u64) -> bool {
        self.entries.get(slot(rip)).is_some_and(|entry| entry.as_ref().is_some_and(|entry| entry.rip == rip))
    }

    /// The instruction that `bytes`, just fetched at `rip`, begin with.
    #[inline]
    pub(crate) fn find(&self, rip: u64, code_size: CodeSize, bytes: LeadingBytes) -> Option<&Instruction> {
        let entry = self.entries.get(slot(rip))?.as_ref()?;
        let same = entry.rip == rip
            && entry.code_size == code_size
            && entry.bytes.begin_alike(bytes, entry.instruction.length);
        same.then_some(&entry.instruction)
    }

    /// Keeps `instruction`, decoded from `bytes` at `rip`, in place of whatever had its slot. One that is longer
    /// than the bytes that can be compared is not kept.
    pub(crate) fn keep(
        &mut self,
        rip: u64,
        code_size: CodeSize,
        bytes: LeadingBytes,
        instruction: Instruction,
    ) {
        if u64::from(instruction.length) > LeadingBytes::LENGTH {
            return;
        }
        if let Some(slot) = self.entries.get_mut(slot(rip)) {
            *slot = Some(Entry { rip, code_size, bytes, instruction });
        }
    }
}

/// Neighbouring instructions get different slots.
#[inline]
fn slot(rip: u64) -> usize {
    usize::from((rip ^ (rip >> 4)).to_le_bytes()[0]) % ENTRIES
}
