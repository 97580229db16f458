//! SDM Vol. 3C, "Checks on Guest Non-Register State".

use super::bits::DEBUGCTL_BTF;
use super::checker::Checker;
use super::entry_controls::{EventType, Injection};
use crate::{PinBased, VmcsAccess, field};
use arch::{RFlags, SegmentRegister};

const ACTIVE: u32 = 0;
const HLT: u32 = 1;
const SHUTDOWN: u32 = 2;
const WAIT_FOR_SIPI: u32 = 3;

/// Interruptibility: blocking by STI.
const STI: u32 = 1 << 0;
/// Interruptibility: blocking by MOV SS.
const MOV_SS: u32 = 1 << 1;
/// Interruptibility: blocking by SMI.
const SMI: u32 = 1 << 2;
/// Interruptibility: blocking by NMI, or by a virtual one.
const NMI: u32 = 1 << 3;
/// Interruptibility: the exit was from an enclave.
const ENCLAVE: u32 = 1 << 4;
/// Interruptibility: bits 31:5.
const INTERRUPTIBILITY_RESERVED: u32 = !0x1f;

/// Pending debug exceptions: bits 63:17, 15, 13 and 10:4. Bit 11 is a bus lock, where the processor detects them.
const PENDING_RESERVED: u64 = !0x1_ffff | 1 << 15 | 1 << 13 | 0x7f0;
/// Pending debug exceptions: enabled breakpoint.
const PENDING_ENABLED_BREAKPOINT: u64 = 1 << 12;
/// Pending debug exceptions: single step.
const PENDING_SINGLE_STEP: u64 = 1 << 14;
/// Pending debug exceptions: in a transactional region.
const PENDING_RTM: u64 = 1 << 16;

pub(super) fn check<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    checker.section("Checks on Guest Non-Register State");
    activity(checker);
    interruptibility(checker);
    if let Some(injection) = checker.injection {
        injection_into_inactive(checker, injection);
        injection_while_blocked(checker, injection);
    }
    pending_debug_exceptions(checker);
    link_pointer(checker);
}

fn activity<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let activity = checker.read(field::GUEST_ACTIVITY);
    // IA32_VMX_MISC[8:6] say which of the inactive states there are.
    let supported = match activity {
        ACTIVE => true,
        HLT..=WAIT_FOR_SIPI => checker.capabilities.misc & 1 << (5 + activity) != 0,
        _ => false,
    };
    let rule = "guest activity state must be 0 to 3 and supported by IA32_VMX_MISC[8:6]";
    checker.rule(rule, activity, supported);
    if activity == HLT {
        let rights = checker.segment(SegmentRegister::Ss);
        let rule = "guest activity state must not be HLT unless the DPL of SS is 0";
        checker.rule(rule, rights.access_rights, rights.dpl() == 0);
    }
    if checker.read(field::GUEST_INTERRUPTIBILITY) & (STI | MOV_SS) != 0 {
        checker.rule(
            "guest activity state must be active while STI or MOV SS blocks",
            activity,
            activity == ACTIVE,
        );
    }
}

/// The activity states that exclude events. An event that the state excludes cannot be injected into it.
fn injection_into_inactive<V: VmcsAccess>(checker: &mut Checker<'_, V>, injection: Injection) {
    let info = checker.read(field::VM_ENTRY_INTERRUPTION_INFO);
    let (kind, vector) = (injection.kind, injection.vector);
    match checker.read(field::GUEST_ACTIVITY) {
        HLT => {
            let wakes = match kind {
                EventType::External | EventType::Nmi => true,
                EventType::HardwareException => matches!(vector, 1 | 18),
                EventType::Other => vector == 0,
                EventType::Reserved
                | EventType::SoftwareInterrupt
                | EventType::PrivilegedSoftwareException
                | EventType::SoftwareException => false,
            };
            checker.rule(
                "VM-entry interruption information: in HLT only an interrupt, an NMI, #DB, #MC or a pending MTF \
                 exit can be injected",
                info,
                wakes,
            );
        }
        SHUTDOWN => checker.rule(
            "VM-entry interruption information: in shutdown only an NMI or #MC can be injected",
            info,
            kind == EventType::Nmi || kind == EventType::HardwareException && vector == 18,
        ),
        WAIT_FOR_SIPI => checker.rule(
            "VM-entry interruption information: nothing can be injected while the guest waits for SIPI",
            info,
            false,
        ),
        _ => {}
    }
}

