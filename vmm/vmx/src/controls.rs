//! VM-execution, exit and entry controls: what is wanted, what the processor can do, what results.
//!
//! SDM Vol. 3D, "VMX Capability Reporting Facility": the low half of a capability MSR are the bits that must be
//! 1, the high half those that may be 1.

use arch::Msr;
use bitflags::bitflags;

bitflags! {
    /// Pin-based VM-execution controls.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct PinBased: u32 {
        /// External-interrupt exiting.
        const EXTERNAL_INTERRUPT_EXITING = 1 << 0;
        /// NMI exiting.
        const NMI_EXITING = 1 << 3;
        /// Virtual NMIs.
        const VIRTUAL_NMIS = 1 << 5;
        /// Activate VMX-preemption timer.
        const PREEMPTION_TIMER = 1 << 6;
    }

    /// Primary processor-based VM-execution controls.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct ProcessorBased: u32 {
        /// Interrupt-window exiting.
        const INTERRUPT_WINDOW = 1 << 2;
        /// Use TSC offsetting.
        const TSC_OFFSETTING = 1 << 3;
        /// HLT exiting.
        const HLT_EXITING = 1 << 7;
        /// INVLPG exiting.
        const INVLPG_EXITING = 1 << 9;
        /// MWAIT exiting.
        const MWAIT_EXITING = 1 << 10;
        /// RDPMC exiting.
        const RDPMC_EXITING = 1 << 11;
        /// RDTSC exiting.
        const RDTSC_EXITING = 1 << 12;
        /// CR3-load exiting.
        const CR3_LOAD_EXITING = 1 << 15;
        /// CR3-store exiting.
        const CR3_STORE_EXITING = 1 << 16;
        /// CR8-load exiting.
        const CR8_LOAD_EXITING = 1 << 19;
        /// CR8-store exiting.
        const CR8_STORE_EXITING = 1 << 20;
        /// Use TPR shadow.
        const TPR_SHADOW = 1 << 21;
        /// NMI-window exiting.
        const NMI_WINDOW = 1 << 22;
        /// MOV-DR exiting.
        const MOV_DR_EXITING = 1 << 23;
        /// Unconditional I/O exiting.
        const UNCONDITIONAL_IO_EXITING = 1 << 24;
        /// Use I/O bitmaps.
        const IO_BITMAPS = 1 << 25;
        /// Use MSR bitmaps.
        const MSR_BITMAPS = 1 << 28;
        /// MONITOR exiting.
        const MONITOR_EXITING = 1 << 29;
        /// PAUSE exiting.
        const PAUSE_EXITING = 1 << 30;
        /// Activate secondary controls.
        const SECONDARY = 1 << 31;
    }

    /// Secondary processor-based VM-execution controls.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Secondary: u32 {
        /// Virtualize APIC accesses.
        const VIRTUALIZE_APIC_ACCESSES = 1 << 0;
        /// Enable EPT.
        const EPT = 1 << 1;
        /// Descriptor-table exiting.
        const DESCRIPTOR_TABLE_EXITING = 1 << 2;
        /// Enable RDTSCP.
        const RDTSCP = 1 << 3;
        /// Enable VPID.
        const VPID = 1 << 5;
        /// WBINVD exiting.
        const WBINVD_EXITING = 1 << 6;
        /// Unrestricted guest.
        const UNRESTRICTED_GUEST = 1 << 7;
        /// Enable INVPCID.
        const INVPCID = 1 << 12;
        /// Enable XSAVES/XRSTORS.
        const XSAVES = 1 << 20;
    }

    /// VM-exit controls.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Exit: u32 {
        /// Save debug controls.
        const SAVE_DEBUG_CONTROLS = 1 << 2;
        /// Host address-space size: the host is in 64-bit mode.
        const HOST_64_BIT = 1 << 9;
        /// Acknowledge interrupt on exit.
        const ACKNOWLEDGE_INTERRUPT = 1 << 15;
        /// Save IA32_PAT.
        const SAVE_PAT = 1 << 18;
        /// Load IA32_PAT.
        const LOAD_PAT = 1 << 19;
        /// Save IA32_EFER.
        const SAVE_EFER = 1 << 20;
        /// Load IA32_EFER.
        const LOAD_EFER = 1 << 21;
    }

    /// VM-entry controls.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Entry: u32 {
        /// Load debug controls.
        const LOAD_DEBUG_CONTROLS = 1 << 2;
        /// IA-32e mode guest.
        const IA32E_MODE_GUEST = 1 << 9;
        /// Load IA32_PAT.
        const LOAD_PAT = 1 << 14;
        /// Load IA32_EFER.
        const LOAD_EFER = 1 << 15;
    }
}

