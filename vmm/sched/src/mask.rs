//! Sets of cores: as plain data, and shared between cores.

use crate::spec::CoreId;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

const WORDS: usize = 4;

/// Core numbers are below this.
pub const MAX_CORES: u32 = 256;

/// A set of cores.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CoreMask([u64; WORDS]);

impl CoreMask {
    /// No core.
    pub const EMPTY: Self = Self([0; WORDS]);
    /// Every core.
    pub const ALL: Self = Self([u64::MAX; WORDS]);

    /// One core.
    pub const fn single(core: CoreId) -> Self {
        let mut mask = Self::EMPTY;
        let (word, bit) = place(core);
        if word < WORDS {
            mask.0[word] = bit;
        }
        mask
    }

    /// The first `count` cores.
    pub fn first(count: u32) -> Self {
        (0..count.min(MAX_CORES)).map(CoreId).collect()
    }

    /// Adds a core; numbers from [`MAX_CORES`] are ignored.
    pub const fn insert(&mut self, core: CoreId) {
        let (word, bit) = place(core);
        if word < WORDS {
            self.0[word] |= bit;
        }
    }

    /// Whether a core is in it.
    #[inline]
    pub const fn contains(&self, core: CoreId) -> bool {
        let (word, bit) = place(core);
        word < WORDS && self.0[word] & bit != 0
    }

    /// The cores that are in both.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        Self([a[0] & b[0], a[1] & b[1], a[2] & b[2], a[3] & b[3]])
    }

    /// The cores that are not in `other`.
    #[inline]
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        let (a, b) = (self.0, other.0);
        Self([a[0] & !b[0], a[1] & !b[1], a[2] & !b[2], a[3] & !b[3]])
    }

    /// Whether no core is in it.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.0[0] | self.0[1] | self.0[2] | self.0[3] == 0
    }

    /// How many cores are in it.
    pub const fn len(&self) -> u32 {
        let words = self.0;
        words[0].count_ones() + words[1].count_ones() + words[2].count_ones() + words[3].count_ones()
    }

    /// The cores in it: from `start` upwards, then those below.
    #[inline]
    pub const fn iter_from(self, start: CoreId) -> Cores {
        let (word, bit) = (start.index() / 64 % WORDS, start.0 % 64);
        let above = u64::MAX << bit;
        Cores { mask: self, word, bits: self.0[word] & above, last: self.0[word] & !above, more: WORDS }
    }

    /// The cores in it by number.
    #[inline]
    pub const fn iter(self) -> Cores {
        self.iter_from(CoreId(0))
    }
}

/// The cores of a [`CoreMask`].
#[derive(Clone, Debug)]
pub struct Cores {
    mask: CoreMask,
    word: usize,
    /// What is left of the word.
    bits: u64,
    /// What comes last of the word where it began.
    last: u64,
    /// How many words come after this.
    more: usize,
}

impl Iterator for Cores {
    type Item = CoreId;

    #[inline]
    fn next(&mut self) -> Option<CoreId> {
        while self.bits == 0 {
            if self.more == 0 {
                return None;
            }
            self.more -= 1;
            self.word = (self.word + 1) % WORDS;
            self.bits = if self.more == 0 { self.last } else { self.mask.0[self.word] };
        }
        let core = core_at(self.word, self.bits);
        self.bits &= self.bits - 1;
        Some(core)
    }
}

#[inline]
const fn place(core: CoreId) -> (usize, u64) {
    (core.index() / 64, 1 << (core.0 % 64))
}

/// The core of the lowest bit of `bits` in a word.
#[expect(clippy::cast_possible_truncation, reason = "there are four words")]
#[inline]
const fn core_at(word: usize, bits: u64) -> CoreId {
    CoreId(word as u32 * 64 + bits.trailing_zeros())
}

impl Default for CoreMask {
    /// Every core.
    fn default() -> Self {
        Self::ALL
    }
}

impl FromIterator<CoreId> for CoreMask {
    fn from_iter<I: IntoIterator<Item = CoreId>>(cores: I) -> Self {
        let mut mask = Self::EMPTY;
        for core in cores {
            mask.insert(core);
        }
        mask
    }
}

impl fmt::Debug for CoreMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("ALL");
        }
        f.debug_set().entries(self.iter().map(|core| core.0)).finish()
    }
}

/// A set of cores that all cores read and write.
///
/// Changes and reads are sequentially consistent: who sets a bit in one set and then looks at another cannot miss who
/// does it the other way round.
#[derive(Debug, Default)]
pub(crate) struct SharedMask([AtomicU64; WORDS]);

impl SharedMask {
    #[inline]
    pub(crate) fn load(&self) -> CoreMask {
        CoreMask(core::array::from_fn(|word| self.0[word].load(Ordering::SeqCst)))
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.load().is_empty()
    }

    #[inline]
    pub(crate) fn contains(&self, core: CoreId) -> bool {
        let (word, bit) = place(core);
        self.0.get(word).is_some_and(|bits| bits.load(Ordering::SeqCst) & bit != 0)
    }

    /// Adds a core, and says whether it was not in before.
    pub(crate) fn insert(&self, core: CoreId) -> bool {
        let (word, bit) = place(core);
        self.0.get(word).is_some_and(|bits| bits.fetch_or(bit, Ordering::SeqCst) & bit == 0)
    }

    /// Takes a core out, and says whether it was in: of several that try, one succeeds.
    pub(crate) fn remove(&self, core: CoreId) -> bool {
        let (word, bit) = place(core);
        self.0.get(word).is_some_and(|bits| bits.fetch_and(!bit, Ordering::SeqCst) & bit != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn a_mask_is_a_set(
            a in prop::collection::btree_set(0u32..300, 0..40),
            b in prop::collection::btree_set(0u32..256, 0..40),
            start in 0u32..256,
        ) {
            let mask = |set: &BTreeSet<u32>| set.iter().copied().map(CoreId).collect::<CoreMask>();
            let (one, other) = (mask(&a), mask(&b));
            let a: BTreeSet<u32> = a.into_iter().filter(|core| *core < MAX_CORES).collect();
            let numbers = |mask: CoreMask| mask.iter().map(|core| core.0).collect::<Vec<_>>();
            prop_assert_eq!(numbers(one), a.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(numbers(one.and(other)), a.intersection(&b).copied().collect::<Vec<_>>());
            prop_assert_eq!(numbers(one.without(other)), a.difference(&b).copied().collect::<Vec<_>>());
            prop_assert_eq!(one.len() as usize, a.len());
            prop_assert_eq!(one.is_empty(), a.is_empty());
            let turned: Vec<u32> = a.range(start..).chain(a.range(..start)).copied().collect();
            prop_assert_eq!(one.iter_from(CoreId(start)).map(|core| core.0).collect::<Vec<_>>(), turned);
            prop_assert_eq!(one.contains(CoreId(start)), a.contains(&start));
        }
    }

    #[test]
    fn of_two_that_take_a_core_one_gets_it() {
        let mask = SharedMask::default();
        assert!(mask.insert(CoreId(70)));
        assert!(!mask.insert(CoreId(70)));
        assert!(mask.contains(CoreId(70)));
        assert!(mask.remove(CoreId(70)));
        assert!(!mask.remove(CoreId(70)));
        assert!(!mask.insert(CoreId(256)), "numbers too large are ignored");
        assert!(mask.is_empty());
    }
}
