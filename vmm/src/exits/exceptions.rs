//! Exceptions that are intercepted only because the guest could otherwise keep the processor in their delivery
//! for ever (#AC, #DB): given back to the guest as they came, with the slice checked in between.

use crate::{Outcome, Vcpu, VcpuBackend};
use arch::Exception;

pub(super) fn reflect<B: VcpuBackend>(vcpu: &mut Vcpu<B>, exception: Exception) -> Outcome {
    vcpu.stats.note_detail(u64::from(exception.vector().0));
    vcpu.backend.recover_event();
    Outcome::Fault(exception)
}
