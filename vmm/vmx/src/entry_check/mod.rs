//! The manual's VM-entry checks, mirrored: which rule a VMCS breaks, by name.
//!
//! SDM Vol. 3C, "VM Entries". An entry that fails says only that something in the controls, the host state or the
//! guest state is wrong, and emulators accept states that silicon refuses. [`check`] therefore repeats every check
//! whose operands are in the VMCS and reports all that fail, where a processor stops at the first.
//!
//! Not mirrored, as the operands are elsewhere: what lies in memory (VTPR against the TPR threshold, the revision
//! of a linked VMCS, the entries of an MSR-load area, PDPTEs without EPT), what CPUID or a capability MSR outside
//! [`Capabilities`] says (the tertiary controls, VM functions, reserved bits of IA32_PERF_GLOBAL_CTRL,
//! IA32_RTIT_CTL and IA32_LBR_CTL), and entries from system-management mode. Where the processor's support for a
//! bit is not known, the bit is let pass, so that a rule that is named is broken.

mod bits;
mod checker;
mod entry_controls;
mod execution_controls;
mod exit_controls;
mod guest_descriptor_tables;
mod guest_non_register;
mod guest_pdptes;
mod guest_registers;
mod guest_rip;
mod guest_segments;
mod host_state;
#[cfg(test)]
mod tests;

extern crate alloc;

use crate::{Capabilities, VmcsAccess};
use alloc::vec::Vec;
use checker::Checker;
use core::fmt;

/// A rule of the manual that the VMCS breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Violation {
    /// What must hold, with the names of the fields.
    pub rule: &'static str,
    /// The title of the manual's section that has the rule.
    pub section: &'static str,
    /// The value that breaks it: the field's, or the offending bits alone where the rule forbids or demands bits.
    pub value: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (is {:#x}; SDM Vol. 3C, \"{}\")", self.rule, self.value, self.section)
    }
}

/// Every rule that the VMCS breaks, in the manual's order: controls, host state, guest state.
///
/// `capabilities` are the processor's; `physical_address_bits` is MAXPHYADDR, from CPUID. The logical processor is
/// taken to be in IA-32e mode and outside system-management mode, as Craton always is. Fields of a feature are read
/// only where the feature's control is set.
pub fn check(
    vmcs: &impl VmcsAccess,
    capabilities: &Capabilities,
    physical_address_bits: u8,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    evaluate(vmcs, capabilities, physical_address_bits, &mut |violation, holds| {
        if !holds {
            violations.push(violation);
        }
    });
    violations
}

/// Evaluates every rule that applies and tells `report` each, and whether it holds.
fn evaluate(
    vmcs: &impl VmcsAccess,
    capabilities: &Capabilities,
    physical_address_bits: u8,
    report: &mut dyn FnMut(Violation, bool),
) {
    let checker = &mut Checker::new(vmcs, capabilities, physical_address_bits, report);
    execution_controls::check(checker);
    exit_controls::check(checker);
    entry_controls::check(checker);
    host_state::check(checker);
    guest_registers::check(checker);
    guest_segments::check(checker);
    guest_descriptor_tables::check(checker);
    guest_rip::check(checker);
    guest_non_register::check(checker);
    guest_pdptes::check(checker);
}
