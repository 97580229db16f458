//! A vCPU that does not run: what others left for it, what wakes it, INIT and start-up.

use super::{Leave, RunState, Vcpu};
use crate::inbox::Signals;
use crate::lapic::{Level, Pin, Role};
use crate::{CpuState, StopReason, VcpuBackend, Vm};
use arch::{RFlags, Tsc, Vector};
use bus::Platform;
use memory::GuestMemory;

impl<B: VcpuBackend> Vcpu<B> {
    /// Looks after timers and events of a vCPU that is not running. Returns whether it wants a core. The backend need
    /// not be loaded.
    pub fn poll<M: GuestMemory, P: Platform>(&mut self, vm: &Vm<M, P>, now: Tsc) -> bool {
        self.take_eoi(vm);
        if self.inbox.has_signals() {
            self.open_inbox(vm);
        }
        if now >= self.timer {
            self.fire_timers(vm, now);
        }
        let wants = match self.run_state {
            RunState::Runnable => true,
            RunState::Halted => self.init_pending || self.wakes(vm, self.halted_flags),
            RunState::WaitForSipi => self.start_up.is_some(),
            RunState::Stopped(_) => false,
        };
        if wants && self.run_state == RunState::Halted {
            self.run_state = RunState::Runnable;
            self.events_changed = true;
        }
        self.count_sleep(vm, wants);
        wants
    }

    /// Keeps the count of vCPUs that only another one can wake.
    fn count_sleep<M, P: Platform>(&mut self, vm: &Vm<M, P>, wants: bool) {
        if self.asleep && wants {
            self.asleep = false;
            vm.awake();
        }
    }

    /// Takes what others left: interrupts go to the local APIC, the rest is noted.
    #[cold]
    pub(crate) fn open_inbox<M, P: Platform>(&mut self, vm: &Vm<M, P>) {
        // Before the inbox is emptied, so that nobody takes this machine for dead in between.
        let slept = core::mem::replace(&mut self.asleep, false);
        if slept {
            vm.awake();
        }
        let signals = self.inbox.take_signals();
        if signals.contains(Signals::INIT) {
            self.init_pending = true;
            self.start_up = None;
        }
        if signals.contains(Signals::START_UP) && self.start_up.is_none() {
            let [vector, ..] = signals.bits().to_le_bytes();
            self.start_up = Some(Vector(vector));
        }
        if signals.contains(Signals::NMI) {
            self.nmi_pending = true;
        }
        if signals.contains(Signals::EXTERNAL) {
            self.external_pending = true;
        }
        if signals.contains(Signals::ILLEGAL_VECTOR) {
            self.lapic.receive_illegal_vector();
        }
        if signals.contains(Signals::LINT1) {
            let delivery = self.lapic.set_pin(Pin::Lint1, Level::High);
            self.lapic.set_pin(Pin::Lint1, Level::Low);
            self.deliver(delivery);
        }
        if signals.contains(Signals::DEVICES) {
            self.look_at_lint0(vm);
            self.update_timer(vm);
        }
        // Also without the signal: a processor that was to take them by itself may not have run.
        self.inbox.take_requests(|vector, trigger| self.lapic.request_from_outside(vector, trigger));
        self.events_changed = true;
        if slept {
            self.asleep = true;
            vm.falls_asleep();
        }
    }

    /// Acts on an INIT and a start-up IPI, now that the registers are at hand.
    ///
    /// SDM Vol. 3A, "Multiple-Processor (MP) Initialization".
    #[cold]
    fn restart_processor<M, P: Platform>(&mut self, vm: &Vm<M, P>) {
        if core::mem::take(&mut self.init_pending) {
            let before = self.backend.save();
            self.backend.restore(&CpuState::after_init(&before));
            self.backend.set_pending_event(None);
            self.backend.set_nmi_window(false);
            self.take_back_apic();
            self.lapic.init();
            self.publish_addressing();
            self.paravirt.reset();
            self.nmi_pending = false;
            self.external_pending = false;
            self.displaced = None;
            self.events_changed = true;
            self.run_state = match self.lapic_config.role {
                Role::Bootstrap => RunState::Runnable,
                Role::Application => RunState::WaitForSipi,
            };
            self.update_timer(vm);
        }
        // One that runs ignores it.
        if let Some(vector) = self.start_up.take()
            && self.run_state == RunState::WaitForSipi
        {
            let mut state = self.backend.save();
            state.start_at_page(vector.0);
            self.backend.restore(&state);
            self.run_state = RunState::Runnable;
            self.events_changed = true;
        }
    }

    /// Whether a vCPU that was not running may enter its guest, now that its registers are at hand; else how it leaves.
    #[cold]
    pub(super) fn resume<M: GuestMemory, P: Platform>(&mut self, vm: &Vm<M, P>, now: Tsc) -> Option<Leave> {
        if let RunState::Stopped(reason) = self.run_state {
            return Some(Leave::Stopped(reason));
        }
        let wants = self.poll(vm, now);
        self.restart_processor(vm);
        match self.run_state {
            RunState::Runnable if wants => None,
            RunState::Runnable | RunState::Halted | RunState::WaitForSipi => self.sleep(vm),
            RunState::Stopped(reason) => Some(Leave::Stopped(reason)),
        }
    }

    /// Leaves the core until something comes.
    pub(super) fn sleep<M, P: Platform>(&mut self, vm: &Vm<M, P>) -> Option<Leave> {
        let only_by_others = match self.run_state {
            RunState::WaitForSipi => true,
            RunState::Halted => !self.halted_flags.contains(RFlags::INTERRUPT_FLAG),
            RunState::Runnable | RunState::Stopped(_) => false,
        };
        if only_by_others && !self.asleep {
            self.asleep = true;
            if vm.falls_asleep() {
                return Some(self.end(StopReason::HaltedForever));
            }
        }
        Some(Leave::Halted)
    }
}
