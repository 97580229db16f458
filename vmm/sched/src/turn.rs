//! Turns on a core.

use crate::current::{ALONE, Current, Stay, Toll, UNCAPPED};
use crate::entity::{Awaits, Entity, Slot};
use crate::heap::Entry;
use crate::queue::Queue;
use crate::scheduler::Scheduler;
use crate::spec::{Class, EntityId, Weight};
use crate::virtual_time::LONGEST_CHARGE;
use arch::Tsc;
use core::sync::atomic::Ordering;

impl Queue {
    /// Whether somebody else, or a new turn, is due.
    #[inline]
    pub(crate) fn is_turn_over(&self) -> bool {
        self.current.as_ref().is_none_or(Current::is_done)
    }

    /// Whether the core should look at others before a turn begins.
    #[inline]
    pub(crate) fn is_look_due(&self, now: Tsc) -> bool {
        self.is_turn_over() && (now >= self.look_at || self.next_at().is_some_and(|next| next > self.seen))
    }

    /// Has the one come first that has waited too long for its first turn, if there is one.
    #[inline]
    pub(crate) fn hurry(&mut self, now: Tsc) {
        if let Some(id) = self.line.overdue(now) {
            self.put_first(id);
        }
    }

    #[cold]
    fn put_first(&mut self, id: EntityId) {
        if let Some(entry) = self.waiting.position(id).and_then(|position| self.waiting.remove(position)) {
            self.waiting.push(Entry { key: 0, ..entry });
        }
    }

    /// Gives the core to who comes next, if anybody waits.
    #[inline]
    pub(crate) fn start_first(&mut self, s: &Scheduler, now: Tsc) {
        if let Some(first) = self.waiting.pop() {
            self.uncount_movable(s, first.reach);
            self.start(s, first, now);
        }
    }

    /// Ends the turn of the running entity, which has paid as much as who comes next or more, and begins that one's.
    #[inline]
    pub(crate) fn switch(&mut self, s: &Scheduler, now: Tsc) {
        let Some(current) = &self.current else { return };
        let entry = current.entry();
        self.grain = self.grain.max(current.pace.cost(current.used.min(s.turns.slice)));
        if let Some(slot) = s.table.slot(current.id) {
            current.store(&mut slot.entity.lock(), now);
        }
        let Some(next) = self.waiting.replace_first(entry) else { return };
        if next.reach != entry.reach {
            self.count_movable(s, entry.reach);
            self.uncount_movable(s, next.reach);
        }
        self.start(s, next, now);
    }

    /// Begins the turn of an entity that is not among the waiting any more.
    #[inline]
    fn start(&mut self, s: &Scheduler, entry: Entry, now: Tsc) {
        let Some(slot) = s.table.slot(entry.id) else { return };
        let mut entity = slot.entity.lock();
        let waited = now.since(entity.since);
        entity.times.waited = entity.times.waited + waited;
        if entity.awaits == Awaits::FirstTurn {
            entity.awaits = Awaits::Turn;
            entity.times.wake_delay.record(waited);
            self.line.leave(&s.table, entry.id);
        }
        if entity.last_core != Some(self.core) {
            entity.times.migrations += u64::from(entity.last_core.is_some());
            entity.last_core = Some(self.core);
        }
        let (allowed, limit) = self.turn_of(s, entity.weight, entity.class);
        let mut current = Current {
            id: entry.id,
            progress: entity.progress,
            missed: (entity.missed - entity.missed / 16)
                .saturating_add(entity.pace.cost(waited.0.min(LONGEST_CHARGE))),
            pace: entity.pace,
            weight: entity.weight,
            class: entity.class,
            reach: entry.reach,
            stay: Stay::Welcome,
            used: 0,
            allowed,
            left: entity.budget.map_or(UNCAPPED, |budget| budget.left),
            ran: 0,
            charged_at: now,
            limit,
            toll: Toll::Due,
            exempt: 0,
        };
        drop(entity);
        if slot.owed.load(Ordering::Relaxed) != 0 {
            current.pay(slot, s.turns.longest_charge);
        }
        if self.last != Some(entry.id) {
            self.last = Some(entry.id);
            self.times.switches += 1;
        }
        self.grain -= self.grain / 16;
        let at = current.progress.at;
        s.front(self.core).show_running(at, current.pace, now);
        self.current = Some(current);
        self.show_waiting(s);
        self.raise_floor(s, at);
    }

    /// Lets the running entity go on for another turn.
    pub(crate) fn renew(&mut self, s: &Scheduler) {
        let Some(Current { weight, class, .. }) = self.current else { return };
        let turn = self.turn_of(s, weight, class);
        let Some(current) = &mut self.current else { return };
        current.used = 0;
        (current.allowed, current.limit) = turn;
        current.toll = Toll::Due;
        let at = current.progress.at;
        self.raise_floor(s, at);
    }

    /// Has the running entity, for whom nobody waits anywhere, run for free and without an end.
    pub(crate) fn run_free(&mut self, s: &Scheduler) {
        if let Some(current) = &mut self.current {
            current.toll = Toll::Free;
            s.front(self.core).show_free(current.progress.at);
        }
    }

    /// Takes the running entity off the core and out of the queue, and returns it.
    pub(crate) fn stop_current(&mut self, s: &Scheduler, now: Tsc) -> Option<EntityId> {
        let current = self.current.take()?;
        self.weight -= u64::from(current.weight.get());
        self.raise_floor(s, current.progress.at);
        if let Some(slot) = s.table.slot(current.id) {
            current.store(&mut slot.entity.lock(), now);
        }
        s.front(self.core).show_nobody();
        self.show_load(s);
        Some(current.id)
    }

    /// How long the next turn of the running entity is, and how much of it may be charged at once.
    #[inline]
    fn turn_of(&self, s: &Scheduler, weight: Weight, class: Class) -> (u64, u64) {
        if self.waiting.is_empty() {
            return (ALONE, LONGEST_CHARGE);
        }
        let entities = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX) + 1;
        (s.turns.turn(entities, self.weight, weight, class), s.turns.longest_charge)
    }

    #[inline]
    fn raise_floor(&mut self, s: &Scheduler, running: u64) {
        let least = self.waiting.first().map_or(running, |first| running.min(first.key));
        if least > self.floor {
            self.floor = least;
            s.front(self.core).show_floor(least);
        }
    }
}

impl Current {
    /// Writes back what changed while it ran.
    #[inline]
    pub(crate) fn store(&self, entity: &mut Entity, now: Tsc) {
        entity.progress = self.progress;
        entity.missed = self.missed;
        entity.since = now;
        entity.times.ran = entity.times.ran + Tsc(self.ran);
        if let Some(budget) = &mut entity.budget {
            budget.left = self.left;
        }
    }

    /// Charges what could not be charged before.
    #[cold]
    fn pay(&mut self, slot: &Slot, longest: u64) {
        let owed = slot.owed.swap(0, Ordering::Relaxed);
        let counted = owed.min(longest);
        self.progress.advance(counted, self.pace);
        // What is left is never nothing here: the turn has begun.
        self.left = self.left.saturating_sub_unsigned(counted).max(1);
        self.ran = owed;
    }
}
