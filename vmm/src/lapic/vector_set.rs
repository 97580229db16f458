//! A set of interrupt vectors, as IRR, ISR and TMR are.

use arch::Vector;

/// A set of the 256 vectors.
#[derive(Clone, Copy, Eq, Debug, Default)]
pub struct VectorSet([u64; 4]);

impl PartialEq for VectorSet {
    /// Word by word: a whole array is compared by a call, byte by byte.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h) == 0
    }
}

impl VectorSet {
    /// The set without vectors.
    pub const EMPTY: Self = Self([0; 4]);

    /// The set whose vectors 0 to 63 are the bits of the first word, and so on.
    pub const fn from_words(words: [u64; 4]) -> Self {
        Self(words)
    }

    /// The set as words: the bits of the first are vectors 0 to 63, and so on.
    pub const fn words(&self) -> [u64; 4] {
        self.0
    }

    /// The vectors from `32 * index` on, as the local APIC's registers show them. `index` counts modulo 8.
    #[expect(clippy::cast_possible_truncation, reason = "half of the word is what is asked for")]
    pub const fn register(&self, index: u8) -> u32 {
        (self.0[(index as usize >> 1) & 3] >> ((index & 1) * 32)) as u32
    }

    /// The vectors of either set.
    pub const fn union(&self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([a | e, b | f, c | g, d | h])
    }

    /// The vectors of this set that are not in `other`.
    pub const fn without(&self, other: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([a & !e, b & !f, c & !g, d & !h])
    }

    /// Whether the set has no vectors.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        let [a, b, c, d] = self.0;
        a | b | c | d == 0
    }

    /// Adds `vector`. Returns whether it was absent.
    #[inline]
    pub const fn insert(&mut self, vector: Vector) -> bool {
        let word = &mut self.0[vector.0 as usize >> 6];
        let before = *word;
        *word |= bit(vector);
        before != *word
    }

    /// Takes `vector` out. Returns whether it was there.
    #[inline]
    pub const fn remove(&mut self, vector: Vector) -> bool {
        let word = &mut self.0[vector.0 as usize >> 6];
        let before = *word;
        *word &= !bit(vector);
        before != *word
    }

    /// Whether `vector` is in the set.
    #[inline]
    pub const fn contains(&self, vector: Vector) -> bool {
        self.0[vector.0 as usize >> 6] & bit(vector) != 0
    }

    /// The highest vector in the set.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "word and bit number together are below 256")]
    pub const fn highest(&self) -> Option<Vector> {
        let mut word = 4;
        while word > 0 {
            word -= 1;
            if self.0[word] != 0 {
                return Some(Vector((word as u8) << 6 | (63 - self.0[word].leading_zeros() as u8)));
            }
        }
        None
    }
}

#[inline]
const fn bit(vector: Vector) -> u64 {
    1 << (vector.0 & 63)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn agrees_with_a_set_of_numbers(steps in prop::collection::vec((any::<u8>(), any::<bool>()), 0..200)) {
            let (mut set, mut model) = (VectorSet::EMPTY, BTreeSet::new());
            for (number, add) in steps {
                if add {
                    prop_assert_eq!(set.insert(Vector(number)), model.insert(number));
                } else {
                    prop_assert_eq!(set.remove(Vector(number)), model.remove(&number));
                }
                prop_assert_eq!(set.highest().map(|vector| vector.0), model.last().copied());
                prop_assert_eq!(set.contains(Vector(number)), model.contains(&number));
            }
            for index in 0..8u8 {
                for bit in 0..32u8 {
                    prop_assert_eq!(set.register(index) >> bit & 1 == 1, model.contains(&(index * 32 + bit)));
                }
            }
            prop_assert_eq!(VectorSet::from_words(set.words()), set);
        }
    }
}
