//! Interprocessor interrupts: from the interrupt command register to those that they are for.
//!
//! SDM Vol. 3A, "Issuing Interprocessor Interrupts". In x2APIC mode one WRMSR sends an interrupt to one processor, which is
//! what kernels do most; it has a short way of its own here.

use crate::lapic::{Ipi, Recipients};
use crate::{Vcpu, VcpuBackend, Vm};
use arch::{Msr, Vector};
use bus::{Platform, TriggerMode};
use memory::GuestMemory;

/// The interrupt command register in x2APIC mode.
pub(super) const COMMAND: Msr = Msr(0x830);

/// Carries out a write of `value` to the command register in x2APIC mode, if it is a fixed interrupt for one processor that
/// there is, by its ID. Returns whether it was.
#[inline]
pub(super) fn send_to_one<B: VcpuBackend, M: GuestMemory, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &Vm<M, P>,
    value: u64,
) -> bool {
    let Some((id, vector)) = vcpu.lapic.command_to_one(value) else { return false };
    // IDs are the vCPUs' numbers.
    let Some(index) = usize::try_from(id).ok().filter(|index| *index < vm.vcpus()) else { return false };
    vcpu.lapic.note_command(value);
    if index != vcpu.index {
        vm.leave_interrupt(index, vector);
    } else if vcpu.apic_lent.is_some() && !vcpu.lapic.triggered().contains(vector) {
        // The processor looks at it when it enters the guest.
        vcpu.backend.request_one(vector);
    } else {
        request_own(vcpu, vm, vector);
    }
    true
}

/// An interrupt to itself that software delivers, or whose trigger mode changes.
#[cold]
fn request_own<B: VcpuBackend, M: GuestMemory, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &Vm<M, P>,
    vector: Vector,
) {
    vcpu.take_eoi(vm);
    vcpu.lapic.request_from_outside(vector, TriggerMode::Edge);
    vcpu.events_changed = true;
}

/// Hands an IPI of any kind to those it is for.
pub(super) fn send<B: VcpuBackend, M, P: Platform>(vcpu: &mut Vcpu<B>, vm: &Vm<M, P>, ipi: Ipi) {
    let own = vcpu.index;
    let is_own = match ipi.recipients {
        Recipients::Destination if vm.is_alone() => vcpu.lapic.matches(ipi.message.destination),
        Recipients::Destination => vm.route(ipi.message, Some(own)),
        Recipients::All => {
            vm.broadcast(ipi.message, own);
            true
        }
        Recipients::Others => {
            vm.broadcast(ipi.message, own);
            false
        }
    };
    if is_own {
        vcpu.accept(ipi.message);
    }
}
