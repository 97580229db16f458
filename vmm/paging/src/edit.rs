//! How tables are changed: recursive descents, at most four deep, over the pieces of a range.

use crate::TableMemory;
use crate::format::{Attributes, Entry, EntryFormat, LeafEntry, Permissions, Usage};
use crate::invalidation::Invalidation;
use crate::level::{ENTRIES, LeafSize, Level, Span};
use crate::second_level::{Leaf, SecondLevel};
use arch::{Gpa, Hpa};

/// What to do with the leaves of a range.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Unmap,
    Protect(Permissions),
}

impl<F: EntryFormat, T: TableMemory> SecondLevel<F, T> {
    /// How many tables it takes to map `span`, or the first address in it that is mapped. `table` is `None`
    /// below what does not exist yet.
    pub(crate) fn plan_map(
        &self,
        table: Option<Hpa>,
        level: Level,
        span: Span,
        distance: u64,
    ) -> Result<usize, Gpa> {
        let Some(below) = level.below() else {
            return table.map_or(Ok(0), |table| self.plan_pages(table, span));
        };
        let mut tables = 0;
        for (index, piece) in level.pieces(span) {
            let entry = table.map_or(Entry::Empty, |table| F::decode(level, self.memory.read(table, index)));
            match entry {
                Entry::Leaf(_) => return Err(Gpa::new(piece.start)),
                Entry::Table(next) => tables += self.plan_map(Some(next), below, piece, distance)?,
                Entry::Empty if self.fitting_leaf(level, piece, distance).is_some() => {}
                Entry::Empty => tables += 1 + self.plan_map(None, below, piece, distance)?,
            }
        }
        Ok(tables)
    }

    fn plan_pages(&self, table: Hpa, span: Span) -> Result<usize, Gpa> {
        for (index, piece) in Level::Pages.pieces(span) {
            match F::decode(Level::Pages, self.memory.read(table, index)) {
                Entry::Empty => {}
                Entry::Leaf(_) | Entry::Table(_) => return Err(Gpa::new(piece.start)),
            }
        }
        Ok(0)
    }

    /// Maps `span`, for which [`Self::plan_map`] found room and the spare tables suffice.
    pub(crate) fn fill(
        &mut self,
        table: Hpa,
        level: Level,
        span: Span,
        distance: u64,
        attributes: Attributes,
    ) {
        for (index, piece) in level.pieces(span) {
            let next = match F::decode(level, self.memory.read(table, index)) {
                Entry::Table(next) => next,
                Entry::Leaf(_) => unreachable!("the plan found {:#x} unmapped", piece.start),
                Entry::Empty => match self.fitting_leaf(level, piece, distance) {
                    Some(size) => {
                        let hpa = Hpa::new(piece.start.wrapping_add(distance));
                        let leaf = LeafEntry { hpa, attributes, usage: Usage::empty() };
                        self.memory.write(table, index, F::leaf(size, leaf));
                        *self.statistics.leaves_mut(size) += 1;
                        continue;
                    }
                    None => {
                        let next = self.take_spare();
                        self.memory.write(table, index, F::table(next));
                        next
                    }
                },
            };
            let below = level.below().expect("a 4 KiB leaf fits every piece of a page table");
            self.fill(next, below, piece, distance, attributes);
        }
    }

    /// The size of the leaf with which one entry of `level` can map `piece`.
    fn fitting_leaf(&self, level: Level, piece: Span, distance: u64) -> Option<LeafSize> {
        let size = level.leaf_size()?;
        let aligned = piece.start.wrapping_add(distance).is_multiple_of(size.bytes());
        (self.features.allow(size) && piece.fills(level) && aligned).then_some(size)
    }

