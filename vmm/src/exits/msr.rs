//! RDMSR and WRMSR of registers that the MSR bitmap does not give to the guest.

use super::ipi;
use crate::lapic::{Effect, GeneralProtection};
use crate::paravirt::{Loaded, Others};
use crate::{Outcome, Vcpu, VcpuBackend, Vm};
use arch::{Cr0Flags, EferFlags, Exception, Gpr, Msr, Tsc, Vector};
use bus::Platform;
use memory::GuestMemory;

const GP: Outcome = Outcome::Fault(Exception::GeneralProtection(0));

pub(super) fn read<B: VcpuBackend, M: GuestMemory, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &Vm<M, P>,
    now: Tsc,
) -> Outcome {
    let msr = Msr(vcpu.backend.gprs().get32(Gpr::Rcx));
    vcpu.stats.note_detail(u64::from(msr.0));
    let value = match msr {
        Msr::APIC_BASE => Some(vcpu.lapic.base()),
        Msr::TSC => Some(vcpu.guest_tsc(now).0),
        Msr::TSC_DEADLINE => Some(vcpu.lapic.tsc_deadline(vcpu.guest_tsc(now)).0),
        Msr::EFER => Some(vcpu.backend.efer().bits()),
        _ if msr.is_x2apic() => {
            let guest_now = vcpu.guest_tsc(now);
            vcpu.take_eoi(vm);
            vcpu.lapic.read_msr(msr, guest_now).ok()
        }
        _ => {
            let stored = vcpu.msrs.read(msr).or_else(|| vcpu.backend.read_msr(msr));
            stored.or_else(|| vcpu.paravirt.read_msr(msr))
        }
    };
    match value {
        Some(value) => {
            vcpu.backend.gprs_mut().set_edx_eax(value);
            Outcome::Advance
        }
        None => GP,
    }
}

pub(super) fn write<B: VcpuBackend, M: GuestMemory, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &Vm<M, P>,
    now: Tsc,
) -> Outcome {
    let gprs = vcpu.backend.gprs();
    let (msr, value) = (Msr(gprs.get32(Gpr::Rcx)), gprs.edx_eax());
    vcpu.stats.note_detail(u64::from(msr.0));
    match msr {
        Msr::TSC_DEADLINE => {
            let guest_now = vcpu.guest_tsc(now);
            vcpu.lapic.set_tsc_deadline(Tsc(value), guest_now);
            // A deadline that has passed fires at once; else there is nothing to deliver.
            vcpu.events_changed |= vcpu.lapic.pending_vector().is_some();
            vcpu.update_timer(vm);
            Outcome::Advance
        }
        ipi::COMMAND if ipi::send_to_one(vcpu, vm, value) => Outcome::Advance,
        _ if msr.is_x2apic() => write_x2apic(vcpu, vm, msr, value, now),
        Msr::APIC_BASE => match set_apic_base(vcpu, value) {
            Ok(()) => {
                vcpu.events_changed = true;
                vcpu.publish_addressing();
                vcpu.update_timer(vm);
                Outcome::Advance
            }
            Err(_) => GP,
        },
        Msr::EFER => write_efer(vcpu, value),
        Msr::TSC => {
            let before = vcpu.guest_tsc(now).0;
            shift_tsc(vcpu, vm, now, value.wrapping_sub(before));
            Outcome::Advance
        }
        Msr::TSC_ADJUST => {
            let before = vcpu.msrs.tsc_adjust;
            shift_tsc(vcpu, vm, now, value.wrapping_sub(before));
            Outcome::Advance
        }
        _ => {
            if vcpu.msrs.write(msr, value).is_ok() || vcpu.backend.write_msr(msr, value) {
                Outcome::Advance
            } else {
                write_paravirtual(vcpu, vm, msr, value)
            }
        }
    }
}

/// A write to a register of the x2APIC range.
fn write_x2apic<B: VcpuBackend, M: GuestMemory, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &Vm<M, P>,
    msr: Msr,
    value: u64,
    now: Tsc,
) -> Outcome {
    let guest_now = vcpu.guest_tsc(now);
    vcpu.take_eoi(vm);
    match vcpu.lapic.write_msr(msr, value, guest_now) {
        Ok(effect) => {
            apply(vcpu, vm, effect, now);
            if is_timer(msr) {
                vcpu.update_timer(vm);
            }
            Outcome::Advance
        }
        Err(_) => GP,
    }
}

