//! A binary heap of entities by key, the lowest first. It holds what it was given room for, and never allocates itself.

use crate::entity::Slot;
use crate::spec::EntityId;
use alloc::vec::Vec;

/// Whether an entity may run on more than one core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reach {
    Pinned,
    Movable,
}

/// An entity in a heap. The key is a virtual time or a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) key: u64,
    pub(crate) slot: &'static Slot,
}

impl Entry {
    pub(crate) const fn id(&self) -> EntityId {
        self.slot.id
    }

    #[inline]
    pub(crate) fn reach(&self) -> Reach {
        self.slot.reach()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Heap {
    entries: Vec<Entry>,
}

impl Heap {
    #[inline]
    pub(crate) fn first(&self) -> Option<Entry> {
        self.entries.first().copied()
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many entries there is room for.
    pub(crate) fn room(&self) -> usize {
        self.entries.capacity()
    }

    /// Moves into `room`, which is empty and larger, and returns the old room, to be freed.
    pub(crate) fn move_into(&mut self, mut room: Vec<Entry>) -> Vec<Entry> {
        room.append(&mut self.entries);
        core::mem::replace(&mut self.entries, room)
    }

    /// In no order but that the first comes first.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn position(&self, id: EntityId) -> Option<usize> {
        self.entries.iter().position(|entry| entry.id() == id)
    }

    #[inline]
    pub(crate) fn push(&mut self, entry: Entry) {
        debug_assert!(
            self.entries.len() < self.entries.capacity(),
            "room was made when the entity was added"
        );
        self.entries.push(entry);
        self.raise(self.entries.len() - 1, entry);
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let last = self.entries.pop()?;
        if self.entries.is_empty() {
            return Some(last);
        }
        Some(self.swap_first(last))
    }

    /// Takes the first out and puts `entry` in.
    #[inline(always)]
    pub(crate) fn replace_first(&mut self, entry: Entry) -> Option<Entry> {
        if self.entries.is_empty() {
            return None;
        }
        Some(self.swap_first(entry))
    }

    /// Takes the first out, which there is, and puts `entry` in. The same as [`Self::replace_first`], with the first step
    /// down written out: few wait mostly.
    #[inline(always)]
    pub(crate) fn exchange_first(&mut self, entry: Entry) {
        match self.entries.as_mut_slice() {
            [] => {}
            [first] => *first = entry,
            [first, second] => {
                if second.key >= entry.key {
                    *first = entry;
                } else {
                    (*first, *second) = (*second, entry);
                }
            }
            [_, _, _, ..] => {
                self.swap_first(entry);
            }
        }
    }

    pub(crate) fn remove(&mut self, position: usize) -> Option<Entry> {
        let removed = self.entries.get(position).copied()?;
        let last = self.entries.pop()?;
        if position < self.entries.len() {
            let position = self.lower(position, last);
            self.raise(position, last);
        }
        Some(removed)
    }

    #[inline]
    fn swap_first(&mut self, entry: Entry) -> Entry {
        let first = self.entries[0];
        self.lower(0, entry);
        first
    }

    /// Writes `entry` at `hole` or above it.
    #[inline]
    fn raise(&mut self, mut hole: usize, entry: Entry) {
        while hole > 0 {
            let parent = (hole - 1) / 2;
            if self.entries[parent].key <= entry.key {
                break;
            }
            self.entries[hole] = self.entries[parent];
            hole = parent;
        }
        self.entries[hole] = entry;
    }

    /// Writes `entry` at `hole` or below it, and returns where.
    #[inline(always)]
    fn lower(&mut self, mut hole: usize, entry: Entry) -> usize {
        let entries = self.entries.as_mut_slice();
        loop {
            let mut child = 2 * hole + 1;
            if child >= entries.len() {
                break;
            }
            if child + 1 < entries.len() && entries[child + 1].key < entries[child].key {
                child += 1;
            }
            if entries[child].key >= entry.key {
                break;
            }
            entries[hole] = entries[child];
            hole = child;
        }
        entries[hole] = entry;
        hole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::Table;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push(u64),
        Pop,
        Replace(u64),
        Remove(usize),
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn the_first_is_always_the_lowest(
            steps in prop::collection::vec(
                prop_oneof![
                    3 => (0u64..50).prop_map(Step::Push),
                    1 => Just(Step::Pop),
                    1 => (0u64..50).prop_map(Step::Replace),
                    1 => (0usize..20).prop_map(Step::Remove),
                ],
                0..300,
            ),
        ) {
            let table = Table::new();
            let mut heap = Heap::default();
            heap.move_into(Vec::with_capacity(steps.len()));
            let mut model: Vec<Entry> = Vec::new();
            for (number, step) in (0..).zip(steps) {
                let entry = |key| Entry { key, slot: table.make(EntityId(number)).expect("in range") };
                let removed = match step {
                    Step::Push(key) => {
                        heap.push(entry(key));
                        model.push(entry(key));
                        None
                    }
                    Step::Pop => heap.pop(),
                    Step::Replace(key) if key & 1 == 0 => {
                        let removed = heap.first();
                        heap.exchange_first(entry(key));
                        if removed.is_some() {
                            model.push(entry(key));
                        }
                        removed
                    }
                    Step::Replace(key) => {
                        let removed = heap.replace_first(entry(key));
                        if removed.is_some() {
                            model.push(entry(key));
                        }
                        removed
                    }
                    Step::Remove(position) => {
                        let removed = heap.remove(position);
                        prop_assert_eq!(removed.is_some(), position < model.len());
                        if let Some(entry) = removed {
                            prop_assert_eq!(heap.position(entry.id()), None);
                        }
                        removed
                    }
                };
                if let Some(entry) = removed {
                    let position = model.iter().position(|other| (other.key, other.id()) == (entry.key, entry.id()));
                    prop_assert!(position.is_some(), "what comes out was in");
                    let lowest = model.iter().map(|entry| entry.key).filter(|_| !matches!(step, Step::Remove(_) | Step::Replace(_))).min();
                    prop_assert!(lowest.is_none_or(|lowest| lowest == entry.key));
                    model.remove(position.expect("checked"));
                }
                prop_assert_eq!(heap.len(), model.len());
                prop_assert_eq!(heap.first().map(|entry| entry.key), model.iter().map(|entry| entry.key).min());
            }
        }
    }
}
