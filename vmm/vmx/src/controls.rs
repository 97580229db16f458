//! VM-execution, exit and entry controls: what is wanted, what the processor can do, what results.
//!
//! SDM Vol. 3D, "VMX Capability Reporting Facility": the low half of a capability MSR are the bits that must be
//! 1, the high half those that may be 1.

use crate::{Entry, Exit, PinBased, ProcessorBased, Secondary};
use arch::Msr;
use vmm::InterruptSupport;

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

/// The controls of a vCPU, as negotiated. While the processor delivers the guest's interrupts itself,
/// [`Controls::execution`] changes some of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Controls {
    /// Pin-based.
    pub pin: u32,
    /// Primary processor-based.
    pub processor: u32,
    /// Secondary.
    pub secondary: u32,
    /// How much of a guest's interrupts the processor can deliver itself.
    pub interrupts: InterruptSupport,
    /// Whether it then also carries out what the guest does to the local APIC's page.
    pub apic_page: bool,
    /// Exit.
    pub exit: u32,
    /// Entry.
    pub entry: u32,
}

/// The VM-execution controls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExecutionControls {
    /// Pin-based.
    pub pin: u32,
    /// Primary processor-based.
    pub processor: u32,
    /// Secondary.
    pub secondary: u32,
}

/// Who delivers a guest's interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApicMode {
    /// Craton: every interrupt is an injected event, every access to the local APIC exits.
    Software,
    /// The processor, from the virtual-APIC page. The guest reaches it through MSRs.
    Virtual,
    /// The processor, from the virtual-APIC page. The guest reaches it through memory.
    Page,
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

/// What the processor needs for delivering a guest's interrupts itself, all of it or none.
const VIRTUAL: Secondary =
    Secondary::VIRTUALIZE_X2APIC.union(Secondary::APIC_REGISTERS).union(Secondary::VIRTUAL_INTERRUPTS);
/// The same while the guest reaches its local APIC through memory.
const VIRTUAL_PAGE: Secondary =
    Secondary::VIRTUALIZE_APIC_ACCESSES.union(Secondary::APIC_REGISTERS).union(Secondary::VIRTUAL_INTERRUPTS);
/// What lets guests use instructions that are #UD without, and nothing else.
const INSTRUCTIONS: Secondary = Secondary::INVPCID.union(Secondary::XSAVES);
/// CR8 accesses exit only while there is no TPR shadow that they could work on.
const CR8_EXITS: ProcessorBased = ProcessorBased::CR8_LOAD_EXITING.union(ProcessorBased::CR8_STORE_EXITING);

/// Whether all of `bits` may be 1.
fn allows(capability: u64, bits: u32) -> bool {
    capability >> 32 & u64::from(bits) == u64::from(bits)
}

/// How much of a guest's interrupts a processor with these capabilities delivers itself.
fn interrupt_support(capabilities: &Capabilities) -> InterruptSupport {
    // CR8 exits that cannot be off would hide the TPR shadow.
    let virtual_delivery = allows(capabilities.processor, ProcessorBased::TPR_SHADOW.bits())
        && allows(capabilities.secondary, VIRTUAL.bits())
        && capabilities.processor & u64::from(CR8_EXITS.bits()) == 0;
    let posted = allows(capabilities.pin, PinBased::POSTED_INTERRUPTS.bits())
        && allows(capabilities.exit, Exit::ACKNOWLEDGE_INTERRUPT.bits());
    match (virtual_delivery, posted) {
        (true, true) => InterruptSupport::Posted,
        (true, false) => InterruptSupport::Virtual,
        (false, _) => InterruptSupport::Software,
    }
}

impl Controls {
    /// Whether the processor can deliver a guest's interrupts itself.
    pub const fn has_apicv(&self) -> bool {
        match self.interrupts {
            InterruptSupport::Software => false,
            InterruptSupport::Virtual | InterruptSupport::Posted => true,
        }
    }

    /// Whether the processor can take interrupts that other cores post, without an exit.
    pub const fn has_posted(&self) -> bool {
        match self.interrupts {
            InterruptSupport::Software | InterruptSupport::Virtual => false,
            InterruptSupport::Posted => true,
        }
    }

    /// The VM-execution controls in `mode`; `support` may be less than what was negotiated.
    pub const fn execution(&self, mode: ApicMode, support: InterruptSupport) -> ExecutionControls {
        let Self { pin, processor, secondary, .. } = *self;
        let posted = match support {
            InterruptSupport::Software => return ExecutionControls { pin, processor, secondary },
            InterruptSupport::Virtual => 0,
            InterruptSupport::Posted => PinBased::POSTED_INTERRUPTS.bits(),
        };
        let virtualized = match mode {
            ApicMode::Software => return ExecutionControls { pin, processor, secondary },
            ApicMode::Virtual => VIRTUAL,
            ApicMode::Page => VIRTUAL_PAGE,
        };
        ExecutionControls {
            pin: pin | posted,
            processor: processor & !CR8_EXITS.bits() | ProcessorBased::TPR_SHADOW.bits(),
            secondary: secondary | virtualized.bits(),
        }
    }

