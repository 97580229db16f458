//! Whether this CPU can run guests, and a clear word on serial line and screen when it cannot.

use arch::Msr;
use hal::{cpu, msr};
use vmx::requirements::{CpuFacts, FeatureControl, Refusal, check};

use crate::log::print;

/// Bit of CPUID.01H:ECX that says that the VMX registers exist.
const VMX: u32 = 1 << 5;

/// Reads what the CPU says. The VMX registers are read only where VMX is reported.
fn facts() -> CpuFacts {
    let leaf_1_ecx = cpu::cpuid(1, 0).ecx;
    let extended_leaf_1_ecx = cpu::cpuid(0x8000_0001, 0).ecx;
    let read = |register| if leaf_1_ecx & VMX != 0 { msr::try_read(register) } else { None };
    CpuFacts {
        leaf_1_ecx,
        extended_leaf_1_ecx,
        feature_control: read(Msr::FEATURE_CONTROL),
        pin_based: read(Msr::VMX_PINBASED_CTLS),
        processor_based: read(Msr::VMX_PROCBASED_CTLS),
        secondary: read(Msr::VMX_PROCBASED_CTLS2),
        ept_vpid: read(Msr::VMX_EPT_VPID_CAP),
    }
}

/// Returns when this CPU has all that is needed, VMXON allowed; otherwise says what is missing and halts.
pub(crate) fn require() {
    match check(&facts()) {
        Ok(FeatureControl::Enabled) => ::log::info!("VT-x: complete, enabled by the firmware"),
        Ok(FeatureControl::EnableAndLock) => {
            msr::enable_vmx_outside_smx();
            ::log::info!("VT-x: complete, enabled and locked by us");
        }
        Err(refusal) => refuse(refusal),
    }
}

fn refuse(refusal: Refusal) -> ! {
    print(format_args!("craton: cannot start: {refusal}\ncraton: halted\n"));
    cpu::halt_forever()
}
