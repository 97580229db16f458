//! Flags against a model that knows only wide integers.

use super::*;
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
