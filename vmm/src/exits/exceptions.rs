//! Exceptions that are intercepted only because the guest could otherwise keep the processor in their delivery
//! for ever (#AC, #DB): given back to the guest as they came, with the slice checked in between.

use crate::{Outcome, Vcpu, VcpuBackend};
use arch::Exception;

pub(super) fn reflect<B: VcpuBackend>(_vcpu: &Vcpu<B>, exception: Exception) -> Outcome {
    Outcome::Fault(exception)
}
