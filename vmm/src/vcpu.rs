//! One virtual processor: runs, handles its exits to completion, delivers its events.
//!
//! Only this module moves RIP, blocks, and injects. Handlers in `exits/` return an [`Outcome`].

mod devices;
mod events;
mod paravirtual;
mod waiting;

use crate::inbox::Inbox;
use crate::lapic::{self, LocalApic, Role};
use crate::paravirt::{self, Paravirt};
use crate::{
    CpuState, CpuidPolicy, ExitReason, Lending, MsrState, Outcome, Stats, StopReason, VcpuBackend, Vm, Yield,
    exits, lent_apic,
};
use alloc::sync::Arc;
use arch::{RFlags, Tsc, Vector};
use bus::Platform;
use emulate::Emulator;
use memory::GuestMemory;

/// Where a vCPU is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunState {
    /// It wants a core.
    Runnable,
    /// HLT: it waits for an event.
    Halted,
    /// INIT: it waits for a start-up IPI.
    WaitForSipi,
    /// It ended.
    Stopped(StopReason),
}

/// Why [`Vcpu::run`] came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leave {
    /// A host interrupt waits; the vCPU can go on at once.
    HostInterrupt,
    /// A host NMI arrived: its handler must run before NMIs are taken again.
    HostNmi,
    /// A machine check arrived: the host's handler decides what becomes of the machine.
    HostMachineCheck,
    /// The slice is over.
    SliceEnd,
    /// The guest halted or waits for a start-up IPI; [`Vcpu::next_timer`] tells when to look again at the latest.
    Halted,
    /// The guest ended.
    Stopped(StopReason),
}

/// What a vCPU is made from, beside its backend.
#[derive(Debug)]
pub struct VcpuConfig {
    /// Its number in the virtual machine, from 0.
    pub index: usize,
    /// Its inbox: the one of that number in [`Vm::new`].
    pub inbox: Arc<Inbox>,
    /// The CPUID table.
    pub cpuid: CpuidPolicy,
    /// The local APIC.
    pub lapic: lapic::Config,
    /// Storage MSRs.
    pub msrs: MsrState,
    /// The XSAVE state components that the guest may enable.
    pub xcr0_allowed: u64,
    /// Added to the host's TSC for the guest's.
    pub tsc_offset: u64,
    /// The paravirtual interface that CPUID offers.
    pub paravirt: paravirt::Features,
}

/// A virtual processor on backend `B`.
#[derive(Debug)]
pub struct Vcpu<B> {
    pub(crate) backend: B,
    pub(crate) index: usize,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) lapic: LocalApic,
    pub(crate) lapic_config: lapic::Config,
    pub(crate) emulator: Emulator,
    pub(crate) cpuid: CpuidPolicy,
    pub(crate) msrs: MsrState,
    pub(crate) xcr0_allowed: u64,
    pub(crate) tsc_offset: u64,
    pub(crate) paravirt: Paravirt,
    pub(crate) stats: Stats,
    /// The host's TSC of the next guest timer: local APIC or device.
    pub(crate) timer: Tsc,
    /// The end of the turn on the core.
    slice_end: Tsc,
    /// The earlier of the two: how long the guest may run.
    deadline: Tsc,
    /// Events must be looked at before the next entry.
    pub(crate) events_changed: bool,
    pub(crate) nmi_pending: bool,
    /// A message asked for an interrupt of the 8259 pair, which has not been acknowledged yet.
    pub(crate) external_pending: bool,
    /// An acknowledged interrupt whose delivery an exception cut off: the first to be injected again.
    pub(crate) displaced: Option<Vector>,
    pub(crate) run_state: RunState,
    /// An INIT waits until the processor's registers are at hand.
    pub(crate) init_pending: bool,
    /// A start-up IPI waits as well, behind the INIT if there is one.
    pub(crate) start_up: Option<Vector>,
    /// RFLAGS while the guest halts: what wakes it is decided without its registers at hand.
    pub(crate) halted_flags: RFlags,
    /// It is counted among those that only another vCPU can wake.
    pub(crate) asleep: bool,
    /// How the local APIC can be lent to the backend at most, which then delivers interrupts by itself.
    pub(crate) apic_lendable: Option<Lending>,
    /// How it is.
    pub(crate) apic_lent: Option<Lending>,
    last_rip: u64,
}

impl<B: VcpuBackend> Vcpu<B> {
    /// A vCPU that starts from `state`, or waits for a start-up IPI if it is not the bootstrap processor. The backend
    /// must be loaded on this core.
    pub fn new(mut backend: B, config: VcpuConfig, state: &CpuState) -> Self {
        backend.restore(state);
        backend.set_tsc_offset(config.tsc_offset);
        let waits = config.lapic.role == Role::Application;
        let apic_lendable = lent_apic::most_lendable(&backend);
        Self {
            backend,
            index: config.index,
            inbox: config.inbox,
            lapic: LocalApic::new(config.lapic),
            lapic_config: config.lapic,
            emulator: Emulator::new(),
            cpuid: config.cpuid,
            msrs: config.msrs,
            xcr0_allowed: config.xcr0_allowed,
            tsc_offset: config.tsc_offset,
            paravirt: Paravirt::new(config.paravirt),
            stats: Stats::new(),
            timer: Tsc(0),
            slice_end: Tsc(0),
            deadline: Tsc(0),
            events_changed: true,
            nmi_pending: false,
            external_pending: false,
            displaced: None,
            run_state: if waits { RunState::WaitForSipi } else { RunState::Runnable },
            init_pending: false,
            start_up: None,
            halted_flags: RFlags::empty(),
            // `Vm::new` has counted it.
            asleep: waits,
            apic_lendable,
            apic_lent: None,
            last_rip: state.rip,
        }
    }