    /// The controls of a guest that is not offered what of `instructions` can be taken from it: INVPCID, and XSAVES with
    /// XRSTORS.
    #[must_use]
    pub const fn without(self, instructions: Secondary) -> Self {
        Self { secondary: self.secondary & !instructions.intersection(INSTRUCTIONS).bits(), ..self }
    }

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
            Secondary::RDTSCP | Secondary::VPID | Secondary::WBINVD_EXITING | INSTRUCTIONS;
        let exit = Exit::HOST_64_BIT
            | Exit::SAVE_DEBUG_CONTROLS
            | Exit::SAVE_PAT
            | Exit::LOAD_PAT
            | Exit::SAVE_EFER
            | Exit::LOAD_EFER;
        let entry = Entry::LOAD_DEBUG_CONTROLS | Entry::LOAD_PAT | Entry::LOAD_EFER;
        let interrupts = interrupt_support(capabilities);
        // Posted interrupts need it; without them interrupts stay pending and are taken through the host's table.
        let (exit, not_exit) = match interrupts {
            InterruptSupport::Posted => (exit | Exit::ACKNOWLEDGE_INTERRUPT, Exit::empty()),
            InterruptSupport::Software | InterruptSupport::Virtual => (exit, Exit::ACKNOWLEDGE_INTERRUPT),
        };
        Ok(Self {
            interrupts,
            apic_page: interrupts != InterruptSupport::Software
                && allows(capabilities.secondary, Secondary::VIRTUALIZE_APIC_ACCESSES.bits()),
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
            exit: negotiate("VM-exit", capabilities.exit, exit.bits(), 0, not_exit.bits())?,
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
    fn a_guest_loses_instructions_and_nothing_else() {
        let all = Controls::negotiate(&generous()).expect("all is allowed");
        assert!(all.has_secondary(Secondary::XSAVES | Secondary::INVPCID));
        let without = all.without(Secondary::all().difference(Secondary::INVPCID));
        assert_eq!(without, Controls { secondary: all.secondary & !Secondary::XSAVES.bits(), ..all });
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

    fn without(field: fn(&mut Capabilities) -> &mut u64, bits: u32) -> Controls {
        let mut capabilities = generous();
        *field(&mut capabilities) &= !(u64::from(bits) << 32);
        Controls::negotiate(&capabilities).expect("the required ones are allowed")
    }

    #[test]
    fn the_processor_delivers_interrupts_only_with_all_that_it_takes() {
        let all = Controls::negotiate(&generous()).expect("all is allowed");
        assert!(all.has_apicv() && all.has_posted());
        assert_ne!(all.exit & Exit::ACKNOWLEDGE_INTERRUPT.bits(), 0);
        for control in
            [Secondary::VIRTUALIZE_X2APIC, Secondary::APIC_REGISTERS, Secondary::VIRTUAL_INTERRUPTS]
        {
            let controls = without(|c| &mut c.secondary, control.bits());
            assert_eq!(controls.interrupts, InterruptSupport::Software, "{control:?}");
            assert_eq!(controls.exit & Exit::ACKNOWLEDGE_INTERRUPT.bits(), 0);
        }
        let no_shadow = without(|c| &mut c.processor, ProcessorBased::TPR_SHADOW.bits());
        assert_eq!(no_shadow.interrupts, InterruptSupport::Software);
        for controls in [
            without(|c| &mut c.pin, PinBased::POSTED_INTERRUPTS.bits()),
            without(|c| &mut c.exit, Exit::ACKNOWLEDGE_INTERRUPT.bits()),
        ] {
            assert!(controls.has_apicv() && !controls.has_posted());
        }
    }

    #[test]
    fn the_tpr_shadow_takes_the_place_of_cr8_exits() {
        let controls = Controls::negotiate(&generous()).expect("all is allowed");
        let software = controls.execution(ApicMode::Software, InterruptSupport::Posted);
        assert_eq!(
            (software.pin, software.processor, software.secondary),
            (controls.pin, controls.processor, controls.secondary)
        );
        assert_eq!(software.processor & CR8_EXITS.bits(), CR8_EXITS.bits());
        assert_eq!(software.secondary & VIRTUAL.bits(), 0);
        let posted = controls.execution(ApicMode::Virtual, InterruptSupport::Posted);
        assert_eq!(posted.processor & CR8_EXITS.bits(), 0);
        assert_ne!(posted.processor & ProcessorBased::TPR_SHADOW.bits(), 0);
        assert_eq!(posted.secondary & VIRTUAL.bits(), VIRTUAL.bits());
        assert_ne!(posted.pin & PinBased::POSTED_INTERRUPTS.bits(), 0);
        let not_posted = controls.execution(ApicMode::Virtual, InterruptSupport::Virtual);
        assert_eq!(not_posted.pin, controls.pin);
    }

    #[test]
    fn through_memory_the_page_is_virtualized_instead_of_the_msrs() {
        let controls = Controls::negotiate(&generous()).expect("all is allowed");
        assert!(controls.apic_page);
        let page = controls.execution(ApicMode::Page, InterruptSupport::Posted);
        let msrs = controls.execution(ApicMode::Virtual, InterruptSupport::Posted);
        assert_eq!((page.pin, page.processor), (msrs.pin, msrs.processor));
        let both = Secondary::VIRTUALIZE_APIC_ACCESSES | Secondary::VIRTUALIZE_X2APIC;
        assert_eq!(page.secondary & both.bits(), Secondary::VIRTUALIZE_APIC_ACCESSES.bits());
        assert_eq!(msrs.secondary & both.bits(), Secondary::VIRTUALIZE_X2APIC.bits());
        assert_eq!(page.secondary | both.bits(), msrs.secondary | both.bits());
        for controls in [
            without(|c| &mut c.secondary, Secondary::VIRTUALIZE_APIC_ACCESSES.bits()),
            without(|c| &mut c.secondary, Secondary::VIRTUAL_INTERRUPTS.bits()),
        ] {
            assert!(!controls.apic_page);
        }
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