/// The capability MSRs that control negotiation reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// IA32_VMX_BASIC.
    pub basic: u64,
    /// IA32_VMX_(TRUE_)PINBASED_CTLS.
    pub pin: u64,
    /// IA32_VMX_(TRUE_)PROCBASED_CTLS.
    pub processor: u64,
    /// IA32_VMX_PROCBASED_CTLS2.
    pub secondary: u64,
    /// IA32_VMX_(TRUE_)EXIT_CTLS.
    pub exit: u64,
    /// IA32_VMX_(TRUE_)ENTRY_CTLS.
    pub entry: u64,
    /// IA32_VMX_MISC.
    pub misc: u64,
    /// IA32_VMX_EPT_VPID_CAP.
    pub ept_vpid: u64,
    /// IA32_VMX_CR0_FIXED0.
    pub cr0_fixed0: u64,
    /// IA32_VMX_CR0_FIXED1.
    pub cr0_fixed1: u64,
    /// IA32_VMX_CR4_FIXED0.
    pub cr4_fixed0: u64,
    /// IA32_VMX_CR4_FIXED1.
    pub cr4_fixed1: u64,
}

impl Capabilities {
    /// Reads the capability MSRs through `rdmsr`, the true ones where IA32_VMX_BASIC[55] says that they exist.
    pub fn read(rdmsr: impl Fn(Msr) -> u64) -> Self {
        let basic = rdmsr(Msr::VMX_BASIC);
        let has_true = basic & 1 << 55 != 0;
        let pick = |true_msr: Msr, msr: Msr| rdmsr(if has_true { true_msr } else { msr });
        Self {
            basic,
            pin: pick(Msr::VMX_TRUE_PINBASED_CTLS, Msr::VMX_PINBASED_CTLS),
            processor: pick(Msr::VMX_TRUE_PROCBASED_CTLS, Msr::VMX_PROCBASED_CTLS),
            secondary: rdmsr(Msr::VMX_PROCBASED_CTLS2),
            exit: pick(Msr::VMX_TRUE_EXIT_CTLS, Msr::VMX_EXIT_CTLS),
            entry: pick(Msr::VMX_TRUE_ENTRY_CTLS, Msr::VMX_ENTRY_CTLS),
            misc: rdmsr(Msr::VMX_MISC),
            ept_vpid: rdmsr(Msr::VMX_EPT_VPID_CAP),
            cr0_fixed0: rdmsr(Msr::VMX_CR0_FIXED0),
            cr0_fixed1: rdmsr(Msr::VMX_CR0_FIXED1),
            cr4_fixed0: rdmsr(Msr::VMX_CR4_FIXED0),
            cr4_fixed1: rdmsr(Msr::VMX_CR4_FIXED1),
        }
    }

    /// The VMCS revision identifier.
    #[expect(clippy::cast_possible_truncation, reason = "bits 30:0")]
    pub const fn revision(&self) -> u32 {
        self.basic as u32 & 0x7fff_ffff
    }

    /// How many times slower than the TSC the preemption timer counts, as a shift.
    pub const fn preemption_timer_shift(&self) -> u32 {
        (self.misc & 0x1f) as u32
    }

    /// Whether EPT may use 1-GiB leaves.
    pub const fn ept_gib_leaves(&self) -> bool {
        self.ept_vpid & 1 << 17 != 0
    }
}

/// The controls of a vCPU, as negotiated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Controls {
    /// Pin-based.
    pub pin: u32,
    /// Primary processor-based.
    pub processor: u32,
    /// Secondary.
    pub secondary: u32,
    /// Exit.
    pub exit: u32,
    /// Entry.
    pub entry: u32,
}

/// A control that Craton needs and the processor does not allow to be set (or to be cleared).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlMissing {
    /// The control field's name.
    pub field: &'static str,
    /// The bits that could not be had.
    pub bits: u32,
}

impl core::fmt::Display for ControlMissing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the processor does not support bits {:#x} of the {} controls", self.bits, self.field)
    }
}

/// `required` and what of `optional` the capability word allows, with the bits that must be 1.
fn negotiate(
    field: &'static str,
    capability: u64,
    required: u32,
    optional: u32,
    forbidden: u32,
) -> Result<u32, ControlMissing> {
    let [must, may] =
        [capability, capability >> 32].map(|half| u32::try_from(half & 0xffff_ffff).unwrap_or(0));
    let missing = required & !may | forbidden & must;
    if missing != 0 {
        return Err(ControlMissing { field, bits: missing });
    }
    Ok(required | optional & may | must)
}

impl Controls {
    /// Whether a secondary control is on.
    pub const fn has_secondary(&self, control: Secondary) -> bool {
        self.secondary & control.bits() == control.bits()
    }

