//! Writes to a lent local APIC that the processor leaves to us.
//!
//! SDM Vol. 3C, "APIC-Write Emulation", "Virtualizing MSR-Based APIC Accesses". The value is in the lent page, and RIP
//! is past the instruction.

use super::msr;
use crate::{Lending, Outcome, Vcpu, VcpuBackend, Vm};
use arch::{Tsc, Vector};
use bus::Platform;

/// Registers, by their offsets in the page.
const TASK_PRIORITY: u16 = 0x80;
const LOGICAL_DESTINATION: u16 = 0xd0;
const DESTINATION_FORMAT: u16 = 0xe0;
const SPURIOUS: u16 = 0xf0;
const COMMAND: u16 = 0x300;
const COMMAND_HIGH: u16 = 0x310;
const LVT_TIMER: u16 = 0x320;
const INITIAL_COUNT: u16 = 0x380;
const DIVIDE: u16 = 0x3e0;
const SELF_IPI: u16 = 0x3f0;

/// The guest wrote at `offset`.
// Apart from the loop of exits, which has the registers to itself.
#[inline(never)]
pub(super) fn act<B: VcpuBackend, M, P: Platform>(
    vcpu: &mut Vcpu<B>,
    vm: &Vm<M, P>,
    offset: u16,
    now: Tsc,
) -> Outcome {
    vcpu.stats.note_detail(u64::from(offset));
    match vcpu.apic_lent {
        Some(Lending::Page) => page(vcpu, vm, offset, now),
        Some(Lending::Msrs) => self_ipi(vcpu, offset),
        None => {}
    }
    Outcome::Retry
}

/// SELF IPI with an illegal vector is the only one that the processor does not carry out of those that reach it.
#[cold]
fn self_ipi<B: VcpuBackend>(vcpu: &mut Vcpu<B>, offset: u16) {
    if offset == SELF_IPI {
        let [vector, ..] = vcpu.backend.lent_register(offset).to_le_bytes();
        vcpu.lapic.self_ipi(Vector(vector));
        vcpu.events_changed = true;
    }
}

/// A write to the page, where the register now holds whatever the guest wrote.
fn page<B: VcpuBackend, M, P: Platform>(vcpu: &mut Vcpu<B>, vm: &Vm<M, P>, offset: u16, now: Tsc) {
    let register = offset & 0xff0;
    if offset != register {
        return part(vcpu, register);
    }
    let guest_now = vcpu.guest_tsc(now);
    let value = vcpu.backend.lent_register(register);
    if register == COMMAND {
        vcpu.take_command();
    }
    let effect = vcpu.lapic.page_written(register, value, guest_now);
    if matches!(register, LOGICAL_DESTINATION | DESTINATION_FORMAT) {
        vcpu.publish_addressing();
    }
    msr::apply(vcpu, vm, effect, now);
    if matches!(register, SPURIOUS | LVT_TIMER | INITIAL_COUNT | DIVIDE) {
        vcpu.update_timer(vm);
    }
    vcpu.show_register(register);
    if register == LVT_TIMER {
        // Another mode may have stopped the count.
        vcpu.show_register(INITIAL_COUNT);
    }
}

/// Bytes behind the first of a register were written, which counts for nothing.
#[cold]
fn part<B: VcpuBackend>(vcpu: &mut Vcpu<B>, register: u16) {
    match register {
        // What these were before is not known here; of the command register it does not matter.
        TASK_PRIORITY => {
            let [low, ..] = vcpu.backend.lent_register(register).to_le_bytes();
            vcpu.backend.set_lent_register(register, low.into());
        }
        COMMAND | COMMAND_HIGH => {}
        _ => vcpu.show_register(register),
    }
}
