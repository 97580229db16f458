//! SDM Vol. 3C, "Checks on Guest Page-Directory-Pointer-Table Entries".

use super::checker::Checker;
use crate::{Secondary, VmcsAccess, field};
use arch::{Cr0Flags, Cr4Flags};

const PRESENT: u64 = 1;
/// Bits 2:1 and 8:5, which are reserved in a PDPTE of PAE paging.
const RESERVED: u64 = 0x1e6;

pub(super) fn check<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    checker.section("Checks on Guest Page-Directory-Pointer-Table Entries");
    let pae_paging = checker.cr0.contains(Cr0Flags::PAGING)
        && checker.cr4.contains(Cr4Flags::PHYSICAL_ADDRESS_EXTENSION)
        && !checker.is_ia32e();
    // Without EPT the entries are in memory, at guest CR3.
    if !pae_paging || !checker.secondary.contains(Secondary::EPT) {
        return;
    }
    let entries = [
        ("guest PDPTE 0: reserved bits must be 0 if it is present", field::GUEST_PDPTE0),
        ("guest PDPTE 1: reserved bits must be 0 if it is present", field::GUEST_PDPTE1),
        ("guest PDPTE 2: reserved bits must be 0 if it is present", field::GUEST_PDPTE2),
        ("guest PDPTE 3: reserved bits must be 0 if it is present", field::GUEST_PDPTE3),
    ];
    for (rule, entry) in entries {
        let entry = checker.read(entry);
        if entry & PRESENT != 0 {
            checker.no_bits(rule, entry & RESERVED | checker.beyond_physical(entry));
        }
    }
}
