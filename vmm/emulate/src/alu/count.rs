//! Bit counts and searches.
//!
//! SDM Vol. 2, "BSF", "BSR", "TZCNT", "LZCNT", "POPCNT".

use super::{Computed, logic};
use crate::instruction::BitCount;
use arch::{RFlags, Width};

/// The result for `value`; `None` for BSF and BSR of zero, which set ZF and leave everything else as it is.
pub(crate) fn bit_count(operation: BitCount, width: Width, value: u64) -> Option<Computed> {
    let value = value & width.mask();
    let bits = width.bytes() * 8;
    let trailing = || u64::from(value.trailing_zeros()).min(bits);
    let leading = || u64::from(value.leading_zeros()) + bits - 64;
    let is_zero = value == 0;
    match operation {
        BitCount::ScanForward | BitCount::ScanReverse if is_zero => None,
        BitCount::ScanForward => Some(scanned(width, trailing())),
        BitCount::ScanReverse => Some(scanned(width, bits - 1 - leading())),
        BitCount::TrailingZeros => Some(counted(width, trailing(), is_zero)),
        BitCount::LeadingZeros => Some(counted(width, leading(), is_zero)),
        BitCount::Ones => {
            let flags = if is_zero { RFlags::ZERO_FLAG } else { RFlags::empty() };
            Some(Computed { value: u64::from(value.count_ones()), flags })
        }
    }
}

/// The result of BSF and BSR with a bit found: ZF is clear, even at bit 0.
fn scanned(width: Width, value: u64) -> Computed {
    Computed { value, flags: logic(width, value).flags - RFlags::ZERO_FLAG }
}

/// The result of TZCNT and LZCNT: CF tells of a source of zero.
fn counted(width: Width, value: u64, source_is_zero: bool) -> Computed {
    let mut flags = logic(width, value).flags;
    flags.set(RFlags::CARRY_FLAG, source_is_zero);
    Computed { value, flags }
}
