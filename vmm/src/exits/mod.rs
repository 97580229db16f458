//! What each exit means. Dispatch is one screen; every arm is one call.

mod apic_write;
mod control_registers;
mod cpuid;
mod exceptions;
pub(crate) mod extended_state;
mod hypercall;
mod io;
mod ipi;
mod memory_access;
mod msr;
mod port_breakpoints;

use crate::{Outcome, StopReason, Vcpu, VcpuBackend, Vm, VmExit, Yield};
use arch::{Exception, Tsc};
use bus::Platform;
use memory::GuestMemory;

/// Handles `exit`, which happened at `now` of the host's TSC.
#[inline]
pub(crate) fn handle<B: VcpuBackend, M: GuestMemory, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &Vm<M, P>,
    exit: &VmExit,
    now: Tsc,
) -> Outcome {
    match *exit {
        VmExit::ExternalInterrupt | VmExit::Init => Outcome::Yield(Yield::HostInterrupt),
        VmExit::Nmi => Outcome::Yield(Yield::HostNmi),
        VmExit::MachineCheck => exceptions::machine_check(vcpu),
        VmExit::Deadline => Outcome::Retry,
        VmExit::InterruptWindow | VmExit::NmiWindow => {
            vcpu.events_changed = true;
            Outcome::Retry
        }
        VmExit::Exception(exception) => exceptions::reflect(vcpu, exception),
        VmExit::Cpuid => cpuid::answer(vcpu),
        VmExit::Hlt => Outcome::Halt,
        VmExit::Vmcall => hypercall::call(vcpu, vm),
        VmExit::Io(access) => io::access(vcpu, vm, access, now),
        VmExit::ReadMsr => msr::read(vcpu, vm, now),
        VmExit::WriteMsr => msr::write(vcpu, vm, now),
        VmExit::EoiInduced(vector) => msr::end_of_interrupt(vcpu, vm, vector, now),
        VmExit::ApicWrite(offset) => apic_write::act(vcpu, vm, offset, now),
        VmExit::Ept(fault) => memory_access::emulate(vcpu, vm, fault, now),
        VmExit::ApicAccess(fault) => memory_access::emulate_on_page(vcpu, vm, fault, now),
        VmExit::Cr(access) => control_registers::access(vcpu, &vm.memory, access),
        VmExit::Xsetbv => extended_state::xsetbv(vcpu),
        // Guest memory is coherent and no device bypasses the caches: nothing to write back.
        VmExit::CacheFlush | VmExit::Pause => Outcome::Advance,
        VmExit::Rdpmc => Outcome::Fault(Exception::GeneralProtection(0)),
        VmExit::NotOffered => Outcome::Fault(Exception::InvalidOpcode),
        VmExit::TaskSwitch => Outcome::Stop(StopReason::TaskSwitch),
        VmExit::TripleFault => Outcome::Stop(StopReason::TripleFault),
        VmExit::EntryFailure(failure) => Outcome::Stop(StopReason::EntryFailure(failure)),
        VmExit::Unhandled(raw) => Outcome::Stop(StopReason::Unhandled(raw)),
    }
}