    /// Chooses the controls for a vCPU.
    ///
    /// # Errors
    /// [`ControlMissing`] for the first field that cannot be had.
    pub fn negotiate(capabilities: &Capabilities) -> Result<Self, ControlMissing> {
        let pin = PinBased::EXTERNAL_INTERRUPT_EXITING
            | PinBased::NMI_EXITING
            | PinBased::VIRTUAL_NMIS
            | PinBased::PREEMPTION_TIMER;
        let processor = ProcessorBased::TSC_OFFSETTING
            | ProcessorBased::HLT_EXITING
            | ProcessorBased::MWAIT_EXITING
            | ProcessorBased::MONITOR_EXITING
            | ProcessorBased::RDPMC_EXITING
            | ProcessorBased::CR8_LOAD_EXITING
            | ProcessorBased::CR8_STORE_EXITING
            | ProcessorBased::IO_BITMAPS
            | ProcessorBased::MSR_BITMAPS
            | ProcessorBased::SECONDARY;
        let not_processor = ProcessorBased::CR3_LOAD_EXITING | ProcessorBased::CR3_STORE_EXITING;
        let secondary = Secondary::EPT | Secondary::UNRESTRICTED_GUEST;
        let secondary_optional =
            Secondary::RDTSCP | Secondary::VPID | Secondary::WBINVD_EXITING | Secondary::INVPCID;
        let exit = Exit::HOST_64_BIT
            | Exit::SAVE_DEBUG_CONTROLS
            | Exit::SAVE_PAT
            | Exit::LOAD_PAT
            | Exit::SAVE_EFER
            | Exit::LOAD_EFER;
        let entry = Entry::LOAD_DEBUG_CONTROLS | Entry::LOAD_PAT | Entry::LOAD_EFER;
        Ok(Self {
            pin: negotiate("pin-based", capabilities.pin, pin.bits(), 0, 0)?,
            processor: negotiate(
                "primary processor-based (CR3 exits off needs the true controls)",
                capabilities.processor,
                processor.bits(),
                0,
                not_processor.bits(),
            )?,
            secondary: negotiate(
                "secondary processor-based",
                capabilities.secondary,
                secondary.bits(),
                secondary_optional.bits(),
                0,
            )?,
            exit: negotiate(
                "VM-exit",
                capabilities.exit,
                exit.bits(),
                0,
                Exit::ACKNOWLEDGE_INTERRUPT.bits(),
            )?,
            entry: negotiate("VM-entry", capabilities.entry, entry.bits(), 0, 0)?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Everything allowed; the default1 bits that a processor with true controls still wants.
    pub(crate) fn generous() -> Capabilities {
        Capabilities {
            basic: 1 << 55 | 0x12,
            pin: 0xffff_ffff_0000_0016,
            processor: 0xffff_ffff_0400_6172,
            secondary: 0xffff_ffff_0000_0000,
            exit: 0xffff_ffff_0003_6dfb,
            entry: 0xffff_ffff_0000_11fb,
            misc: 5,
            ept_vpid: 1 << 6 | 1 << 14 | 1 << 16 | 1 << 17 | 1 << 20,
            cr0_fixed0: 0x8000_0021,
            cr0_fixed1: 0xffff_ffff,
            cr4_fixed0: 0x2000,
            cr4_fixed1: 0x7f_ffff,
        }
    }

    #[test]
    fn required_bits_are_set_and_must_be_one_bits_kept() {
        let controls = Controls::negotiate(&generous()).expect("all is allowed");
        assert_eq!(controls.pin & 0x16, 0x16);
        assert_ne!(controls.pin & PinBased::PREEMPTION_TIMER.bits(), 0);
        assert!(controls.has_secondary(Secondary::EPT | Secondary::UNRESTRICTED_GUEST | Secondary::INVPCID));
        assert_eq!(controls.processor & ProcessorBased::INTERRUPT_WINDOW.bits(), 0);
    }

    #[test]
    fn optional_bits_are_dropped_where_not_allowed() {
        let capabilities = Capabilities {
            secondary: u64::from((Secondary::EPT | Secondary::UNRESTRICTED_GUEST).bits()) << 32,
            ..generous()
        };
        let controls = Controls::negotiate(&capabilities).expect("the required ones are allowed");
        assert!(!controls.has_secondary(Secondary::VPID));
    }

    #[test]
    fn a_missing_required_bit_is_named() {
        let capabilities = Capabilities { secondary: u64::from(Secondary::EPT.bits()) << 32, ..generous() };
        let missing = Controls::negotiate(&capabilities).expect_err("unrestricted guest is not allowed");
        assert_eq!(missing.bits, Secondary::UNRESTRICTED_GUEST.bits());
    }

    #[test]
    fn without_true_controls_cr3_exits_cannot_be_off() {
        let capabilities = Capabilities { processor: 0xffff_ffff_0401_e172, ..generous() };
        assert!(Controls::negotiate(&capabilities).is_err());
    }

    #[test]
    fn the_true_capability_msrs_are_read_where_they_exist() {
        let read = |basic: u64| {
            Capabilities::read(|msr| if msr == Msr::VMX_BASIC { basic } else { u64::from(msr.0) })
        };
        assert_eq!(read(1 << 55).pin, 0x48d);
        assert_eq!(read(0).pin, 0x481);
    }
}
