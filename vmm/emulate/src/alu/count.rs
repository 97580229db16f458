//! Bit counts and searches.
//!
//! SDM Vol. 2, "BSF", "BSR", "TZCNT", "LZCNT", "POPCNT".

use super::{Computed, logic};
use crate::instruction::BitCount;
use arch::{RFlags, Width};

/// The result for `value`, or the flags alone where there is none: BSF and BSR of zero leave their destination.
pub(crate) fn bit_count(operation: BitCount, width: Width, value: u64) -> Result<Computed, RFlags> {
    let value = value & width.mask();
    let bits = width.bytes() * 8;
    let trailing = || u64::from(value.trailing_zeros()).min(bits);
    let leading = || u64::from(value.leading_zeros()) + bits - 64;
    let is_zero = value == 0;
    match operation {
        BitCount::ScanForward | BitCount::ScanReverse if is_zero => Err(logic(width, value).flags),
        BitCount::ScanForward => {
            Ok(Computed { value: trailing(), flags: logic(width, value).flags - RFlags::ZERO_FLAG })
        }
        BitCount::ScanReverse => {
            Ok(Computed { value: bits - 1 - leading(), flags: logic(width, value).flags - RFlags::ZERO_FLAG })
        }
        BitCount::TrailingZeros => Ok(counted(width, trailing(), is_zero)),
        BitCount::LeadingZeros => Ok(counted(width, leading(), is_zero)),
        BitCount::Ones => {
            let flags = if is_zero { RFlags::ZERO_FLAG } else { RFlags::empty() };
            Ok(Computed { value: u64::from(value.count_ones()), flags })
        }
    }
}

/// The result of TZCNT and LZCNT: CF tells of a source of zero.
fn counted(width: Width, value: u64, source_is_zero: bool) -> Computed {
    let mut flags = logic(width, value).flags;
    flags.set(RFlags::CARRY_FLAG, source_is_zero);
    Computed { value, flags }
}