    /// Applies `change` to every leaf in `span`, splitting those that reach out of it.
    pub(crate) fn apply(&mut self, table: Hpa, level: Level, span: Span, change: Change) -> Invalidation {
        let mut debt = Invalidation::NOTHING;
        for (index, piece) in level.pieces(span) {
            let next = match (F::decode(level, self.memory.read(table, index)), change) {
                (Entry::Empty, _) => continue,
                (Entry::Leaf(leaf), Change::Protect(to)) if leaf.attributes.permissions == to => continue,
                (Entry::Leaf(leaf), _) if piece.fills(level) => {
                    debt.add(self.change_leaf(table, level, index, leaf, change));
                    continue;
                }
                (Entry::Leaf(leaf), _) => {
                    debt.add(Invalidation::FLUSH);
                    self.split_entry(table, level, index, leaf)
                }
                (Entry::Table(next), Change::Unmap) if piece.fills(level) => {
                    self.memory.write(table, index, 0);
                    self.retire(next, level);
                    debt.add(Invalidation::FLUSH);
                    continue;
                }
                (Entry::Table(next), _) => next,
            };
            let Some(below) = level.below() else { continue };
            debt.add(self.apply(next, below, piece, change));
            let emptied = match change {
                Change::Unmap => self.is_empty(next),
                Change::Protect(_) => false,
            };
            if emptied {
                self.memory.write(table, index, 0);
                self.retire(next, level);
                debt.add(Invalidation::FLUSH);
            }
        }
        debt
    }

    fn change_leaf(
        &mut self,
        table: Hpa,
        level: Level,
        index: usize,
        leaf: LeafEntry,
        change: Change,
    ) -> Invalidation {
        let Some(size) = level.leaf_size() else { return Invalidation::NOTHING };
        match change {
            Change::Unmap => {
                self.memory.write(table, index, 0);
                *self.statistics.leaves_mut(size) -= 1;
                Invalidation::FLUSH
            }
            Change::Protect(permissions) => {
                let old = leaf.attributes.permissions;
                let attributes = Attributes { permissions, ..leaf.attributes };
                self.replace_leaf(table, level, size, index, LeafEntry { attributes, ..leaf });
                if permissions.covers(old) { Invalidation::NOTHING } else { Invalidation::FLUSH }
            }
        }
    }

    /// Writes `leaf` over another, and keeps what the CPU noted in the old one meanwhile.
    fn replace_leaf(&mut self, table: Hpa, level: Level, size: LeafSize, index: usize, mut leaf: LeafEntry) {
        // Usage only grows, so this ends after one turn for each of its bits at most.
        while let Entry::Leaf(old) = F::decode(level, self.memory.exchange(table, index, F::leaf(size, leaf)))
            && !leaf.usage.contains(old.usage)
        {
            leaf.usage |= old.usage;
        }
    }

    /// Splits the leaf at `gpa`, if there is one, until it is `size` or smaller.
    pub(crate) fn split_at(&mut self, gpa: u64, size: LeafSize) -> Invalidation {
        let mut debt = Invalidation::NOTHING;
        let (mut table, mut level) = (self.root, Level::Root);
        loop {
            let index = level.index(gpa);
            let next = match F::decode(level, self.memory.read(table, index)) {
                Entry::Empty => return debt,
                Entry::Table(next) => next,
                Entry::Leaf(_) if level.leaf_size().is_some_and(|now| now <= size) => return debt,
                Entry::Leaf(leaf) => {
                    debt.add(Invalidation::FLUSH);
                    self.split_entry(table, level, index, leaf)
                }
            };
            let Some(below) = level.below() else { return debt };
            (table, level) = (next, below);
        }
    }

    /// Replaces a large leaf by a table of leaves that translate the same, and returns the table.
    fn split_entry(&mut self, table: Hpa, level: Level, index: usize, leaf: LeafEntry) -> Hpa {
        let (Some(size), Some(below)) = (level.leaf_size(), level.below()) else {
            unreachable!("only leaves of 2 MiB and 1 GiB are split")
        };
        let next = self.take_spare();
        self.write_parts(next, below, leaf);
        let old = F::decode(level, self.memory.exchange(table, index, F::table(next)));
        if let Entry::Leaf(old) = old
            && !leaf.usage.contains(old.usage)
        {
            self.write_parts(next, below, LeafEntry { usage: leaf.usage | old.usage, ..leaf });
        }
        *self.statistics.leaves_mut(size) -= 1;
        if let Some(part) = below.leaf_size() {
            *self.statistics.leaves_mut(part) += ENTRIES as u64;
        }
        next
    }

