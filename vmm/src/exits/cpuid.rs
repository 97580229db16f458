//! CPUID: answered from the virtual machine's policy.

use crate::lapic::Mode;
use crate::{CpuidContext, Outcome, Vcpu, VcpuBackend};
use arch::Gpr;

pub(super) fn answer<B: VcpuBackend>(vcpu: &mut Vcpu<B>) -> Outcome {
    let gprs = vcpu.backend.gprs();
    let (leaf, subleaf) = (gprs.get32(Gpr::Rax), gprs.get32(Gpr::Rcx));
    vcpu.stats.note_detail(u64::from(leaf));
    let context = || CpuidContext {
        cr4: vcpu.backend.cr4(),
        xcr0: vcpu.backend.xcr0(),
        apic_enabled: vcpu.lapic.mode() != Mode::Disabled,
    };
    let answer = vcpu.cpuid.get(leaf, subleaf, context);
    answer.store(vcpu.backend.gprs_mut());
    Outcome::Advance
}
