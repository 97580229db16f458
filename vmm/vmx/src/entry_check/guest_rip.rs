//! SDM Vol. 3C, "Checks on Guest RIP, RFLAGS, and SSP".

use super::bits::ENTRY_LOAD_CET;
use super::checker::Checker;
use super::entry_controls::Injection;
use crate::{VmcsAccess, field};
use arch::{Cr0Flags, RFlags, SegmentRegister};

/// RFLAGS: bits 63:22, 15, 5 and 3.
const RFLAGS_ZERO: u64 = !0x3f_ffff | 1 << 15 | 1 << 5 | 1 << 3;
/// RFLAGS: bit 1.
const RFLAGS_ONE: u64 = 1 << 1;

pub(super) fn check<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    checker.section("Checks on Guest RIP, RFLAGS, and SSP");
    let is_64_bit = checker.is_ia32e() && checker.segment(SegmentRegister::Cs).is_long();
    instruction_pointer(checker, is_64_bit);
    flags(checker);
    if checker.entry.contains(ENTRY_LOAD_CET) {
        shadow_stack_pointer(checker);
    }
}

fn instruction_pointer<V: VmcsAccess>(checker: &mut Checker<'_, V>, is_64_bit: bool) {
    let rip = checker.read(field::GUEST_RIP);
    if is_64_bit {
        checker.rule(
            "guest RIP: the bits above the linear-address width must be identical",
            rip,
            fits_linear_width(rip, checker.linear_bits()),
        );
    } else {
        checker.no_bits("guest RIP: bits 63:32 must be 0 outside 64-bit mode", rip >> 32 << 32);
    }
}

/// Weaker than canonical: bit `width - 1` need not be the same as those above it, so RIP may lie just past the
/// lower half, where an instruction at its end leads.
fn fits_linear_width(address: u64, width: u32) -> bool {
    let above = address >> width;
    above == 0 || above == u64::MAX >> width
}

fn flags<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let flags = checker.rflags;
    checker.no_bits("guest RFLAGS: bits 63:22, 15, 5 and 3 must be 0", flags.bits() & RFLAGS_ZERO);
    checker.rule("guest RFLAGS: bit 1 must be 1", flags.bits(), flags.bits() & RFLAGS_ONE != 0);
    let protected = checker.cr0.contains(Cr0Flags::PROTECTED_MODE_ENABLE);
    checker.rule(
        "guest RFLAGS.VM must be 0 in IA-32e mode and in real mode",
        flags.bits(),
        !checker.is_virtual_8086() || protected && !checker.is_ia32e(),
    );
    if checker.injection.is_some_and(Injection::is_external) {
        checker.rule(
            "guest RFLAGS.IF must be 1 to inject an external interrupt",
            flags.bits(),
            flags.contains(RFlags::INTERRUPT_FLAG),
        );
    }
}

fn shadow_stack_pointer<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let stack = checker.read(field::GUEST_SSP);
    checker.no_bits("guest SSP: bits 1:0 must be 0", stack & 3);
    checker.rule(
        "guest SSP: the bits above the linear-address width must be identical",
        stack,
        fits_linear_width(stack, checker.linear_bits()),
    );
}
