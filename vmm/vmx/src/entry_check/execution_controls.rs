//! SDM Vol. 3C, "Checks on VMX Controls", "VM-Execution Control Fields".

use super::bits::{CLEAR_TRACE, LOAD_TRACE};
use super::bits::{
    EPT_ACCESSED_DIRTY, EPT_SHADOW_STACK, EPT_UNCACHEABLE, EPT_WALK_4, EPT_WALK_5, EPT_WRITE_BACK,
    EPTP_SWITCHING, MODE_BASED_EXECUTE, PML, SUB_PAGE_WRITE, TRACE_GUEST_PHYSICAL, TSC_SCALING,
    VIRTUALIZATION_EXCEPTION, VM_FUNCTIONS, VMCS_SHADOWING,
};
use super::checker::Checker;
use crate::{Exit, PinBased, ProcessorBased, Secondary, VmcsAccess, field};

/// Two rules about the 4-KiB aligned physical address in a field: its low bits and its high bits.
macro_rules! page_address {
    ($checker:expr, $name:literal, $field:expr) => {{
        let address = $checker.read($field);
        $checker.no_bits(concat!($name, ": bits 11:0 must be 0"), address & 0xfff);
        let beyond = $checker.beyond_pointer(address);
        $checker.no_bits(concat!($name, ": no bit beyond the physical-address width may be 1"), beyond);
    }};
}

/// Two rules about a word of controls: what its capability MSR fixes to 1 and to 0.
macro_rules! reserved_controls {
    ($checker:expr, $name:literal, $controls:expr, $capability:expr) => {{
        let controls = u64::from($controls);
        let missing = $capability & !controls & 0xffff_ffff;
        $checker.no_bits(concat!($name, ": the bits that the capability MSR fixes to 1 must be 1"), missing);
        let extra = controls & !($capability >> 32);
        $checker.no_bits(concat!($name, ": the bits that the capability MSR fixes to 0 must be 0"), extra);
    }};
}
pub(super) use reserved_controls;

pub(super) fn check<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    checker.section("VM-Execution Control Fields");
    reserved(checker);
    bitmaps(checker);
    nmis(checker);
    local_apic(checker);
    posted_interrupts(checker);
    if checker.secondary.contains(Secondary::VPID) {
        let vpid = checker.read(field::VPID);
        checker.rule("VPID must not be 0 with \"enable VPID\"", vpid, vpid != 0);
    }
    ept_pointer(checker);
    ept_features(checker);
    if checker.secondary.contains(TSC_SCALING) {
        let multiplier = checker.read(field::TSC_MULTIPLIER);
        checker.rule("TSC multiplier must not be 0 with \"use TSC scaling\"", multiplier, multiplier != 0);
    }
}

fn reserved<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let capabilities = checker.capabilities;
    reserved_controls!(checker, "pin-based controls", checker.pin.bits(), capabilities.pin);
    reserved_controls!(
        checker,
        "primary processor-based controls",
        checker.processor.bits(),
        capabilities.processor
    );
    if checker.processor.contains(ProcessorBased::SECONDARY) {
        reserved_controls!(
            checker,
            "secondary processor-based controls",
            checker.secondary.bits(),
            capabilities.secondary
        );
    }
    let targets = u64::from(checker.read(field::CR3_TARGET_COUNT));
    let most = capabilities.misc >> 16 & 0x1ff;
    checker.rule("CR3-target count must not exceed IA32_VMX_MISC[24:16]", targets, targets <= most);
}

fn bitmaps<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    if checker.processor.contains(ProcessorBased::IO_BITMAPS) {
        page_address!(checker, "I/O-bitmap A address", field::IO_BITMAP_A);
        page_address!(checker, "I/O-bitmap B address", field::IO_BITMAP_B);
    }
    if checker.processor.contains(ProcessorBased::MSR_BITMAPS) {
        page_address!(checker, "MSR-bitmap address", field::MSR_BITMAP);
    }
    if checker.secondary.contains(VMCS_SHADOWING) {
        page_address!(checker, "VMREAD-bitmap address", field::VMREAD_BITMAP);
        page_address!(checker, "VMWRITE-bitmap address", field::VMWRITE_BITMAP);
    }
}

fn nmis<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    if !checker.pin.contains(PinBased::NMI_EXITING) {
        checker.rule(
            "pin-based controls: \"virtual NMIs\" needs \"NMI exiting\"",
            checker.pin.bits(),
            !checker.pin.contains(PinBased::VIRTUAL_NMIS),
        );
    }
    if !checker.pin.contains(PinBased::VIRTUAL_NMIS) {
        checker.rule(
            "primary processor-based controls: \"NMI-window exiting\" needs \"virtual NMIs\"",
            checker.processor.bits(),
            !checker.processor.contains(ProcessorBased::NMI_WINDOW),
        );
    }
}

fn local_apic<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let secondary = checker.secondary;
    if checker.processor.contains(ProcessorBased::TPR_SHADOW) {
        page_address!(checker, "virtual-APIC address", field::VIRTUAL_APIC_ADDRESS);
        if !secondary.contains(Secondary::VIRTUAL_INTERRUPTS) {
            let threshold = checker.read(field::TPR_THRESHOLD);
            checker.no_bits("TPR threshold: bits 31:4 must be 0", threshold & !0xf);
        }
    } else {
        let needy = Secondary::VIRTUALIZE_X2APIC | Secondary::APIC_REGISTERS | Secondary::VIRTUAL_INTERRUPTS;
        checker.no_bits(
            "secondary processor-based controls: x2APIC mode, APIC-register virtualization and virtual-interrupt \
             delivery need \"use TPR shadow\"",
            (secondary & needy).bits(),
        );
    }
    if secondary.contains(Secondary::VIRTUALIZE_APIC_ACCESSES) {
        page_address!(checker, "APIC-access address", field::APIC_ACCESS_ADDRESS);
        checker.rule(
            "secondary processor-based controls: \"virtualize x2APIC mode\" excludes \"virtualize APIC accesses\"",
            secondary.bits(),
            !secondary.contains(Secondary::VIRTUALIZE_X2APIC),
        );
    }
    if secondary.contains(Secondary::VIRTUAL_INTERRUPTS) {
        checker.rule(
            "pin-based controls: \"virtual-interrupt delivery\" needs \"external-interrupt exiting\"",
            checker.pin.bits(),
            checker.pin.contains(PinBased::EXTERNAL_INTERRUPT_EXITING),
        );
    }
}

