//! Page-table entries and the path of them that a walk follows.

use arch::Gpa;
use memory::GuestMemory;

/// A page-table entry of any level. Entries of 32-bit paging have the upper half clear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry(pub(super) u64);

impl Entry {
    pub(super) const PRESENT: u64 = 1 << 0;
    pub(super) const WRITABLE: u64 = 1 << 1;
    pub(super) const USER: u64 = 1 << 2;
    pub(super) const ACCESSED: u64 = 1 << 5;
    pub(super) const DIRTY: u64 = 1 << 6;
    /// PS: the entry maps a page although it is not of the lowest level.
    pub(super) const LARGE: u64 = 1 << 7;
    pub(super) const NO_EXECUTE: u64 = 1 << 63;

    /// The 64-bit entry at `at`.
    #[inline]
    pub(super) fn read<M: GuestMemory + ?Sized>(memory: &M, at: Gpa) -> Self {
        Self(memory.read_u64(at).unwrap_or(u64::MAX))
    }

    /// The 32-bit entry at `at`.
    pub(super) fn read_narrow<M: GuestMemory + ?Sized>(memory: &M, at: Gpa) -> Self {
        Self(u64::from(memory.read_u32(at).unwrap_or(u32::MAX)))
    }

    #[inline]
    pub(super) const fn is_present(self) -> bool {
        self.0 & Self::PRESENT != 0
    }

    #[inline]
    pub(super) const fn is_large(self) -> bool {
        self.0 & Self::LARGE != 0
    }

    #[inline]
    pub(super) const fn is_dirty(self) -> bool {
        self.0 & Self::DIRTY != 0
    }

    /// The address in a 64-bit entry: bits 51:12.
    #[inline]
    pub(super) const fn frame(self) -> Gpa {
        Gpa::new(self.0 & 0x000f_ffff_ffff_f000)
    }

    /// The protection key of a leaf entry, 0 to 15.
    #[inline]
    pub(super) const fn protection_key(self) -> u64 {
        (self.0 >> 59) & 0xf
    }
}

/// What a walk leaves behind of the entries that it went by.
pub(super) trait Trail {
    /// The walk went by the entry at `at`.
    fn push(&mut self, at: Gpa);
}

/// No trail.
impl Trail for () {
    #[inline]
    fn push(&mut self, _at: Gpa) {}
}

/// The deepest walk: five levels.
const MAX_DEPTH: usize = 5;

/// Where the entries are that a walk went by, in order; the last is the leaf.
pub(super) struct Path {
    at: [Gpa; MAX_DEPTH],
    depth: usize,
}

impl Trail for Path {
    fn push(&mut self, at: Gpa) {
        if let Some(slot) = self.at.get_mut(self.depth) {
            *slot = at;
            self.depth += 1;
        }
    }
}

impl Path {
    pub(super) const fn new() -> Self {
        Self { at: [Gpa::new(0); MAX_DEPTH], depth: 0 }
    }

    /// Sets the accessed flag of every entry, and the leaf's dirty flag for a write.
    pub(super) fn mark<M: GuestMemory + ?Sized>(&self, memory: &M, write: bool) {
        let accessed = Entry::ACCESSED.to_le_bytes()[0];
        let dirty = Entry::DIRTY.to_le_bytes()[0];
        for (depth, at) in self.at.iter().take(self.depth).enumerate() {
            let wanted = if write && depth + 1 == self.depth { accessed | dirty } else { accessed };
            let mut flags = [0];
            if memory.read(*at, &mut flags).is_ok() && flags[0] & wanted != wanted {
                // An entry that is readable but not writable keeps its flags, as in read-only memory.
                let _ = memory.write(*at, &[flags[0] | wanted]);
            }
        }
    }
}
