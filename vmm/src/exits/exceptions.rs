//! Exceptions that are intercepted only because the guest could otherwise keep the processor in their delivery
//! for ever (#AC, #DB): given back to the guest as they came, with the slice checked in between. A machine check is
//! the host's: its guest goes on afterwards as if nothing had been, if there is an afterwards.

use crate::{Outcome, Vcpu, VcpuBackend, Yield};
use arch::Exception;

pub(super) fn reflect<B: VcpuBackend>(vcpu: &mut Vcpu<B>, exception: Exception) -> Outcome {
    vcpu.stats.note_detail(u64::from(exception.vector().0));
    if vcpu.backend.deliver_int1() {
        vcpu.enter_debug_handler();
        vcpu.events_changed = true;
        return Outcome::Retry;
    }
    vcpu.backend.recover_event();
    Outcome::Fault(exception)
}

pub(super) fn machine_check<B: VcpuBackend>(vcpu: &mut Vcpu<B>) -> Outcome {
    vcpu.backend.recover_event();
    Outcome::Yield(Yield::HostMachineCheck)
}
