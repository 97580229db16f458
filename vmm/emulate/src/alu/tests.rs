//! Flags against a model that knows only wide integers.

use super::*;
use crate::instruction::{BitCount, DoubleShift, Shift, Signedness};
use proptest::prelude::*;

fn width() -> impl Strategy<Value = Width> {
    prop_oneof![Just(Width::One), Just(Width::Two), Just(Width::Four), Just(Width::Eight)]
}

/// Operands that are near the interesting edges more often than chance.
fn operand() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0_u64..3).prop_map(|small| small),
        (0_u64..3).prop_map(|small| u64::MAX - small),
        (0_u32..64, 0_u64..3).prop_map(|(bit, less)| (1_u64 << bit).wrapping_sub(less)),
    ]
}

/// All flags of an exact result: `exact` of the values as unsigned, `signed` of them as signed, `nibble` of
/// their low four bits.
fn model(width: Width, exact: i128, signed: i128, nibble: i128) -> RFlags {
    let modulus = 1_i128 << (width.bytes() * 8);
    let value = exact.rem_euclid(modulus);
    let mut flags = RFlags::empty();
    flags.set(RFlags::CARRY_FLAG, !(0..modulus).contains(&exact));
    flags.set(RFlags::OVERFLOW_FLAG, !(-modulus / 2..modulus / 2).contains(&signed));
    flags.set(RFlags::AUXILIARY_CARRY_FLAG, !(0..16).contains(&nibble));
    flags.set(RFlags::ZERO_FLAG, value == 0);
    flags.set(RFlags::SIGN_FLAG, value >= modulus / 2);
    flags.set(RFlags::PARITY_FLAG, (0..8).filter(|bit| value >> bit & 1 == 1).count() % 2 == 0);
    flags
}

fn signed(width: Width, value: u64) -> i128 {
    i128::from(sign_extend(width, value).cast_signed())
}

proptest! {
    #[test]
    fn add_agrees_with_the_model(width in width(), left in operand(), right in operand(), carry: bool) {
        let (left, right, c) = (left & width.mask(), right & width.mask(), i128::from(carry));
        let exact = i128::from(left) + i128::from(right) + c;
        let nibble = i128::from(left & 15) + i128::from(right & 15) + c;
        let computed = add(width, left, right, carry);
        prop_assert_eq!(computed.flags, model(width, exact, signed(width, left) + signed(width, right) + c, nibble));
        prop_assert_eq!(i128::from(computed.value), exact % (i128::from(width.mask()) + 1));
    }

    #[test]
    fn subtract_agrees_with_the_model(width in width(), left in operand(), right in operand(), borrow: bool) {
        let (left, right, b) = (left & width.mask(), right & width.mask(), i128::from(borrow));
        let exact = i128::from(left) - i128::from(right) - b;
        let nibble = i128::from(left & 15) - i128::from(right & 15) - b;
        let computed = subtract(width, left, right, borrow);
        prop_assert_eq!(computed.flags, model(width, exact, signed(width, left) - signed(width, right) - b, nibble));
        prop_assert_eq!(i128::from(computed.value), exact.rem_euclid(i128::from(width.mask()) + 1));
    }
}

/// One step of a shift or rotation, from the manual's description of it bit by bit: the new value and CF.
fn step(operation: Shift, width: Width, value: u64, carry: bool) -> (u64, bool) {
    let (top, low) = (value & sign_bit(width), value & 1);
    let incoming = |set: bool, bit: u64| if set { bit } else { 0 };
    match operation {
        Shift::Left => ((value << 1) & width.mask(), top != 0),
        Shift::Right => (value >> 1, low != 0),
        Shift::ArithmeticRight => (value >> 1 | top, low != 0),
        Shift::RotateLeft => ((value << 1) & width.mask() | incoming(top != 0, 1), top != 0),
        Shift::RotateRight => (value >> 1 | incoming(low != 0, sign_bit(width)), low != 0),
        Shift::RotateLeftThroughCarry => ((value << 1) & width.mask() | incoming(carry, 1), top != 0),
        Shift::RotateRightThroughCarry => (value >> 1 | incoming(carry, sign_bit(width)), low != 0),
    }
}

fn any_shift() -> impl Strategy<Value = Shift> {
    prop_oneof![
        Just(Shift::Left),
        Just(Shift::Right),
        Just(Shift::ArithmeticRight),
        Just(Shift::RotateLeft),
        Just(Shift::RotateRight),
        Just(Shift::RotateLeftThroughCarry),
        Just(Shift::RotateRightThroughCarry)
    ]
}

fn flags() -> impl Strategy<Value = RFlags> {
    any::<u64>().prop_map(|bits| RFlags::from_bits_retain(bits) & STATUS)
}

