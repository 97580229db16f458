//! VMCALL: KVM's hypercalls.

use crate::paravirt::{self, Hypercall, SendIpi};
use crate::{Outcome, Vcpu, VcpuBackend, Vm};
use arch::{Gpr, SegmentRegister};
use bus::Platform;

/// What KVM's convention returns for a call that does not exist: -KVM_ENOSYS.
const NO_SUCH_CALL: u64 = 1000_u64.wrapping_neg();

#[inline]
pub(super) fn call<B: VcpuBackend, M, P: Platform>(vcpu: &mut Vcpu<B>, vm: &Vm<M, P>) -> Outcome {
    let gprs = vcpu.backend.gprs_mut();
    if !paravirt::may_be_call(gprs.get32(Gpr::Rax)) {
        gprs.set(Gpr::Rax, NO_SUCH_CALL);
        return Outcome::Advance;
    }
    carry_out(vcpu, vm)
}

#[cold]
fn carry_out<B: VcpuBackend, M, P: Platform>(vcpu: &mut Vcpu<B>, vm: &Vm<M, P>) -> Outcome {
    let cpl = vcpu.backend.segment(SegmentRegister::Ss).dpl();
    let result = match vcpu.paravirt.hypercall(vcpu.backend.gprs(), cpl, vcpu.call_mode()) {
        Hypercall::Done(result) => result,
        Hypercall::SendIpi(ipi) => send(vcpu, vm, ipi),
    };
    vcpu.backend.gprs_mut().set(Gpr::Rax, result);
    Outcome::Advance
}

/// Sends an interrupt to each of up to 128 processors; returns how many there are.
fn send<B: VcpuBackend, M, P: Platform>(vcpu: &mut Vcpu<B>, vm: &Vm<M, P>, ipi: SendIpi) -> u64 {
    let mut reached = 0;
    for id in ipi.targets {
        if id == vcpu.lapic.id() {
            vcpu.accept(ipi.message);
            reached += 1;
        } else if vm.leave_for(id, ipi.message) {
            reached += 1;
        }
    }
    reached
}
