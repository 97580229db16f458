//! The paravirtual interface of KVM that Linux knows: kvmclock, steal time, PV EOI, PV IPI, PV TLB flush.
//!
//! The Linux Kernel documentation, "KVM CPUID bits", "KVM-specific MSRs", "Linux KVM Hypercall". State machines over
//! guest memory without a clock of their own: every time comes as an argument, what others must do is returned.
//! Nothing here runs on an ordinary exit beyond one test of [`Paravirt::eoi_is_offered`].
//!
//! Not offered: asynchronous page faults (no page of a guest is ever absent), PV unhalt, yield and poll control,
//! clock pairing, migration control.

mod agreement;
mod clock;
mod eoi;
mod hypercall;
mod ipi;
mod spec;
mod steal_time;
#[cfg(test)]
mod tests;
mod tlb_flush;

pub use agreement::{Others, Stability, TscAgreement};
pub use clock::Times;
pub use eoi::Ending;
pub use hypercall::{CallMode, Hypercall, may_be_call};
pub use ipi::{SendIpi, Targets};
pub use spec::Features;
pub use steal_time::Presence;
pub use tlb_flush::Loaded;

use crate::lapic::GeneralProtection;
use arch::{Gprs, Msr, Nanos};
use clock::SystemClock;
use eoi::EndOfInterrupt;
use memory::GuestMemory;
use spec::Register;
use steal_time::StealTime;

/// Why a vCPU left its core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Departure {
    /// It wants to go on: its slice is over, or another needs the core.
    Preempted,
    /// It halted, or its machine was paused or ended.
    AtRest,
}

/// A saved paravirtual interface. The records themselves are in the guest's RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct State {
    /// MSR_KVM_WALL_CLOCK_NEW.
    pub wall_clock: u64,
    /// MSR_KVM_SYSTEM_TIME_NEW.
    pub system_time: u64,
    /// MSR_KVM_STEAL_TIME.
    pub steal_time: u64,
    /// MSR_KVM_EOI_EN.
    pub end_of_interrupt: u64,
    /// What the steal-time record says of the vCPU.
    pub presence: Presence,
}

/// A saved register holds what no guest could have written to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadState {
    /// MSR_KVM_STEAL_TIME.
    StealTime(u64),
    /// MSR_KVM_EOI_EN.
    EndOfInterrupt(u64),
}

/// One vCPU's side of the interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paravirt {
    offered: Features,
    wall_clock: u64,
    clock: SystemClock,
    steal_time: StealTime,
    eoi: EndOfInterrupt,
}

impl Paravirt {
    /// The interface with everything switched off, of which CPUID offers `offered`.
    pub const fn new(offered: Features) -> Self {
        Self {
            offered,
            wall_clock: 0,
            clock: SystemClock::new(),
            steal_time: StealTime::new(),
            eoi: EndOfInterrupt::new(),
        }
    }

    /// RESET and INIT: everything is switched off. Records in memory stay as they are.
    pub const fn reset(&mut self) {
        self.wall_clock = 0;
        self.clock = SystemClock::new();
        self.steal_time.reset();
        self.eoi = EndOfInterrupt::new();
    }

    /// What CPUID offers.
    pub const fn offered(&self) -> Features {
        self.offered
    }

    /// Reads `msr`, `None` if it is not one that is offered here.
    pub const fn read_msr(&self, msr: Msr) -> Option<u64> {
        match Register::from_msr(msr, self.offered) {
            Some(Register::WallClock) => Some(self.wall_clock),
            Some(Register::SystemTime) => Some(self.clock.register),
            Some(Register::StealTime) => Some(self.steal_time.register),
            Some(Register::EndOfInterrupt) => Some(self.eoi.register),
            None => None,
        }
    }

    /// Writes `value` to `msr`, `None` if it is not one that is offered here. `times` are asked for only when a time
    /// record is written.
    ///
    /// # Errors
    /// [`GeneralProtection`] where KVM raises it: reserved bits of the steal-time register; a PV EOI word that is not
    /// aligned, or not RAM. Other addresses outside of RAM get no record.
    pub fn write_msr<M: GuestMemory>(
        &mut self,
        msr: Msr,
        value: u64,
        memory: &M,
        times: impl FnOnce() -> Times,
    ) -> Option<Result<Loaded, GeneralProtection>> {
        Some(match Register::from_msr(msr, self.offered)? {
            Register::WallClock => {
                self.wall_clock = value;
                clock::write_wall_clock(value, memory, &times());
                Ok(Loaded::Ready)
            }
            Register::SystemTime => {
                self.clock.write(value, memory, &times());
                Ok(Loaded::Ready)
            }
            Register::StealTime => self.steal_time.write(value, memory),
            Register::EndOfInterrupt => self.eoi.write(value, memory).map(|()| Loaded::Ready),
        })
    }

