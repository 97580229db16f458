//! Guest control registers, debug registers, MSRs, RIP, RFLAGS and SSP.

use super::{
    BEYOND, Case, NOT_CANONICAL, Subject, assert_allowed, assert_each_breaks_its_rules, case, long,
    protected, real, restricted, virtual_8086,
};
use crate::{Entry, field};

const LOAD_BNDCFGS: u32 = 1 << 16;
const LOAD_CET: u32 = 1 << 20;
const LOAD_PKRS: u32 = 1 << 22;

/// Sets an entry control, then changes a field that the control has checked.
fn with(control: u32, change: fn(&mut Subject)) -> impl Fn(&mut Subject) {
    move |subject| {
        subject.flip(field::VM_ENTRY_CONTROLS, control);
        change(subject);
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = control_registers();
    cases.extend(msrs());
    cases.extend(instruction_pointer_and_flags());
    cases
}

fn control_registers() -> Vec<Case> {
    let fixed_cr0 = "guest CR0: the bits that IA32_VMX_CR0_FIXED0 has must be 1";
    vec![
        case(real, fixed_cr0, |s| s.flip(field::GUEST_CR0, 0x20u64)),
        case(restricted, fixed_cr0, |s| s.flip(field::GUEST_CR0, 1u64 << 31)),
        case(long, "guest CR0: the bits that IA32_VMX_CR0_FIXED1 has not must be 0", |s| {
            s.flip(field::GUEST_CR0, 1u64 << 32);
        }),
        case(protected, "guest CR0.PG needs guest CR0.PE", |s| s.flip(field::GUEST_CR0, 1u64)),
        case(real, "guest CR4: the bits that IA32_VMX_CR4_FIXED0 has must be 1", |s| {
            s.flip(field::GUEST_CR4, 0x2000u64);
        }),
        case(real, "guest CR4: the bits that IA32_VMX_CR4_FIXED1 has not must be 0", |s| {
            s.flip(field::GUEST_CR4, 0x1000u64);
        }),
        case(long, "guest CR4.CET needs guest CR0.WP", |s| {
            s.flip(field::GUEST_CR4, 1u64 << 23);
            s.flip(field::GUEST_CR0, 1u64 << 16);
        }),
        case(long, "guest CR0.PG must be 1 for an IA-32e mode guest", |s| {
            s.flip(field::GUEST_CR0, 1u64 << 31);
        }),
        case(long, "guest CR4.PAE must be 1 for an IA-32e mode guest", |s| {
            s.flip(field::GUEST_CR4, 0x20u64);
        }),
        case(protected, "guest CR4.PCIDE must be 0 unless the guest is in IA-32e mode", |s| {
            s.flip(field::GUEST_CR4, 1u64 << 17);
        }),
        case(long, "guest CR3: no bit beyond the physical-address width may be 1", |s| {
            s.set(field::GUEST_CR3, BEYOND);
        }),
        case(long, "guest CR3: no bit beyond the physical-address width may be 1", |s| {
            s.set(field::GUEST_CR3, 1 << 61);
        }),
        case(long, "guest DR7: bits 63:32 must be 0", |s| s.set(field::GUEST_DR7, 1 << 32)),
    ]
}

fn msrs() -> Vec<Case> {
    let active = "guest IA32_EFER.LMA must equal \"IA-32e mode guest\"";
    let enabled = "guest IA32_EFER.LME must equal LMA while CR0.PG is 1";
    let debug = "guest IA32_DEBUGCTL: reserved bits must be 0";
    let cet = "guest IA32_S_CET must be a value that WRMSR takes";
    vec![
        case(long, debug, |s| s.set(field::GUEST_DEBUGCTL, 1 << 3)),
        case(long, debug, |s| s.set(field::GUEST_DEBUGCTL, 1 << 16)),
        case(long, "guest IA32_SYSENTER_ESP must be canonical", |s| {
            s.set(field::GUEST_SYSENTER_ESP, NOT_CANONICAL);
        }),
        case(long, "guest IA32_SYSENTER_EIP must be canonical", |s| {
            s.set(field::GUEST_SYSENTER_EIP, NOT_CANONICAL);
        }),
        case(long, "guest IA32_PAT: each byte must be a memory type", |s| s.set(field::GUEST_PAT, 3 << 56)),
        case(long, "guest IA32_EFER: reserved bits must be 0", |s| s.flip(field::GUEST_EFER, 1u64 << 12)),
        case(real, active, |s| s.set(field::GUEST_EFER, 0x400)),
        case(long, active, |s| s.set(field::GUEST_EFER, 0)),
        case(protected, enabled, |s| s.set(field::GUEST_EFER, 0x100)),
        case(long, cet, with(LOAD_CET, |s| s.set(field::GUEST_S_CET, 0x200))),
        case(
            long,
            "guest IA32_INTERRUPT_SSP_TABLE_ADDR must be canonical",
            with(LOAD_CET, |s| s.set(field::GUEST_INTERRUPT_SSP_TABLE, NOT_CANONICAL)),
        ),
        case(
            long,
            "guest IA32_BNDCFGS: bits 11:2 must be 0",
            with(LOAD_BNDCFGS, |s| s.set(field::GUEST_BNDCFGS, 4)),
        ),
        case(
            long,
            "guest IA32_BNDCFGS: the address in bits 63:12 must be canonical",
            with(LOAD_BNDCFGS, |s| s.set(field::GUEST_BNDCFGS, NOT_CANONICAL | 3)),
        ),
        case(
            long,
            "guest IA32_PKRS: bits 63:32 must be 0",
            with(LOAD_PKRS, |s| s.set(field::GUEST_PKRS, 1 << 32)),
        ),
    ]
}

fn instruction_pointer_and_flags() -> Vec<Case> {
    let zero = "guest RFLAGS: bits 63:22, 15, 5 and 3 must be 0";
    let no_task = "guest RFLAGS.VM must be 0 in IA-32e mode and in real mode";
    let mut cases = vec![
        case(real, "guest RIP: bits 63:32 must be 0 outside 64-bit mode", |s| {
            s.set(field::GUEST_RIP, 1 << 32);
        }),
        case(long, "guest RIP: the bits above the linear-address width must be identical", |s| {
            s.set(field::GUEST_RIP, 1 << 48);
        }),
        case(long, "guest RFLAGS: bit 1 must be 1", |s| s.flip(field::GUEST_RFLAGS, 2u64)),
        case(virtual_8086, no_task, |s| s.flip(field::GUEST_CR0, 1u64))
            .also("guest CR0.PG needs guest CR0.PE"),
        case(virtual_8086, no_task, |s| {
            s.flip(field::VM_ENTRY_CONTROLS, Entry::IA32E_MODE_GUEST.bits());
            s.flip(field::GUEST_CR4, 0x20u64);
            s.set(field::GUEST_EFER, 0x500);
        }),
        case(long, "guest RFLAGS.IF must be 1 to inject an external interrupt", |s| {
            s.set(field::VM_ENTRY_INTERRUPTION_INFO, 0x8000_0030);
            s.flip(field::GUEST_RFLAGS, 0x200u64);
        }),
        case(long, "guest SSP: bits 1:0 must be 0", with(LOAD_CET, |s| s.set(field::GUEST_SSP, 1))),
        case(
            long,
            "guest SSP: the bits above the linear-address width must be identical",
            with(LOAD_CET, |s| s.set(field::GUEST_SSP, 1 << 63)),
        ),
    ];
    for bit in [3, 5, 15, 22, 63] {
        cases.push(case(real, zero, move |s| s.flip(field::GUEST_RFLAGS, 1u64 << bit)));
    }
    cases
}

#[test]
fn each_register_rule_is_named() {
    assert_each_breaks_its_rules(&cases());
}

#[test]
fn rip_may_lie_just_past_the_lower_half() {
    assert_allowed(long, |s| s.set(field::GUEST_RIP, NOT_CANONICAL));
}

#[test]
fn compatibility_mode_is_a_mode_of_a_64_bit_guest() {
    assert_allowed(long, |s| {
        s.set(field::GUEST_CS_ACCESS_RIGHTS, 0xc09b);
        s.set(field::GUEST_RIP, 0x1000);
    });
}

#[test]
fn five_level_paging_widens_canonical_addresses() {
    assert_allowed(long, |s| {
        s.capabilities.cr4_fixed1 |= 1 << 12;
        s.set(field::GUEST_SYSENTER_ESP, NOT_CANONICAL);
        s.set(field::HOST_GS_BASE, NOT_CANONICAL << 8);
    });
}

#[test]
fn cr3_may_mask_linear_addresses_where_the_processor_does() {
    assert_allowed(long, |s| {
        s.capabilities.cr4_fixed1 |= 1 << 28;
        s.flip(field::GUEST_CR3, 3u64 << 61);
    });
}

#[test]
fn registers_that_the_entry_does_not_load_are_not_checked() {
    assert_allowed(long, |s| {
        let loads = Entry::LOAD_DEBUG_CONTROLS | Entry::LOAD_PAT | Entry::LOAD_EFER;
        s.flip(field::VM_ENTRY_CONTROLS, loads.bits());
        s.set(field::GUEST_DEBUGCTL, u64::MAX);
        s.set(field::GUEST_DR7, u64::MAX);
        s.set(field::GUEST_PAT, u64::MAX);
        s.set(field::GUEST_EFER, u64::MAX);
    });
}
