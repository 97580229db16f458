//! VM-execution and VM-exit controls.

use super::{BEYOND, Case, Subject, assert_allowed, assert_each_breaks_its_rules, case, long, real};
use crate::field::{self, Field, Sensitive};
use crate::{ApicMode, Controls, Exit, PinBased, ProcessorBased, Secondary};

const X2APIC_MODE: u32 = Secondary::VIRTUALIZE_X2APIC.bits();
const VIRTUAL_INTERRUPT_DELIVERY: u32 = Secondary::VIRTUAL_INTERRUPTS.bits();

fn pin(subject: &mut Subject, bits: PinBased) {
    subject.flip(field::PIN_BASED_CONTROLS, bits.bits());
}

fn processor(subject: &mut Subject, bits: ProcessorBased) {
    subject.flip(field::PROCESSOR_BASED_CONTROLS, bits.bits());
}

fn secondary(subject: &mut Subject, bits: u32) {
    subject.flip(field::SECONDARY_CONTROLS, bits);
}

/// The 64-bit guest without EPT, so without all that stands on it.
fn without_ept() -> Subject {
    let mut subject = long();
    secondary(&mut subject, (Secondary::EPT | Secondary::UNRESTRICTED_GUEST).bits());
    subject
}

fn with_tpr_shadow() -> Subject {
    let mut subject = long();
    processor(&mut subject, ProcessorBased::TPR_SHADOW);
    subject
}

/// The 64-bit guest with its interrupts delivered by the processor in `mode`, as the negotiated controls have it.
fn with_interrupts_delivered(mode: ApicMode) -> Subject {
    let mut subject = long();
    let controls = Controls::negotiate(&subject.capabilities).expect("all is allowed");
    let execution = controls.execution(mode, controls.interrupts);
    subject.set(field::PIN_BASED_CONTROLS, execution.pin);
    subject.set(field::PROCESSOR_BASED_CONTROLS, execution.processor);
    subject.set(field::SECONDARY_CONTROLS, execution.secondary);
    subject.set(field::VIRTUAL_APIC_ADDRESS, 0x7000);
    subject.set(field::POSTED_INTERRUPT_VECTOR, 0xf2);
    subject.set(field::POSTED_INTERRUPT_DESCRIPTOR, 0x6040);
    subject
}

fn with_posted_interrupts() -> Subject {
    with_interrupts_delivered(ApicMode::Virtual)
}

/// The same while the guest reaches its local APIC through memory.
fn with_apic_page() -> Subject {
    let mut subject = with_interrupts_delivered(ApicMode::Page);
    subject.set(field::APIC_ACCESS_ADDRESS, 0x8000);
    subject
}

fn with_trace() -> Subject {
    let mut subject = long();
    secondary(&mut subject, 1 << 24);
    subject.flip(field::VM_ENTRY_CONTROLS, 1u32 << 18);
    subject.flip(field::VM_EXIT_CONTROLS, 1u32 << 25);
    subject
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = reserved();
    cases.extend(page_addresses());
    cases.extend(interrupts());
    cases.extend(ept());
    cases.extend(exit());
    cases
}

fn reserved() -> Vec<Case> {
    let fixed = |name: &str, bit: u32| {
        format!("{name} controls: the bits that the capability MSR fixes to {bit} must be {bit}")
    };
    let forbid = |bits: u32| !(u64::from(bits) << 32);
    vec![
        case(long, fixed("pin-based", 1), |s| s.capabilities.pin |= 1 << 12),
        case(long, fixed("pin-based", 0), move |s| {
            s.capabilities.pin &= forbid(PinBased::PREEMPTION_TIMER.bits());
        }),
        case(long, fixed("primary processor-based", 1), |s| s.capabilities.processor |= 1 << 16),
        case(long, fixed("primary processor-based", 0), move |s| {
            s.capabilities.processor &= forbid(ProcessorBased::HLT_EXITING.bits());
        }),
        case(long, fixed("secondary processor-based", 1), |s| s.capabilities.secondary |= 1 << 2),
        case(long, fixed("secondary processor-based", 0), move |s| {
            s.capabilities.secondary &= forbid(Secondary::EPT.bits());
        }),
        case(long, fixed("VM-exit", 1), |s| s.capabilities.exit |= 1 << 23),
        case(long, fixed("VM-exit", 0), move |s| s.capabilities.exit &= forbid(Exit::LOAD_PAT.bits())),
        case(long, "CR3-target count must not exceed IA32_VMX_MISC[24:16]", |s| {
            s.set(field::CR3_TARGET_COUNT, 5);
        }),
        case(long, "VPID must not be 0 with \"enable VPID\"", |s| s.set(field::VPID, 0)),
        case(long, "TSC multiplier must not be 0 with \"use TSC scaling\"", |s| secondary(s, 1 << 25)),
    ]
}

