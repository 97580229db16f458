//! What one core tells the others: what it does and where its time went. It alone writes, but for requests to it.

use crate::vm::Body;
use arch::Tsc;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use sched::EntityId;

/// Where a core is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Status {
    /// Not heard of.
    Absent,
    /// Runs guests.
    Up,
    /// Started, but cannot run guests.
    LeftOut,
}

/// No vCPU.
const NOBODY: u32 = u32::MAX;

/// One core's part of what all share.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Post {
    status: AtomicU8,
    /// Another core wants the VMCS that is loaded here.
    release: AtomicBool,
    idle: AtomicBool,
    /// The core itself found that it must ask the scheduler again.
    again: AtomicBool,
    /// Whose turn it is.
    turn: AtomicU32,
    /// Whose turn was the last to begin.
    last_turn: AtomicU32,
    started: AtomicU64,
    /// When the turn or the sleep that is going on began.
    since: AtomicU64,
    /// Ticks of all turns, guest and exit handling together.
    turn_ticks: AtomicU64,
    /// Ticks of exit handling in turns.
    exit_ticks: AtomicU64,
    idle_ticks: AtomicU64,
    /// Interrupts sent to this core to look around.
    kicks: AtomicU64,
    decisions: AtomicU64,
    /// Ticks of asking the scheduler.
    decision_ticks: AtomicU64,
    /// Ticks of taking one vCPU off the core and putting another on.
    switch_ticks: AtomicU64,
}

/// Where a core's time went, in ticks since it came up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shares {
    pub(crate) guest: u64,
    pub(crate) hypervisor: u64,
    pub(crate) idle: u64,
    pub(crate) kicks: u64,
    pub(crate) decisions: u64,
    pub(crate) decision_ticks: u64,
    pub(crate) switch_ticks: u64,
}

/// Adds to a counter that only this core writes.
#[inline]
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
}

impl Post {
    pub(super) fn new() -> Self {
        Self {
            status: AtomicU8::new(0),
            release: AtomicBool::new(false),
            idle: AtomicBool::new(false),
            again: AtomicBool::new(false),
            turn: AtomicU32::new(NOBODY),
            last_turn: AtomicU32::new(NOBODY),
            started: AtomicU64::new(0),
            since: AtomicU64::new(0),
            turn_ticks: AtomicU64::new(0),
            exit_ticks: AtomicU64::new(0),
            idle_ticks: AtomicU64::new(0),
            kicks: AtomicU64::new(0),
            decisions: AtomicU64::new(0),
            decision_ticks: AtomicU64::new(0),
            switch_ticks: AtomicU64::new(0),
        }
    }

    pub(crate) fn status(&self) -> Status {
        match self.status.load(Ordering::Acquire) {
            0 => Status::Absent,
            1 => Status::Up,
            _ => Status::LeftOut,
        }
    }

    /// Ticks of sleep that are over.
    pub(super) fn idle_ticks(&self) -> Tsc {
        Tsc(self.idle_ticks.load(Ordering::Relaxed))
    }

    pub(super) fn come_up(&self, now: Tsc) {
        self.started.store(now.0, Ordering::Relaxed);
        self.status.store(1, Ordering::Release);
    }

    pub(super) fn leave_out(&self) {
        self.status.store(2, Ordering::Release);
    }

    /// Asks the core to give up the VMCS that is loaded there; whether it must be told.
    pub(super) fn ask_release(&self) -> bool {
        !self.release.load(Ordering::Relaxed) && !self.release.swap(true, Ordering::AcqRel)
    }

    #[inline]
    pub(super) fn take_release(&self) -> bool {
        self.release.load(Ordering::Relaxed) && self.release.swap(false, Ordering::AcqRel)
    }

    /// Called on the core itself, outside of turns: it must ask the scheduler again before it does what that said last.
    #[inline]
    pub(super) fn look_again(&self) {
        self.again.store(true, Ordering::Relaxed);
    }

    /// The core is about to ask the scheduler.
    #[inline]
    pub(super) fn forget_again(&self) {
        self.again.store(false, Ordering::Relaxed);
    }

    /// Whether the core must ask the scheduler again.
    #[inline]
    pub(super) fn must_look_again(&self) -> bool {
        self.again.load(Ordering::Relaxed)
    }

    /// Whether the core sleeps, or is about to.
    pub(super) fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Relaxed)
    }

    /// Whose turn it is.
    pub(crate) fn turn(&self) -> Option<EntityId> {
        let id = self.turn.load(Ordering::Relaxed);
        (id != NOBODY).then_some(EntityId(id))
    }

    /// Whether `id` has its turn here, or had the last one.
    pub(crate) fn had_last_turn(&self, id: EntityId) -> bool {
        self.last_turn.load(Ordering::Relaxed) == id.0
    }

    #[inline]
    pub(super) fn begin_turn(&self, id: EntityId, now: Tsc) {
        self.since.store(now.0, Ordering::Relaxed);
        self.turn.store(id.0, Ordering::Relaxed);
        self.last_turn.store(id.0, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn end_turn(&self, ticks: Tsc) {
        self.turn.store(NOBODY, Ordering::Relaxed);
        add(&self.turn_ticks, ticks.0);
    }

    /// The core goes to sleep; what it looks at after this, it sees as whoever finds it idle left it.
    pub(super) fn begin_idle(&self, now: Tsc) {
        self.since.store(now.0, Ordering::Relaxed);
        self.idle.store(true, Ordering::SeqCst);
        core::sync::atomic::fence(Ordering::SeqCst);
    }

    pub(super) fn end_idle(&self, ticks: Tsc) {
        self.idle.store(false, Ordering::Relaxed);
        add(&self.idle_ticks, ticks.0);
    }

    #[inline]
    pub(super) fn count_decision(&self, ticks: Tsc) {
        add(&self.decisions, 1);
        add(&self.decision_ticks, ticks.0);
    }

    pub(super) fn count_switch(&self, ticks: Tsc) {
        add(&self.switch_ticks, ticks.0);
    }

    pub(super) fn count_kick(&self) {
        self.kicks.fetch_add(1, Ordering::Relaxed);
    }

    /// Charges the core with the exit handling of `body` since it was last charged. The caller holds the body, which ran
    /// here and nowhere else since then. Adding up the counters takes long: it is done when the body goes to another core,
    /// and for who wants to know.
    pub(crate) fn charge_exits(&self, body: &mut Body) {
        let total = body.vcpu.stats().host_ticks();
        self.exit_ticks.fetch_add(total - body.charged_ticks, Ordering::Relaxed);
        body.charged_ticks = total;
    }

    /// Where the time went until `now`. The parts may be off by what happens while they are read.
    pub(crate) fn shares(&self, now: Tsc) -> Shares {
        let total = now.0.saturating_sub(self.started.load(Ordering::Relaxed));
        let going_on = now.0.saturating_sub(self.since.load(Ordering::Relaxed));
        let mut idle = self.idle_ticks.load(Ordering::Relaxed);
        let mut turns = self.turn_ticks.load(Ordering::Relaxed);
        if self.is_idle() {
            idle += going_on;
        } else if self.turn().is_some() {
            turns += going_on;
        }
        let guest = turns.saturating_sub(self.exit_ticks.load(Ordering::Relaxed)).min(total);
        let idle = idle.min(total - guest);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Shares {
            guest,
            hypervisor: total - guest - idle,
            idle,
            kicks: count(&self.kicks),
            decisions: count(&self.decisions),
            decision_ticks: count(&self.decision_ticks),
            switch_ticks: count(&self.switch_ticks),
        }
    }
}