fn posted_interrupts<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    if !checker.pin.contains(PinBased::POSTED_INTERRUPTS) {
        return;
    }
    checker.rule(
        "secondary processor-based controls: \"process posted interrupts\" needs \"virtual-interrupt delivery\"",
        checker.secondary.bits(),
        checker.secondary.contains(Secondary::VIRTUAL_INTERRUPTS),
    );
    checker.rule(
        "VM-exit controls: \"process posted interrupts\" needs \"acknowledge interrupt on exit\"",
        checker.exit.bits(),
        checker.exit.contains(Exit::ACKNOWLEDGE_INTERRUPT),
    );
    let vector = checker.read(field::POSTED_INTERRUPT_VECTOR);
    checker.no_bits("posted-interrupt notification vector: bits 15:8 must be 0", vector & 0xff00);
    let descriptor = checker.read(field::POSTED_INTERRUPT_DESCRIPTOR);
    checker.no_bits("posted-interrupt descriptor address: bits 5:0 must be 0", descriptor & 0x3f);
    checker.no_bits(
        "posted-interrupt descriptor address: no bit beyond the physical-address width may be 1",
        checker.beyond_pointer(descriptor),
    );
}

fn ept_pointer<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    if !checker.secondary.contains(Secondary::EPT) {
        return;
    }
    let supported = |capability: u64| checker.capabilities.ept_vpid & capability != 0;
    let pointer = checker.read(field::EPT_POINTER);
    let memory_type = match pointer & 7 {
        0 => supported(EPT_UNCACHEABLE),
        6 => supported(EPT_WRITE_BACK),
        _ => false,
    };
    let walk = match pointer >> 3 & 7 {
        3 => supported(EPT_WALK_4),
        4 => supported(EPT_WALK_5),
        _ => false,
    };
    let accessed_dirty = pointer & 1 << 6 == 0 || supported(EPT_ACCESSED_DIRTY);
    let shadow_stack = pointer & 1 << 7 == 0 || supported(EPT_SHADOW_STACK);
    let rule = "EPTP: bits 2:0 must be a memory type that IA32_VMX_EPT_VPID_CAP offers";
    checker.rule(rule, pointer & 7, memory_type);
    let rule = "EPTP: bits 5:3 must be a page-walk length, less 1, that IA32_VMX_EPT_VPID_CAP offers";
    checker.rule(rule, pointer >> 3 & 7, walk);
    let rule = "EPTP: bit 6 must be 0 where accessed and dirty flags are not supported";
    checker.rule(rule, pointer, accessed_dirty);
    let rule = "EPTP: bit 7 must be 0 where supervisor shadow-stack control is not supported";
    checker.rule(rule, pointer, shadow_stack);
    checker.no_bits("EPTP: bits 11:8 must be 0", pointer & 0xf00);
    checker
        .no_bits("EPTP: no bit beyond the physical-address width may be 1", checker.beyond_physical(pointer));
}

/// Features that stand on EPT, and their tables.
fn ept_features<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let secondary = checker.secondary;
    if !secondary.contains(Secondary::EPT) {
        let needy =
            Secondary::UNRESTRICTED_GUEST | PML | MODE_BASED_EXECUTE | SUB_PAGE_WRITE | TRACE_GUEST_PHYSICAL;
        checker.no_bits(
            "secondary processor-based controls: unrestricted guest, PML, mode-based execute control, sub-page \
             write permissions and Intel PT at guest-physical addresses need \"enable EPT\"",
            (secondary & needy).bits(),
        );
    }
    if secondary.contains(PML) {
        page_address!(checker, "PML address", field::PML_ADDRESS);
    }
    if secondary.contains(SUB_PAGE_WRITE) {
        page_address!(checker, "sub-page-permission-table pointer", field::SUB_PAGE_PERMISSION_POINTER);
    }
    if secondary.contains(VIRTUALIZATION_EXCEPTION) {
        page_address!(
            checker,
            "virtualization-exception information address",
            field::VIRTUALIZATION_EXCEPTION_INFO
        );
    }
    if secondary.contains(VM_FUNCTIONS) && checker.read(field::VM_FUNCTION_CONTROLS) & EPTP_SWITCHING != 0 {
        checker.rule(
            "VM-function controls: \"EPTP switching\" needs \"enable EPT\"",
            secondary.bits(),
            secondary.contains(Secondary::EPT),
        );
        page_address!(checker, "EPTP-list address", field::EPTP_LIST_ADDRESS);
    }
    if secondary.contains(TRACE_GUEST_PHYSICAL) {
        checker.rule(
            "VM-entry controls: Intel PT at guest-physical addresses needs \"load IA32_RTIT_CTL\"",
            checker.entry.bits(),
            checker.entry.contains(LOAD_TRACE),
        );
        checker.rule(
            "VM-exit controls: Intel PT at guest-physical addresses needs \"clear IA32_RTIT_CTL\"",
            checker.exit.bits(),
            checker.exit.contains(CLEAR_TRACE),
        );
    }
}
