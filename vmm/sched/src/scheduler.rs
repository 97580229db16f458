//! The scheduler of all cores: what others call. How it decides is in the other files.

use crate::arrival::{Arrival, Call};
use crate::entity::{Awaits, Home, Slot, Table};
use crate::front::Front;
use crate::mask::{CoreMask, MAX_CORES, SharedMask};
use crate::params::{Lengths, Params};
use crate::placement::Target;
use crate::queue::{Phase, Queue};
use crate::spec::{CoreId, EntityId, Spec};
use crate::times::{CoreTimes, Times};
use alloc::boxed::Box;
use arch::Tsc;
use core::sync::atomic::{AtomicBool, Ordering};
use spin::{Mutex, MutexGuard};

/// Who runs now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// This entity.
    Run {
        /// Which.
        id: EntityId,
        /// When to ask again at the latest, earlier when it blocks or the core is told to. [`Tsc::NEVER`] when nobody
        /// competes with it.
        until: Tsc,
    },
    /// Nobody.
    Idle {
        /// When to ask again at the latest, earlier when the core is told to: when a cap lets somebody go, or
        /// [`Tsc::NEVER`].
        until: Tsc,
    },
}

/// Whether an entity that is put somewhere just woke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waking {
    Yes,
    No,
}

/// A core's queue, and what it shows to the others.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Unit {
    pub(crate) queue: Mutex<Queue>,
    pub(crate) front: Front,
}

/// Chooses who runs on each of several cores, by weighted fair queueing over all of them.
///
/// All methods take `&self` and may be called from any core at any time; [`Self::pick`] and [`Self::charge`] for a core
/// are its own. Times are those of one clock that all cores share, as far as they agree; the scheduler has none.
///
/// **Order of locks**: `administration` (add, remove, set, online; not held by decisions), then the `control` lock of one
/// entity (wake, block and the former), then the queue of one core, then the state of one entity. Nobody holds two locks
/// of one kind: an entity that changes cores is between them in nobody's queue ([`Home::Moving`]), and who looks for it
/// waits for the few instructions that this takes, without a lock that the mover needs.
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) turns: Lengths,
    pub(crate) table: Table,
    units: Box<[Unit]>,
    pub(crate) administration: Mutex<Administration>,
    /// Cores that take part.
    pub(crate) online: SharedMask,
    /// Cores that idle and were not told to look again.
    pub(crate) idle: SharedMask,
    /// Cores where entities wait that may run elsewhere too.
    pub(crate) waiting: SharedMask,
    /// Cores that exclusive entities have to themselves.
    pub(crate) owned: SharedMask,
    /// Cores that must be told to ask again: see [`Scheduler::take_kick`].
    kicks: SharedMask,
    /// Whether there may be any.
    is_kicking: AtomicBool,
}

/// What only administration looks at.
#[derive(Debug, Default)]
pub(crate) struct Administration {
    /// How many entities there are.
    pub(crate) entities: usize,
}

/// The turns on one core: [`Scheduler::pick`] and [`Scheduler::charge`] for it.
#[derive(Clone, Copy, Debug)]
pub struct Turns<'a> {
    scheduler: &'a Scheduler,
    unit: &'a Unit,
}

impl Turns<'_> {
    /// See [`Scheduler::pick`].
    #[inline(always)]
    pub fn pick(&self, now: Tsc) -> Decision {
        let mut queue = self.unit.queue.lock();
        match queue.proceed(self.scheduler, &self.unit.front, now) {
            Some(decision) => decision,
            None => self.scheduler.decide(queue, now).decision(),
        }
    }

    /// See [`Scheduler::charge`].
    #[inline]
    pub fn charge(&self, id: EntityId, ran: Tsc, now: Tsc) {
        if !self.unit.queue.lock().charge(self.scheduler, id, ran, now) {
            self.scheduler.charge_later(id, ran);
        }
    }
}

impl Scheduler {
    /// A scheduler without entities for at most [`MAX_CORES`] cores, all offline.
    pub fn new(cores: u32, params: Params) -> Self {
        let unit = |core| Unit { queue: Mutex::new(Queue::new(core)), front: Front::default() };
        Self {
            turns: Lengths::new(params),
            table: Table::new(),
            units: (0..cores.min(MAX_CORES)).map(CoreId).map(unit).collect(),
            administration: Mutex::new(Administration::default()),
            online: SharedMask::default(),
            idle: SharedMask::default(),
            waiting: SharedMask::default(),
            owned: SharedMask::default(),
            kicks: SharedMask::default(),
            is_kicking: AtomicBool::new(false),
        }
    }

