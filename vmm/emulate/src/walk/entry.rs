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

    /// Puts `new` in place of this entry at `at`; `false` if another is there by now. One that is readable but not
    /// writable keeps its flags, as in read-only memory.
    fn exchange<M: GuestMemory + ?Sized>(self, memory: &M, at: Gpa, size: EntrySize, new: u64) -> bool {
        match size {
            EntrySize::Four => {
                let low = |value: u64| {
                    let [a, b, c, d, ..] = value.to_le_bytes();
                    u32::from_le_bytes([a, b, c, d])
                };
                memory.compare_exchange_u32(at, low(self.0), low(new)).unwrap_or(true)
            }
            EntrySize::Eight => memory.compare_exchange_u64(at, self.0, new).unwrap_or(true),
        }
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

/// The size of a page-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EntrySize {
    /// 32-bit paging.
    Four,
    /// Every other kind.
    Eight,
}

/// What a walk leaves behind of the entries that it went by.
pub(super) trait Trail {
    /// The walk went by `entry` at `at`.
    fn push(&mut self, at: Gpa, entry: Entry);
}

/// No trail.
impl Trail for () {
    #[inline]
    fn push(&mut self, _at: Gpa, _entry: Entry) {}
}

/// The deepest walk: five levels.
pub(crate) const MAX_DEPTH: usize = 5;

/// The entries that a walk went by, in order, and where they are; the last is the leaf.
pub(crate) struct Path {
    entries: [(Gpa, Entry); MAX_DEPTH],
    depth: usize,
}

impl Trail for Path {
    fn push(&mut self, at: Gpa, entry: Entry) {
        if let Some(slot) = self.entries.get_mut(self.depth) {
            *slot = (at, entry);
            self.depth += 1;
        }
    }
}

/// Whether the entries of a [`Path`] were still what the walk had read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Marked {
    /// They were, and have their flags now.
    All,
    /// The guest has changed one of them since; it has not got its flags.
    Changed,
}

impl Path {
    pub(super) const fn new() -> Self {
        Self { entries: [(Gpa::new(0), Entry(0)); MAX_DEPTH], depth: 0 }
    }

    /// The entries and where they are.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (Gpa, u64)> {
        self.entries.iter().take(self.depth).map(|(at, entry)| (*at, entry.0))
    }

    /// Sets the accessed flag of every entry, and the leaf's dirty flag for a write, each in one atomic step that
    /// leaves an entry alone that has changed meanwhile.
    pub(super) fn mark<M: GuestMemory + ?Sized>(&self, memory: &M, size: EntrySize, write: bool) -> Marked {
        for (depth, (at, entry)) in self.entries.iter().take(self.depth).enumerate() {
            let leaf = depth + 1 == self.depth;
            let wanted = if write && leaf { Entry::ACCESSED | Entry::DIRTY } else { Entry::ACCESSED };
            if entry.0 & wanted != wanted && !entry.exchange(memory, *at, size, entry.0 | wanted) {
                return Marked::Changed;
            }
        }
        Marked::All
    }
}