    /// The backend, for loading it on a core and for dumps.
    pub const fn backend(&self) -> &B {
        &self.backend
    }

    /// The backend, for loading it on a core and for dumps.
    pub const fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Counters and the last exits.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// RIP when [`Self::run`] last came back.
    pub const fn last_rip(&self) -> u64 {
        self.last_rip
    }

    /// Where in its life the vCPU is.
    pub const fn run_state(&self) -> RunState {
        self.run_state
    }

    /// The host's TSC at which [`Self::poll`] must be called at the latest while the vCPU halts.
    pub const fn next_timer(&self) -> Tsc {
        self.timer
    }

    /// The guest's TSC at `now` of the host.
    #[inline]
    pub(crate) const fn guest_tsc(&self, now: Tsc) -> Tsc {
        Tsc(now.0.wrapping_add(self.tsc_offset))
    }

    /// Ends the vCPU for `reason`.
    pub const fn stop(&mut self, reason: StopReason) {
        self.run_state = RunState::Stopped(reason);
    }

    /// Its number in the virtual machine.
    pub const fn index(&self) -> usize {
        self.index
    }

    /// What others leave for it.
    pub const fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Runs the guest until the slice ends at `slice_end` of the host's TSC, or something else ends the turn.
    /// The backend must be loaded on this core.
    // A function of its own, so that the hot loop has the registers to itself.
    #[inline(never)]
    pub fn run<M: GuestMemory, P: Platform>(&mut self, vm: &Vm<M, P>, slice_end: Tsc) -> Leave {
        let mut now = self.backend.tsc();
        if self.inbox.has_signals() {
            self.open_inbox(vm);
        }
        if self.run_state != RunState::Runnable || self.init_pending || self.start_up.is_some() {
            match self.resume(vm, now) {
                None => {}
                Some(leave) => return leave,
            }
        }
        self.slice_end = slice_end;
        self.deadline = slice_end.min(self.timer);
        let started = now;
        let leave = loop {
            if now >= self.deadline
                && let Some(leave) = self.at_deadline(vm, now)
            {
                break leave;
            }
            if self.events_changed {
                self.deliver_events(vm);
            }
            let exit = self.backend.run(now, self.deadline);
            let at = self.backend.tsc();
            let reason = exit.reason();
            self.stats.exit(reason, at);
            match exits::handle(self, vm, &exit, at) {
                Outcome::Advance => {
                    let rip = self.backend.advance();
                    self.stats.note_rip(rip);
                }
                Outcome::Retry => {}
                outcome @ (Outcome::Fault(_) | Outcome::Halt | Outcome::Yield(_) | Outcome::Stop(_)) => {
                    if let Some(leave) = self.settle(vm, outcome) {
                        now = self.charge(reason, at);
                        break leave;
                    }
                }
            }
            now = self.charge(reason, at);
        };
        self.stats.add_turn(now.0.wrapping_sub(started.0));
        self.last_rip = self.backend.rip();
        leave
    }

    /// Charges the handling of an exit that happened at `at` to `reason`. Returns the time.
    #[inline(always)]
    fn charge(&mut self, reason: ExitReason, at: Tsc) -> Tsc {
        let end = self.backend.tsc();
        self.stats.charge(reason, end.0.wrapping_sub(at.0));
        end
    }

    /// Does what is due at `now`; `Some` when the turn is over.
    fn at_deadline<M: GuestMemory, P: Platform>(&mut self, vm: &Vm<M, P>, now: Tsc) -> Option<Leave> {
        // Mostly it is the slice that ends.
        if now >= self.timer {
            self.fire_timers_here(vm, now);
        }
        if self.init_pending
            && let Some(leave) = self.resume(vm, now)
        {
            return Some(leave);
        }
        (now >= self.slice_end).then_some(Leave::SliceEnd)
    }

    /// Acts on the rarer outcomes.
    #[cold]
    fn settle<M: GuestMemory, P: Platform>(&mut self, vm: &Vm<M, P>, outcome: Outcome) -> Option<Leave> {
        match outcome {
            Outcome::Advance | Outcome::Retry => None,
            Outcome::Fault(exception) => {
                self.raise(exception);
                None
            }
            Outcome::Halt => {
                self.take_eoi(vm);
                self.backend.advance();
                let flags = self.backend.rflags();
                // The single step over HLT traps at once, and a trap ends the halt.
                if self.backend.has_pending_trap() || self.wakes(vm, flags) {
                    self.events_changed = true;
                    return None;
                }
                self.halted_flags = flags;
                self.run_state = RunState::Halted;
                self.sleep(vm)
            }
            Outcome::Yield(Yield::HostInterrupt) => Some(Leave::HostInterrupt),
            Outcome::Yield(Yield::HostNmi) => Some(Leave::HostNmi),
            Outcome::Yield(Yield::HostMachineCheck) => Some(Leave::HostMachineCheck),
            Outcome::Stop(reason) => Some(self.end(reason)),
        }
    }

    fn end(&mut self, reason: StopReason) -> Leave {
        let rip = self.backend.rip();
        self.stats.note_rip(rip);
        self.run_state = RunState::Stopped(reason);
        Leave::Stopped(reason)
    }
}
