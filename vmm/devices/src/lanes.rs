//! Byte lanes: the parts of a wide access that a narrower register sees.

use arch::Width;

/// The low byte of `value`.
#[inline]
pub(crate) const fn low_byte(value: u32) -> u8 {
    value.to_le_bytes()[0]
}

/// The low half of `value`.
#[inline]
pub(crate) const fn low_half(value: u32) -> u16 {
    let bytes = value.to_le_bytes();
    u16::from_le_bytes([bytes[0], bytes[1]])
}

/// The low word of `value`.
#[inline]
pub(crate) const fn low_word(value: u64) -> u32 {
    let bytes = value.to_le_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// The mask of a port access of `width`, which is at most four bytes.
#[inline]
pub(crate) const fn port_mask(width: Width) -> u32 {
    low_word(width.mask())
}

/// `width` bytes of `register`, from its byte `offset` on; bytes past its end read as ones.
pub(crate) fn extract(register: u32, offset: u16, width: Width) -> u32 {
    let lanes = u64::from(register) | 0xffff_ffff_0000_0000;
    low_word(lanes >> (8 * u32::from(offset & 3))) & port_mask(width)
}

/// `register` with `width` bytes replaced by `value`, from its byte `offset` on; bytes past its end are dropped.
pub(crate) fn insert(register: u32, offset: u16, width: Width, value: u32) -> u32 {
    let shift = 8 * u32::from(offset & 3);
    let mask = port_mask(width) << shift;
    (register & !mask) | ((value << shift) & mask)
}

/// Reads `width` at byte `offset` of a block of 4-byte registers, each of which `read` gives by the offset of its first
/// byte. An access may begin and end anywhere, and touches up to three registers.
pub(crate) fn read_words(offset: u64, width: Width, mut read: impl FnMut(u64) -> u32) -> u64 {
    let shift = 8 * (offset & 3);
    let mask = u128::from(width.mask()) << shift;
    let mut lanes = 0_u128;
    for word in 0..3 {
        if word_of(mask, word) != 0 {
            lanes |= u128::from(read((offset & !3).wrapping_add(4 * word))) << (32 * word);
        }
    }
    low_double(lanes >> shift) & width.mask()
}

/// Writes `width` at byte `offset` of a block of 4-byte registers. `write` is given the offset of a register's first
/// byte, the value in its lanes, and the mask of the bits that are written: the byte enables.
pub(crate) fn write_words(offset: u64, width: Width, value: u64, mut write: impl FnMut(u64, u32, u32)) {
    let shift = 8 * (offset & 3);
    let mask = u128::from(width.mask()) << shift;
    let lanes = u128::from(value) << shift;
    for word in 0..3 {
        let mask = word_of(mask, word);
        if mask != 0 {
            write((offset & !3).wrapping_add(4 * word), word_of(lanes, word) & mask, mask);
        }
    }
}

/// The 4-byte word number `word` of `lanes`.
const fn word_of(lanes: u128, word: u64) -> u32 {
    low_word(low_double(lanes >> (32 * word)))
}

/// The low half of `value`.
#[expect(clippy::cast_possible_truncation, reason = "it takes the low half")]
const fn low_double(value: u128) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_access_to_words_is_one_to_the_bytes_in_them(
            bytes in prop::array::uniform16(any::<u8>()),
            offset in 0_u64..8,
            width in prop::sample::select(vec![Width::One, Width::Two, Width::Four, Width::Eight]),
            value in any::<u64>(),
        ) {
            let mut words = [0_u32; 4];
            for (word, bytes) in words.iter_mut().zip(bytes.chunks(4)) {
                *word = u32::from_le_bytes(bytes.try_into().expect("four"));
            }
            let index = |offset: u64| usize::try_from(offset / 4).expect("small");
            let read = read_words(offset, width, |offset| words[index(offset)]);
            let (first, count) = (index(4 * offset), index(4 * width.bytes()));
            prop_assert_eq!(&read.to_le_bytes()[..count], &bytes[first..first + count]);

            let mut expected = bytes;
            expected[first..first + count].copy_from_slice(&value.to_le_bytes()[..count]);
            write_words(offset, width, value, |offset, value, mask| {
                let word = &mut words[index(offset)];
                *word = (*word & !mask) | value;
            });
            let written: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            prop_assert_eq!(written.as_slice(), expected.as_slice());
        }
    }

    #[test]
    fn extract_and_insert_address_the_same_lanes() {
        assert_eq!(extract(0x1122_3344, 1, Width::Two), 0x2233);
        assert_eq!(insert(0x1122_3344, 1, Width::Two, 0xaabb), 0x11aa_bb44);
        assert_eq!(extract(0x1122_3344, 0, Width::Four), 0x1122_3344);
        assert_eq!(insert(0x1122_3344, 0, Width::Four, 7), 7);
    }

    #[test]
    fn lanes_past_the_register_read_ones_and_drop_writes() {
        assert_eq!(extract(0, 3, Width::Two), 0xff00);
        assert_eq!(insert(0, 3, Width::Two, 0xaabb), 0xbb00_0000);
    }
}
