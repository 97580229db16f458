//! Shifts and rotates.
//!
//! SDM Vol. 2, "SAL/SAR/SHL/SHR", "RCL/RCR/ROL/ROR", "SHLD", "SHRD". A count is taken modulo 32, or 64 for 64-bit
//! operands. OF is defined for a count of one alone; the formula is used for the others too.

use super::{Computed, logic, sign_bit, sign_extend};
use crate::instruction::{DoubleShift, Shift};
use arch::{RFlags, Width};

const CARRY_AND_OVERFLOW: RFlags = RFlags::CARRY_FLAG.union(RFlags::OVERFLOW_FLAG);

/// The count as the processor takes it, and the bits of the operand.
fn effective(width: Width, count: u64) -> (u32, u32) {
    let bits = match width {
        Width::One => 8,
        Width::Two => 16,
        Width::Four => 32,
        Width::Eight => 64,
    };
    let mask = if width == Width::Eight { 0x3f } else { 0x1f };
    (u32::from((count & mask).to_le_bytes()[0]), bits)
}

/// `value` shifted or rotated; `flags` are those before it, which a count of zero keeps.
pub(crate) fn shift(operation: Shift, width: Width, value: u64, count: u64, flags: RFlags) -> Computed {
    let (count, bits) = effective(width, count);
    let value = value & width.mask();
    if count == 0 {
        return Computed { value, flags };
    }
    let top = |result: u64| result & sign_bit(width) != 0;
    let below_top = |result: u64| result & (sign_bit(width) >> 1) != 0;
    match operation {
        Shift::Left => {
            // The bit that leaves last is just above the operand.
            let wide = u128::from(value) << count;
            let carry = (wide >> bits) & 1 != 0;
            let result = low(wide) & width.mask();
            shifted(width, result, carry, carry != top(result))
        }
        Shift::Right => {
            let carry = value.unbounded_shr(count - 1) & 1 != 0;
            let result = value.unbounded_shr(count);
            shifted(width, result, carry, below_top(result) != top(result))
        }
        Shift::ArithmeticRight => {
            let extended = sign_extend(width, value).cast_signed();
            let carry = (extended >> (count - 1).min(63)) & 1 != 0;
            let result = (extended >> count.min(63)).cast_unsigned() & width.mask();
            shifted(width, result, carry, false)
        }
        Shift::RotateLeft => {
            let result = rotate_left(value, count % bits, bits, width.mask());
            let carry = result & 1 != 0;
            rotated(result, carry, carry != top(result), flags)
        }
        Shift::RotateRight => {
            let result = rotate_left(value, bits - count % bits, bits, width.mask());
            rotated(result, top(result), top(result) != below_top(result), flags)
        }
        Shift::RotateLeftThroughCarry => {
            let (result, carry) = through_carry(value, count % (bits + 1), bits, flags);
            match count % (bits + 1) {
                0 => Computed { value, flags },
                _ => rotated(result, carry, carry != top(result), flags),
            }
        }
        Shift::RotateRightThroughCarry => {
            let (result, carry) = through_carry(value, bits + 1 - count % (bits + 1), bits, flags);
            match count % (bits + 1) {
                0 => Computed { value, flags },
                _ => rotated(result, carry, top(result) != below_top(result), flags),
            }
        }
    }
}

/// SHLD or SHRD: `value` shifted, with bits of `from` coming in. A 16-bit operand goes in once more behind 16 bits of
/// `from`, as processors do it; the manual leaves that undefined.
pub(crate) fn double_shift(
    operation: DoubleShift,
    width: Width,
    value: u64,
    from: u64,
    count: u64,
    flags: RFlags,
) -> Computed {
    let (count, bits) = effective(width, count);
    let (value, from) = (value & width.mask(), from & width.mask());
    if count == 0 {
        return Computed { value, flags };
    }
    let top = |result: u64| result & sign_bit(width) != 0;
    let again = if width == Width::Two { u128::from(value) } else { 0 };
    match operation {
        DoubleShift::Left => {
            let pair = (u128::from(value) << bits) | u128::from(from);
            let (wide, above) =
                if width == Width::Two { ((pair << bits) | again, 2 * bits) } else { (pair, bits) };
            let carry = (wide >> (above + bits - count)) & 1 != 0;
            let result = low(wide >> (above - count)) & width.mask();
            shifted(width, result, carry, carry != top(result))
        }
        DoubleShift::Right => {
            let pair = (u128::from(from) << bits) | u128::from(value);
            let wide = if width == Width::Two { (again << (2 * bits)) | pair } else { pair };
            let carry = (wide >> (count - 1)) & 1 != 0;
            let result = low(wide >> count) & width.mask();
            shifted(width, result, carry, top(result) != (result & (sign_bit(width) >> 1) != 0))
        }
    }
}

/// The low 64 bits.
#[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
const fn low(value: u128) -> u64 {
    value as u64
}

/// The result of a shift: all status flags are of the result, but for two.
fn shifted(width: Width, value: u64, carry: bool, overflow: bool) -> Computed {
    rotated(value, carry, overflow, logic(width, value).flags)
}

/// The result of a rotation: two flags change.
fn rotated(value: u64, carry: bool, overflow: bool, flags: RFlags) -> Computed {
    let mut flags = flags - CARRY_AND_OVERFLOW;
    flags.set(RFlags::CARRY_FLAG, carry);
    flags.set(RFlags::OVERFLOW_FLAG, overflow);
    Computed { value, flags }
}

/// The low `bits` bits of `value`, rotated left by `count`, which is at most `bits`.
fn rotate_left(value: u64, count: u32, bits: u32, mask: u64) -> u64 {
    let wide = u128::from(value) << count;
    (low(wide) | low(wide >> bits)) & mask
}

/// CF and the low `bits` bits of `value` rotated left together by `count`, which is at most one more than `bits`.
fn through_carry(value: u64, count: u32, bits: u32, flags: RFlags) -> (u64, bool) {
    let carry = u128::from(flags.contains(RFlags::CARRY_FLAG));
    let all = (carry << bits) | u128::from(value);
    let wide_bits = bits + 1;
    // At most 65 bits, rotated by at most 65: done in two halves, since the sum has more than 128 bits.
    let mask = (1_u128 << wide_bits) - 1;
    let left = if count >= wide_bits { 0 } else { (all & (mask >> count)) << count };
    let around = all >> (wide_bits - count);
    let result = (left | around) & mask;
    (low(result) & (u64::MAX >> (64 - bits)), (result >> bits) & 1 != 0)
}
