//! From segment and offset to a linear address: limits, access rights, canonical form.
//!
//! SDM Vol. 3A, "Limit Checking", "Type Checking", "Segment Limit Checks in 64-bit Mode"; Vol. 1, "Canonical
//! Addressing".

use crate::context::{Context, Mode};
use crate::{Access, Cpu};
use arch::{Exception, Gva, Segment, SegmentRegister};

/// Access-rights type bit: writable (data), readable (code).
const TYPE_WRITABLE_OR_READABLE: u32 = 1 << 1;
/// Access-rights type bit: expand-down (data).
const TYPE_EXPAND_DOWN: u32 = 1 << 2;
/// Access-rights type bit: code.
const TYPE_CODE: u32 = 1 << 3;

/// The linear address of `length` bytes at `offset` in `register`, which is CS for [`Access::Execute`].
///
/// # Errors
/// #GP(0), or #SS(0) for SS, as the processor gives it.
#[inline]
pub(crate) fn linear<C: Cpu>(
    cpu: &C,
    context: &Context,
    register: SegmentRegister,
    offset: u64,
    length: u64,
    access: Access,
) -> Result<Gva, Exception> {
    match context.mode {
        Mode::Long => {
            let base = match register {
                SegmentRegister::Fs | SegmentRegister::Gs => cpu.segment(register).base,
                SegmentRegister::Es
                | SegmentRegister::Cs
                | SegmentRegister::Ss
                | SegmentRegister::Ds
                | SegmentRegister::Ldtr
                | SegmentRegister::Tr => 0,
            };
            let first = base.wrapping_add(offset);
            let last = first.wrapping_add(length.saturating_sub(1));
            let bits = context.paging.linear_address_bits();
            if is_canonical(first, bits) && is_canonical(last, bits) {
                Ok(Gva::new(first))
            } else {
                Err(violation(register))
            }
        }
        Mode::Protected => {
            let segment = cpu.segment(register);
            if segment.is_unusable()
                || !type_allows(&segment, access)
                || !within_limit(&segment, offset, length)
            {
                return Err(violation(register));
            }
            Ok(legacy_sum(&segment, offset))
        }
        Mode::Real | Mode::Virtual8086 => {
            let segment = cpu.segment(register);
            if !within_limit(&segment, offset, length) {
                return Err(violation(register));
            }
            Ok(legacy_sum(&segment, offset))
        }
    }
}

/// Outside of 64-bit mode a linear address has 32 bits and wraps.
fn legacy_sum(segment: &Segment, offset: u64) -> Gva {
    Gva::new(segment.base.wrapping_add(offset) & 0xffff_ffff)
}

/// Whether bits 63 to `bits - 1` are all alike.
#[inline]
fn is_canonical(address: u64, bits: u32) -> bool {
    let high = address >> (bits - 1);
    high == 0 || high == u64::MAX >> (bits - 1)
}

fn violation(register: SegmentRegister) -> Exception {
    if register == SegmentRegister::Ss { Exception::StackFault(0) } else { Exception::GeneralProtection(0) }
}

fn type_allows(segment: &Segment, access: Access) -> bool {
    let rights = segment.access_rights;
    let is_code = rights & TYPE_CODE != 0;
    let bit = rights & TYPE_WRITABLE_OR_READABLE != 0;
    match access {
        Access::Read => !is_code || bit,
        Access::Write => !is_code && bit,
        Access::Execute => is_code,
    }
}

fn within_limit(segment: &Segment, offset: u64, length: u64) -> bool {
    let Some(last) = offset.checked_add(length.saturating_sub(1)) else {
        return false;
    };
    let limit = u64::from(segment.limit);
    let rights = segment.access_rights;
    if rights & TYPE_CODE == 0 && rights & TYPE_EXPAND_DOWN != 0 {
        let top = if segment.is_default_32() { 0xffff_ffff } else { 0xffff };
        offset > limit && last <= top
    } else {
        last <= limit
    }
}