/// ZF, SF and PF of a value.
fn result_flags(width: Width, value: u64) -> RFlags {
    model(width, i128::from(value), 0, 0) & (RFlags::ZERO_FLAG | RFlags::SIGN_FLAG | RFlags::PARITY_FLAG)
}

proptest! {
    #[test]
    fn shifts_agree_with_shifting_bit_by_bit(
        operation in any_shift(), width in width(), value in operand(), count: u64, flags in flags(),
    ) {
        let value = value & width.mask();
        let steps = count & if width == Width::Eight { 63 } else { 31 };
        let (mut result, mut carry) = (value, flags.contains(RFlags::CARRY_FLAG));
        for _ in 0..steps {
            (result, carry) = step(operation, width, result, carry);
        }
        let computed = shift(operation, width, value, count, flags);
        prop_assert_eq!(computed.value, result);
        if steps == 0 {
            prop_assert_eq!(computed.flags, flags);
            return Ok(());
        }
        prop_assert_eq!(computed.flags.contains(RFlags::CARRY_FLAG), carry);
        let rotates = !matches!(operation, Shift::Left | Shift::Right | Shift::ArithmeticRight);
        let others = RFlags::ZERO_FLAG | RFlags::SIGN_FLAG | RFlags::PARITY_FLAG;
        prop_assert_eq!(computed.flags & others, if rotates { flags & others } else { result_flags(width, result) });
        if steps == 1 {
            // SDM Vol. 2: of one-bit shifts and rotations OF tells whether the sign has changed, but for SAR.
            let changed = (value ^ result) & sign_bit(width) != 0;
            let overflows = operation != Shift::ArithmeticRight && changed;
            prop_assert_eq!(computed.flags.contains(RFlags::OVERFLOW_FLAG), overflows);
        }
    }

    #[test]
    fn double_shifts_agree_with_shifting_bit_by_bit(
        left: bool, width in width(), value in operand(), from in operand(), count: u64, flags in flags(),
    ) {
        prop_assume!(width != Width::One);
        let (value, from) = (value & width.mask(), from & width.mask());
        let bits = width.bytes() * 8;
        let steps = count & if width == Width::Eight { 63 } else { 31 };
        let (mut result, mut incoming, mut carry) = (value, from, flags.contains(RFlags::CARRY_FLAG));
        let operation = if left { DoubleShift::Left } else { DoubleShift::Right };
        for done in 0..steps {
            if done == bits {
                // Only with a word: the word itself follows.
                incoming = value;
            }
            let source = if left { Shift::RotateLeft } else { Shift::RotateRight };
            let target = if left { Shift::RotateLeftThroughCarry } else { Shift::RotateRightThroughCarry };
            let bit;
            (incoming, bit) = step(source, width, incoming, false);
            (result, carry) = step(target, width, result, bit);
        }
        let computed = double_shift(operation, width, value, from, count, flags);
        prop_assert_eq!(computed.value, result);
        prop_assert_eq!(computed.flags.contains(RFlags::CARRY_FLAG), carry);
        if steps == 0 {
            prop_assert_eq!(computed.flags, flags);
        } else {
            prop_assert_eq!(computed.flags & result_flags(width, result), result_flags(width, result));
        }
        if steps == 1 {
            let changed = (value ^ result) & sign_bit(width) != 0;
            prop_assert_eq!(computed.flags.contains(RFlags::OVERFLOW_FLAG), changed);
        }
    }

    #[test]
    fn products_agree_with_adding(width in width(), left in operand(), right in operand()) {
        let bits = width.bytes() * 8;
        // Schoolbook: one addition a bit, modulo twice the width.
        let double = |value: u64, signed: bool| {
            let extended = if signed { i128::from(sign_extend(width, value).cast_signed()).cast_unsigned() } else {
                u128::from(value & width.mask())
            };
            extended & (u128::MAX >> (128 - 2 * bits))
        };
        for signed in [false, true] {
            let (a, b) = (double(left, signed), double(right, signed));
            let mut sum = 0_u128;
            for bit in 0..2 * bits {
                if b >> bit & 1 != 0 {
                    sum = sum.wrapping_add(a << bit);
                }
            }
            let sum = sum & (u128::MAX >> (128 - 2 * bits));
            let signedness = if signed { Signedness::Signed } else { Signedness::Unsigned };
            let product = multiply(signedness, width, left, right);
            prop_assert_eq!(u128::from(product.high) << bits | u128::from(product.low.value), sum);
            let fits = sum == double(product.low.value, signed);
            prop_assert_eq!(product.low.flags.contains(RFlags::CARRY_FLAG | RFlags::OVERFLOW_FLAG), !fits);
        }
    }

    #[test]
    fn quotient_and_remainder_make_the_dividend(
        signed: bool, width in width(), high in operand(), low in operand(), divisor in operand(),
    ) {
        let signedness = if signed { Signedness::Signed } else { Signedness::Unsigned };
        let divisor = divisor & width.mask();
        // Both a dividend of any size and one that fits more often.
        for high in [high & width.mask(), 0, width.mask()] {
            let Some((quotient, remainder)) = divide(signedness, width, high, low, divisor) else {
                if !signed {
                    prop_assert!(divisor == 0 || high >= divisor, "#DE means that it does not fit");
                }
                continue;
            };
            prop_assert!(divisor != 0);
            // high:low = quotient * divisor + remainder, modulo twice the width.
            let product = multiply(signedness, width, quotient, divisor);
            let whole = u128::from(product.high) << (width.bytes() * 8) | u128::from(product.low.value);
            let extra = if signed {
                i128::from(sign_extend(width, remainder).cast_signed()).cast_unsigned()
            } else {
                u128::from(remainder)
            };
            let unused = 128 - 16 * width.bytes();
            let dividend = u128::from(high) << (width.bytes() * 8) | u128::from(low & width.mask());
            prop_assert_eq!(whole.wrapping_add(extra) << unused, dividend << unused);
            let size = |value| if signed { sign_extend(width, value).cast_signed().unsigned_abs() } else { value };
            prop_assert!(size(remainder) < size(divisor));
            if signed && remainder != 0 {
                prop_assert_eq!(remainder & sign_bit(width) != 0, high & sign_bit(width) != 0, "its sign");
            }
        }
    }

    #[test]
    fn bit_counts_agree_with_looking_at_each_bit(width in width(), value in operand()) {
        let value = value & width.mask();
        let bits = width.bytes() * 8;
        let set: Vec<u64> = (0..bits).filter(|bit| value >> bit & 1 != 0).collect();
        let result = |operation| bit_count(operation, width, value).map(|computed| computed.value);
        prop_assert_eq!(result(BitCount::ScanForward), set.first().copied());
        prop_assert_eq!(result(BitCount::ScanReverse), set.last().copied());
        prop_assert_eq!(result(BitCount::TrailingZeros), Some(set.first().copied().unwrap_or(bits)));
        prop_assert_eq!(result(BitCount::LeadingZeros), Some(set.last().map_or(bits, |last| bits - 1 - last)));
        prop_assert_eq!(result(BitCount::Ones), Some(set.len() as u64));
        let flags = |operation| bit_count(operation, width, value).map_or(RFlags::ZERO_FLAG, |done| done.flags);
        let none = set.is_empty();
        for operation in [BitCount::ScanForward, BitCount::ScanReverse, BitCount::Ones] {
            prop_assert_eq!(flags(operation).contains(RFlags::ZERO_FLAG), none);
        }
        for operation in [BitCount::TrailingZeros, BitCount::LeadingZeros] {
            prop_assert_eq!(flags(operation).contains(RFlags::CARRY_FLAG), none);
            prop_assert_eq!(flags(operation).contains(RFlags::ZERO_FLAG), result(operation) == Some(0));
        }
    }
}

