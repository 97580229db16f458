//! The translation engine: what its owner asks of it. `edit.rs` holds how tables are changed.
//!
//! Two invariants carry it. No table but the root is empty, so a pointer always leads to something mapped. And
//! an operation that can fail takes every table it may need before it changes the first entry, so that it
//! happens whole or not at all.

use crate::TableMemory;
use crate::edit::Change;
use crate::format::{Attributes, Entry, EntryFormat, Features, Permissions, RootPointer, Usage};
use crate::invalidation::Invalidation;
use crate::level::{ADDRESS_END, LeafSize, Level, Span};
use crate::table_list::TableList;
use arch::{Gpa, Hpa, PAGE_SIZE};
use core::marker::PhantomData;

/// No frame was left for a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfTables;

/// A range that cannot be translated by any tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RangeError {
    /// An address or the length is no multiple of 4 KiB.
    Misaligned {
        /// Where the range begins.
        gpa: Gpa,
        /// Its length in bytes.
        length: u64,
    },
    /// The range ends beyond what four levels or an entry can address.
    BeyondReach {
        /// Where the range begins.
        gpa: Gpa,
        /// Its length in bytes.
        length: u64,
    },
}

/// Why nothing was mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// The range itself is impossible.
    Range(RangeError),
    /// This address is mapped already.
    AlreadyMapped(Gpa),
    /// No frame was left for a table.
    OutOfTables,
}

/// Why nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EditError {
    /// The range itself is impossible.
    Range(RangeError),
    /// A large leaf had to be split and no frame was left for a table.
    OutOfTables,
}

impl From<OutOfTables> for MapError {
    fn from(_: OutOfTables) -> Self {
        Self::OutOfTables
    }
}

impl From<OutOfTables> for EditError {
    fn from(_: OutOfTables) -> Self {
        Self::OutOfTables
    }
}

impl From<RangeError> for MapError {
    fn from(error: RangeError) -> Self {
        Self::Range(error)
    }
}

impl From<RangeError> for EditError {
    fn from(error: RangeError) -> Self {
        Self::Range(error)
    }
}

/// One mapped page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// Its first guest-physical address.
    pub gpa: Gpa,
    /// Its first host-physical address.
    pub hpa: Hpa,
    /// Its size.
    pub size: LeafSize,
    /// What its owner decided.
    pub attributes: Attributes,
    /// What the CPU noted.
    pub usage: Usage,
}

impl Leaf {
    /// Where `gpa` lies in host memory, `None` when it is not in this page.
    #[inline]
    pub fn host_address(&self, gpa: Gpa) -> Option<Hpa> {
        let offset = gpa - self.gpa;
        (offset < self.size.bytes()).then(|| self.hpa + offset)
    }
}

/// How much is mapped, and in what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statistics {
    /// Leaves of 4 KiB.
    pub leaves_4k: u64,
    /// Leaves of 2 MiB.
    pub leaves_2m: u64,
    /// Leaves of 1 GiB.
    pub leaves_1g: u64,
    /// Tables in use, the root included, those that wait for a flush not.
    pub tables: u64,
    /// Tables taken out that wait for a flush before they are freed.
    pub retired_tables: u64,
}

impl Statistics {
    pub(crate) fn leaves_mut(&mut self, size: LeafSize) -> &mut u64 {
        match size {
            LeafSize::Size4K => &mut self.leaves_4k,
            LeafSize::Size2M => &mut self.leaves_2m,
            LeafSize::Size1G => &mut self.leaves_1g,
        }
    }

    /// Mapped memory in bytes.
    pub const fn mapped_bytes(&self) -> u64 {
        self.leaves_4k * LeafSize::Size4K.bytes()
            + self.leaves_2m * LeafSize::Size2M.bytes()
            + self.leaves_1g * LeafSize::Size1G.bytes()
    }
}

/// The second-level translation of one guest.
///
/// Dropping it frees every table: before that, make sure that no CPU can enter with the root pointer, and
/// flush what they cached of it.
#[derive(Debug)]
pub struct SecondLevel<F: EntryFormat, T: TableMemory> {
    pub(crate) memory: T,
    pub(crate) features: Features,
    pub(crate) root: Hpa,
    /// Tables taken in advance for the operation that runs. Empty between operations.
    pub(crate) spare: TableList,
    /// Tables taken out of the tree. CPUs may cache pointers to them until the next flush.
    pub(crate) retired: TableList,
    pub(crate) statistics: Statistics,
    /// What changed since the last flush, by all operations.
    stale: Invalidation,
    format: PhantomData<F>,
}

