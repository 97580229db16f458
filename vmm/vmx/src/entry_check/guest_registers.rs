//! SDM Vol. 3C, "Checks on Guest Control Registers, Debug Registers, and MSRs".

use super::bits::{
    BNDCFGS_RESERVED, DEBUGCTL_DEFINED, ENTRY_LOAD_CET, ENTRY_LOAD_PKRS, LOAD_BNDCFGS, is_pat,
};
use super::checker::{Checker, efer_reserved};
use crate::{Entry, VmcsAccess, field};
use arch::{Cr0Flags, Cr4Flags, EferFlags};

pub(super) fn check<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    checker.section("Checks on Guest Control Registers, Debug Registers, and MSRs");
    control_registers(checker);
    debug_registers(checker);
    msrs(checker);
}

fn control_registers<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let capabilities = checker.capabilities;
    let (cr0, cr4) = (checker.cr0, checker.cr4);
    // An unrestricted guest may be in real mode and may be without paging, whatever the capability MSR says.
    let free = if checker.has_unrestricted_guest() {
        Cr0Flags::PROTECTED_MODE_ENABLE | Cr0Flags::PAGING
    } else {
        Cr0Flags::empty()
    };
    let missing = capabilities.cr0_fixed0 & !cr0.bits() & !free.bits();
    checker.no_bits("guest CR0: the bits that IA32_VMX_CR0_FIXED0 has must be 1", missing);
    let extra = cr0.bits() & !capabilities.cr0_fixed1;
    checker.no_bits("guest CR0: the bits that IA32_VMX_CR0_FIXED1 has not must be 0", extra);
    let paging = cr0.contains(Cr0Flags::PAGING);
    let protected = cr0.contains(Cr0Flags::PROTECTED_MODE_ENABLE);
    checker.rule("guest CR0.PG needs guest CR0.PE", cr0.bits(), protected || !paging);

    let missing = capabilities.cr4_fixed0 & !cr4.bits();
    checker.no_bits("guest CR4: the bits that IA32_VMX_CR4_FIXED0 has must be 1", missing);
    let extra = cr4.bits() & !capabilities.cr4_fixed1;
    checker.no_bits("guest CR4: the bits that IA32_VMX_CR4_FIXED1 has not must be 0", extra);
    let cet = cr4.contains(Cr4Flags::CONTROL_FLOW_ENFORCEMENT);
    checker.rule(
        "guest CR4.CET needs guest CR0.WP",
        cr4.bits(),
        !cet || cr0.contains(Cr0Flags::WRITE_PROTECT),
    );

    if checker.is_ia32e() {
        checker.rule("guest CR0.PG must be 1 for an IA-32e mode guest", cr0.bits(), paging);
        checker.rule(
            "guest CR4.PAE must be 1 for an IA-32e mode guest",
            cr4.bits(),
            cr4.contains(Cr4Flags::PHYSICAL_ADDRESS_EXTENSION),
        );
    } else {
        let rule = "guest CR4.PCIDE must be 0 unless the guest is in IA-32e mode";
        checker.rule(rule, cr4.bits(), !cr4.contains(Cr4Flags::PCID));
    }
    let cr3 = checker.read(field::GUEST_CR3);
    checker
        .no_bits("guest CR3: no bit beyond the physical-address width may be 1", checker.cr3_reserved(cr3));
}

fn debug_registers<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    if !checker.entry.contains(Entry::LOAD_DEBUG_CONTROLS) {
        return;
    }
    let control = checker.read(field::GUEST_DEBUGCTL);
    checker.no_bits("guest IA32_DEBUGCTL: reserved bits must be 0", control & !DEBUGCTL_DEFINED);
    let dr7 = checker.read(field::GUEST_DR7);
    checker.no_bits("guest DR7: bits 63:32 must be 0", dr7 >> 32 << 32);
}

fn msrs<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let stack = checker.read(field::GUEST_SYSENTER_ESP);
    checker.rule("guest IA32_SYSENTER_ESP must be canonical", stack, checker.is_canonical(stack));
    let entry = checker.read(field::GUEST_SYSENTER_EIP);
    checker.rule("guest IA32_SYSENTER_EIP must be canonical", entry, checker.is_canonical(entry));
    if checker.entry.contains(ENTRY_LOAD_CET) {
        let cet = checker.read(field::GUEST_S_CET);
        checker.rule("guest IA32_S_CET must be a value that WRMSR takes", cet, checker.is_s_cet(cet));
        let table = checker.read(field::GUEST_INTERRUPT_SSP_TABLE);
        let rule = "guest IA32_INTERRUPT_SSP_TABLE_ADDR must be canonical";
        checker.rule(rule, table, checker.is_canonical(table));
    }
    if checker.entry.contains(Entry::LOAD_PAT) {
        let pat = checker.read(field::GUEST_PAT);
        checker.rule("guest IA32_PAT: each byte must be a memory type", pat, is_pat(pat));
    }
    if checker.entry.contains(Entry::LOAD_EFER) {
        let raw = checker.read(field::GUEST_EFER);
        checker.no_bits("guest IA32_EFER: reserved bits must be 0", efer_reserved(raw));
        let efer = EferFlags::from_bits_retain(raw);
        let active = efer.contains(EferFlags::LONG_MODE_ACTIVE);
        let rule = "guest IA32_EFER.LMA must equal \"IA-32e mode guest\"";
        checker.rule(rule, raw, active == checker.is_ia32e());
        if checker.cr0.contains(Cr0Flags::PAGING) {
            let enabled = efer.contains(EferFlags::LONG_MODE_ENABLE);
            checker.rule("guest IA32_EFER.LME must equal LMA while CR0.PG is 1", raw, active == enabled);
        }
    }
    if checker.entry.contains(LOAD_BNDCFGS) {
        let bounds = checker.read(field::GUEST_BNDCFGS);
        checker.no_bits("guest IA32_BNDCFGS: bits 11:2 must be 0", bounds & BNDCFGS_RESERVED);
        let rule = "guest IA32_BNDCFGS: the address in bits 63:12 must be canonical";
        checker.rule(rule, bounds, checker.is_canonical(bounds));
    }
    if checker.entry.contains(ENTRY_LOAD_PKRS) {
        let rights = checker.read(field::GUEST_PKRS);
        checker.no_bits("guest IA32_PKRS: bits 63:32 must be 0", rights >> 32 << 32);
    }
}
