//! Guest descriptor tables, non-register state and PDPTEs.

use super::{
    BEYOND, Case, NOT_CANONICAL, Subject, assert_allowed, assert_each_breaks_its_rules, case, long, pae,
    protected, real,
};
use crate::{PinBased, field};

const INTERRUPT: u32 = 0x8000_0030;
const NMI: u32 = 0x8000_0202;
const SINGLE_STEP: u64 = 1 << 14;

fn blocked(bits: u32) -> impl Fn(&mut Subject) {
    move |subject| subject.set(field::GUEST_INTERRUPTIBILITY, bits)
}

fn pending(bits: u64) -> impl Fn(&mut Subject) {
    move |subject| subject.set(field::GUEST_PENDING_DEBUG_EXCEPTIONS, bits)
}

fn inactive(activity: u32, injected: u32) -> impl Fn(&mut Subject) {
    move |subject| {
        subject.set(field::GUEST_ACTIVITY, activity);
        subject.set(field::VM_ENTRY_INTERRUPTION_INFO, injected);
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = descriptor_tables();
    cases.extend(activity());
    cases.extend(interruptibility());
    cases.extend(pending_debug_exceptions());
    cases.extend(link_pointer_and_pdptes());
    cases
}

fn descriptor_tables() -> Vec<Case> {
    vec![
        case(long, "guest GDTR base must be canonical", |s| s.set(field::GUEST_GDTR_BASE, NOT_CANONICAL)),
        case(long, "guest IDTR base must be canonical", |s| s.set(field::GUEST_IDTR_BASE, NOT_CANONICAL)),
        case(long, "guest GDTR limit: bits 31:16 must be 0", |s| s.set(field::GUEST_GDTR_LIMIT, 0x1_0000)),
        case(long, "guest IDTR limit: bits 31:16 must be 0", |s| s.set(field::GUEST_IDTR_LIMIT, 0x1_0000)),
    ]
}

fn activity() -> Vec<Case> {
    let supported = "guest activity state must be 0 to 3 and supported by IA32_VMX_MISC[8:6]";
    let wakes = "VM-entry interruption information: in HLT only an interrupt, an NMI, #DB, #MC or a pending MTF \
                 exit can be injected";
    let revives = "VM-entry interruption information: in shutdown only an NMI or #MC can be injected";
    let waits = "VM-entry interruption information: nothing can be injected while the guest waits for SIPI";
    let without = |bit: u64| {
        move |s: &mut Subject| {
            s.capabilities.misc &= !bit;
            s.set(field::GUEST_ACTIVITY, bit.ilog2() - 5);
        }
    };
    vec![
        case(long, supported, |s| s.set(field::GUEST_ACTIVITY, 4)),
        case(long, supported, without(1 << 6)),
        case(long, supported, without(1 << 7)),
        case(long, supported, without(1 << 8)),
        case(long, "guest activity state must not be HLT unless the DPL of SS is 0", |s| {
            s.set(field::GUEST_ACTIVITY, 1);
            s.set(field::GUEST_SS_ACCESS_RIGHTS, 0xc0f3);
            s.set(field::GUEST_CS_ACCESS_RIGHTS, 0xa0fb);
        }),
        case(long, "guest activity state must be active while STI or MOV SS blocks", |s| {
            s.set(field::GUEST_ACTIVITY, 1);
            s.set(field::GUEST_INTERRUPTIBILITY, 1);
        }),
        case(long, wakes, inactive(1, 0x8000_0306)),
        case(long, revives, inactive(2, INTERRUPT)),
        case(long, revives, inactive(2, 0x8000_0301)),
        case(long, waits, inactive(3, NMI)),
    ]
}

fn interruptibility() -> Vec<Case> {
    let rule = |rule: &str| format!("guest interruptibility: {rule}");
    let external = || rule("STI and MOV SS must not block an injected external interrupt");
    let inject = |event: u32, bits: u32| {
        move |s: &mut Subject| {
            s.set(field::VM_ENTRY_INTERRUPTION_INFO, event);
            s.set(field::GUEST_INTERRUPTIBILITY, bits);
        }
    };
    vec![
        case(long, rule("bits 31:5 must be 0"), blocked(1 << 5)),
        case(long, rule("STI and MOV SS must not both block"), blocked(3)),
        case(real, rule("STI must not block while RFLAGS.IF is 0"), blocked(1)),
        case(long, rule("SMI must not block outside SMM"), blocked(4)),
        case(long, rule("MOV SS must not block after an enclave interruption"), blocked(0x12)),
        case(long, external(), inject(INTERRUPT, 1)),
        case(long, external(), inject(INTERRUPT, 2)),
        case(long, rule("MOV SS must not block an injected NMI"), inject(NMI, 2)),
        case(long, rule("STI must not block an injected NMI (some processors allow it)"), inject(NMI, 1)),
        case(long, rule("NMI must not block an injected NMI with \"virtual NMIs\""), inject(NMI, 8)),
    ]
}

fn pending_debug_exceptions() -> Vec<Case> {
    let step = "guest pending debug exceptions: while STI or MOV SS blocks, or in HLT, BS must be 1 exactly if \
                RFLAGS.TF is 1 and IA32_DEBUGCTL.BTF is 0";
    let mut cases = vec![
        case(long, step, |s| {
            blocked(1)(s);
            s.flip(field::GUEST_RFLAGS, 0x100u64);
        }),
        case(long, step, |s| {
            blocked(2)(s);
            pending(SINGLE_STEP)(s);
        }),
        case(long, step, |s| {
            s.set(field::GUEST_ACTIVITY, 1);
            s.flip(field::GUEST_RFLAGS, 0x100u64);
            s.set(field::GUEST_DEBUGCTL, 2);
            pending(SINGLE_STEP)(s);
        }),
        case(
            long,
            "guest pending debug exceptions: with RTM, the enabled-breakpoint bit must be 1 and all others 0",
            pending(1 << 16 | 1),
        ),
        case(
            long,
            "guest interruptibility: MOV SS must not block while a pending debug exception has RTM",
            |s| {
                blocked(2)(s);
                pending(1 << 16 | 1 << 12)(s);
            },
        ),
    ];
    for bit in [4, 10, 13, 15, 17, 63] {
        let reserved = "guest pending debug exceptions: bits 63:17, 15, 13 and 10:4 must be 0";
        cases.push(case(long, reserved, pending(1 << bit)));
    }
    cases
}

fn link_pointer_and_pdptes() -> Vec<Case> {
    let link = |pointer: u64| move |s: &mut Subject| s.set(field::VMCS_LINK_POINTER, pointer);
    let mut cases = vec![
        case(long, "VMCS link pointer: bits 11:0 must be 0 unless all bits are 1", link(0x8001)),
        case(
            long,
            "VMCS link pointer: no bit beyond the physical-address width may be 1 unless all bits are 1",
            link(BEYOND),
        ),
    ];
    let entries = [field::GUEST_PDPTE0, field::GUEST_PDPTE1, field::GUEST_PDPTE2, field::GUEST_PDPTE3];
    for (index, entry) in entries.into_iter().enumerate() {
        for value in [3, 1 << 5 | 1, 1 << 8 | 1, BEYOND | 1, 1 << 63 | 1] {
            let rule = format!("guest PDPTE {index}: reserved bits must be 0 if it is present");
            cases.push(case(pae, rule, move |s| s.set(entry, value)));
        }
    }
    cases
}

#[test]
fn each_rule_of_tables_and_state_is_named() {
    assert_each_breaks_its_rules(&cases());
}

#[test]
fn a_halted_guest_can_be_woken() {
    for event in [INTERRUPT, NMI, 0x8000_0301, 0x8000_0312, 0x8000_0700, 0] {
        assert_allowed(long, inactive(1, event));
    }
    for event in [NMI, 0x8000_0312, 0] {
        assert_allowed(long, inactive(2, event));
    }
    assert_allowed(long, inactive(3, 0));
}

#[test]
fn single_stepping_over_sti_makes_the_step_pending() {
    assert_allowed(long, |s| {
        blocked(1)(s);
        s.flip(field::GUEST_RFLAGS, 0x100u64);
        pending(SINGLE_STEP)(s);
    });
}

#[test]
fn an_nmi_in_an_nmi_is_the_guests_business_without_virtual_nmis() {
    assert_allowed(long, |s| {
        s.flip(field::PIN_BASED_CONTROLS, PinBased::VIRTUAL_NMIS.bits());
        blocked(8)(s);
        s.set(field::VM_ENTRY_INTERRUPTION_INFO, NMI);
    });
}

#[test]
fn pdptes_are_checked_under_pae_paging_alone() {
    for guest in [long, real, protected] {
        assert_allowed(guest, |s| s.set(field::GUEST_PDPTE0, u64::MAX));
    }
}