fn interruptibility<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let state = checker.read(field::GUEST_INTERRUPTIBILITY);
    checker.no_bits("guest interruptibility: bits 31:5 must be 0", state & INTERRUPTIBILITY_RESERVED);
    checker.rule(
        "guest interruptibility: STI and MOV SS must not both block",
        state,
        state & (STI | MOV_SS) != STI | MOV_SS,
    );
    checker.rule(
        "guest interruptibility: STI must not block while RFLAGS.IF is 0",
        state,
        state & STI == 0 || checker.rflags.contains(RFlags::INTERRUPT_FLAG),
    );
    checker.no_bits("guest interruptibility: SMI must not block outside SMM", state & SMI);
    checker.rule(
        "guest interruptibility: MOV SS must not block after an enclave interruption",
        state,
        state & (ENCLAVE | MOV_SS) != ENCLAVE | MOV_SS,
    );
}

fn injection_while_blocked<V: VmcsAccess>(checker: &mut Checker<'_, V>, injection: Injection) {
    let state = checker.read(field::GUEST_INTERRUPTIBILITY);
    if injection.is_external() {
        let rule = "guest interruptibility: STI and MOV SS must not block an injected external interrupt";
        checker.no_bits(rule, state & (STI | MOV_SS));
    }
    if injection.is_nmi() {
        checker.no_bits("guest interruptibility: MOV SS must not block an injected NMI", state & MOV_SS);
        // Implementation-specific by the manual; Craton keeps to what every processor takes.
        let rule = "guest interruptibility: STI must not block an injected NMI (some processors allow it)";
        checker.no_bits(rule, state & STI);
        if checker.pin.contains(PinBased::VIRTUAL_NMIS) {
            let rule = "guest interruptibility: NMI must not block an injected NMI with \"virtual NMIs\"";
            checker.no_bits(rule, state & NMI);
        }
    }
}

fn pending_debug_exceptions<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let pending = checker.read(field::GUEST_PENDING_DEBUG_EXCEPTIONS);
    let state = checker.read(field::GUEST_INTERRUPTIBILITY);
    let rule = "guest pending debug exceptions: bits 63:17, 15, 13 and 10:4 must be 0";
    checker.no_bits(rule, pending & PENDING_RESERVED);
    if state & (STI | MOV_SS) != 0 || checker.read(field::GUEST_ACTIVITY) == HLT {
        let steps_branches = checker.read(field::GUEST_DEBUGCTL) & DEBUGCTL_BTF != 0;
        let single_steps = checker.rflags.contains(RFlags::TRAP_FLAG) && !steps_branches;
        checker.rule(
            "guest pending debug exceptions: while STI or MOV SS blocks, or in HLT, BS must be 1 exactly if \
             RFLAGS.TF is 1 and IA32_DEBUGCTL.BTF is 0",
            pending,
            single_steps == (pending & PENDING_SINGLE_STEP != 0),
        );
    }
    if pending & PENDING_RTM != 0 {
        checker.rule(
            "guest pending debug exceptions: with RTM, the enabled-breakpoint bit must be 1 and all others 0",
            pending,
            pending == PENDING_RTM | PENDING_ENABLED_BREAKPOINT,
        );
        let rule = "guest interruptibility: MOV SS must not block while a pending debug exception has RTM";
        checker.no_bits(rule, state & MOV_SS);
    }
}

fn link_pointer<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let pointer = checker.read(field::VMCS_LINK_POINTER);
    if pointer == u64::MAX {
        return;
    }
    checker.no_bits("VMCS link pointer: bits 11:0 must be 0 unless all bits are 1", pointer & 0xfff);
    checker.no_bits(
        "VMCS link pointer: no bit beyond the physical-address width may be 1 unless all bits are 1",
        checker.beyond_pointer(pointer),
    );
}
