//! VM-entry controls, with the event to inject.

use super::{Case, Subject, assert_allowed, assert_each_breaks_its_rules, case, long, real};
use crate::{Entry, field};

fn inject(info: u32) -> impl Fn(&mut Subject) {
    move |subject| subject.set(field::VM_ENTRY_INTERRUPTION_INFO, info)
}

fn inject_with_length(info: u32, length: u32) -> impl Fn(&mut Subject) {
    move |subject| {
        subject.set(field::VM_ENTRY_INTERRUPTION_INFO, info);
        subject.set(field::VM_ENTRY_INSTRUCTION_LENGTH, length);
    }
}

pub(super) fn cases() -> Vec<Case> {
    let info = |rule: &str| format!("VM-entry interruption information: {rule}");
    let kind = || info("the type must not be 1, nor 7 without the monitor trap flag");
    let code = || {
        info("an error code goes with #DF, #TS, #NP, #SS, #GP, #PF, #AC and #CP, and with no other exception")
    };
    let length = "VM-entry instruction length: a software event needs 1 to 15 bytes (0 where IA32_VMX_MISC[30] \
                  is 1)";
    let smm =
        "VM-entry controls: \"entry to SMM\" and \"deactivate dual-monitor treatment\" must be 0 outside SMM";
    vec![
        case(long, "VM-entry controls: the bits that the capability MSR fixes to 1 must be 1", |s| {
            s.capabilities.entry |= 1 << 13;
        }),
        case(long, "VM-entry controls: the bits that the capability MSR fixes to 0 must be 0", |s| {
            s.capabilities.entry &= !(u64::from(Entry::LOAD_PAT.bits()) << 32);
        }),
        case(long, kind(), inject(0x8000_0130)),
        case(long, kind(), |s| {
            s.capabilities.processor &= !(1 << 59);
            inject(0x8000_0700)(s);
        }),
        case(long, info("an NMI must have vector 2"), inject(0x8000_0203)),
        case(long, info("a hardware exception must have a vector up to 31"), inject(0x8000_0320)),
        case(long, info("an \"other event\" must have vector 0"), inject(0x8000_0701)),
        case(long, info("bits 30:12 must be 0"), inject(0x8000_1030)),
        case(long, info("only a hardware exception delivers an error code"), inject(0x8000_0a02)),
        case(long, code(), inject(0x8000_030d)),
        case(long, code(), inject(0x8000_0b06)),
        case(long, code(), inject(0x8000_0315)),
        case(long, code(), |s| {
            s.capabilities.cr4_fixed1 &= !(1 << 23);
            inject(0x8000_0b15)(s);
        }),
        case(real, info("no error code is delivered while guest CR0.PE is 0"), inject(0x8000_0b0d)),
        case(long, "VM-entry exception error code: bits 31:16 must be 0", |s| {
            inject(0x8000_0b0e)(s);
            s.set(field::VM_ENTRY_EXCEPTION_ERROR_CODE, 0x1_0000);
        }),
        case(long, length, inject_with_length(0x8000_0480, 0)),
        case(long, length, inject_with_length(0x8000_0501, 16)),
        case(long, length, inject_with_length(0x8000_0603, 0)),
        case(long, smm, |s| s.flip(field::VM_ENTRY_CONTROLS, 1u32 << 10)),
        case(long, smm, |s| s.flip(field::VM_ENTRY_CONTROLS, 1u32 << 11)),
    ]
}

#[test]
fn each_entry_control_rule_is_named() {
    assert_each_breaks_its_rules(&cases());
}

#[test]
fn well_formed_events_are_allowed() {
    // #PF with code, #UD, NMI, #DB, an interrupt, a pending MTF exit.
    for info in [0x8000_0b0e, 0x8000_0306, 0x8000_0202, 0x8000_0301, 0x8000_0020, 0x8000_0700] {
        assert_allowed(long, inject(info));
    }
    assert_allowed(long, inject_with_length(0x8000_0480, 2));
    assert_allowed(real, inject(0x8000_030d));
    assert_allowed(long, inject(0x0000_0130));
}

#[test]
fn capabilities_relax_the_rules_that_they_name() {
    assert_allowed(long, |s| {
        s.capabilities.basic |= 1 << 56;
        inject(0x8000_030d)(s);
    });
    assert_allowed(long, |s| {
        s.capabilities.misc |= 1 << 30;
        inject_with_length(0x8000_0480, 0)(s);
    });
}
