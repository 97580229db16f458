//! What a CPU must offer to run Craton, feature by feature, and what to say when it does not.
//!
//! Pure: it judges register values that somebody else has read. SDM Vol. 3C, "Introduction to Virtual Machine
//! Extensions"; SDM Vol. 3D, "VMX Capability Reporting Facility".

use core::fmt;

/// What the CPU says of itself. An MSR that cannot be read is `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuFacts {
    /// CPUID.01H:ECX.
    pub leaf_1_ecx: u32,
    /// CPUID.80000001H:ECX.
    pub extended_leaf_1_ecx: u32,
    /// IA32_FEATURE_CONTROL.
    pub feature_control: Option<u64>,
    /// IA32_VMX_PINBASED_CTLS.
    pub pin_based: Option<u64>,
    /// IA32_VMX_PROCBASED_CTLS.
    pub processor_based: Option<u64>,
    /// IA32_VMX_PROCBASED_CTLS2.
    pub secondary: Option<u64>,
    /// IA32_VMX_EPT_VPID_CAP.
    pub ept_vpid: Option<u64>,
}

/// What is to be done with IA32_FEATURE_CONTROL before VMXON.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FeatureControl {
    /// Nothing: the firmware allowed VMXON and locked that in.
    Enabled,
    /// The firmware left it open: allow VMXON and lock.
    EnableAndLock,
}

/// Why Craton cannot run on this CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The CPU has no VMX; it has AMD's SVM if the flag says so.
    NoVmx(OtherVirtualization),
    /// IA32_FEATURE_CONTROL cannot be read.
    NoFeatureControl,
    /// The firmware locked VMX off.
    LockedOff,
    /// Allowed in SMX operation only, and locked so.
    LockedToSmx,
    /// A capability MSR that the CPU must have cannot be read.
    Unreadable(CapabilityMsr),
    /// A control or capability is missing.
    Missing(Feature),
}

/// Virtualization of another make, which the CPU may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OtherVirtualization {
    /// AMD's SVM.
    Svm,
    /// None.
    Nothing,
}

/// A register that reports what VMX can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CapabilityMsr {
    /// IA32_VMX_PINBASED_CTLS.
    PinBased,
    /// IA32_VMX_PROCBASED_CTLS.
    ProcessorBased,
    /// IA32_VMX_PROCBASED_CTLS2.
    Secondary,
    /// IA32_VMX_EPT_VPID_CAP.
    EptVpid,
}

impl CapabilityMsr {
    /// The register's name in the manual.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PinBased => "IA32_VMX_PINBASED_CTLS",
            Self::ProcessorBased => "IA32_VMX_PROCBASED_CTLS",
            Self::Secondary => "IA32_VMX_PROCBASED_CTLS2",
            Self::EptVpid => "IA32_VMX_EPT_VPID_CAP",
        }
    }

    /// Its value among the facts.
    const fn value(self, facts: &CpuFacts) -> Option<u64> {
        match self {
            Self::PinBased => facts.pin_based,
            Self::ProcessorBased => facts.processor_based,
            Self::Secondary => facts.secondary,
            Self::EptVpid => facts.ept_vpid,
        }
    }
}

/// A part of VMX that is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feature {
    /// Exits on external interrupts.
    ExternalInterruptExiting,
    /// Exits on NMIs.
    NmiExiting,
    /// Virtual NMIs, for NMI windows.
    VirtualNmis,
    /// The preemption timer.
    PreemptionTimer,
    /// TSC offsetting.
    TscOffsetting,
    /// I/O bitmaps.
    IoBitmaps,
    /// MSR bitmaps.
    MsrBitmaps,
    /// Secondary processor-based controls.
    SecondaryControls,
    /// Extended page tables.
    Ept,
    /// Real mode and unpaged protected mode in a guest.
    UnrestrictedGuest,
    /// EPT of four levels.
    EptFourLevels,
    /// EPT structures in write-back memory.
    EptWriteBack,
    /// EPT pages of 2 MiB.
    EptLargePages,
    /// The INVEPT instruction, for one context.
    Invept,
}

/// All of them, in the order in which they are checked: what others depend on comes first.
const FEATURES: [Feature; 14] = [
    Feature::ExternalInterruptExiting,
    Feature::NmiExiting,
    Feature::VirtualNmis,
    Feature::PreemptionTimer,
    Feature::TscOffsetting,
    Feature::IoBitmaps,
    Feature::MsrBitmaps,
    Feature::SecondaryControls,
    Feature::Ept,
    Feature::UnrestrictedGuest,
    Feature::EptFourLevels,
    Feature::EptWriteBack,
    Feature::EptLargePages,
    Feature::Invept,
];