#[test]
fn conditions_are_those_of_their_names() {
    let cases: [(u8, RFlags, bool); 14] = [
        (0x0, RFlags::OVERFLOW_FLAG, true),
        (0x2, RFlags::CARRY_FLAG, true),
        (0x3, RFlags::CARRY_FLAG, false),
        (0x4, RFlags::ZERO_FLAG, true),
        (0x6, RFlags::ZERO_FLAG, true),
        (0x6, RFlags::CARRY_FLAG, true),
        (0x7, RFlags::empty(), true),
        (0x8, RFlags::SIGN_FLAG, true),
        (0xa, RFlags::PARITY_FLAG, true),
        (0xc, RFlags::OVERFLOW_FLAG, true),
        (0xc, RFlags::SIGN_FLAG.union(RFlags::OVERFLOW_FLAG), false),
        (0xe, RFlags::ZERO_FLAG, true),
        (0xf, RFlags::SIGN_FLAG.union(RFlags::OVERFLOW_FLAG), true),
        (0xf, RFlags::ZERO_FLAG, false),
    ];
    for (condition, flags, wanted) in cases {
        assert_eq!(holds(Condition(condition), flags), wanted, "{condition:#x} {flags:?}");
        assert_eq!(holds(Condition(condition ^ 1), flags), !wanted, "{:#x} {flags:?}", condition ^ 1);
    }
}
