//! Port accesses.

use crate::{Direction, IoExit, Outcome, StopReason, Vcpu, VcpuBackend, Vm, exits::memory_access};
use arch::{Gpr, Tsc, Width};
use bus::{Platform, PowerRequest};
use memory::GuestMemory;

#[inline]
pub(super) fn access<B: VcpuBackend, M: GuestMemory, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &mut Vm<M, P>,
    access: IoExit,
    now: Tsc,
) -> Outcome {
    vcpu.stats.note_detail(u64::from(access.port().0));
    if access.is_string() {
        return memory_access::string_io(vcpu, vm, now);
    }
    let time = vm.clock.nanos(now);
    let gprs = vcpu.backend.gprs_mut();
    match access.direction() {
        Direction::Out => {
            let mask = match access.width() {
                Width::One => 0xff,
                Width::Two => 0xffff,
                Width::Four | Width::Eight => u32::MAX,
            };
            vm.platform.port_write(access.port(), access.width(), gprs.get32(Gpr::Rax) & mask, time);
        }
        Direction::In => {
            let value = u64::from(vm.platform.port_read(access.port(), access.width(), time));
            let rax = gprs.get(Gpr::Rax);
            // A 32-bit result clears the upper half; narrower ones leave the rest alone.
            let merged = match access.width() {
                Width::One | Width::Two => rax & !access.width().mask() | value & access.width().mask(),
                Width::Four | Width::Eight => value,
            };
            gprs.set(Gpr::Rax, merged);
        }
    }
    settle(vcpu, vm, Outcome::Advance)
}

/// Looks at what the access set off: interrupts, timers, power. `done` is the outcome if the guest goes on.
#[inline]
pub(super) fn settle<B: VcpuBackend, M, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &mut Vm<M, P>,
    done: Outcome,
) -> Outcome {
    match vcpu.take_platform_events(vm) {
        None => done,
        Some(PowerRequest::Off) => Outcome::Stop(StopReason::PowerOff),
        Some(PowerRequest::Reset) => Outcome::Stop(StopReason::Reset),
    }
}
