//! Host state and address-space size.

use super::{BEYOND, Case, NOT_CANONICAL, Subject, assert_each_breaks_its_rules, case, long, real};
use crate::{Exit, field};

const LOAD_CET: u32 = 1 << 28;
const LOAD_PKRS: u32 = 1 << 29;
const NEEDS_64_BIT: &str = "VM-exit controls: \"host address-space size\" must be 1 in IA-32e mode";

/// A 32-bit host that is consistent in itself; it only cannot be one in IA-32e mode.
fn make_32_bit(subject: &mut Subject) {
    subject.flip(field::VM_EXIT_CONTROLS, Exit::HOST_64_BIT.bits());
    subject.set(field::HOST_EFER, 0x800);
    subject.set(field::HOST_RIP, 0x1000);
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = registers();
    cases.extend(segments());
    cases.extend(address_space_size());
    cases
}

fn registers() -> Vec<Case> {
    let cet = |change: fn(&mut Subject)| {
        move |s: &mut Subject| {
            s.flip(field::VM_EXIT_CONTROLS, LOAD_CET);
            change(s);
        }
    };
    let cet_value = "host IA32_S_CET must be a value that WRMSR takes";
    vec![
        case(long, "host CR0: the bits that IA32_VMX_CR0_FIXED0 has must be 1", |s| {
            s.flip(field::HOST_CR0, 0x20u64);
        }),
        case(long, "host CR0: the bits that IA32_VMX_CR0_FIXED1 has not must be 0", |s| {
            s.flip(field::HOST_CR0, 1u64 << 32);
        }),
        case(long, "host CR4: the bits that IA32_VMX_CR4_FIXED0 has must be 1", |s| {
            s.flip(field::HOST_CR4, 0x2000u64);
        }),
        case(long, "host CR4: the bits that IA32_VMX_CR4_FIXED1 has not must be 0", |s| {
            s.flip(field::HOST_CR4, 0x1000u64);
        }),
        case(long, "host CR4.CET needs host CR0.WP", |s| {
            s.flip(field::HOST_CR4, 1u64 << 23);
            s.flip(field::HOST_CR0, 1u64 << 16);
        }),
        case(long, "host CR3: no bit beyond the physical-address width may be 1", |s| {
            s.set(field::HOST_CR3, BEYOND);
        }),
        case(long, "host IA32_SYSENTER_ESP must be canonical", |s| {
            s.set(field::HOST_SYSENTER_ESP, NOT_CANONICAL);
        }),
        case(long, "host IA32_SYSENTER_EIP must be canonical", |s| {
            s.set(field::HOST_SYSENTER_EIP, NOT_CANONICAL);
        }),
        case(long, "host IA32_PAT: each byte must be a memory type", |s| s.set(field::HOST_PAT, 2)),
        case(long, "host IA32_EFER: reserved bits must be 0", |s| s.flip(field::HOST_EFER, 2u64)),
        case(long, "host IA32_EFER.LMA must equal \"host address-space size\"", |s| {
            s.flip(field::HOST_EFER, 0x400u64);
        }),
        case(long, "host IA32_EFER.LME must equal \"host address-space size\"", |s| {
            s.flip(field::HOST_EFER, 0x100u64);
        }),
        case(long, "host IA32_PKRS: bits 63:32 must be 0", |s| {
            s.flip(field::VM_EXIT_CONTROLS, LOAD_PKRS);
            s.set(field::HOST_PKRS, 1 << 32);
        }),
        case(long, cet_value, cet(|s| s.set(field::HOST_S_CET, 0x40))),
        case(long, cet_value, cet(|s| s.set(field::HOST_S_CET, 0xc00))),
        case(long, cet_value, cet(|s| s.set(field::HOST_S_CET, NOT_CANONICAL))),
        case(
            long,
            "host IA32_INTERRUPT_SSP_TABLE_ADDR must be canonical",
            cet(|s| s.set(field::HOST_INTERRUPT_SSP_TABLE, NOT_CANONICAL)),
        ),
        case(long, "host SSP must be canonical", cet(|s| s.set(field::HOST_SSP, NOT_CANONICAL))),
        case(long, "host SSP: bits 1:0 must be 0", cet(|s| s.set(field::HOST_SSP, 2))),
    ]
}

fn segments() -> Vec<Case> {
    let selectors = [
        ("CS", field::HOST_CS_SELECTOR),
        ("SS", field::HOST_SS_SELECTOR),
        ("DS", field::HOST_DS_SELECTOR),
        ("ES", field::HOST_ES_SELECTOR),
        ("FS", field::HOST_FS_SELECTOR),
        ("GS", field::HOST_GS_SELECTOR),
        ("TR", field::HOST_TR_SELECTOR),
    ];
    let bases = [
        ("FS", field::HOST_FS_BASE),
        ("GS", field::HOST_GS_BASE),
        ("GDTR", field::HOST_GDTR_BASE),
        ("IDTR", field::HOST_IDTR_BASE),
        ("TR", field::HOST_TR_BASE),
    ];
    let mut cases = vec![
        case(long, "host CS selector must not be 0", |s| s.set(field::HOST_CS_SELECTOR, 0)),
        case(long, "host TR selector must not be 0", |s| s.set(field::HOST_TR_SELECTOR, 0)),
    ];
    for (name, selector) in selectors {
        for bits in [1u64, 4] {
            let rule = format!("host {name} selector: RPL and TI must be 0");
            cases.push(case(long, rule, move |s| s.flip(selector, bits)));
        }
    }
    for (name, base) in bases {
        let rule = format!("host {name} base must be canonical");
        cases.push(case(long, rule, move |s| s.set(base, NOT_CANONICAL)));
    }
    cases
}

fn address_space_size() -> Vec<Case> {
    vec![
        case(long, "host CR4.PAE must be 1 for a 64-bit host", |s| s.flip(field::HOST_CR4, 0x20u64)),
        case(long, "host RIP must be canonical", |s| s.set(field::HOST_RIP, NOT_CANONICAL)),
        case(real, NEEDS_64_BIT, make_32_bit),
        case(long, NEEDS_64_BIT, make_32_bit)
            .also("VM-entry controls: \"IA-32e mode guest\" needs a 64-bit host"),
        case(real, NEEDS_64_BIT, |s| {
            make_32_bit(s);
            s.flip(field::HOST_CR4, 1u64 << 17);
        })
        .also("host CR4.PCIDE must be 0 for a 32-bit host"),
        case(real, NEEDS_64_BIT, |s| {
            make_32_bit(s);
            s.set(field::HOST_RIP, 1 << 32);
        })
        .also("host RIP: bits 63:32 must be 0 for a 32-bit host"),
        case(real, NEEDS_64_BIT, |s| {
            make_32_bit(s);
            s.set(field::HOST_SS_SELECTOR, 0);
        })
        .also("host SS selector must not be 0 for a 32-bit host"),
    ]
}

#[test]
fn each_host_rule_is_named() {
    assert_each_breaks_its_rules(&cases());
}