/// Disabling the local APIC resets it, so that it must not be lent.
fn set_apic_base<B: VcpuBackend>(vcpu: &mut Vcpu<B>, value: u64) -> Result<(), GeneralProtection> {
    vcpu.take_back_apic();
    vcpu.lapic.set_base(value)
}

/// The processor ended a level-triggered interrupt for the guest.
pub(super) fn end_of_interrupt<B: VcpuBackend, M, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &Vm<M, P>,
    vector: Vector,
    now: Tsc,
) -> Outcome {
    vcpu.stats.note_detail(u64::from(vector.0));
    let effect = vcpu.lapic.ended_by_processor(vector);
    apply(vcpu, vm, effect, now);
    Outcome::Retry
}

/// A write to a register of KVM's interface, or to one that does not exist.
fn write_paravirtual<B: VcpuBackend, M: GuestMemory, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &Vm<M, P>,
    msr: Msr,
    value: u64,
) -> Outcome {
    let times = vcpu.times(vm);
    match vcpu.paravirt.write_msr(msr, value, &vm.memory, || times) {
        Some(Ok(Loaded::Ready)) => Outcome::Advance,
        Some(Ok(Loaded::FlushTlb)) => {
            vcpu.backend.flush_translations();
            Outcome::Advance
        }
        Some(Err(_)) | None => GP,
    }
}

/// Whether the x2APIC register moves the timer's deadline: LVT timer, initial count, divide configuration.
const fn is_timer(msr: Msr) -> bool {
    matches!(msr.0, 0x832 | 0x838 | 0x83e)
}

/// Moves the guest's TSC by `delta`, and TSC_ADJUST with it (SDM Vol. 3B, "Time-Stamp Counter Adjustment").
fn shift_tsc<B: VcpuBackend, M: GuestMemory, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &Vm<M, P>,
    now: Tsc,
    delta: u64,
) {
    let old = vcpu.guest_tsc(now);
    vcpu.tsc_offset = vcpu.tsc_offset.wrapping_add(delta);
    vcpu.msrs.tsc_adjust = vcpu.msrs.tsc_adjust.wrapping_add(delta);
    vcpu.backend.set_tsc_offset(vcpu.tsc_offset);
    if vm.tsc_agreement().set(vcpu.index, vcpu.tsc_offset) == Others::OutOfDate {
        vm.tell_others(vcpu.index);
    }
    vcpu.rewrite_clock(vm);
    vcpu.lapic.tsc_jumped(old, vcpu.guest_tsc(now));
    vcpu.events_changed = true;
    vcpu.update_timer(vm);
}

/// Carries out what a write to the local APIC set off.
#[inline]
pub(super) fn apply<B: VcpuBackend, M, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &Vm<M, P>,
    effect: Effect,
    now: Tsc,
) {
    vcpu.events_changed = true;
    match effect {
        Effect::None => {}
        Effect::BroadcastEoi(vector) => {
            let time = vm.clock.nanos(now);
            let mut platform = vm.platform();
            platform.end_of_interrupt(vector, time);
            let attention = platform.take_attention();
            if !attention.is_empty() {
                // An EOI asks for no power off.
                let _nothing = vcpu.serve_platform(vm, &mut platform, attention);
            }
        }
        Effect::SendIpi(ipi) => ipi::send(vcpu, vm, ipi),
    }
}

/// SDM Vol. 3A, "Extended Feature Enable Register".
fn write_efer<B: VcpuBackend>(vcpu: &mut Vcpu<B>, value: u64) -> Outcome {
    let writable =
        EferFlags::SYSTEM_CALL_EXTENSIONS | EferFlags::LONG_MODE_ENABLE | EferFlags::NO_EXECUTE_ENABLE;
    let old = vcpu.backend.efer();
    if value & !(writable | EferFlags::LONG_MODE_ACTIVE).bits() != 0 {
        return GP;
    }
    let new = EferFlags::from_bits_truncate(value) & writable | old & EferFlags::LONG_MODE_ACTIVE;
    let paging = vcpu.backend.cr0().contains(Cr0Flags::PAGING);
    if paging && (new ^ old).contains(EferFlags::LONG_MODE_ENABLE) {
        return GP;
    }
    vcpu.backend.set_efer(new);
    Outcome::Advance
}
