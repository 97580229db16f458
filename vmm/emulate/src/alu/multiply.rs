//! Multiplication and division.
//!
//! SDM Vol. 2, "MUL", "IMUL", "DIV", "IDIV".

use super::{Computed, logic, sign_extend};
use crate::instruction::Signedness;
use arch::{RFlags, Width};

/// A product in two halves of its operands' width, and the flags: CF and OF tell whether the low half is not all of
/// it; the others, which the manual leaves undefined, are those of the low half.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Product {
    pub(crate) low: Computed,
    pub(crate) high: u64,
}

/// `left * right`, both `width` wide.
pub(crate) fn multiply(signedness: Signedness, width: Width, left: u64, right: u64) -> Product {
    let bits = width.bytes() * 8;
    let (low, high, fits) = match signedness {
        Signedness::Unsigned => {
            let product = u128::from(left & width.mask()) * u128::from(right & width.mask());
            let (low, high) = (truncated(product, width), truncated(product >> bits, width));
            (low, high, high == 0)
        }
        Signedness::Signed => {
            let extend = |value| i128::from(sign_extend(width, value).cast_signed());
            let product = extend(left) * extend(right);
            let low = truncated(product.cast_unsigned(), width);
            let high = truncated((product >> bits).cast_unsigned(), width);
            (low, high, extend(low) == product)
        }
    };
    let mut flags = logic(width, low).flags;
    flags.set(RFlags::CARRY_FLAG, !fits);
    flags.set(RFlags::OVERFLOW_FLAG, !fits);
    Product { low: Computed { value: low, flags }, high }
}

/// Quotient and remainder of `high:low / divisor`, all `width` wide; `None` for #DE: the divisor is zero, or the
/// quotient does not fit.
pub(crate) fn divide(
    signedness: Signedness,
    width: Width,
    high: u64,
    low: u64,
    divisor: u64,
) -> Option<(u64, u64)> {
    let bits = width.bytes() * 8;
    let dividend = (u128::from(high & width.mask()) << bits) | u128::from(low & width.mask());
    match signedness {
        Signedness::Unsigned => {
            let divisor = u128::from(divisor & width.mask());
            let quotient = dividend.checked_div(divisor)?;
            let remainder = truncated(dividend.checked_rem(divisor)?, width);
            (quotient <= u128::from(width.mask())).then(|| (truncated(quotient, width), remainder))
        }
        Signedness::Signed => {
            let unused = 128 - 2 * bits;
            let dividend = (dividend << unused).cast_signed() >> unused;
            let divisor = i128::from(sign_extend(width, divisor).cast_signed());
            let quotient = dividend.checked_div(divisor)?;
            let remainder = truncated(dividend.checked_rem(divisor)?.cast_unsigned(), width);
            let value = truncated(quotient.cast_unsigned(), width);
            let fits = i128::from(sign_extend(width, value).cast_signed()) == quotient;
            fits.then_some((value, remainder))
        }
    }
}

/// The low `width` of `value`.
#[expect(clippy::cast_possible_truncation, reason = "the low part is what is asked for")]
const fn truncated(value: u128, width: Width) -> u64 {
    value as u64 & width.mask()
}
