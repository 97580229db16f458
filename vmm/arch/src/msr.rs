//! Model-specific register numbers.
//!
//! SDM Vol. 4, "Model-Specific Registers (MSRs)".

use core::fmt;

/// The number of a model-specific register.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Msr(pub u32);

impl fmt::Debug for Msr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Msr({:#x})", self.0)
    }
}

impl fmt::Display for Msr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

macro_rules! msrs {
    ($($name:ident = $number:expr, $doc:expr;)*) => {
        impl Msr {
            $(#[doc = $doc] pub const $name: Self = Self($number);)*
        }
    };
}

msrs! {
    P5_MC_ADDR = 0x0, "IA32_P5_MC_ADDR.";
    P5_MC_TYPE = 0x1, "IA32_P5_MC_TYPE.";
    TSC = 0x10, "IA32_TIME_STAMP_COUNTER.";
    PLATFORM_ID = 0x17, "IA32_PLATFORM_ID.";
    APIC_BASE = 0x1b, "IA32_APIC_BASE.";
    FEATURE_CONTROL = 0x3a, "IA32_FEATURE_CONTROL.";
    TSC_ADJUST = 0x3b, "IA32_TSC_ADJUST.";
    SPEC_CTRL = 0x48, "IA32_SPEC_CTRL.";
    PRED_CMD = 0x49, "IA32_PRED_CMD.";
    BIOS_UPDT_TRIG = 0x79, "IA32_BIOS_UPDT_TRIG.";
    BIOS_SIGN_ID = 0x8b, "IA32_BIOS_SIGN_ID: the microcode revision.";
    MTRRCAP = 0xfe, "IA32_MTRRCAP.";
    ARCH_CAPABILITIES = 0x10a, "IA32_ARCH_CAPABILITIES.";
    FLUSH_CMD = 0x10b, "IA32_FLUSH_CMD.";
    SYSENTER_CS = 0x174, "IA32_SYSENTER_CS.";
    SYSENTER_ESP = 0x175, "IA32_SYSENTER_ESP.";
    SYSENTER_EIP = 0x176, "IA32_SYSENTER_EIP.";
    MCG_CAP = 0x179, "IA32_MCG_CAP.";
    MCG_STATUS = 0x17a, "IA32_MCG_STATUS.";
    MCG_CTL = 0x17b, "IA32_MCG_CTL.";
    PERFEVTSEL0 = 0x186, "IA32_PERFEVTSEL0.";
    PERF_STATUS = 0x198, "IA32_PERF_STATUS.";
    MISC_ENABLE = 0x1a0, "IA32_MISC_ENABLE.";
    ENERGY_PERF_BIAS = 0x1b0, "IA32_ENERGY_PERF_BIAS.";
    DEBUGCTL = 0x1d9, "IA32_DEBUGCTL.";
    MTRR_PHYSBASE0 = 0x200, "IA32_MTRR_PHYSBASE0; base and mask alternate from here.";
    MTRR_FIX64K_00000 = 0x250, "IA32_MTRR_FIX64K_00000.";
    MTRR_FIX16K_80000 = 0x258, "IA32_MTRR_FIX16K_80000.";
    MTRR_FIX16K_A0000 = 0x259, "IA32_MTRR_FIX16K_A0000.";
    MTRR_FIX4K_C0000 = 0x268, "IA32_MTRR_FIX4K_C0000, the first of eight.";
    MTRR_FIX4K_F8000 = 0x26f, "IA32_MTRR_FIX4K_F8000, the last of eight.";
    PAT = 0x277, "IA32_PAT.";
    MTRR_DEF_TYPE = 0x2ff, "IA32_MTRR_DEF_TYPE.";
    MC0_CTL = 0x400, "IA32_MC0_CTL; four registers a bank follow.";
    VMX_BASIC = 0x480, "IA32_VMX_BASIC.";
    VMX_PINBASED_CTLS = 0x481, "IA32_VMX_PINBASED_CTLS.";
    VMX_PROCBASED_CTLS = 0x482, "IA32_VMX_PROCBASED_CTLS.";
    VMX_EXIT_CTLS = 0x483, "IA32_VMX_EXIT_CTLS.";
    VMX_ENTRY_CTLS = 0x484, "IA32_VMX_ENTRY_CTLS.";
    VMX_MISC = 0x485, "IA32_VMX_MISC.";
    VMX_CR0_FIXED0 = 0x486, "IA32_VMX_CR0_FIXED0.";
    VMX_CR0_FIXED1 = 0x487, "IA32_VMX_CR0_FIXED1.";
    VMX_CR4_FIXED0 = 0x488, "IA32_VMX_CR4_FIXED0.";
    VMX_CR4_FIXED1 = 0x489, "IA32_VMX_CR4_FIXED1.";
    VMX_PROCBASED_CTLS2 = 0x48b, "IA32_VMX_PROCBASED_CTLS2.";
    VMX_EPT_VPID_CAP = 0x48c, "IA32_VMX_EPT_VPID_CAP.";
    VMX_TRUE_PINBASED_CTLS = 0x48d, "IA32_VMX_TRUE_PINBASED_CTLS.";
    VMX_TRUE_PROCBASED_CTLS = 0x48e, "IA32_VMX_TRUE_PROCBASED_CTLS.";
    VMX_TRUE_EXIT_CTLS = 0x48f, "IA32_VMX_TRUE_EXIT_CTLS.";
    VMX_TRUE_ENTRY_CTLS = 0x490, "IA32_VMX_TRUE_ENTRY_CTLS.";
    TSC_DEADLINE = 0x6e0, "IA32_TSC_DEADLINE.";
    X2APIC_FIRST = 0x800, "The first MSR of the x2APIC range.";
    X2APIC_LAST = 0x8ff, "The last MSR of the x2APIC range.";
    XSS = 0xda0, "IA32_XSS.";
    EFER = 0xc000_0080, "IA32_EFER.";
    STAR = 0xc000_0081, "IA32_STAR.";
    LSTAR = 0xc000_0082, "IA32_LSTAR.";
    CSTAR = 0xc000_0083, "IA32_CSTAR.";
    FMASK = 0xc000_0084, "IA32_FMASK.";
    FS_BASE = 0xc000_0100, "IA32_FS_BASE.";
    GS_BASE = 0xc000_0101, "IA32_GS_BASE.";
    KERNEL_GS_BASE = 0xc000_0102, "IA32_KERNEL_GS_BASE.";
    TSC_AUX = 0xc000_0103, "IA32_TSC_AUX.";
}

impl Msr {
    /// Whether this number lies in the x2APIC range.
    #[inline]
    pub const fn is_x2apic(self) -> bool {
        self.0 >= Self::X2APIC_FIRST.0 && self.0 <= Self::X2APIC_LAST.0
    }
}
