//! An input, read from its beginning.

use arch::Width;

/// Bytes that are read until they end; then zeros.
#[derive(Clone, Debug)]
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// Reads `input` from its beginning.
    pub const fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    /// Whether all were read.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that were not read yet.
    pub const fn into_rest(self) -> &'a [u8] {
        self.0
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// The next two bytes.
    pub fn word(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// The next four bytes.
    pub fn dword(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// The next eight bytes.
    pub fn qword(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `limit`, from two bytes.
    pub fn below(&mut self, limit: u16) -> u16 {
        self.word() % limit.max(1)
    }

    /// One of `choices`, from one byte.
    ///
    /// # Panics
    /// Without choices.
    pub fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// The width of an access to a port: 1, 2 or 4 bytes.
    pub fn port_width(&mut self) -> Width {
        self.choose(&[Width::One, Width::Two, Width::Four])
    }

    /// The width of an access to memory: 1, 2, 4 or 8 bytes.
    pub fn memory_width(&mut self) -> Width {
        self.choose(&[Width::One, Width::Two, Width::Four, Width::Eight])
    }

    /// A number of any magnitude: as many low bits of eight bytes as the first byte says.
    pub fn magnitude(&mut self) -> u64 {
        let bits = u32::from(self.byte()) % 65;
        let value = self.qword();
        if bits == 0 { 0 } else { value >> (64 - bits) }
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        core::array::from_fn(|_| self.byte())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_the_end_there_are_zeros() {
        let mut bytes = Bytes::new(&[1, 2, 3]);
        assert_eq!((bytes.word(), bytes.is_empty()), (0x201, false));
        assert_eq!(bytes.clone().into_rest(), [3]);
        assert_eq!((bytes.dword(), bytes.is_empty(), bytes.qword()), (3, true, 0));
    }

    #[test]
    fn choices_stay_within_their_bounds() {
        let mut bytes = Bytes::new(&[0xff; 64]);
        assert!(bytes.below(10) < 10);
        assert_eq!(bytes.below(0), 0);
        assert_eq!(bytes.choose(&[7]), 7);
        assert!(bytes.magnitude() < 1 << 63);
    }
}
