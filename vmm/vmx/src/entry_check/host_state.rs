//! SDM Vol. 3C, "Checks on Host Control Registers, MSRs, and SSP", "Checks on Host Segment and Descriptor-Table
//! Registers" and "Checks Related to Address-Space Size".

use super::bits::{EXIT_LOAD_CET, EXIT_LOAD_PKRS, is_pat};
use super::checker::{Checker, efer_reserved};
use crate::{Entry, Exit, VmcsAccess, field};
use arch::{Cr0Flags, Cr4Flags, EferFlags};

pub(super) fn check<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    checker.section("Checks on Host Control Registers, MSRs, and SSP");
    control_registers(checker);
    msrs(checker);
    shadow_stack(checker);
    checker.section("Checks on Host Segment and Descriptor-Table Registers");
    segments(checker);
    checker.section("Checks Related to Address-Space Size");
    address_space_size(checker);
}

fn control_registers<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let capabilities = checker.capabilities;
    let cr0 = checker.read(field::HOST_CR0);
    checker
        .no_bits("host CR0: the bits that IA32_VMX_CR0_FIXED0 has must be 1", capabilities.cr0_fixed0 & !cr0);
    checker.no_bits(
        "host CR0: the bits that IA32_VMX_CR0_FIXED1 has not must be 0",
        cr0 & !capabilities.cr0_fixed1,
    );
    let cr4 = checker.read(field::HOST_CR4);
    checker
        .no_bits("host CR4: the bits that IA32_VMX_CR4_FIXED0 has must be 1", capabilities.cr4_fixed0 & !cr4);
    checker.no_bits(
        "host CR4: the bits that IA32_VMX_CR4_FIXED1 has not must be 0",
        cr4 & !capabilities.cr4_fixed1,
    );
    let write_protect = Cr0Flags::from_bits_retain(cr0).contains(Cr0Flags::WRITE_PROTECT);
    let cet = Cr4Flags::from_bits_retain(cr4).contains(Cr4Flags::CONTROL_FLOW_ENFORCEMENT);
    checker.rule("host CR4.CET needs host CR0.WP", cr4, write_protect || !cet);
    let cr3 = checker.read(field::HOST_CR3);
    checker.no_bits("host CR3: no bit beyond the physical-address width may be 1", checker.cr3_reserved(cr3));
}

fn msrs<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let stack = checker.read(field::HOST_SYSENTER_ESP);
    checker.rule("host IA32_SYSENTER_ESP must be canonical", stack, checker.is_canonical(stack));
    let entry = checker.read(field::HOST_SYSENTER_EIP);
    checker.rule("host IA32_SYSENTER_EIP must be canonical", entry, checker.is_canonical(entry));
    if checker.exit.contains(Exit::LOAD_PAT) {
        let pat = checker.read(field::HOST_PAT);
        checker.rule("host IA32_PAT: each byte must be a memory type", pat, is_pat(pat));
    }
    if checker.exit.contains(Exit::LOAD_EFER) {
        let raw = checker.read(field::HOST_EFER);
        checker.no_bits("host IA32_EFER: reserved bits must be 0", efer_reserved(raw));
        let efer = EferFlags::from_bits_retain(raw);
        let is_64_bit = checker.exit.contains(Exit::HOST_64_BIT);
        let active = efer.contains(EferFlags::LONG_MODE_ACTIVE);
        checker.rule("host IA32_EFER.LMA must equal \"host address-space size\"", raw, active == is_64_bit);
        let enabled = efer.contains(EferFlags::LONG_MODE_ENABLE);
        checker.rule("host IA32_EFER.LME must equal \"host address-space size\"", raw, enabled == is_64_bit);
    }
    if checker.exit.contains(EXIT_LOAD_PKRS) {
        let rights = checker.read(field::HOST_PKRS);
        checker.no_bits("host IA32_PKRS: bits 63:32 must be 0", rights >> 32 << 32);
    }
}

