//! RDMSR and WRMSR of registers that the MSR bitmap does not give to the guest.

use crate::lapic::{Effect, Recipients};
use crate::{Outcome, Vcpu, VcpuBackend, Vm};
use arch::{Cr0Flags, EferFlags, Exception, Gpr, Msr, Tsc};
use bus::Platform;
use memory::GuestMemory;

const GP: Outcome = Outcome::Fault(Exception::GeneralProtection(0));

pub(super) fn read<B: VcpuBackend>(vcpu: &mut Vcpu<B>, now: Tsc) -> Outcome {
    let msr = Msr(vcpu.backend.gprs().get32(Gpr::Rcx));
    vcpu.stats.note_detail(u64::from(msr.0));
    let value = match msr {
        Msr::APIC_BASE => Some(vcpu.lapic.base()),
        Msr::TSC => Some(vcpu.guest_tsc(now).0),
        Msr::TSC_DEADLINE => Some(vcpu.lapic.tsc_deadline(vcpu.guest_tsc(now)).0),
        Msr::EFER => Some(vcpu.backend.efer().bits()),
        _ if msr.is_x2apic() => {
            let guest_now = vcpu.guest_tsc(now);
            vcpu.lapic.read_msr(msr, guest_now).ok()
        }
        _ => vcpu.msrs.read(msr).or_else(|| vcpu.backend.read_msr(msr)),
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
    vm: &mut Vm<M, P>,
    now: Tsc,
) -> Outcome {
    let gprs = vcpu.backend.gprs();
    let (msr, value) = (Msr(gprs.get32(Gpr::Rcx)), gprs.edx_eax());
    vcpu.stats.note_detail(u64::from(msr.0));
    match msr {
        Msr::TSC_DEADLINE => {
            let guest_now = vcpu.guest_tsc(now);
            vcpu.lapic.set_tsc_deadline(Tsc(value), guest_now);
            // A deadline that has passed fires at once.
            vcpu.events_changed = true;
            vcpu.update_timer(vm);
            Outcome::Advance
        }
        _ if msr.is_x2apic() => {
            let guest_now = vcpu.guest_tsc(now);
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
        Msr::APIC_BASE => match vcpu.lapic.set_base(value) {
            Ok(()) => {
                vcpu.events_changed = true;
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
                GP
            }
        }
    }
}

/// Whether the x2APIC register moves the timer's deadline: LVT timer, initial count, divide configuration.
const fn is_timer(msr: Msr) -> bool {
    matches!(msr.0, 0x832 | 0x838 | 0x83e)
}

/// Moves the guest's TSC by `delta`, and TSC_ADJUST with it (SDM Vol. 3B, "Time-Stamp Counter Adjustment").
fn shift_tsc<B: VcpuBackend, M, P: Platform>(vcpu: &mut Vcpu<B>, vm: &Vm<M, P>, now: Tsc, delta: u64) {
    let old = vcpu.guest_tsc(now);
    vcpu.tsc_offset = vcpu.tsc_offset.wrapping_add(delta);
    vcpu.msrs.tsc_adjust = vcpu.msrs.tsc_adjust.wrapping_add(delta);
    vcpu.backend.set_tsc_offset(vcpu.tsc_offset);
    vcpu.lapic.tsc_jumped(old, vcpu.guest_tsc(now));
    vcpu.events_changed = true;
    vcpu.update_timer(vm);
}

/// Carries out what a write to the local APIC set off.
#[inline]
pub(super) fn apply<B: VcpuBackend, M, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &mut Vm<M, P>,
    effect: Effect,
    now: Tsc,
) {
    vcpu.events_changed = true;
    match effect {
        Effect::None => {}
        Effect::BroadcastEoi(vector) => {
            let time = vm.clock.nanos(now);
            vm.platform.end_of_interrupt(vector, time);
            vcpu.take_platform_events(vm);
        }
        Effect::SendIpi(ipi) => match ipi.recipients {
            // A lone processor: what is for others goes to nobody.
            Recipients::Others => {}
            Recipients::All => vcpu.accept(ipi.message),
            Recipients::Destination => vcpu.route(ipi.message),
        },
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
