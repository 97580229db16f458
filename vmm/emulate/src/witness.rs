//! What the fetch of an instruction in 64-bit mode depended on.
//!
//! No exit tells when a guest invalidates a translation, so none can be kept. What can be kept is what a walk went by:
//! the registers that have a say, the page-table entries, and the bytes at its end. While they are the same, walking,
//! fetching and decoding anew would give the same instruction and set no flag, and looking takes a fraction of the time.

use crate::context::{Context, Mode};
use crate::walk::{LONG_ROOT, MAX_DEPTH};
use crate::{Access, Cpu, MAX_INSTRUCTION_LENGTH};
use arch::{Gpa, Gva, PAGE_SIZE, SegmentRegister};
use memory::{ExpectedWord, GuestMemory};

/// The most aligned words that an instruction lies in.
const CODE_WORDS: usize = 3;

/// The registers besides CR3 that decide over mode, privilege and translation of a fetch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Registers {
    paging: [u64; 3],
    code_rights: u32,
    stack_rights: u32,
}

impl Registers {
    #[inline]
    fn of(cpu: &impl Cpu) -> Self {
        Self {
            paging: cpu.paging_registers(),
            code_rights: cpu.access_rights(SegmentRegister::Cs),
            stack_rights: cpu.access_rights(SegmentRegister::Ss),
        }
    }

    /// Whether they are the same. Without a branch for each: mostly all of them are.
    #[inline]
    fn are(&self, others: &Self) -> bool {
        let [cr0, cr4, efer] = self.paging;
        let [other_cr0, other_cr4, other_efer] = others.paging;
        let rights = (self.code_rights ^ others.code_rights) | (self.stack_rights ^ others.stack_rights);
        (cr0 ^ other_cr0) | (cr4 ^ other_cr4) | (efer ^ other_efer) | u64::from(rights) == 0
    }
}

/// What a fetch depended on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Witness {
    registers: Registers,
    /// The page-table entries from the root on, then the code. Of the first, CR3 gives the page: processes have their
    /// own root, but the kernel's entries in all of them.
    words: [ExpectedWord; MAX_DEPTH + CODE_WORDS],
    used: usize,
}

impl Witness {
    /// What the fetch of the instruction at `rip`, the first `length` of `bytes`, depends on; `None` if it lies on two
    /// pages, cannot be fetched as things are now, or is not in 64-bit mode.
    pub(crate) fn of<C: Cpu, M: GuestMemory + ?Sized>(
        cpu: &C,
        memory: &M,
        context: &Context,
        rip: u64,
        bytes: &[u8; MAX_INSTRUCTION_LENGTH],
        length: u8,
    ) -> Option<Self> {
        let fits = rip % PAGE_SIZE + u64::from(length) <= PAGE_SIZE;
        if context.mode != Mode::Long || !fits {
            return None;
        }
        let (path, gpa) = context.paging.path(memory, Gva::new(rip), Access::Execute, context.privilege())?;
        // Without paging there is no root, and no 64-bit mode either; a caller may still say so.
        path.steps().next()?;
        let nothing = ExpectedWord { gpa: Gpa::new(0), value: 0, mask: 0 };
        let mut words = [nothing; MAX_DEPTH + CODE_WORDS];
        let tables = path.steps().map(|(gpa, value)| ExpectedWord { gpa, value, mask: u64::MAX });
        let mut used = 0;
        for (place, word) in words.iter_mut().zip(tables.chain(code(gpa, bytes, length))) {
            *place = word;
            used += 1;
        }
        Some(Self { registers: Registers::of(cpu), words, used })
    }

    /// Whether a fetch would find the same now.
    #[inline]
    pub(crate) fn holds<C: Cpu, M: GuestMemory + ?Sized>(&mut self, cpu: &C, memory: &M) -> bool {
        if !self.registers.are(&Registers::of(cpu)) {
            return false;
        }
        if let Some(root) = self.words.first_mut() {
            root.gpa = Gpa::new((cpu.cr3() & LONG_ROOT) | (root.gpa.get() % PAGE_SIZE));
        }
        memory.holds(self.words.get(..self.used).unwrap_or_default())
    }
}

/// The aligned words that the first `length` of `bytes` make at `gpa`.
fn code(gpa: Gpa, bytes: &[u8; MAX_INSTRUCTION_LENGTH], length: u8) -> impl Iterator<Item = ExpectedWord> {
    let before = gpa.get() % 8;
    let at = move |index: u64| -> Option<u8> {
        let index = index.checked_sub(before).filter(|index| *index < u64::from(length))?;
        bytes.get(usize::try_from(index).ok()?).copied()
    };
    let words = (before + u64::from(length)).div_ceil(8);
    (0..words).map(move |word| {
        let expected = core::array::from_fn(|byte| at(word * 8 + byte as u64));
        ExpectedWord {
            gpa: gpa.align_down(8) + word * 8,
            value: u64::from_le_bytes(expected.map(Option::unwrap_or_default)),
            mask: u64::from_le_bytes(expected.map(|byte| if byte.is_some() { u8::MAX } else { 0 })),
        }
    })
}
