//! VMCALL: the KVM hypercall convention, without any call so far.

use crate::{Outcome, Vcpu, VcpuBackend};
use arch::Gpr;

/// What KVM's convention returns for a call that does not exist: -KVM_ENOSYS.
const NO_SUCH_CALL: u64 = 1000_u64.wrapping_neg();

pub(super) fn call<B: VcpuBackend>(vcpu: &mut Vcpu<B>) -> Outcome {
    vcpu.backend.gprs_mut().set(Gpr::Rax, NO_SUCH_CALL);
    Outcome::Advance
}
