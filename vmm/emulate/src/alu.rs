//! Arithmetic, logic and their flags: pure functions of operands.
//!
//! SDM Vol. 1, "EFLAGS Cross-Reference". Flags that the manual leaves undefined are given as processors commonly do:
//! AF is clear after logic, shifts and multiplications, and DIV changes none.

mod count;
mod multiply;
mod shift;

#[cfg(test)]
mod tests;

pub(crate) use count::bit_count;
pub(crate) use multiply::{divide, multiply};
pub(crate) use shift::{double_shift, shift};

use crate::instruction::{Binary, Condition, Unary};
use arch::{RFlags, Width};

/// The status flags: what arithmetic writes.
pub(crate) const STATUS: RFlags = RFlags::CARRY_FLAG
    .union(RFlags::PARITY_FLAG)
    .union(RFlags::AUXILIARY_CARRY_FLAG)
    .union(RFlags::ZERO_FLAG)
    .union(RFlags::SIGN_FLAG)
    .union(RFlags::OVERFLOW_FLAG);

/// A result within its width, and all status flags for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Computed {
    pub(crate) value: u64,
    pub(crate) flags: RFlags,
}

/// `left operation right`; `carry` is CF before it.
pub(crate) fn binary(operation: Binary, width: Width, left: u64, right: u64, carry: bool) -> Computed {
    match operation {
        Binary::Add => add(width, left, right, false),
        Binary::AddWithCarry => add(width, left, right, carry),
        Binary::Subtract => subtract(width, left, right, false),
        Binary::SubtractWithBorrow => subtract(width, left, right, carry),
        Binary::And => logic(width, left & right),
        Binary::Or => logic(width, left | right),
        Binary::Xor => logic(width, left ^ right),
    }
}

/// `operation value`; `flags` are those before it, of which NOT changes none and INC and DEC keep CF.
pub(crate) fn unary(operation: Unary, width: Width, value: u64, flags: RFlags) -> Computed {
    let keeping_carry = |computed: Computed| Computed {
        value: computed.value,
        flags: (computed.flags - RFlags::CARRY_FLAG) | (flags & RFlags::CARRY_FLAG),
    };
    match operation {
        Unary::Increment => keeping_carry(add(width, value, 1, false)),
        Unary::Decrement => keeping_carry(subtract(width, value, 1, false)),
        Unary::Not => Computed { value: !value & width.mask(), flags: flags & STATUS },
        Unary::Negate => subtract(width, 0, value, false),
    }
}

/// Whether `condition` holds with `flags`.
pub(crate) fn holds(condition: Condition, flags: RFlags) -> bool {
    let (zero, carry) = (flags.contains(RFlags::ZERO_FLAG), flags.contains(RFlags::CARRY_FLAG));
    let less = flags.contains(RFlags::SIGN_FLAG) != flags.contains(RFlags::OVERFLOW_FLAG);
    let positive = match (condition.0 >> 1) & 7 {
        0 => flags.contains(RFlags::OVERFLOW_FLAG),
        1 => carry,
        2 => zero,
        3 => carry || zero,
        4 => flags.contains(RFlags::SIGN_FLAG),
        5 => flags.contains(RFlags::PARITY_FLAG),
        6 => less,
        _ => less || zero,
    };
    // The odd ones are the opposites.
    positive == (condition.0 & 1 == 0)
}

/// `left + right + carry`.
pub(crate) fn add(width: Width, left: u64, right: u64, carry: bool) -> Computed {
    let value = left.wrapping_add(right).wrapping_add(u64::from(carry)) & width.mask();
    // The carry out of each bit position.
    let carries = (left & right) | ((left | right) & !value);
    let overflows = (left ^ value) & (right ^ value);
    Computed { value, flags: arithmetic(width, value, carries, overflows) }
}

/// `left - right - borrow`.
pub(crate) fn subtract(width: Width, left: u64, right: u64, borrow: bool) -> Computed {
    let value = left.wrapping_sub(right).wrapping_sub(u64::from(borrow)) & width.mask();
    // The borrow into each bit position.
    let borrows = (!left & right) | ((!left | right) & value);
    let overflows = (left ^ right) & (left ^ value);
    Computed { value, flags: arithmetic(width, value, borrows, overflows) }
}

/// A logical result: CF, OF and AF are clear.
pub(crate) fn logic(width: Width, value: u64) -> Computed {
    let value = value & width.mask();
    Computed { value, flags: of_result(width, value) }
}

/// The highest bit of a value of `width`.
const fn sign_bit(width: Width) -> u64 {
    1 << (width.bytes() * 8 - 1)
}

/// `value` of width `from`, sign-extended to 64 bits.
pub(crate) const fn sign_extend(from: Width, value: u64) -> u64 {
    let value = value & from.mask();
    if value & sign_bit(from) != 0 { value | !from.mask() } else { value }
}

fn arithmetic(width: Width, value: u64, carries: u64, overflows: u64) -> RFlags {
    let mut flags = of_result(width, value);
    flags.set(RFlags::CARRY_FLAG, carries & sign_bit(width) != 0);
    flags.set(RFlags::AUXILIARY_CARRY_FLAG, carries & 8 != 0);
    flags.set(RFlags::OVERFLOW_FLAG, overflows & sign_bit(width) != 0);
    flags
}

/// ZF, SF and PF.
fn of_result(width: Width, value: u64) -> RFlags {
    let mut flags = RFlags::empty();
    flags.set(RFlags::ZERO_FLAG, value == 0);
    flags.set(RFlags::SIGN_FLAG, value & sign_bit(width) != 0);
    flags.set(RFlags::PARITY_FLAG, (value & 0xff).count_ones().is_multiple_of(2));
    flags
}
