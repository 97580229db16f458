//! The short way back: an entity wakes on the core where it ran last, which has nothing else to do.
//!
//! That is what becomes of a lone vCPU that halts until its timer. Nobody waits on any core, so there is no choice to be
//! made: the entity runs at once, and the core, which is about to ask, is told that it goes on.

use crate::entity::{Awaits, Entity, Home, Slot};
use crate::heap::Entry;
use crate::params::Lengths;
use crate::queue::{Guests, Phase, Queue};
use crate::scheduler::Scheduler;
use crate::spec::{CoreId, EntityId};
use arch::Tsc;

impl Scheduler {
    /// The same as [`Self::wake`], called by `core`, which is about to [ask](Self::pick).
    pub fn wake_here(&self, core: CoreId, id: EntityId, now: Tsc) -> Option<CoreId> {
        let slot = self.table.slot(id)?;
        let control = slot.control.lock();
        if slot.home() != Home::Asleep {
            return None;
        }
        if self.resume(core, slot, now) {
            return None;
        }
        self.wake_up(slot, control, now)
    }

    /// Begins a turn of an entity that sleeps, if there is nothing else that `core` could do. Returns whether it was so.
    #[inline]
    fn resume(&self, core: CoreId, slot: &'static Slot, now: Tsc) -> bool {
        let Some(unit) = self.unit(core).filter(|_| self.waiting.is_empty()) else { return false };
        let mut queue = unit.queue.lock();
        if !queue.is_free(self, now) {
            return false;
        }
        let mut entity = slot.entity.lock();
        if !self.may_resume(core, &entity) {
            return false;
        }
        queue.enter(self, now);
        let entry = queue.take_back(self, slot, &mut entity, now);
        drop(entity);
        // Nobody looks at it: who wakes it waits for the lock that the caller holds.
        slot.set_home(Home::On(core));
        queue.start_alone(self, entry, now);
        true
    }

    /// Whether an entity without a cap ran on `core` last and may run there.
    #[inline]
    fn may_resume(&self, core: CoreId, entity: &Entity) -> bool {
        entity.last_core == Some(core) && entity.budget.is_none() && self.allowed(entity).contains(core)
    }
}

impl Queue {
    /// Whether nobody is here and nothing is to be looked after.
    #[inline]
    fn is_free(&self, s: &Scheduler, now: Tsc) -> bool {
        self.current.is_none()
            && self.waiting.is_empty()
            && self.guests == Guests::Settled
            && self.phase != Phase::Offline
            && self.next_release(s, now) > now
    }

    /// Takes in who woke, as [`Queue::admit`] does where nobody is, but for what follows from being compared and from
    /// waiting.
    #[inline]
    fn take_back(&mut self, s: &Scheduler, slot: &'static Slot, entity: &mut Entity, now: Tsc) -> Entry {
        self.weight = u64::from(entity.weight.get());
        self.share = s.turns.share(1, self.weight);
        let round = Lengths::virtual_round(self.share);
        let credit = Self::credit(entity.class, round);
        entity.progress.clamp(self.floor.saturating_sub(credit), u64::MAX);
        self.floor = self.floor.min(entity.progress.at);
        entity.since = now;
        entity.awaits = Awaits::FirstTurn;
        slot.seat.take(entity);
        s.front(self.core).show_load(1, self.weight, round);
        self.pause = 0;
        self.look_at = self.look_at.min(now + Tsc(s.turns.granule / 4));
        #[cfg(test)]
        {
            self.arrivals += 1;
        }
        Entry { key: entity.progress.at, slot }
    }
}