    fn write_parts(&mut self, table: Hpa, level: Level, whole: LeafEntry) {
        let Some(size) = level.leaf_size() else { return };
        let mut hpa = whole.hpa;
        for index in 0..ENTRIES {
            self.replace_leaf(table, level, size, index, LeafEntry { hpa, ..whole });
            hpa = hpa + size.bytes();
        }
    }

    /// Takes the table that an entry of `level` pointed to out of use, with all below it.
    fn retire(&mut self, table: Hpa, level: Level) {
        let Some(level) = level.below() else { return };
        for index in 0..ENTRIES {
            match F::decode(level, self.memory.read(table, index)) {
                Entry::Empty => {}
                Entry::Table(next) => self.retire(next, level),
                Entry::Leaf(_) => {
                    if let Some(size) = level.leaf_size() {
                        *self.statistics.leaves_mut(size) -= 1;
                    }
                }
            }
        }
        self.retired.push(&mut self.memory, table);
        self.statistics.tables -= 1;
        self.statistics.retired_tables += 1;
    }

    fn is_empty(&self, table: Hpa) -> bool {
        (0..ENTRIES).all(|index| self.memory.read(table, index) == 0)
    }

    /// Calls `visit` with every leaf that overlaps `span`.
    pub(crate) fn visit(&self, table: Hpa, level: Level, span: Span, visit: &mut dyn FnMut(Leaf)) {
        for (index, piece) in level.pieces(span) {
            match (F::decode(level, self.memory.read(table, index)), level.below()) {
                (Entry::Empty, _) | (Entry::Table(_), None) => {}
                (Entry::Table(next), Some(below)) => self.visit(next, below, piece, visit),
                (Entry::Leaf(leaf), _) => report(level, piece, leaf, visit),
            }
        }
    }

    /// Clears `usage` in every leaf that overlaps `span`, and reports those that had any of it.
    pub(crate) fn collect(
        &mut self,
        table: Hpa,
        level: Level,
        span: Span,
        usage: Usage,
        visit: &mut dyn FnMut(Leaf),
    ) -> Invalidation {
        let mut debt = Invalidation::NOTHING;
        for (index, piece) in level.pieces(span) {
            match (F::decode(level, self.memory.read(table, index)), level.below()) {
                (Entry::Empty, _) | (Entry::Table(_), None) => {}
                (Entry::Table(next), Some(below)) => debt.add(self.collect(next, below, piece, usage, visit)),
                (Entry::Leaf(leaf), _) if leaf.usage.intersects(usage) => {
                    let old = self.memory.clear_bits(table, index, F::usage_bits(usage));
                    debt.add(Invalidation::FLUSH);
                    if let Entry::Leaf(leaf) = F::decode(level, old) {
                        report(level, piece, leaf, visit);
                    }
                }
                (Entry::Leaf(_), _) => {}
            }
        }
        debt
    }

    fn take_spare(&mut self) -> Hpa {
        let table = self.spare.pop(&mut self.memory).expect("every operation reserves the tables it needs");
        self.statistics.tables += 1;
        table
    }
}

fn report(level: Level, piece: Span, leaf: LeafEntry, visit: &mut dyn FnMut(Leaf)) {
    let Some(size) = level.leaf_size() else { return };
    visit(Leaf {
        gpa: Gpa::new(piece.start).align_down(size.bytes()),
        hpa: leaf.hpa,
        size,
        attributes: leaf.attributes,
        usage: leaf.usage,
    });
}
