//! What a core does next: the part of [`Scheduler::pick`] beyond what is mostly to be done.

use crate::arrival::Arrival;
use crate::balance::Looked;
use crate::current::Stay;
use crate::entity::{Home, Slot};
use crate::heap::Reach;
use crate::mask::CoreMask;
use crate::queue::{Guests, Queue};
use crate::scheduler::{Decision, Scheduler, Waking};
use crate::spec::{CoreId, EntityId};
use arch::Tsc;
use spin::MutexGuard;

/// A [`Decision`] that fits two registers: the number of who runs, and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer(u32, u64);

/// In place of a number: the core idles.
const NOBODY: u32 = u32::MAX;

impl Answer {
    const fn of(decision: Decision) -> Self {
        match decision {
            Decision::Run { id, until } => Self(id.0, until.0),
            Decision::Idle { until } => Self(NOBODY, until.0),
        }
    }

    #[inline]
    pub(crate) const fn decision(self) -> Decision {
        match self {
            Self(NOBODY, until) => Decision::Idle { until: Tsc(until) },
            Self(id, until) => Decision::Run { id: EntityId(id), until: Tsc(until) },
        }
    }
}

/// How many of those who wait are offered to cores that idle.
const OFFERED: usize = 8;

impl Scheduler {
    /// Ends the turn of the running entity, if there is one, and begins the next, with all that there may be to do.
    #[inline(never)]
    pub(crate) fn decide<'a>(&'a self, queue: MutexGuard<'a, Queue>, now: Tsc) -> Answer {
        Answer::of(self.decide_all(queue, now))
    }

    #[inline]
    fn decide_all<'a>(&'a self, mut queue: MutexGuard<'a, Queue>, now: Tsc) -> Decision {
        if queue.guests == Guests::Unsettled {
            let core = queue.core;
            queue.guests = Guests::Settled;
            drop(queue);
            self.evacuate(core, now);
            let Some(unit) = self.unit(core) else { return Decision::Idle { until: Tsc::NEVER } };
            queue = unit.queue.lock();
        }
        queue.enter(self, now);
        queue.release_due(self, now);
        let mut looked = Looked::Done;
        if queue.is_look_due(now) {
            (queue, looked) = self.look_around(queue, now);
        }
        if queue.is_turn_over() {
            queue.hurry(now);
        }
        let leaving = self.end_turn(&mut queue, now);
        if queue.current.is_none() {
            queue.start_first(self, now);
            if !queue.waiting.is_empty() && !self.idle.is_empty() {
                self.offer_all(&queue);
            }
        }
        let Some(decision) = self.answer(&mut queue, now) else {
            return self.idle(queue, leaving, now);
        };
        let errand = match looked {
            Looked::Done => None,
            Looked::AtWaiting(least) => self.errand(&mut queue, least, now),
        };
        if errand.is_some() {
            queue.pause = 0;
        }
        drop(queue);
        if let Some(slot) = leaving {
            self.send(slot, now);
        }
        if let Some(errand) = errand {
            self.carry_out(errand, now);
        }
        decision
    }

    /// Until when who was chosen runs, if anybody was.
    #[inline]
    fn answer(&self, queue: &mut Queue, now: Tsc) -> Option<Decision> {
        if queue.is_alone() {
            self.settle_alone(queue, now);
        }
        queue.answer(self, now)
    }

    /// Ends the turn of the running entity. Returns it if it must leave the core; it is [on its way](Home::Moving) then.
    #[inline]
    fn end_turn(&self, queue: &mut Queue, now: Tsc) -> Option<&'static Slot> {
        let current = queue.current.as_ref()?;
        if current.stay == Stay::Leaves {
            // On its way before it is out, so that nobody who has the lock looks for it here.
            current.slot.set_home(Home::Moving);
            queue.times.pushes += 1;
            return queue.stop_current(self, now);
        }
        if current.is_spent() {
            queue.refill_or_hold_current(self, now);
        }
        let current = queue.current.as_ref()?;
        if current.used < current.allowed {
            return None;
        }
        match queue.waiting.first() {
            Some(first) if first.key <= current.progress.at => {
                let slot = current.slot;
                queue.switch(self, now);
                if slot.reach() == Reach::Movable && !self.idle.is_empty() {
                    self.offer_entity(slot);
                }
            }
            Some(_) | None => queue.renew(self, now),
        }
        None
    }

    /// Tells cores that idle of those who wait here.
    #[cold]
    pub(crate) fn offer_all(&self, queue: &Queue) {
        for entry in queue.waiting.entries().iter().take(OFFERED) {
            self.offer_entity(entry.slot);
        }
    }

    #[cold]
    fn offer_entity(&self, slot: &Slot) {
        let allowed = self.allowed(&slot.entity.lock());
        self.offer(allowed);
    }

    /// Nobody is runnable here: looks for somebody who waits elsewhere.
    fn idle(&self, mut queue: MutexGuard<'_, Queue>, leaving: Option<&'static Slot>, now: Tsc) -> Decision {
        let core = queue.core;
        queue.show_load(self);
        if !self.online.contains(core) {
            return Decision::Idle { until: Tsc::NEVER };
        }
        // First it says that it idles, then it looks: who begins to wait elsewhere does it the other way round, so that
        // one of the two notices.
        let until = queue.idle(self, now);
        drop(queue);
        if let Some(slot) = leaving {
            self.send(slot, now);
        }
        let Some(slot) = self.pull(core) else { return Decision::Idle { until } };
        let Some(unit) = self.unit(core) else { return Decision::Idle { until } };
        let mut queue = unit.queue.lock();
        queue.enter(self, now);
        queue.times.pulls += 1;
        // The core asks just now: it need not be told to.
        let _ = queue.admit(self, slot, &mut slot.entity.lock(), Arrival::Moved, now);
        slot.set_home(Home::On(core));
        if queue.current.is_none() {
            queue.start_first(self, now);
        }
        self.answer(&mut queue, now).unwrap_or_else(|| Decision::Idle { until: queue.idle(self, now) })
    }

    /// Takes somebody who waits elsewhere and may run on `core`, which idles.
    fn pull(&self, core: CoreId) -> Option<&'static Slot> {
        let others = self.waiting.load().without(CoreMask::single(core));
        others.iter_from(core).find_map(|other| {
            let mut queue = self.unit(other)?.queue.lock();
            queue.give(self, core, u64::MAX)
        })
    }

    /// Sends those away who are on a core and may not be there.
    #[cold]
    fn evacuate(&self, core: CoreId, now: Tsc) {
        let Some(unit) = self.unit(core) else { return };
        let may_stay = |slot: &Slot| self.allowed(&slot.entity.lock()).contains(core);
        loop {
            let mut queue = unit.queue.lock();
            if let Some(current) = &mut queue.current
                && !may_stay(current.slot)
            {
                current.stay = Stay::Leaves;
            }
            let entries = queue.waiting.entries().iter().chain(queue.held.entries());
            let Some(slot) = entries.map(|entry| entry.slot).find(|slot| !may_stay(slot)) else { return };
            slot.set_home(Home::Moving);
            queue.take_out(self, slot);
            queue.times.pushes += 1;
            drop(queue);
            self.send(slot, now);
        }
    }

    /// Puts an entity that is on its way into the queue of a core that suits it.
    pub(crate) fn send(&self, slot: &'static Slot, now: Tsc) {
        if let Some(core) = self.place(slot, Waking::No, now) {
            self.kick(core);
        }
    }
}
