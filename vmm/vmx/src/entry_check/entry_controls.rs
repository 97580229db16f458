//! SDM Vol. 3C, "Checks on VMX Controls", "VM-Entry Control Fields".

use super::bits::{
    BASIC_ANY_ERROR_CODE, DEACTIVATE_DUAL_MONITOR, ENTRY_TO_SMM, MISC_ZERO_LENGTH, MONITOR_TRAP_FLAG,
};
use super::checker::Checker;
use super::execution_controls::reserved_controls;
use super::exit_controls::msr_area;
use crate::event::{HAS_ERROR_CODE, VALID};
use crate::{VmcsAccess, field};
use arch::{Cr0Flags, Cr4Flags};

/// The interruption type of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EventType {
    /// External interrupt.
    External,
    /// Type 1, which means nothing.
    Reserved,
    /// Non-maskable interrupt.
    Nmi,
    /// Hardware exception.
    HardwareException,
    /// Software interrupt: INT n.
    SoftwareInterrupt,
    /// Privileged software exception: INT1.
    PrivilegedSoftwareException,
    /// Software exception: INT3 or INTO.
    SoftwareException,
    /// Other event: a pending MTF exit.
    Other,
}

/// The event that a VM entry injects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Injection {
    pub(super) kind: EventType,
    /// 0 to 255.
    pub(super) vector: u32,
    has_error_code: bool,
}

impl Injection {
    /// The event in the VM-entry interruption-information field, if that is valid.
    pub(super) const fn from_info(info: u32) -> Option<Self> {
        if info & VALID == 0 {
            return None;
        }
        let kind = match info >> 8 & 7 {
            0 => EventType::External,
            1 => EventType::Reserved,
            2 => EventType::Nmi,
            3 => EventType::HardwareException,
            4 => EventType::SoftwareInterrupt,
            5 => EventType::PrivilegedSoftwareException,
            6 => EventType::SoftwareException,
            _ => EventType::Other,
        };
        Some(Self { kind, vector: info & 0xff, has_error_code: info & HAS_ERROR_CODE != 0 })
    }

    /// Whether the event is an external interrupt.
    pub(super) fn is_external(self) -> bool {
        self.kind == EventType::External
    }

    /// Whether the event is an NMI.
    pub(super) fn is_nmi(self) -> bool {
        self.kind == EventType::Nmi
    }
}

pub(super) fn check<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    checker.section("VM-Entry Control Fields");
    reserved_controls!(checker, "VM-entry controls", checker.entry.bits(), checker.capabilities.entry);
    if let Some(injection) = checker.injection {
        event_type_and_vector(checker, injection);
        error_code(checker, injection);
        instruction_length(checker, injection);
    }
    msr_area!(checker, "VM-entry MSR-load", field::VM_ENTRY_MSR_LOAD_COUNT, field::VM_ENTRY_MSR_LOAD_ADDRESS);
    checker.no_bits(
        "VM-entry controls: \"entry to SMM\" and \"deactivate dual-monitor treatment\" must be 0 outside SMM",
        (checker.entry & (ENTRY_TO_SMM | DEACTIVATE_DUAL_MONITOR)).bits(),
    );
}

fn event_type_and_vector<V: VmcsAccess>(checker: &mut Checker<'_, V>, injection: Injection) {
    let info = checker.read(field::VM_ENTRY_INTERRUPTION_INFO);
    let has_trap_flag = checker.capabilities.processor >> 32 & u64::from(MONITOR_TRAP_FLAG.bits()) != 0;
    let known = match injection.kind {
        EventType::Reserved => false,
        EventType::Other => has_trap_flag,
        EventType::External
        | EventType::Nmi
        | EventType::HardwareException
        | EventType::SoftwareInterrupt
        | EventType::PrivilegedSoftwareException
        | EventType::SoftwareException => true,
    };
    checker.rule(
        "VM-entry interruption information: the type must not be 1, nor 7 without the monitor trap flag",
        info,
        known,
    );
    let vector = injection.vector;
    match injection.kind {
        EventType::Nmi => {
            checker.rule("VM-entry interruption information: an NMI must have vector 2", vector, vector == 2);
        }
        EventType::HardwareException => checker.rule(
            "VM-entry interruption information: a hardware exception must have a vector up to 31",
            vector,
            vector <= 31,
        ),
        EventType::Other => checker.rule(
            "VM-entry interruption information: an \"other event\" must have vector 0",
            vector,
            vector == 0,
        ),
        EventType::External
        | EventType::Reserved
        | EventType::SoftwareInterrupt
        | EventType::PrivilegedSoftwareException
        | EventType::SoftwareException => {}
    }
    checker.no_bits("VM-entry interruption information: bits 30:12 must be 0", info & 0x7fff_f000);
}

fn error_code<V: VmcsAccess>(checker: &mut Checker<'_, V>, injection: Injection) {
    let info = checker.read(field::VM_ENTRY_INTERRUPTION_INFO);
    let real_mode =
        checker.has_unrestricted_guest() && !checker.cr0.contains(Cr0Flags::PROTECTED_MODE_ENABLE);
    if injection.kind != EventType::HardwareException {
        checker.rule(
            "VM-entry interruption information: only a hardware exception delivers an error code",
            info,
            !injection.has_error_code,
        );
    } else if real_mode {
        checker.rule(
            "VM-entry interruption information: no error code is delivered while guest CR0.PE is 0",
            info,
            !injection.has_error_code,
        );
    } else if checker.capabilities.basic & BASIC_ANY_ERROR_CODE == 0 {
        // #CP exists where CET does.
        let control_protection =
            checker.capabilities.cr4_fixed1 & Cr4Flags::CONTROL_FLOW_ENFORCEMENT.bits() != 0;
        let expected = match injection.vector {
            8 | 10..=14 | 17 => true,
            21 => control_protection,
            _ => false,
        };
        checker.rule(
            "VM-entry interruption information: an error code goes with #DF, #TS, #NP, #SS, #GP, #PF, #AC and #CP, \
             and with no other exception",
            info,
            injection.has_error_code == expected,
        );
    }
    if injection.has_error_code {
        let code = checker.read(field::VM_ENTRY_EXCEPTION_ERROR_CODE);
        checker.no_bits("VM-entry exception error code: bits 31:16 must be 0", code & 0xffff_0000);
    }
}

fn instruction_length<V: VmcsAccess>(checker: &mut Checker<'_, V>, injection: Injection) {
    match injection.kind {
        EventType::SoftwareInterrupt
        | EventType::PrivilegedSoftwareException
        | EventType::SoftwareException => {
            let length = checker.read(field::VM_ENTRY_INSTRUCTION_LENGTH);
            let least = u32::from(checker.capabilities.misc & MISC_ZERO_LENGTH == 0);
            checker.rule(
                "VM-entry instruction length: a software event needs 1 to 15 bytes (0 where IA32_VMX_MISC[30] is 1)",
                length,
                (least..=15).contains(&length),
            );
        }
        EventType::External
        | EventType::Reserved
        | EventType::Nmi
        | EventType::HardwareException
        | EventType::Other => {}
    }
}
