//! Decoded instructions of one virtual processor, so that a driver's hot access is decoded once.
//!
//! An entry is used only after the bytes in memory were fetched again and found the same, or after all that the fetch
//! depends on was: so code that changes is always noticed.

use crate::context::CodeSize;
use crate::fetch::LeadingBytes;
use crate::instruction::Instruction;
use crate::plain::Plain;
use crate::witness::Witness;
use crate::{Cpu, MAX_INSTRUCTION_LENGTH};
use memory::GuestMemory;

/// How many instructions are kept; a power of two.
const ENTRIES: usize = 16;

/// What decoding depended on, and what came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    rip: u64,
    code_size: CodeSize,
    /// As many as the instruction has count.
    pub(crate) bytes: [u8; MAX_INSTRUCTION_LENGTH],
    /// What the fetch depended on, in 64-bit mode.
    pub(crate) witness: Option<Witness>,
    /// The instruction as a plain move, in 64-bit mode.
    pub(crate) plain: Option<Plain>,
    pub(crate) instruction: Instruction,
}

/// A direct-mapped cache.
#[derive(Clone, Debug, Default)]
pub(crate) struct DecodeCache {
    entries: [Option<Entry>; ENTRIES],
}

impl DecodeCache {
    /// The instruction at `rip`, if nothing that its fetch depended on has changed.
    #[inline]
    pub(crate) fn recall<C: Cpu, M: GuestMemory + ?Sized>(
        &mut self,
        cpu: &C,
        memory: &M,
        rip: u64,
    ) -> Option<&Entry> {
        let entry = self.entries.get_mut(slot(rip))?.as_mut()?;
        if entry.rip != rip {
            return None;
        }
        entry.witness.as_mut()?.holds(cpu, memory).then_some(entry)
    }

    /// Whether something was decoded at `rip` before, so that it is worth fetching its bytes for [`Self::find`].
    #[inline]
    pub(crate) fn may_have(&self, rip: u64) -> bool {
        self.entries.get(slot(rip)).is_some_and(|entry| entry.as_ref().is_some_and(|entry| entry.rip == rip))
    }

    /// The instruction that `bytes`, just fetched at `rip`, begin with.
    #[inline]
    pub(crate) fn find(&mut self, rip: u64, code_size: CodeSize, bytes: LeadingBytes) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(slot(rip))?.as_mut()?;
        let length = entry.instruction.length;
        let same = entry.rip == rip
            && entry.code_size == code_size
            && u64::from(length) <= LeadingBytes::LENGTH
            && LeadingBytes::of(&entry.bytes).begin_alike(bytes, length);
        same.then_some(entry)
    }

    /// Keeps `instruction`, decoded from `bytes` at `rip`, in place of whatever had its slot.
    pub(crate) fn keep(
        &mut self,
        rip: u64,
        code_size: CodeSize,
        bytes: [u8; MAX_INSTRUCTION_LENGTH],
        witness: Option<Witness>,
        instruction: Instruction,
    ) {
        // One that is longer than the bytes that can be compared is found by its witness alone.
        if witness.is_none() && u64::from(instruction.length) > LeadingBytes::LENGTH {
            return;
        }
        let plain = match code_size {
            CodeSize::Bits64 => Plain::of(&instruction),
            CodeSize::Bits16 | CodeSize::Bits32 => None,
        };
        if let Some(slot) = self.entries.get_mut(slot(rip)) {
            *slot = Some(Entry { rip, code_size, bytes, witness, plain, instruction });
        }
    }
}

/// Neighbouring instructions get different slots.
#[inline]
fn slot(rip: u64) -> usize {
    usize::from((rip ^ (rip >> 4)).to_le_bytes()[0]) % ENTRIES
}