    /// Makes an entity runnable, and returns the core that must be told to [ask](Self::pick) again, if one must. Nothing
    /// happens when it is runnable already or there is none of this number. Look for [more](Self::take_kick).
    pub fn wake(&self, id: EntityId, now: Tsc) -> Option<CoreId> {
        let slot = self.table.slot(id)?;
        let control = slot.control.lock();
        if slot.home() != Home::Asleep {
            return None;
        }
        self.wake_up(slot, control, now)
    }

    /// Finds a core for an entity that sleeps.
    pub(crate) fn wake_up(
        &self,
        slot: &'static Slot,
        control: MutexGuard<'_, Option<Spec>>,
        now: Tsc,
    ) -> Option<CoreId> {
        slot.entity.lock().awaits = Awaits::FirstTurn;
        slot.set_home(Home::Moving);
        let kick = self.place(slot, Waking::Yes, now);
        drop(control);
        kick
    }

    /// The turns on `core`, for a core that keeps it: what it does at each turn. `None` if there is no such core.
    pub fn turns_of(&self, core: CoreId) -> Option<Turns<'_>> {
        Some(Turns { scheduler: self, unit: self.unit(core)? })
    }

    /// Who runs on `core` from `now` on. Who ran there before waits, unless it is the same; it may be moved to another
    /// core. Look for cores to tell ([`Self::take_kick`]) afterwards.
    pub fn pick(&self, core: CoreId, now: Tsc) -> Decision {
        self.turns_of(core).map_or(Decision::Idle { until: Tsc::NEVER }, |turns| turns.pick(now))
    }

    /// Accounts for `ran` ticks that an entity ran on `core` up to `now`. It need not run any more.
    pub fn charge(&self, core: CoreId, id: EntityId, ran: Tsc, now: Tsc) {
        match self.turns_of(core) {
            Some(turns) => turns.charge(id, ran, now),
            None => self.charge_later(id, ran),
        }
    }

    /// Makes an entity, running or not, wait for [`Self::wake`]. `core` is the one that calls. Nothing happens when the
    /// entity waits for it already or there is none of this number. A core that runs the entity must be told.
    pub fn block(&self, core: CoreId, id: EntityId, now: Tsc) {
        let Some(slot) = self.table.slot(id) else { return };
        let control = slot.control.lock();
        if control.is_none() {
            return;
        }
        loop {
            match slot.settled() {
                Home::On(home) => {
                    let Some(mut queue) = self.lock_home(slot, home) else { continue };
                    let runs = queue.current.as_ref().is_some_and(|current| current.id() == id);
                    if runs {
                        queue.stop_current(self, now);
                        if home != core {
                            self.kick(home);
                        }
                    } else {
                        queue.take_out(self, slot);
                    }
                    slot.set_home(Home::Asleep);
                    return;
                }
                Home::Stranded if slot.rescue() => {
                    slot.set_home(Home::Asleep);
                    return;
                }
                Home::Stranded | Home::Moving => {}
                Home::Asleep | Home::Absent => return,
            }
        }
    }

    /// A core that must be told to [ask](Self::pick) again although no call returned it: somebody was moved there, or
    /// waits elsewhere while it idles. Call it after every other call until there is none; it costs next to nothing then.
    #[inline]
    pub fn take_kick(&self) -> Option<CoreId> {
        if self.is_kicking.load(Ordering::Relaxed) { self.find_kick() } else { None }
    }

    #[cold]
    #[inline(never)]
    fn find_kick(&self) -> Option<CoreId> {
        // First it is said that there are none, then they are looked for: who adds one does it the other way round.
        self.is_kicking.store(false, Ordering::SeqCst);
        let core = self.kicks.load().iter().find(|core| self.kicks.remove(*core))?;
        self.is_kicking.store(true, Ordering::SeqCst);
        Some(core)
    }

    /// What became of an entity, `None` if there is none of this number.
    pub fn times(&self, id: EntityId) -> Option<Times> {
        let slot = self.table.slot(id)?;
        loop {
            let (home, running) = match slot.home() {
                Home::Absent => return None,
                Home::On(home) => {
                    let Some(queue) = self.lock_home(slot, home) else { continue };
                    let running = queue.current.filter(|current| current.id() == id);
                    // Under the queue's lock, so that the part in the queue is counted once.
                    let times = {
                        let mut entity = slot.entity.lock();
                        slot.seat.flush(&mut entity);
                        entity.times
                    };
                    drop(queue);
                    (times, running.map_or(0, |current| current.used))
                }
                Home::Asleep | Home::Moving | Home::Stranded => (slot.entity.lock().times, 0),
            };
            return Some(Times { ran: home.ran + Tsc(running), ..home });
        }
    }

    /// How long an entity has waited for a core in all, up to its last turn; zero if there is none of this number.
    #[inline]
    pub fn waited(&self, id: EntityId) -> Tsc {
        let Some(slot) = self.table.slot(id) else { return Tsc(0) };
        let before = slot.entity.lock().times.waited;
        before + slot.seat.uncounted().1
    }

    /// What became of a core; zeros if there is none of this number.
    pub fn core_times(&self, core: CoreId) -> CoreTimes {
        self.unit(core).map_or_else(CoreTimes::default, |unit| unit.queue.lock().times)
    }

    #[inline]
    pub(crate) fn unit(&self, core: CoreId) -> Option<&Unit> {
        self.units.get(core.index())
    }

    /// The front of a core that exists.
    #[inline]
    pub(crate) fn front(&self, core: CoreId) -> &Front {
        &self.units[core.index()].front
    }

    /// All cores of the host, online or not.
    pub(crate) fn existing(&self) -> CoreMask {
        CoreMask::first(self.cores())
    }

    /// How many cores the host has, at least one.
    pub(crate) fn cores(&self) -> u32 {
        u32::try_from(self.units.len()).unwrap_or(MAX_CORES).max(1)
    }

    /// The queue where an entity is said to be, if it still is there.
    pub(crate) fn lock_home(&self, slot: &Slot, home: CoreId) -> Option<MutexGuard<'_, Queue>> {
        let queue = self.unit(home)?.queue.lock();
        (slot.home() == Home::On(home)).then_some(queue)
    }

    /// Has a core told to ask again.
    pub(crate) fn kick(&self, core: CoreId) {
        self.kicks.insert(core);
        self.is_kicking.store(true, Ordering::SeqCst);
    }

    #[cold]
    fn charge_later(&self, id: EntityId, ran: Tsc) {
        if let Some(slot) = self.table.slot(id)
            && slot.home() != Home::Absent
        {
            slot.owed.fetch_add(ran.0, Ordering::Relaxed);
        }
    }

    /// Puts an entity that is [on its way](Home::Moving) into a queue, and returns the core to be told.
    pub(crate) fn place(&self, slot: &'static Slot, waking: Waking, now: Tsc) -> Option<CoreId> {
        loop {
            let (target, allowed) = {
                let entity = slot.entity.lock();
                let allowed = self.allowed(&entity);
                (self.choose(&entity, allowed, now), allowed)
            };
            if let Some(Target { core, others }) = target
                && let Some(unit) = self.unit(core)
            {
                let arrival = match waking {
                    Waking::Yes => Arrival::Woken { others },
                    Waking::No => Arrival::Moved,
                };
                return self.put(unit, slot, allowed, arrival, now);
            }
            if waking == Waking::Yes {
                slot.entity.lock().since = now;
            }
            slot.strand();
            // A core that came online before it was there to be seen did not see it.
            if self.allowed(&slot.entity.lock()).is_empty() || !slot.rescue() {
                return None;
            }
        }
    }

    /// Puts an entity that is on its way into the queue of a core, and returns that if it must be told.
    pub(crate) fn put(
        &self,
        unit: &Unit,
        slot: &'static Slot,
        allowed: CoreMask,
        arrival: Arrival,
        now: Tsc,
    ) -> Option<CoreId> {
        let mut queue = unit.queue.lock();
        let core = queue.core;
        let call = queue.admit(self, slot, &mut slot.entity.lock(), arrival, now);
        slot.set_home(Home::On(core));
        let phase = queue.phase;
        drop(queue);
        match phase {
            Phase::Busy => self.offer(allowed),
            // It was chosen for one whose cap holds it: it goes on idling, and others may choose it again.
            Phase::Idle => self.idle_again(core),
            Phase::Called | Phase::Offline => {}
        }
        match call {
            Call::Needed => Some(core),
            Call::Unneeded => None,
        }
    }

    /// A core that was chosen idles all the same.
    fn idle_again(&self, core: CoreId) {
        self.idle.insert(core);
        // Who began to wait meanwhile did not see that it idles.
        if !self.waiting.is_empty() {
            self.kick(core);
        }
    }

    /// Somebody waits who may run on the cores `allowed`: if one of them idles, it is told to look for work.
    #[inline]
    pub(crate) fn offer(&self, allowed: CoreMask) {
        let idle = self.idle.load().and(allowed);
        if idle.is_empty() {
            return;
        }
        if let Some(core) = idle.iter().find(|core| self.idle.remove(*core)) {
            self.kick(core);
        }
    }
}