impl<F: EntryFormat, T: TableMemory> SecondLevel<F, T> {
    /// Tables that map nothing.
    ///
    /// # Errors
    /// [`OutOfTables`] when `memory` has no frame for the root.
    pub fn new(mut memory: T, features: Features) -> Result<Self, OutOfTables> {
        // A 1 GiB leaf splits into 2 MiB leaves, so the one is no use without the other.
        let features = match features.contains(Features::LEAVES_2M) {
            true => features,
            false => features.difference(Features::LEAVES_1G),
        };
        let root = memory.allocate().ok_or(OutOfTables)?;
        Ok(Self {
            memory,
            features,
            root,
            spare: TableList::EMPTY,
            retired: TableList::EMPTY,
            statistics: Statistics { tables: 1, ..Statistics::default() },
            stale: Invalidation::NOTHING,
            format: PhantomData,
        })
    }

    /// What names these tables to the CPU (the EPTP). Constant for their life.
    pub fn root_pointer(&self) -> RootPointer {
        F::root_pointer(self.root, self.features)
    }

    /// How much is mapped, and in what.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Maps `length` bytes at `gpa` to host memory at `hpa`, in the largest leaves that alignment and CPU allow.
    /// CPUs cache no absent entries, so nothing needs a flush.
    ///
    /// # Errors
    /// [`MapError`]; nothing is mapped then.
    pub fn map(&mut self, gpa: Gpa, hpa: Hpa, length: u64, attributes: Attributes) -> Result<(), MapError> {
        /// The first address that an entry cannot hold (SDM Vol. 3C: bits 51:12 are the address).
        const HOST_END: u64 = 1 << 52;
        let span = checked_span(gpa, length)?;
        if !hpa.is_aligned(PAGE_SIZE) {
            return Err(RangeError::Misaligned { gpa, length }.into());
        }
        if hpa.checked_add(length).is_none_or(|end| end.get() > HOST_END) {
            return Err(RangeError::BeyondReach { gpa, length }.into());
        }
        // The distance is kept modulo 2^64: `gpa + distance` is the host address of every piece.
        let distance = hpa.get().wrapping_sub(gpa.get());
        let tables =
            self.plan_map(Some(self.root), Level::Root, span, distance).map_err(MapError::AlreadyMapped)?;
        self.reserve(tables)?;
        self.fill(self.root, Level::Root, span, distance, attributes);
        self.release_spare();
        Ok(())
    }

    /// Unmaps `length` bytes at `gpa`. Parts that are not mapped stay so; large leaves are split at the borders.
    /// Emptied tables are freed at the next [`Self::settle`].
    ///
    /// # Errors
    /// [`EditError`]; nothing is unmapped then.
    pub fn unmap(&mut self, gpa: Gpa, length: u64) -> Result<Invalidation, EditError> {
        self.change(gpa, length, Change::Unmap)
    }

    /// Sets the permissions of everything that is mapped in `length` bytes at `gpa`; large leaves are split at
    /// the borders. Parts that are not mapped stay so.
    ///
    /// # Errors
    /// [`EditError`]; nothing is changed then.
    pub fn protect(&mut self, gpa: Gpa, length: u64, to: Permissions) -> Result<Invalidation, EditError> {
        self.change(gpa, length, Change::Protect(to))
    }

    /// Splits the leaf at `gpa`, if there is one, until it is `size` or smaller. Translations stay the same.
    ///
    /// # Errors
    /// [`EditError`]; nothing is split then.
    pub fn split(&mut self, gpa: Gpa, size: LeafSize) -> Result<Invalidation, EditError> {
        let span = checked_span(gpa.align_down(PAGE_SIZE), PAGE_SIZE)?;
        self.reserve(2)?;
        let invalidation = self.split_at(span.start, size);
        self.release_spare();
        Ok(self.owe(invalidation))
    }

    /// Unmaps everything. Tables are freed at the next [`Self::settle`].
    pub fn clear(&mut self) -> Invalidation {
        let invalidation = self.apply(self.root, Level::Root, Span::ALL, Change::Unmap);
        self.owe(invalidation)
    }

    /// Pays for changes: calls `flush` (INVEPT on every CPU that may hold translations of this root) if any
    /// change since the last flush needs it, then frees the tables that were taken out.
    pub fn settle(&mut self, invalidation: Invalidation, flush: impl FnOnce(RootPointer)) {
        let mut owed = core::mem::replace(&mut self.stale, Invalidation::NOTHING);
        owed.add(invalidation);
        if owed.is_needed() {
            flush(self.root_pointer());
        }
        self.retired.free_all(&mut self.memory);
        self.statistics.retired_tables = 0;
    }

    /// [`Self::settle`] by somebody who has made every CPU flush after the last change: the tables that were taken out
    /// are freed.
    pub fn flushed(&mut self) {
        self.settle(Invalidation::NOTHING, |_| {});
    }

