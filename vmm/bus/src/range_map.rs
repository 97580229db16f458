//! A map from disjoint address ranges to values: the heart of both buses.

use alloc::vec::Vec;

/// A range that was not added because it is empty, wraps, or overlaps another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RangeTaken {
    /// The first address of the refused range.
    pub start: u64,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    start: u64,
    /// Inclusive, so that a range may end at the top of the address space.
    last: u64,
    value: T,
}

/// Disjoint ranges with a value each, looked up by binary search.
#[derive(Clone, Debug)]
pub struct RangeMap<T> {
    entries: Vec<Entry<T>>,
}

impl<T> Default for RangeMap<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> RangeMap<T> {
    /// A map without ranges.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Maps `length` addresses from `start` to `value`.
    ///
    /// # Errors
    /// [`RangeTaken`] when the range is empty, wraps, or overlaps one that is there.
    pub fn insert(&mut self, start: u64, length: u64, value: T) -> Result<(), RangeTaken> {
        let refused = RangeTaken { start };
        let last = length.checked_sub(1).and_then(|rest| start.checked_add(rest)).ok_or(refused)?;
        let position = self.entries.partition_point(|entry| entry.last < start);
        if self.entries.get(position).is_some_and(|next| next.start <= last) {
            return Err(refused);
        }
        self.entries.insert(position, Entry { start, last, value });
        Ok(())
    }

    /// The value at `address`, and the offset of the address in its range.
    #[inline]
    pub fn get(&self, address: u64) -> Option<(&T, u64)> {
        let position = self.entries.partition_point(|entry| entry.last < address);
        let entry = self.entries.get(position)?;
        (entry.start <= address).then(|| (&entry.value, address - entry.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookup_gives_value_and_offset_inside_and_nothing_outside() {
        let mut map = RangeMap::new();
        map.insert(0x3f8, 8, 'u').expect("free");
        map.insert(0x20, 2, 'p').expect("free");
        assert_eq!(map.get(0x3ff), Some((&'u', 7)));
        assert_eq!(map.get(0x20), Some((&'p', 0)));
        assert_eq!(map.get(0x400), None);
        assert_eq!(map.get(0x22), None);
        assert_eq!(map.get(0), None);
    }

    #[test]
    fn overlap_empty_and_wrapping_ranges_are_refused() {
        let mut map = RangeMap::new();
        map.insert(0x10, 0x10, ()).expect("free");
        assert!(map.insert(0x1f, 1, ()).is_err());
        assert!(map.insert(0x0, 0x11, ()).is_err());
        assert!(map.insert(0x0, 0x100, ()).is_err());
        assert!(map.insert(0x40, 0, ()).is_err());
        assert!(map.insert(u64::MAX, 2, ()).is_err());
        map.insert(u64::MAX, 1, ()).expect("the last address is one");
        assert!(map.get(u64::MAX).is_some());
    }
}