    /// The vCPU is about to run on a core, after it has waited `waited` for cores in all of its life (never less than
    /// the last time). Call it at the start of each turn. The caller flushes the TLB before entry if that is returned.
    #[inline]
    pub fn loaded<M: GuestMemory>(&mut self, memory: &M, waited: Nanos) -> Loaded {
        self.steal_time.loaded(memory, waited)
    }

    /// Whether the guest wants to know how long it waits for cores.
    #[inline]
    pub const fn counts_waits(&self) -> bool {
        self.steal_time.is_on()
    }

    /// In place of [`Self::loaded`] while nobody wants to know how long the vCPU has waited.
    #[inline]
    pub const fn loaded_uncounted(&mut self) {
        self.steal_time.forget_waits();
    }

    /// The vCPU left its core. Nothing of its guest may run until [`Self::loaded`].
    #[inline]
    pub fn descheduled<M: GuestMemory>(&mut self, memory: &M, why: Departure) {
        match why {
            Departure::Preempted => self.steal_time.preempted(memory),
            // KVM marks only those that were taken off: a guest counts a marked idle processor as one that cannot
            // take work.
            Departure::AtRest => {}
        }
    }

    /// Whether the clock's record shows an older generation of [`TscAgreement`] than `generation`. Ask at the start of
    /// each turn, and call [`Self::tsc_changed`] if so.
    #[inline]
    pub const fn clock_is_stale(&self, generation: u32) -> bool {
        self.clock.generation != generation
    }

    /// The guest's TSC was written, on this vCPU or on another: the clock's record is written anew.
    pub fn tsc_changed<M: GuestMemory>(&mut self, memory: &M, times: &Times) {
        self.clock.publish(memory, times);
    }

    /// The machine goes on after a standstill: a restore, or a pause that its clock went through. The clock's record is
    /// written anew and tells the guest, for its watchdogs.
    pub fn resumed<M: GuestMemory>(&mut self, memory: &M, times: &Times) {
        self.clock.stood_still();
        self.clock.publish(memory, times);
    }

    /// The guest may end the interrupt that was just injected, by its memory. Only for an edge-triggered vector of a
    /// software local APIC, while nothing else is requested there or at the 8259 pair; and directly before an entry.
    #[inline]
    pub fn offer_eoi<M: GuestMemory>(&mut self, memory: &M) {
        self.eoi.offer(memory);
    }

    /// Whether [`Self::withdraw_eoi`] must be called at this exit.
    #[inline]
    pub const fn eoi_is_offered(&self) -> bool {
        self.eoi.is_offered()
    }

    /// After an exit, before anything looks at the local APIC: whether the guest ended its interrupt.
    #[inline]
    pub fn withdraw_eoi<M: GuestMemory>(&mut self, memory: &M) -> Ending {
        self.eoi.withdraw(memory)
    }

    /// The guest executes VMCALL with `gprs` at privilege level `cpl`.
    pub fn hypercall(&self, gprs: &Gprs, cpl: u8, mode: CallMode) -> Hypercall {
        hypercall::decode(self.offered, gprs, cpl, mode)
    }

    /// Saves the interface of a vCPU that does not run.
    pub const fn save(&self) -> State {
        State {
            wall_clock: self.wall_clock,
            system_time: self.clock.register,
            steal_time: self.steal_time.register,
            end_of_interrupt: self.eoi.register,
            presence: self.steal_time.presence,
        }
    }

    /// Becomes the interface that was saved, of a vCPU that has waited `waited` here so far. Before it runs, with RAM in
    /// place, [`Self::resumed`] must follow.
    ///
    /// # Errors
    /// [`BadState`] when a register is impossible; nothing is changed then.
    pub fn restore(&mut self, state: &State, waited: Nanos) -> Result<(), BadState> {
        StealTime::check(state.steal_time).map_err(|_| BadState::StealTime(state.steal_time))?;
        EndOfInterrupt::check(state.end_of_interrupt)
            .map_err(|_| BadState::EndOfInterrupt(state.end_of_interrupt))?;
        self.wall_clock = state.wall_clock;
        self.clock = SystemClock::restored(state.system_time);
        self.steal_time = StealTime::restored(state.steal_time, state.presence, waited);
        self.eoi = EndOfInterrupt::restored(state.end_of_interrupt);
        Ok(())
    }
}
