//! Repeatable random numbers: xorshift64*, by George Marsaglia and Sebastiano Vigna.

/// A generator, which is its state.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The sequence that `seed` begins.
    pub(crate) const fn new(seed: u64) -> Self {
        // Neighbouring seeds are to begin far apart, and zero is the one state that stays.
        let mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(if mixed == 0 { 1 } else { mixed })
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, which is not zero.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit.max(1)).unwrap_or(u64::MAX);
        usize::try_from((self.next() >> 16) % limit).unwrap_or(0)
    }

    pub(crate) const fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[4]
    }
}