    /// The page that `gpa` lies in, `None` when nothing is mapped there.
    pub fn translate(&self, gpa: Gpa) -> Option<Leaf> {
        if gpa.get() >= ADDRESS_END {
            return None;
        }
        let (mut table, mut level) = (self.root, Level::Root);
        loop {
            match F::decode(level, self.memory.read(table, level.index(gpa.get()))) {
                Entry::Empty => return None,
                Entry::Table(below) => {
                    table = below;
                    level = level.below()?;
                }
                Entry::Leaf(leaf) => {
                    let size = level.leaf_size()?;
                    let gpa = gpa.align_down(size.bytes());
                    let (hpa, attributes, usage) = (leaf.hpa, leaf.attributes, leaf.usage);
                    return Some(Leaf { gpa, hpa, size, attributes, usage });
                }
            }
        }
    }

    /// Calls `visit` with every page that overlaps `length` bytes at `gpa`, in order of address.
    ///
    /// # Errors
    /// [`RangeError`] when the range is impossible.
    pub fn for_each_leaf(
        &self,
        gpa: Gpa,
        length: u64,
        mut visit: impl FnMut(Leaf),
    ) -> Result<(), RangeError> {
        let span = checked_span(gpa, length)?;
        self.visit(self.root, Level::Root, span, &mut visit);
        Ok(())
    }

    /// Clears `usage` of every page that overlaps `length` bytes at `gpa`, and calls `visit` with those that had
    /// any of it set. Until the flush, CPUs may use such a page without noting it again.
    ///
    /// # Errors
    /// [`RangeError`] when the range is impossible.
    pub fn harvest(
        &mut self,
        gpa: Gpa,
        length: u64,
        usage: Usage,
        mut visit: impl FnMut(Leaf),
    ) -> Result<Invalidation, RangeError> {
        let span = checked_span(gpa, length)?;
        let invalidation = self.collect(self.root, Level::Root, span, usage, &mut visit);
        Ok(self.owe(invalidation))
    }

    fn change(&mut self, gpa: Gpa, length: u64, change: Change) -> Result<Invalidation, EditError> {
        let span = checked_span(gpa, length)?;
        self.reserve(self.border_cost(span.start) + self.border_cost(span.end))?;
        let invalidation = self.apply(self.root, Level::Root, span, change);
        self.release_spare();
        Ok(self.owe(invalidation))
    }

    /// How many tables it takes to split what is mapped at `border` so that a leaf begins there.
    fn border_cost(&self, border: u64) -> usize {
        match self.translate(Gpa::new(border)).map(|leaf| leaf.size) {
            Some(LeafSize::Size1G) if border.is_multiple_of(LeafSize::Size1G.bytes()) => 0,
            Some(LeafSize::Size1G) if border.is_multiple_of(LeafSize::Size2M.bytes()) => 1,
            Some(LeafSize::Size1G) => 2,
            Some(LeafSize::Size2M) if border.is_multiple_of(LeafSize::Size2M.bytes()) => 0,
            Some(LeafSize::Size2M) => 1,
            Some(LeafSize::Size4K) | None => 0,
        }
    }

    /// Notes a debt here too, so that a token which its holder lost is paid by the next one.
    fn owe(&mut self, invalidation: Invalidation) -> Invalidation {
        if invalidation.is_needed() {
            self.stale.add(Invalidation::FLUSH);
        }
        invalidation
    }

    fn reserve(&mut self, tables: usize) -> Result<(), OutOfTables> {
        for _ in 0..tables {
            match self.memory.allocate() {
                Some(table) => self.spare.push(&mut self.memory, table),
                None => {
                    self.release_spare();
                    return Err(OutOfTables);
                }
            }
        }
        Ok(())
    }

    fn release_spare(&mut self) {
        self.spare.free_all(&mut self.memory);
    }
}

impl<F: EntryFormat, T: TableMemory> Drop for SecondLevel<F, T> {
    fn drop(&mut self) {
        if self.memory.frees_all() {
            return;
        }
        let debt = self.clear();
        // Nobody enters with these tables any more (see the struct), so nothing is left to flush.
        self.settle(debt, |_| {});
        self.memory.free(self.root);
    }
}

fn checked_span(gpa: Gpa, length: u64) -> Result<Span, RangeError> {
    if !gpa.is_aligned(PAGE_SIZE) || !length.is_multiple_of(PAGE_SIZE) {
        return Err(RangeError::Misaligned { gpa, length });
    }
    match gpa.checked_add(length) {
        Some(end) if end.get() <= ADDRESS_END => Ok(Span { start: gpa.get(), end: end.get() }),
        Some(_) | None => Err(RangeError::BeyondReach { gpa, length }),
    }
}
