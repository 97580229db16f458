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

#[cfg(test)]
mod tests {
    use super::*;

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
