//! Bits that entry checks name and that nothing else in the crate uses: controls that Craton does not ask for, and
//! the layouts of MSRs.
//!
//! SDM Vol. 3C, "Virtual Machine Control Structures", and Vol. 4, "Model-Specific Registers (MSRs)".

use crate::{Entry, Exit, ProcessorBased, Secondary};

/// Primary: monitor trap flag.
pub(super) const MONITOR_TRAP_FLAG: ProcessorBased = ProcessorBased::from_bits_retain(1 << 27);

/// Secondary: enable VM functions.
pub(super) const VM_FUNCTIONS: Secondary = Secondary::from_bits_retain(1 << 13);
/// Secondary: VMCS shadowing.
pub(super) const VMCS_SHADOWING: Secondary = Secondary::from_bits_retain(1 << 14);
/// Secondary: enable PML.
pub(super) const PML: Secondary = Secondary::from_bits_retain(1 << 17);
/// Secondary: EPT-violation #VE.
pub(super) const VIRTUALIZATION_EXCEPTION: Secondary = Secondary::from_bits_retain(1 << 18);
/// Secondary: mode-based execute control for EPT.
pub(super) const MODE_BASED_EXECUTE: Secondary = Secondary::from_bits_retain(1 << 22);
/// Secondary: sub-page write permissions for EPT.
pub(super) const SUB_PAGE_WRITE: Secondary = Secondary::from_bits_retain(1 << 23);
/// Secondary: Intel PT uses guest physical addresses.
pub(super) const TRACE_GUEST_PHYSICAL: Secondary = Secondary::from_bits_retain(1 << 24);
/// Secondary: use TSC scaling.
pub(super) const TSC_SCALING: Secondary = Secondary::from_bits_retain(1 << 25);

/// Exit: save VMX-preemption timer value.
pub(super) const SAVE_PREEMPTION_TIMER: Exit = Exit::from_bits_retain(1 << 22);
/// Exit: clear IA32_RTIT_CTL.
pub(super) const CLEAR_TRACE: Exit = Exit::from_bits_retain(1 << 25);
/// Exit: load CET state.
pub(super) const EXIT_LOAD_CET: Exit = Exit::from_bits_retain(1 << 28);
/// Exit: load PKRS.
pub(super) const EXIT_LOAD_PKRS: Exit = Exit::from_bits_retain(1 << 29);

/// Entry: entry to SMM.
pub(super) const ENTRY_TO_SMM: Entry = Entry::from_bits_retain(1 << 10);
/// Entry: deactivate dual-monitor treatment.
pub(super) const DEACTIVATE_DUAL_MONITOR: Entry = Entry::from_bits_retain(1 << 11);
/// Entry: load IA32_BNDCFGS.
pub(super) const LOAD_BNDCFGS: Entry = Entry::from_bits_retain(1 << 16);
/// Entry: load IA32_RTIT_CTL.
pub(super) const LOAD_TRACE: Entry = Entry::from_bits_retain(1 << 18);
/// Entry: load CET state.
pub(super) const ENTRY_LOAD_CET: Entry = Entry::from_bits_retain(1 << 20);
/// Entry: load PKRS.
pub(super) const ENTRY_LOAD_PKRS: Entry = Entry::from_bits_retain(1 << 22);

/// VM-function controls: EPTP switching.
pub(super) const EPTP_SWITCHING: u64 = 1;

/// IA32_VMX_BASIC: physical addresses in the VMCS are limited to 32 bits.
pub(super) const BASIC_32_BIT_ADDRESSES: u64 = 1 << 48;
/// IA32_VMX_BASIC: a hardware exception may be injected with or without an error code, whatever its vector.
pub(super) const BASIC_ANY_ERROR_CODE: u64 = 1 << 56;
/// IA32_VMX_MISC: software events may be injected with an instruction length of 0.
pub(super) const MISC_ZERO_LENGTH: u64 = 1 << 30;

/// IA32_VMX_EPT_VPID_CAP: page-walk length 4.
pub(super) const EPT_WALK_4: u64 = 1 << 6;
/// IA32_VMX_EPT_VPID_CAP: page-walk length 5.
pub(super) const EPT_WALK_5: u64 = 1 << 7;
/// IA32_VMX_EPT_VPID_CAP: EPT structures may be uncacheable.
pub(super) const EPT_UNCACHEABLE: u64 = 1 << 8;
/// IA32_VMX_EPT_VPID_CAP: EPT structures may be write-back.
pub(super) const EPT_WRITE_BACK: u64 = 1 << 14;
/// IA32_VMX_EPT_VPID_CAP: accessed and dirty flags.
pub(super) const EPT_ACCESSED_DIRTY: u64 = 1 << 21;
/// IA32_VMX_EPT_VPID_CAP: supervisor shadow-stack control.
pub(super) const EPT_SHADOW_STACK: u64 = 1 << 23;

/// CR4: linear-address masking for supervisor pointers, which CR4 offers where the processor masks addresses.
pub(super) const CR4_LINEAR_ADDRESS_MASKING: u64 = 1 << 28;
/// CR3: mask 48-bit and 57-bit user pointers.
pub(super) const CR3_LINEAR_ADDRESS_MASKING: u64 = 3 << 61;

/// IA32_DEBUGCTL: LBR, BTF and bus-lock detection, then TR up to RTM; the others are reserved.
pub(super) const DEBUGCTL_DEFINED: u64 = 0xffc7;
/// IA32_DEBUGCTL: single-step on branches.
pub(super) const DEBUGCTL_BTF: u64 = 1 << 1;
/// IA32_S_CET: reserved bits.
pub(super) const S_CET_RESERVED: u64 = 0xf << 6;
/// IA32_S_CET: SUPPRESS and TRACKER, which exclude each other.
pub(super) const S_CET_SUPPRESS_AND_TRACKER: u64 = 3 << 10;
/// IA32_BNDCFGS: reserved bits.
pub(super) const BNDCFGS_RESERVED: u64 = 0xffc;

/// Whether all eight entries of IA32_PAT are memory types: UC, WC, WT, WP, WB or UC-.
pub(super) fn is_pat(value: u64) -> bool {
    value.to_le_bytes().iter().all(|memory_type| matches!(memory_type, 0 | 1 | 4..=7))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reset_value_of_the_pat_is_one_and_types_2_3_and_8_are_not() {
        assert!(is_pat(0x0007_0406_0007_0406));
        assert!(!is_pat(0x0200_0000_0000_0000) && !is_pat(0x03) && !is_pat(0x0800));
    }
}
