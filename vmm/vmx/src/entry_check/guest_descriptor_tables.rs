//! SDM Vol. 3C, "Checks on Guest Descriptor-Table Registers".

use super::checker::Checker;
use crate::{VmcsAccess, field};

pub(super) fn check<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    checker.section("Checks on Guest Descriptor-Table Registers");
    let bases = [
        ("guest GDTR base must be canonical", field::GUEST_GDTR_BASE),
        ("guest IDTR base must be canonical", field::GUEST_IDTR_BASE),
    ];
    for (rule, base) in bases {
        let base = checker.read(base);
        checker.rule(rule, base, checker.is_canonical(base));
    }
    let limits = [
        ("guest GDTR limit: bits 31:16 must be 0", field::GUEST_GDTR_LIMIT),
        ("guest IDTR limit: bits 31:16 must be 0", field::GUEST_IDTR_LIMIT),
    ];
    for (rule, limit) in limits {
        let limit = checker.read(limit);
        checker.no_bits(rule, limit & 0xffff_0000);
    }
}
