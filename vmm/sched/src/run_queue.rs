//! Runnable entities by virtual time: a binary heap that knows where each entity stands in it, so that any of
//! them can be moved or taken out in logarithmic time.

use alloc::vec::Vec;

/// A place in the queue. The lowest comes first; `turn` makes equal virtual times first come, first served.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    pub(crate) virtual_time: u128,
    pub(crate) turn: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    key: Key,
    index: usize,
}

/// The queue. Entities are indices below the number given to [`RunQueue::reserve`].
#[derive(Debug)]
pub(crate) struct RunQueue {
    heap: Vec<Place>,
    /// By entity: where it stands in `heap`.
    positions: Vec<Option<usize>>,
}

impl RunQueue {
    pub(crate) const fn new() -> Self {
        Self { heap: Vec::new(), positions: Vec::new() }
    }

    /// Makes room for entities below `count`. The only method that allocates.
    pub(crate) fn reserve(&mut self, count: usize) {
        if self.positions.len() < count {
            self.positions.resize(count, None);
            self.heap.reserve(count - self.heap.len());
        }
    }

    /// The first entity and its key.
    #[inline]
    pub(crate) fn first(&self) -> Option<(usize, Key)> {
        self.heap.first().map(|place| (place.index, place.key))
    }

    #[inline]
    pub(crate) fn contains(&self, index: usize) -> bool {
        self.position(index).is_some()
    }

    /// Puts the entity in, or moves it, to where `key` says.
    pub(crate) fn set(&mut self, index: usize, key: Key) {
        let place = Place { key, index };
        let position = match self.position(index) {
            Some(position) => position,
            None => {
                self.heap.push(place);
                self.heap.len() - 1
            }
        };
        self.settle(position, place);
    }

    /// Takes the entity out, if it is in.
    pub(crate) fn remove(&mut self, index: usize) {
        let Some(position) = self.position(index) else { return };
        self.positions[index] = None;
        let Some(last) = self.heap.pop() else { return };
        if last.index != index {
            self.settle(position, last);
        }
    }

    #[inline]
    fn position(&self, index: usize) -> Option<usize> {
        self.positions.get(index).copied().flatten()
    }

    /// Writes `place` at or near `position`, wherever the order of the heap wants it.
    fn settle(&mut self, position: usize, place: Place) {
        let position = self.raise(position, place.key);
        let position = self.lower(position, place.key);
        self.put(position, place);
    }

    /// Moves parents that come after `key` down, and returns the hole.
    fn raise(&mut self, mut hole: usize, key: Key) -> usize {
        while hole > 0 {
            let parent = (hole - 1) / 2;
            if self.heap[parent].key <= key {
                break;
            }
            self.put(hole, self.heap[parent]);
            hole = parent;
        }
        hole
    }

    /// Moves children that come before `key` up, and returns the hole.
    fn lower(&mut self, mut hole: usize, key: Key) -> usize {
        loop {
            let (left, right) = (2 * hole + 1, 2 * hole + 2);
            let child = match (self.heap.get(left), self.heap.get(right)) {
                (None, _) => return hole,
                (Some(first), Some(second)) if second.key < first.key => right,
                (Some(_), _) => left,
            };
            if self.heap[child].key >= key {
                return hole;
            }
            self.put(hole, self.heap[child]);
            hole = child;
        }
    }

    fn put(&mut self, position: usize, place: Place) {
        self.heap[position] = place;
        self.positions[place.index] = Some(position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn the_first_is_always_the_lowest(steps in prop::collection::vec((0usize..12, prop::option::of(0u128..50)), 0..300)) {
            let mut queue = RunQueue::new();
            queue.reserve(12);
            let mut model = BTreeMap::new();
            for (turn, (index, virtual_time)) in (0..).zip(steps) {
                match virtual_time {
                    Some(virtual_time) => {
                        let key = Key { virtual_time, turn };
                        queue.set(index, key);
                        model.insert(index, key);
                    }
                    None => {
                        queue.remove(index);
                        model.remove(&index);
                    }
                }
                let expected = model.iter().map(|(&index, &key)| (index, key)).min_by_key(|&(_, key)| key);
                prop_assert_eq!(queue.first(), expected);
                prop_assert_eq!(queue.contains(index), model.contains_key(&index));
            }
        }
    }
}