impl Feature {
    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ExternalInterruptExiting => "external-interrupt exiting",
            Self::NmiExiting => "NMI exiting",
            Self::VirtualNmis => "virtual NMIs",
            Self::PreemptionTimer => "the VMX preemption timer",
            Self::TscOffsetting => "TSC offsetting",
            Self::IoBitmaps => "I/O bitmaps",
            Self::MsrBitmaps => "MSR bitmaps",
            Self::SecondaryControls => "secondary processor-based controls",
            Self::Ept => "extended page tables (EPT)",
            Self::UnrestrictedGuest => "unrestricted guests",
            Self::EptFourLevels => "EPT with four levels",
            Self::EptWriteBack => "EPT structures in write-back memory",
            Self::EptLargePages => "EPT with 2-MiB pages",
            Self::Invept => "INVEPT of a single context",
        }
    }

    /// The register and the bit of it that must be set. A control's allowed-1 setting is in the upper half of
    /// its register.
    const fn place(self) -> (CapabilityMsr, u32) {
        const ALLOWED: u32 = 32;
        match self {
            Self::ExternalInterruptExiting => (CapabilityMsr::PinBased, ALLOWED),
            Self::NmiExiting => (CapabilityMsr::PinBased, ALLOWED + 3),
            Self::VirtualNmis => (CapabilityMsr::PinBased, ALLOWED + 5),
            Self::PreemptionTimer => (CapabilityMsr::PinBased, ALLOWED + 6),
            Self::TscOffsetting => (CapabilityMsr::ProcessorBased, ALLOWED + 3),
            Self::IoBitmaps => (CapabilityMsr::ProcessorBased, ALLOWED + 25),
            Self::MsrBitmaps => (CapabilityMsr::ProcessorBased, ALLOWED + 28),
            Self::SecondaryControls => (CapabilityMsr::ProcessorBased, ALLOWED + 31),
            Self::Ept => (CapabilityMsr::Secondary, ALLOWED + 1),
            Self::UnrestrictedGuest => (CapabilityMsr::Secondary, ALLOWED + 7),
            Self::EptFourLevels => (CapabilityMsr::EptVpid, 6),
            Self::EptWriteBack => (CapabilityMsr::EptVpid, 14),
            Self::EptLargePages => (CapabilityMsr::EptVpid, 16),
            Self::Invept => (CapabilityMsr::EptVpid, 20),
        }
    }

    fn check(self, facts: &CpuFacts) -> Result<(), Refusal> {
        let (register, bit) = self.place();
        let mut value = register.value(facts).ok_or(Refusal::Unreadable(register))?;
        // INVEPT of one context (bit 25) is of use only with the instruction itself (bit 20).
        if self == Self::Invept && value >> 25 & 1 == 0 {
            value = 0;
        }
        if value >> bit & 1 == 1 { Ok(()) } else { Err(Refusal::Missing(self)) }
    }
}

/// Judges a CPU.
///
/// # Errors
/// The first thing that stands in the way.
pub fn check(facts: &CpuFacts) -> Result<FeatureControl, Refusal> {
    const VMX: u32 = 1 << 5;
    const SVM: u32 = 1 << 2;
    const LOCK: u64 = 1 << 0;
    const IN_SMX: u64 = 1 << 1;
    const OUTSIDE_SMX: u64 = 1 << 2;
    if facts.leaf_1_ecx & VMX == 0 {
        let other = match facts.extended_leaf_1_ecx & SVM {
            0 => OtherVirtualization::Nothing,
            _ => OtherVirtualization::Svm,
        };
        return Err(Refusal::NoVmx(other));
    }
    let control = facts.feature_control.ok_or(Refusal::NoFeatureControl)?;
    let feature_control = match (control & LOCK != 0, control & OUTSIDE_SMX != 0, control & IN_SMX != 0) {
        (false, _, _) => FeatureControl::EnableAndLock,
        (true, true, _) => FeatureControl::Enabled,
        (true, false, true) => return Err(Refusal::LockedToSmx),
        (true, false, false) => return Err(Refusal::LockedOff),
    };
    FEATURES.into_iter().try_for_each(|feature| feature.check(facts))?;
    Ok(feature_control)
}

/// What helps when the CPU itself lacks something.
const OTHER_CPU: &str = "use a CPU that has it; in a virtual machine, give it the host's CPU (QEMU with KVM: \
                         -cpu host,+vmx, and kvm_intel loaded with nested=1)";

