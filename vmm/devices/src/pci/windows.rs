//! Which function decodes an address: the enabled base addresses of all functions as disjoint ranges, found by binary
//! search.
//!
//! Where base addresses overlap, the one that was given first has the addresses: the lowest function, and of it the
//! lowest register. That is a choice: the specification leaves the result open.

use super::bar::Space;
use alloc::vec::Vec;

/// A range of addresses of one base address register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    first: u64,
    last: u64,
    /// Where the register points: what offsets count from.
    base: u64,
    /// The function's place in the list of functions.
    pub(crate) function: usize,
    /// The base address register.
    pub(crate) bar: u8,
}

/// Where an address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Target {
    pub(crate) function: usize,
    pub(crate) bar: u8,
    /// From the start of what the register decodes, in bytes.
    pub(crate) offset: u64,
}

/// The ranges of both spaces.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    memory: Ranges,
    io: Ranges,
}

#[derive(Debug, Default)]
struct Ranges(Vec<Window>);

impl Windows {
    /// Without any range, and with room for those of `bars` base address registers: later changes allocate nothing.
    pub(crate) fn with_room_for(bars: usize) -> Self {
        // Each range cuts at most one other in two, so there are fewer than twice as many pieces.
        Self { memory: Ranges(Vec::with_capacity(2 * bars)), io: Ranges(Vec::with_capacity(2 * bars)) }
    }

    pub(crate) fn clear(&mut self) {
        self.memory.0.clear();
        self.io.0.clear();
    }

    /// Adds the range from `first` to `last`, less what others have already.
    pub(crate) fn add(&mut self, space: Space, (first, last): (u64, u64), function: usize, bar: u8) {
        self.of(space).add(Window { first, last, base: first, function, bar });
    }

    /// Who decodes all of the `bytes` bytes from `address` on, which is a port or a guest-physical address.
    pub(crate) fn find(&self, space: Space, address: u64, bytes: u64) -> Option<Target> {
        let ranges = match space {
            Space::Io => &self.io,
            Space::Memory => &self.memory,
        };
        let index = ranges.0.partition_point(|window| window.last < address);
        let window = ranges.0.get(index).filter(|window| window.first <= address)?;
        (window.last - address >= bytes - 1).then(|| Target {
            function: window.function,
            bar: window.bar,
            offset: address - window.base,
        })
    }

    /// The range that begins at `first`, if all of what `function`'s register `bar` decodes is one range, nobody else's.
    pub(crate) fn whole(&self, function: usize, bar: u8, bytes: u64) -> Option<u64> {
        let is_it = |window: &&Window| window.function == function && window.bar == bar;
        let window = self.memory.0.iter().find(is_it)?;
        (window.base == window.first && window.last - window.first == bytes - 1).then_some(window.first)
    }

    fn of(&mut self, space: Space) -> &mut Ranges {
        match space {
            Space::Io => &mut self.io,
            Space::Memory => &mut self.memory,
        }
    }
}

impl Ranges {
    fn add(&mut self, window: Window) {
        let mut first = window.first;
        let mut index = self.0.partition_point(|other| other.last < first);
        loop {
            // Up to the next range, or to the end of this one.
            let next = self.0.get(index).copied().filter(|other| other.first <= window.last);
            let free_to = next.map_or(Some(window.last), |other| other.first.checked_sub(1));
            if let Some(last) = free_to.filter(|last| *last >= first) {
                self.0.insert(index, Window { first, last, ..window });
                index += 1;
            }
            let Some(next) = next else { return };
            match next.last.checked_add(1) {
                Some(after) if after <= window.last => first = after,
                Some(_) | None => return,
            }
            index += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owner(windows: &Windows, address: u64) -> Option<(usize, u64)> {
        windows.find(Space::Memory, address, 1).map(|target| (target.function, target.offset))
    }

    #[test]
    fn an_access_is_found_only_if_it_fits() {
        let mut windows = Windows::with_room_for(1);
        windows.add(Space::Memory, (0x1000, 0x100f), 0, 2);
        let target = Target { function: 0, bar: 2, offset: 8 };
        assert_eq!(windows.find(Space::Memory, 0x1008, 8), Some(target));
        assert_eq!(windows.find(Space::Memory, 0x1009, 8), None);
        assert_eq!(windows.find(Space::Memory, 0xfff, 2), None);
        assert_eq!(windows.find(Space::Memory, 0x1010, 1), None);
        assert_eq!(windows.find(Space::Io, 0x1008, 1), None);
    }

    #[test]
    fn the_first_of_overlapping_ranges_has_the_addresses_and_the_rest_stays() {
        let mut windows = Windows::with_room_for(2);
        windows.add(Space::Memory, (0x1000, 0x1fff), 0, 0);
        windows.add(Space::Memory, (0, 0x3fff), 1, 0);
        assert_eq!(owner(&windows, 0xfff), Some((1, 0xfff)));
        assert_eq!(owner(&windows, 0x1000), Some((0, 0)));
        assert_eq!(owner(&windows, 0x2000), Some((1, 0x2000)));
        assert_eq!(owner(&windows, 0x4000), None);
    }

    #[test]
    fn the_ends_of_the_address_space_are_reachable() {
        let mut windows = Windows::with_room_for(2);
        windows.add(Space::Memory, (u64::MAX - 15, u64::MAX), 0, 0);
        windows.add(Space::Memory, (0, u64::MAX), 1, 0);
        assert_eq!(owner(&windows, u64::MAX), Some((0, 15)));
        assert_eq!(owner(&windows, u64::MAX - 16), Some((1, u64::MAX - 16)));
        assert_eq!(windows.find(Space::Memory, u64::MAX, 8), None);
        assert_eq!(owner(&windows, 0), Some((1, 0)));
    }

    proptest! {
        #[test]
        fn every_address_belongs_to_the_first_that_decodes_it(
            ranges in prop::collection::vec((0_u64..64, 0_u64..64), 0..12),
        ) {
            let mut windows = Windows::with_room_for(ranges.len());
            let capacity = windows.memory.0.capacity();
            let ranges: Vec<_> = ranges.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
            for (index, range) in ranges.iter().enumerate() {
                windows.add(Space::Memory, *range, index, 0);
            }
            prop_assert_eq!(windows.memory.0.capacity(), capacity);
            for address in 0..64 {
                let first = ranges.iter().position(|(first, last)| (*first..=*last).contains(&address));
                let expected = first.map(|index| (index, address - ranges[index].0));
                prop_assert_eq!(owner(&windows, address), expected);
            }
        }
    }
}
