//! A vCPU and the devices: the timer that is due next, what the devices did, the 8259 pair's wire to LINT0.

use super::Vcpu;
use crate::lapic::{Level, Pin};
use crate::vm::DEVICE_VCPU;
use crate::{VcpuBackend, Vm};
use arch::{Nanos, Tsc};
use bus::{Attention, Platform, PowerRequest};

impl<B: VcpuBackend> Vcpu<B> {
    /// Runs the timers that are due at `now` and finds the next one. The backend need not be loaded.
    pub(super) fn fire_timers<M, P: Platform>(&mut self, vm: &Vm<M, P>, now: Tsc) {
        let guest_now = self.guest_tsc(now);
        self.lapic.advance(guest_now);
        // Also when nothing fires here: a read of the current count fires a timer that is due.
        self.events_changed = true;
        self.fire_device_timers(vm, now);
        self.update_timer(vm);
    }

    /// [`Self::fire_timers`] of a vCPU that runs: the backend is loaded.
    // A function of its own, as `run` is.
    #[inline(never)]
    pub(super) fn fire_timers_here<M, P: Platform>(&mut self, vm: &Vm<M, P>, now: Tsc) {
        self.fire_lapic_timer(now);
        self.fire_device_timers(vm, now);
        self.update_timer(vm);
    }

    #[inline]
    fn fire_device_timers<M, P: Platform>(&mut self, vm: &Vm<M, P>, now: Tsc) {
        if self.index == DEVICE_VCPU {
            let time = vm.clock.nanos(now);
            if vm.device_deadline() <= time {
                self.advance_devices(vm, time);
            }
        }
    }

    #[cold]
    fn advance_devices<M, P: Platform>(&mut self, vm: &Vm<M, P>, time: Nanos) {
        let mut platform = vm.platform();
        platform.advance(time);
        let attention = platform.take_attention() | Attention::DEADLINE;
        // A timer asks for no power off.
        let _nothing = self.serve_platform(vm, &mut platform, attention);
    }

    /// Recomputes the deadline of the next guest timer.
    pub(crate) fn update_timer<M, P: Platform>(&mut self, vm: &Vm<M, P>) {
        let now = self.backend.tsc();
        let guest_now = self.guest_tsc(now);
        // From the distance, as the guest's TSC has any offset: a due time beyond the host's end never comes.
        let lapic = match self.lapic.timer_deadline() {
            None | Some(Tsc::NEVER) => Tsc::NEVER,
            Some(due) => now + (due - guest_now),
        };
        self.timer = if self.index == DEVICE_VCPU { lapic.min(vm.device_deadline_tsc()) } else { lapic };
        self.deadline = if self.init_pending { Tsc(0) } else { self.timer.min(self.slice_end) };
    }

    /// Hands on what the devices did, as `attention` says, and returns a power request if there is one.
    #[cold]
    pub(crate) fn serve_platform<M, P: Platform>(
        &mut self,
        vm: &Vm<M, P>,
        platform: &mut P,
        attention: Attention,
    ) -> Option<PowerRequest> {
        let index = self.index;
        let mut receive = |message| self.accept(message);
        vm.serve(platform, attention, Some((index, &mut receive)));
        self.look_at_lint0(vm);
        self.events_changed = true;
        if attention.contains(Attention::DEADLINE) {
            self.update_timer(vm);
        }
        Vm::<M, P>::power_request(platform, attention)
    }

    /// The 8259 pair's output may have changed. It is wired to LINT0 of the processor that serves the devices.
    pub(super) fn look_at_lint0<M, P: Platform>(&mut self, vm: &Vm<M, P>) {
        if self.index == DEVICE_VCPU {
            let level = if vm.external_interrupt() { Level::High } else { Level::Low };
            let delivery = self.lapic.set_pin(Pin::Lint0, level);
            self.deliver(delivery);
        }
    }
}