impl fmt::Display for Refusal {
    /// Which feature, how it was read, what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVmx(OtherVirtualization::Svm) => write!(
                f,
                "this CPU has no VT-x (CPUID.1:ECX[5] is 0); it has AMD's SVM (CPUID.80000001H:ECX[2] is 1), which \
                 Craton does not support yet: use an Intel CPU, or the Bochs emulator"
            ),
            Self::NoVmx(OtherVirtualization::Nothing) => write!(
                f,
                "this CPU has no VT-x (CPUID.1:ECX[5] is 0): use an Intel CPU that has it; in a virtual machine, run \
                 QEMU with KVM and -cpu host,+vmx (kvm_intel loaded with nested=1; QEMU without KVM has no VT-x), or \
                 the Bochs emulator"
            ),
            Self::NoFeatureControl => write!(
                f,
                "this CPU reports VT-x (CPUID.1:ECX[5] is 1) but IA32_FEATURE_CONTROL cannot be read (#GP): update the \
                 firmware or the hypervisor below"
            ),
            Self::LockedOff => write!(
                f,
                "the firmware locked VT-x off (IA32_FEATURE_CONTROL[0] is 1, [2] is 0): enable VT-x, often called \
                 Intel Virtualization Technology, in the firmware's setup and switch the machine off and on"
            ),
            Self::LockedToSmx => write!(
                f,
                "the firmware locked VT-x to SMX operation (IA32_FEATURE_CONTROL[0] and [1] are 1, [2] is 0): disable \
                 Trusted Execution (TXT) or enable VT-x outside of it in the firmware's setup"
            ),
            Self::Unreadable(register) => {
                write!(
                    f,
                    "{} cannot be read (#GP), so this CPU's VT-x is too old: {OTHER_CPU}",
                    register.name()
                )
            }
            Self::Missing(feature) => {
                let (register, bit) = feature.place();
                write!(
                    f,
                    "this CPU's VT-x lacks {} ({}[{bit}] is 0): {OTHER_CPU}",
                    feature.name(),
                    register.name()
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A CPU with everything, VMX allowed and locked.
    const GOOD: CpuFacts = CpuFacts {
        leaf_1_ecx: 1 << 5,
        extended_leaf_1_ecx: 0,
        feature_control: Some(0b101),
        pin_based: Some(u64::MAX),
        processor_based: Some(u64::MAX),
        secondary: Some(u64::MAX),
        ept_vpid: Some(u64::MAX),
    };

    fn without(feature: Feature) -> CpuFacts {
        let (register, bit) = feature.place();
        let mut facts = GOOD;
        let slot = match register {
            CapabilityMsr::PinBased => &mut facts.pin_based,
            CapabilityMsr::ProcessorBased => &mut facts.processor_based,
            CapabilityMsr::Secondary => &mut facts.secondary,
            CapabilityMsr::EptVpid => &mut facts.ept_vpid,
        };
        *slot = Some(!(1 << bit));
        facts
    }

    #[test]
    fn a_complete_cpu_passes() {
        assert_eq!(check(&GOOD), Ok(FeatureControl::Enabled));
    }

    #[test]
    fn an_open_feature_control_is_to_be_set() {
        for open in [0, 0b100, 0b110] {
            let facts = CpuFacts { feature_control: Some(open), ..GOOD };
            assert_eq!(check(&facts), Ok(FeatureControl::EnableAndLock));
        }
    }

    #[test]
    fn a_cpu_without_vmx_is_refused_before_any_msr_counts() {
        let facts = CpuFacts { leaf_1_ecx: !(1 << 5), ..CpuFacts::default() };
        assert_eq!(check(&facts), Err(Refusal::NoVmx(OtherVirtualization::Nothing)));
        let facts = CpuFacts { extended_leaf_1_ecx: 1 << 2, ..facts };
        assert_eq!(check(&facts), Err(Refusal::NoVmx(OtherVirtualization::Svm)));
    }

    #[test]
    fn what_the_firmware_locked_is_told_apart() {
        let with = |value| check(&CpuFacts { feature_control: value, ..GOOD });
        assert_eq!(with(Some(0b001)), Err(Refusal::LockedOff));
        assert_eq!(with(Some(0b011)), Err(Refusal::LockedToSmx));
        assert_eq!(with(None), Err(Refusal::NoFeatureControl));
    }

    #[test]
    fn each_missing_feature_is_refused_by_its_name_and_place() {
        for feature in FEATURES {
            let facts = without(feature);
            assert_eq!(check(&facts), Err(Refusal::Missing(feature)));
            let (register, bit) = feature.place();
            let text = std::format!("{}", Refusal::Missing(feature));
            assert!(text.contains(feature.name()), "{text}");
            assert!(text.contains(&std::format!("{}[{bit}] is 0", register.name())), "{text}");
        }
    }

    #[test]
    fn invept_without_single_context_is_no_invept() {
        let facts = CpuFacts { ept_vpid: Some(!(1 << 25)), ..GOOD };
        assert_eq!(check(&facts), Err(Refusal::Missing(Feature::Invept)));
    }

    #[test]
    fn a_capability_msr_that_cannot_be_read_is_named() {
        let facts = CpuFacts { secondary: None, ..GOOD };
        assert_eq!(check(&facts), Err(Refusal::Unreadable(CapabilityMsr::Secondary)));
        let text = std::format!("{}", Refusal::Unreadable(CapabilityMsr::Secondary));
        assert!(text.starts_with("IA32_VMX_PROCBASED_CTLS2 cannot be read"), "{text}");
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let refusals = [
            Refusal::NoVmx(OtherVirtualization::Svm),
            Refusal::NoVmx(OtherVirtualization::Nothing),
            Refusal::NoFeatureControl,
            Refusal::LockedOff,
            Refusal::LockedToSmx,
            Refusal::Unreadable(CapabilityMsr::EptVpid),
            Refusal::Missing(Feature::Ept),
        ];
        for refusal in refusals {
            let text = std::format!("{refusal}");
            assert!(text.contains("use ") || text.contains("enable ") || text.contains("update "), "{text}");
            assert!(!text.contains('\n'));
        }
    }
}
