//! What a core has of its own, and its turns.

use super::post::Post;
use super::shared::{MAX_VCPUS, OPERATOR_CORE, Shared, Stopped};
use crate::vm::{Body, BodyGuard, Slot};
use alloc::boxed::Box;
use arch::Tsc;
use core::sync::atomic::Ordering;
use hal::vmx::VmxCpu;
use sched::{CoreId, Decision, EntityId, Turns};
use turns::{Alarm, Alarms, Permit};
use vmm::{Leave, RunState};

/// A vCPU that nobody competes with still leaves its guest this often, in microseconds, for its console to be looked
/// after. One that is exclusive does not.
const LOOK_US: u64 = 20_000;

/// What a core does when no vCPU wants it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Spare {
    /// Sleep.
    Sleep,
    /// Come back: there is other work.
    Return,
}

/// What the scheduler gave to a core.
#[derive(Clone, Copy, Debug)]
struct Pick {
    id: EntityId,
    slice_end: Tsc,
    /// When.
    decided: Tsc,
    /// [`Shared::parkings`] from before.
    parkings: u32,
}

/// One core in VMX operation.
#[derive(Debug)]
pub(crate) struct Core {
    cpu: VmxCpu,
    here: CoreId,
    shared: &'static Shared,
    post: &'static Post,
    turns: Turns<'static>,
    /// The vCPU whose VMCS and registers are on the core.
    loaded: Option<&'static Slot>,
    /// The timers of the vCPUs that went to sleep here.
    alarms: Alarms,
    look_ticks: Tsc,
    /// What it takes to read the clock, which is no part of what is measured with it.
    clock_ticks: Tsc,
}

impl Core {
    /// This core, which is number `here` and runs guests from now on.
    pub(super) fn new(cpu: VmxCpu, here: CoreId, shared: &'static Shared) -> Self {
        let post = shared.post(here);
        shared.scheduler.online(here);
        shared.tell_cores();
        post.come_up(hal::time::now());
        Self {
            cpu,
            here,
            shared,
            post,
            turns: shared.scheduler.turns_of(here).expect("cores that come up exist"),
            loaded: None,
            alarms: Alarms::new(MAX_VCPUS),
            look_ticks: hal::time::ticks(LOOK_US),
            clock_ticks: Self::clock_ticks(),
        }
    }

    /// What it takes to read the clock: the least of a few times.
    fn clock_ticks() -> Tsc {
        let span = |_| {
            let before = hal::time::now();
            hal::time::now().since(before)
        };
        (0..16).map(span).min().unwrap_or(Tsc(0))
    }