fn shadow_stack<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    if !checker.exit.contains(EXIT_LOAD_CET) {
        return;
    }
    let cet = checker.read(field::HOST_S_CET);
    checker.rule("host IA32_S_CET must be a value that WRMSR takes", cet, checker.is_s_cet(cet));
    let table = checker.read(field::HOST_INTERRUPT_SSP_TABLE);
    checker.rule("host IA32_INTERRUPT_SSP_TABLE_ADDR must be canonical", table, checker.is_canonical(table));
    let stack = checker.read(field::HOST_SSP);
    checker.rule("host SSP must be canonical", stack, checker.is_canonical(stack));
    checker.no_bits("host SSP: bits 1:0 must be 0", stack & 3);
}

fn segments<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let selectors = [
        ("host CS selector: RPL and TI must be 0", field::HOST_CS_SELECTOR),
        ("host SS selector: RPL and TI must be 0", field::HOST_SS_SELECTOR),
        ("host DS selector: RPL and TI must be 0", field::HOST_DS_SELECTOR),
        ("host ES selector: RPL and TI must be 0", field::HOST_ES_SELECTOR),
        ("host FS selector: RPL and TI must be 0", field::HOST_FS_SELECTOR),
        ("host GS selector: RPL and TI must be 0", field::HOST_GS_SELECTOR),
        ("host TR selector: RPL and TI must be 0", field::HOST_TR_SELECTOR),
    ];
    for (rule, selector) in selectors {
        let selector = checker.read(selector);
        checker.rule(rule, selector, selector & 7 == 0);
    }
    let code = checker.read(field::HOST_CS_SELECTOR);
    checker.rule("host CS selector must not be 0", code, code != 0);
    let task = checker.read(field::HOST_TR_SELECTOR);
    checker.rule("host TR selector must not be 0", task, task != 0);
    if !checker.exit.contains(Exit::HOST_64_BIT) {
        let stack = checker.read(field::HOST_SS_SELECTOR);
        checker.rule("host SS selector must not be 0 for a 32-bit host", stack, stack != 0);
    }
    let bases = [
        ("host FS base must be canonical", field::HOST_FS_BASE),
        ("host GS base must be canonical", field::HOST_GS_BASE),
        ("host GDTR base must be canonical", field::HOST_GDTR_BASE),
        ("host IDTR base must be canonical", field::HOST_IDTR_BASE),
        ("host TR base must be canonical", field::HOST_TR_BASE),
    ];
    for (rule, base) in bases {
        let base = checker.read(base);
        checker.rule(rule, base, checker.is_canonical(base));
    }
}

fn address_space_size<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let is_64_bit = checker.exit.contains(Exit::HOST_64_BIT);
    let exit = checker.exit.bits();
    checker.rule("VM-exit controls: \"host address-space size\" must be 1 in IA-32e mode", exit, is_64_bit);
    let cr4 = Cr4Flags::from_bits_retain(checker.read(field::HOST_CR4));
    let rip = checker.read(field::HOST_RIP);
    if is_64_bit {
        checker.rule(
            "host CR4.PAE must be 1 for a 64-bit host",
            cr4.bits(),
            cr4.contains(Cr4Flags::PHYSICAL_ADDRESS_EXTENSION),
        );
        checker.rule("host RIP must be canonical", rip, checker.is_canonical(rip));
    } else {
        checker.rule(
            "VM-entry controls: \"IA-32e mode guest\" needs a 64-bit host",
            checker.entry.bits(),
            !checker.entry.contains(Entry::IA32E_MODE_GUEST),
        );
        checker.rule("host CR4.PCIDE must be 0 for a 32-bit host", cr4.bits(), !cr4.contains(Cr4Flags::PCID));
        checker.no_bits("host RIP: bits 63:32 must be 0 for a 32-bit host", rip >> 32 << 32);
    }
}
