//! Port accesses.

use crate::exits::{memory_access, port_breakpoints};
use crate::{Direction, IoExit, Outcome, StopReason, Vcpu, VcpuBackend, Vm};
use arch::{Gpr, Tsc, Width};
use bus::{Attention, Platform, PowerRequest};
use memory::GuestMemory;

#[inline]
pub(super) fn access<B: VcpuBackend, M: GuestMemory, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &Vm<M, P>,
    access: IoExit,
    now: Tsc,
) -> Outcome {
    vcpu.stats.note_detail(u64::from(access.port().0));
    if access.is_string() {
        return memory_access::string_io(vcpu, vm, now);
    }
    port_breakpoints::look(vcpu, access);
    let gprs = vcpu.backend.gprs_mut();
    let attention = {
        let mut platform = vm.platform();
        let time = vm.clock.nanos(now);
        match access.direction() {
            Direction::Out => {
                let value = gprs.get32(Gpr::Rax) & access.mask();
                platform.port_write(access.port(), access.width(), value, time);
            }
            Direction::In => {
                let value = u64::from(platform.port_read(access.port(), access.width(), time));
                let rax = gprs.get(Gpr::Rax);
                // A 32-bit result clears the upper half; narrower ones leave the rest alone.
                let merged = match access.width() {
                    Width::One | Width::Two => rax & !access.width().mask() | value & access.width().mask(),
                    Width::Four | Width::Eight => value,
                };
                gprs.set(Gpr::Rax, merged);
            }
        }
        platform.take_attention()
    };
    if attention.is_empty() {
        return Outcome::Advance;
    }
    settle(vcpu, vm, attention, Outcome::Advance)
}

/// Acts on what an access to the devices set off: interrupts, timers, power, memory that was switched. `done` is the
/// outcome if the guest goes on.
#[cold]
pub(super) fn settle<B: VcpuBackend, M: GuestMemory, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &Vm<M, P>,
    attention: Attention,
    done: Outcome,
) -> Outcome {
    // Locked once more: what another vCPU took in between is served there.
    let request = vcpu.serve_platform(vm, &mut vm.platform(), attention);
    // Behind the devices' lock: other processors are waited for.
    if attention.contains(Attention::MEMORY) && vm.arrange_memory().is_err() {
        return Outcome::Stop(StopReason::NoTables);
    }
    match request {
        None => done,
        Some(PowerRequest::Off) => Outcome::Stop(StopReason::PowerOff),
        Some(PowerRequest::Reset) => Outcome::Stop(StopReason::Reset),
        Some(PowerRequest::Exit { status }) => Outcome::Stop(StopReason::DebugExit { status }),
    }
}