    /// What this core shares with the others.
    pub(crate) const fn shared(&self) -> &'static Shared {
        self.shared
    }

    /// How long it has been idle.
    pub(crate) fn idle_ticks(&self) -> Tsc {
        self.post.idle_ticks()
    }

    /// The VMX side.
    pub(crate) const fn cpu(&self) -> &VmxCpu {
        &self.cpu
    }

    /// The VMX side with nothing loaded, to build and to look at vCPUs.
    pub(crate) fn empty_cpu(&mut self) -> &mut VmxCpu {
        self.unload();
        &mut self.cpu
    }

    /// Runs guests for ever.
    pub(super) fn run(mut self) -> ! {
        loop {
            hal::percpu::current().take_pending();
            self.step(Tsc::NEVER, Spare::Sleep);
        }
    }

    /// One turn of whoever is due, until `until` at the latest; if nobody is, as `spare` says, a sleep until then.
    /// [`take_pending`](hal::percpu::PerCpu::take_pending) comes before the look at whatever else may keep it from
    /// sleeping.
    // A function of its own, with all of a turn in it.
    #[inline(never)]
    pub(crate) fn step(&mut self, until: Tsc, spare: Spare) {
        self.serve();
        let parkings = self.shared.parkings();
        self.post.forget_again();
        let now = hal::time::now();
        let mut asked = now;
        while let Some(alarm) = self.alarms.take_due(now.0) {
            let id = EntityId(alarm.id);
            if self.shared.slot(id).sleep_number() == alarm.sleep {
                self.shared.wake_here(self.here, id, now);
            }
            self.post.forget_again();
            asked = hal::time::now();
        }
        let until = until.min(Tsc(self.alarms.next()));
        let decision = self.turns.pick(now);
        let decided = hal::time::now();
        self.post.count_decision(decided.since(asked).since(self.clock_ticks));
        self.shared.tell_cores();
        if self.post.must_look_again() {
            return;
        }
        match decision {
            Decision::Run { id, until: slice_end } => {
                self.turn(Pick { id, slice_end, decided, parkings }, until, now);
            }
            Decision::Idle { until: refill } if spare == Spare::Sleep => self.idle(until.min(refill), now),
            Decision::Idle { .. } => {}
        }
    }

    /// The core has other work for a while: who runs here need not wait for that if another core idles.
    pub(crate) fn step_aside(&mut self) {
        if self.shared.scheduler.step_aside(self.here, hal::time::now()) {
            self.unload();
        }
        self.shared.tell_cores();
    }

    /// Does what other cores may be waiting for. Called before each turn, and all the while that this core waits.
    #[inline]
    pub(crate) fn serve(&mut self) {
        hal::shootdown::serve();
        if self.post.take_release() {
            self.give_up();
        }
    }

    /// Another core wants what is loaded here.
    #[cold]
    #[inline(never)]
    fn give_up(&mut self) {
        self.unload();
    }

    fn idle(&mut self, until: Tsc, now: Tsc) {
        self.post.begin_idle(now);
        // Who called the operator before it could see that this core is idle did not interrupt it.
        if self.here != OPERATOR_CORE || !self.shared.is_operator_called() {
            hal::idle_until(until);
        }
        self.post.end_idle(hal::time::now().since(now));
    }

    /// Locks the body of a vCPU that the scheduler gave to this core, with its VMCS loaded here or nowhere.
    #[inline]
    fn take_body(&mut self, slot: &'static Slot) -> BodyGuard {
        loop {
            if let Some(body) = self.try_take_body(slot) {
                return body;
            }
            self.serve();
            core::hint::spin_loop();
        }
    }

    #[inline]
    fn try_take_body(&mut self, slot: &'static Slot) -> Option<BodyGuard> {
        if slot.gate.is_claimed() {
            return None;
        }
        let elsewhere = |on: Option<CoreId>| on.filter(|core| *core != self.here);
        if let Some(core) = elsewhere(slot.loaded_on()) {
            self.shared.ask_release(core);
            return None;
        }
        let body = slot.try_body()?;
        // Once more under the lock: who claims it interrupts a turn that began before, but only that one.
        (!slot.gate.is_claimed() && elsewhere(slot.loaded_on()).is_none()).then_some(body)
    }

    /// A turn of the vCPU that was picked, until `until` at the latest for other reasons of this core's.
    #[inline(always)]
    fn turn(&mut self, pick: Pick, until: Tsc, now: Tsc) {
        let id = pick.id;
        let slot = self.shared.slot(id);
        let mut guard = self.take_body(slot);
        let Some(body) = guard.as_deref_mut() else {
            // A late wake-up of a vCPU that is gone.
            self.block(id, now);
            return;
        };
        if slot.gate.begin_turn(self.here.0) == Permit::Held {
            self.block(id, now);
            slot.gate.park();
            return;
        }
        if body.vcpu.run_state() != RunState::Runnable && !body.vcpu.poll(&body.vm, now) {
            slot.gate.end_turn();
            self.put_to_sleep(id, slot, body, now);
            return;
        }
        if !self.loaded.is_some_and(|loaded| core::ptr::eq(loaded, slot)) {
            self.load(pick, slot, body);
        }
        if !self.alarms.is_empty() {
            self.alarms.clear(id.0);
        }
        let mut until = pick.slice_end.min(until);
        if !body.outside.exclusive.load(Ordering::Relaxed) {
            until = until.min(now + self.look_ticks);
        }
        self.post.begin_turn(id, now);
        let leave = body.vcpu.run(&body.vm, until);
        slot.gate.end_turn();
        let end = hal::time::now();
        self.post.end_turn(end - now);
        self.turns.charge(id, end - now, end);
        body.last_leave = leave;
        if body.outside.console.waiting() > 0 {
            self.shared.call_operator();
        }
        match leave {
            // At the end of a slice too: what waits would end the next turn at once.
            Leave::SliceEnd | Leave::HostInterrupt => hal::interrupts::open_window(),
            Leave::HostNmi => hal::vmx::handle_nmi(),
            Leave::HostMachineCheck => hal::vmx::handle_machine_check(),
            Leave::Halted => {
                self.put_to_sleep(id, slot, body, end);
                return;
            }
            Leave::Stopped(reason) => {
                slot.gate.hold();
                self.block(id, end);
                slot.gate.park();
                self.shared.report(Stopped { key: body.key, vcpu: body.vcpu.index(), reason });
                return;
            }
        }
        if self.shared.parkings() != pick.parkings {
            // Perhaps it was this one that was parked and let go, between the pick and the turn, and the scheduler has
            // it blocked. See `turns::Gate`.
            self.shared.queue(id);
        }
    }

    /// Puts the vCPU `id` on the core.
    #[inline(always)]
    fn load(&mut self, pick: Pick, slot: &'static Slot, body: &mut Body) {
        self.unload();
        body.vcpu.backend_mut().vmcs_mut().load(&mut self.cpu);
        if let Some(before) = slot.ran_on().filter(|core| *core != self.here) {
            self.shared.post(before).charge_exits(body);
        }
        slot.set_loaded_on(Some(self.here));
        self.loaded = Some(slot);
        let scheduler = &self.shared.scheduler;
        body.vcpu.scheduled_in(&body.vm, || scheduler.waited(pick.id));
        self.post.count_switch(hal::time::now().since(pick.decided));
    }

    /// Takes `id` off the scheduler.
    fn block(&self, id: EntityId, now: Tsc) {
        self.shared.scheduler.block(self.here, id, now);
        self.shared.tell_cores();
    }

    /// Takes a vCPU that waits for an event off the scheduler; its timer wakes it, or whoever leaves something for it.
    fn put_to_sleep(&mut self, id: EntityId, slot: &'static Slot, body: &mut Body, now: Tsc) {
        self.block(id, now);
        slot.gate.sleep();
        if body.vcpu.inbox().has_signals() {
            self.shared.wake(id);
            return;
        }
        self.alarms.set(Alarm { at: body.vcpu.next_timer().0, id: id.0, sleep: slot.next_sleep() });
    }

    /// Takes the vCPU that is on the core off it.
    #[inline(always)]
    fn unload(&mut self) {
        let Some(slot) = self.loaded.take() else { return };
        let mut guard = slot.own_body();
        if let Some(body) = guard.as_deref_mut() {
            body.vcpu.scheduled_out(&body.vm, body.last_leave);
            body.vcpu.backend_mut().vmcs_mut().unload(&mut self.cpu);
        }
        slot.set_loaded_on(None);
    }

    /// Forbids turns of `id`, and returns when no core is in one and nothing but [`Self::let_go`] brings it back.
    pub(crate) fn park(&mut self, id: EntityId) {
        let slot = self.shared.slot(id);
        slot.gate.hold();
        slot.look(self.shared, |_| {
            self.shared.scheduler.block(self.here, id, hal::time::now());
            slot.gate.park();
            self.shared.count_parking();
        });
        self.shared.tell_cores();
    }

    /// Ends [`Self::park`].
    pub(crate) fn let_go(&self, id: EntityId) {
        let slot = self.shared.slot(id);
        slot.look(self.shared, |_| slot.gate.release());
        self.shared.wake(id);
    }

    /// Has the VMCS of `id`, which is parked, on no core.
    fn clear_from_cores(&mut self, id: EntityId) {
        let slot = self.shared.slot(id);
        while let Some(core) = slot.loaded_on() {
            if core == self.here {
                self.unload();
            } else {
                self.shared.ask_release(core);
                self.serve();
                core::hint::spin_loop();
            }
        }
    }

    /// Takes the body of `id`, which is parked, out of its slot. Its VMCS is on no core then.
    pub(crate) fn take_out(&mut self, id: EntityId) -> Option<Box<Body>> {
        self.clear_from_cores(id);
        self.alarms.clear(id.0);
        let slot = self.shared.slot(id);
        let mut taken = slot.exchange(None);
        if let (Some(body), Some(core)) = (taken.as_deref_mut(), slot.ran_on()) {
            self.shared.post(core).charge_exits(body);
        }
        taken
    }

    /// Calls `look` with the body of `id`, which is parked, and with its VMCS loaded on this core.
    pub(crate) fn look_loaded(&mut self, id: EntityId, look: impl FnOnce(&mut Body, &VmxCpu)) {
        self.clear_from_cores(id);
        self.unload();
        let Self { cpu, shared, .. } = self;
        shared.slot(id).look(shared, |body| {
            body.vcpu.backend_mut().vmcs_mut().load(cpu);
            look(body, cpu);
            body.vcpu.backend_mut().vmcs_mut().unload(cpu);
        });
    }
}