type PageAddress = (&'static str, Field<Sensitive, u64>, fn(&mut Subject));

fn page_addresses() -> Vec<Case> {
    let fields: [PageAddress; 11] = [
        ("I/O-bitmap A address", field::IO_BITMAP_A, |_| {}),
        ("I/O-bitmap B address", field::IO_BITMAP_B, |_| {}),
        ("MSR-bitmap address", field::MSR_BITMAP, |_| {}),
        ("VMREAD-bitmap address", field::VMREAD_BITMAP, |s| secondary(s, 1 << 14)),
        ("VMWRITE-bitmap address", field::VMWRITE_BITMAP, |s| secondary(s, 1 << 14)),
        ("virtual-APIC address", field::VIRTUAL_APIC_ADDRESS, |s| processor(s, ProcessorBased::TPR_SHADOW)),
        ("APIC-access address", field::APIC_ACCESS_ADDRESS, |s| secondary(s, 1)),
        ("PML address", field::PML_ADDRESS, |s| secondary(s, 1 << 17)),
        ("sub-page-permission-table pointer", field::SUB_PAGE_PERMISSION_POINTER, |s| secondary(s, 1 << 23)),
        ("virtualization-exception information address", field::VIRTUALIZATION_EXCEPTION_INFO, |s| {
            secondary(s, 1 << 18);
        }),
        ("EPTP-list address", field::EPTP_LIST_ADDRESS, |s| {
            secondary(s, 1 << 13);
            s.set(field::VM_FUNCTION_CONTROLS, 1);
        }),
    ];
    let wrong =
        [("bits 11:0 must be 0", 0x1010), ("no bit beyond the physical-address width may be 1", BEYOND)];
    let mut cases = Vec::new();
    for (name, field, enable) in fields {
        for (rule, value) in wrong {
            cases.push(case(long, format!("{name}: {rule}"), move |subject| {
                enable(subject);
                subject.set(field, value);
            }));
        }
    }
    let rule = "I/O-bitmap A address: no bit beyond the physical-address width may be 1";
    cases.push(case(long, rule, |s| {
        s.capabilities.basic |= 1 << 48;
        s.set(field::IO_BITMAP_A, 1 << 32);
    }));
    cases
}

fn interrupts() -> Vec<Case> {
    let needs_delivery = "secondary processor-based controls: \"process posted interrupts\" needs \
                          \"virtual-interrupt delivery\"";
    let needs_shadow = "secondary processor-based controls: x2APIC mode, APIC-register virtualization and \
                        virtual-interrupt delivery need \"use TPR shadow\"";
    vec![
        case(long, "pin-based controls: \"virtual NMIs\" needs \"NMI exiting\"", |s| {
            pin(s, PinBased::NMI_EXITING);
        }),
        case(long, "primary processor-based controls: \"NMI-window exiting\" needs \"virtual NMIs\"", |s| {
            pin(s, PinBased::VIRTUAL_NMIS);
            processor(s, ProcessorBased::NMI_WINDOW);
        }),
        case(with_tpr_shadow, "TPR threshold: bits 31:4 must be 0", |s| s.set(field::TPR_THRESHOLD, 0x10)),
        case(long, needs_shadow, |s| secondary(s, X2APIC_MODE)),
        case(
            with_tpr_shadow,
            "secondary processor-based controls: \"virtualize x2APIC mode\" excludes \"virtualize APIC accesses\"",
            |s| secondary(s, X2APIC_MODE | 1),
        ),
        case(
            with_tpr_shadow,
            "pin-based controls: \"virtual-interrupt delivery\" needs \"external-interrupt exiting\"",
            |s| {
                secondary(s, VIRTUAL_INTERRUPT_DELIVERY);
                pin(s, PinBased::EXTERNAL_INTERRUPT_EXITING);
            },
        ),
        case(with_apic_page, "APIC-access address: bits 11:0 must be 0", |s| {
            s.set(field::APIC_ACCESS_ADDRESS, 0x8010);
        }),
        case(with_posted_interrupts, needs_delivery, |s| secondary(s, VIRTUAL_INTERRUPT_DELIVERY)),
        case(
            with_posted_interrupts,
            "VM-exit controls: \"process posted interrupts\" needs \"acknowledge interrupt on exit\"",
            |s| s.flip(field::VM_EXIT_CONTROLS, Exit::ACKNOWLEDGE_INTERRUPT.bits()),
        ),
        case(with_posted_interrupts, "posted-interrupt notification vector: bits 15:8 must be 0", |s| {
            s.set(field::POSTED_INTERRUPT_VECTOR, 0x100);
        }),
        case(with_posted_interrupts, "posted-interrupt descriptor address: bits 5:0 must be 0", |s| {
            s.set(field::POSTED_INTERRUPT_DESCRIPTOR, 0x20);
        }),
        case(
            with_posted_interrupts,
            "posted-interrupt descriptor address: no bit beyond the physical-address width may be 1",
            |s| s.set(field::POSTED_INTERRUPT_DESCRIPTOR, BEYOND),
        ),
    ]
}

fn ept() -> Vec<Case> {
    let memory_type = "EPTP: bits 2:0 must be a memory type that IA32_VMX_EPT_VPID_CAP offers";
    let walk = "EPTP: bits 5:3 must be a page-walk length, less 1, that IA32_VMX_EPT_VPID_CAP offers";
    let pointer = |value: u64| move |s: &mut Subject| s.set(field::EPT_POINTER, value);
    let needs_ept = "secondary processor-based controls: unrestricted guest, PML, mode-based execute control, \
                     sub-page write permissions and Intel PT at guest-physical addresses need \"enable EPT\"";
    let trace = |control: &str, needed: &str| {
        format!("{control} controls: Intel PT at guest-physical addresses needs \"{needed} IA32_RTIT_CTL\"")
    };
    vec![
        case(long, memory_type, pointer(0x4018)),
        case(long, memory_type, pointer(0x401d)),
        case(long, walk, pointer(0x4026)),
        case(long, walk, pointer(0x4016)),
        case(long, "EPTP: bit 6 must be 0 where accessed and dirty flags are not supported", pointer(0x405e)),
        case(
            long,
            "EPTP: bit 7 must be 0 where supervisor shadow-stack control is not supported",
            pointer(0x409e),
        ),
        case(long, "EPTP: bits 11:8 must be 0", pointer(0x411e)),
        case(long, "EPTP: no bit beyond the physical-address width may be 1", pointer(BEYOND | 0x1e)),
        case(long, needs_ept, |s| secondary(s, Secondary::EPT.bits())),
        case(without_ept, needs_ept, |s| secondary(s, 1 << 22)),
        case(without_ept, "VM-function controls: \"EPTP switching\" needs \"enable EPT\"", |s| {
            secondary(s, 1 << 13);
            s.set(field::VM_FUNCTION_CONTROLS, 1);
        }),
        case(with_trace, trace("VM-entry", "load"), |s| s.flip(field::VM_ENTRY_CONTROLS, 1u32 << 18)),
        case(with_trace, trace("VM-exit", "clear"), |s| s.flip(field::VM_EXIT_CONTROLS, 1u32 << 25)),
    ]
}

fn exit() -> Vec<Case> {
    let mut cases = vec![case(
        long,
        "VM-exit controls: \"save VMX-preemption timer value\" needs \"activate VMX-preemption timer\"",
        |s| {
            pin(s, PinBased::PREEMPTION_TIMER);
            s.flip(field::VM_EXIT_CONTROLS, 1u32 << 22);
        },
    )];
    let areas = [
        ("VM-exit MSR-store", field::VM_EXIT_MSR_STORE_COUNT, field::VM_EXIT_MSR_STORE_ADDRESS),
        ("VM-exit MSR-load", field::VM_EXIT_MSR_LOAD_COUNT, field::VM_EXIT_MSR_LOAD_ADDRESS),
        ("VM-entry MSR-load", field::VM_ENTRY_MSR_LOAD_COUNT, field::VM_ENTRY_MSR_LOAD_ADDRESS),
    ];
    for (name, count_field, address_field) in areas {
        let area = |count: u32, address: u64| {
            move |s: &mut Subject| {
                s.set(count_field, count);
                s.set(address_field, address);
            }
        };
        let beyond = format!("{name} address: no bit beyond the physical-address width may be 1");
        let last = format!("{name} area: its last byte must be a physical address");
        cases.push(case(long, format!("{name} address: bits 3:0 must be 0"), area(1, 0x7008)));
        cases.push(case(long, beyond.clone(), area(1, BEYOND)).also(last.clone()));
        cases.push(case(long, last.clone(), area(2, BEYOND - 16)));
        cases.push(case(long, beyond, area(u32::MAX, !0xf)).also(last));
    }
    cases
}

#[test]
fn each_control_rule_is_named() {
    assert_each_breaks_its_rules(&cases());
}

#[test]
fn features_with_all_they_need_are_allowed() {
    for guest in [without_ept, with_tpr_shadow, with_posted_interrupts, with_apic_page, with_trace] {
        assert_allowed(guest, |_| {});
    }
    assert_allowed(long, |s| {
        s.capabilities.ept_vpid |= 1 << 7 | 1 << 8 | 1 << 21 | 1 << 23;
        s.set(field::EPT_POINTER, 0x40e0);
    });
}

#[test]
fn fields_of_controls_that_are_off_are_not_checked() {
    assert_allowed(long, |s| s.set(field::APIC_ACCESS_ADDRESS, 1));
    assert_allowed(long, |s| s.set(field::VM_EXIT_MSR_LOAD_ADDRESS, 1));
    assert_allowed(long, |s| s.set(field::TPR_THRESHOLD, 0x10));
    assert_allowed(without_ept, |s| s.set(field::EPT_POINTER, 0));
    assert_allowed(long, |s| {
        processor(s, ProcessorBased::SECONDARY);
        s.set(field::SECONDARY_CONTROLS, u32::MAX);
    });
    let mut subject = real();
    processor(&mut subject, ProcessorBased::SECONDARY);
    assert!(!subject.broken().is_empty(), "real mode needs \"unrestricted guest\" to count");
}
