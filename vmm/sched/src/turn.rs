//! Turns on a core.

use crate::current::{Company, Current, ENDLESS, Stay, Toll};
use crate::entity::{Awaits, Entity, Slot};
use crate::heap::{Entry, Reach};
use crate::queue::{Guests, Queue};
use crate::scheduler::{Decision, Scheduler};
use crate::spec::{Class, EntityId, Weight};
use crate::virtual_time::LONGEST_CHARGE;
use arch::Tsc;
use core::sync::atomic::Ordering;

impl Queue {
    /// The answer to a core whose entity's turn is over and where nothing is to be done but to begin the next one's.
    #[inline]
    pub(crate) fn change_over(&mut self, s: &Scheduler, now: Tsc) -> Option<Decision> {
        let current = self.current.as_ref()?;
        let first = self.waiting.first()?;
        let due = self.next_release(s, now);
        let is_next = first.key <= current.progress.at && first.key <= self.seen;
        if !is_next || now >= self.look_at || now >= self.line.due || now >= due || current.is_spent() {
            return None;
        }
        if self.guests != Guests::Settled || current.reach == Reach::Movable && !s.idle.is_empty() {
            return None;
        }
        self.switch(s, now);
        Some(self.promise(now, due))
    }

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
    pub(crate) fn start_first(&mut self, s: &Scheduler, now: Tsc) {
        if let Some(first) = self.waiting.pop() {
            self.uncount_movable(s, first.reach);
            self.times.switches += u64::from(self.last != first.id.0);
            self.start(s, first, now);
        }
    }

    /// Gives the core, where nobody else is, to somebody for whom nobody waits anywhere.
    #[inline]
    pub(crate) fn start_alone(&mut self, s: &Scheduler, entry: Entry, now: Tsc) {
        self.times.switches += u64::from(self.last != entry.id.0);
        self.start(s, entry, now);
        self.run_free(s);
    }

    /// Ends the turn of the running entity, which has paid as much as who comes next or more, and begins that one's.
    #[inline(always)]
    pub(crate) fn switch(&mut self, s: &Scheduler, now: Tsc) {
        let Some(current) = &self.current else { return };
        let entry = current.entry();
        self.grain = self.grain.max(current.pace.cost(current.used.min(s.turns.slice)));
        if let Some(slot) = s.table.slot(current.id) {
            current.store(&mut slot.entity.lock(), now);
        }
        let Some(next) = self.waiting.replace_first(entry) else { return };
        self.times.switches += 1;
        if next.reach != entry.reach {
            self.count_movable(s, entry.reach);
            self.uncount_movable(s, next.reach);
        }
        self.start(s, next, now);
    }

    /// Begins the turn of an entity that is not among the waiting any more.
    #[inline(always)]
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
        self.grain -= self.grain / 16;
        self.last = entry.id.0;
        let turn = self.turn_of(s, entity.weight, entity.class);
        let current = self.current.insert(Current {
            id: entry.id,
            progress: entity.progress,
            pace: entity.pace,
            weight: entity.weight,
            class: entity.class,
            reach: entry.reach,
            stay: Stay::Welcome,
            company: turn.company,
            toll: Toll::Due,
            used: 0,
            allowed: turn.allowed,
            left: ENDLESS,
            charged_at: now,
            limit: turn.limit,
        });
        if let Some(budget) = &entity.budget {
            current.left = budget.left.max(1).unsigned_abs();
            current.allow(turn.allowed);
        }
        drop(entity);
        if slot.owed.load(Ordering::Relaxed) != 0 {
            current.pay(slot, s.turns.longest_charge);
        }
        self.show_turn(s, now);
    }

    /// Lets the running entity go on for another turn.
    pub(crate) fn renew(&mut self, s: &Scheduler, now: Tsc) {
        let Some(Current { id, weight, class, .. }) = self.current else { return };
        let turn = self.turn_of(s, weight, class);
        let Some(current) = &mut self.current else { return };
        if let Some(slot) = s.table.slot(id) {
            current.store(&mut slot.entity.lock(), now);
        }
        if current.left != ENDLESS {
            current.left = current.left.saturating_sub(current.used).max(1);
        }
        current.used = 0;
        current.company = turn.company;
        current.limit = turn.limit;
        current.toll = Toll::Due;
        current.allow(turn.allowed);
        self.show_turn(s, now);
    }

    /// Has the running entity, for whom nobody waits anywhere, run for free.
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
        self.raise_floor(current.progress.at);
        if let Some(slot) = s.table.slot(current.id) {
            current.store(&mut slot.entity.lock(), now);
        }
        let front = s.front(self.core);
        front.show_nobody();
        front.show_floor(self.floor);
        self.show_load(s);
        Some(current.id)
    }

    /// The next turn of the running entity.
    #[inline]
    fn turn_of(&self, s: &Scheduler, weight: Weight, class: Class) -> Turn {
        if self.waiting.is_empty() {
            return Turn { company: Company::Nobody, allowed: ENDLESS, limit: LONGEST_CHARGE };
        }
        let allowed = s.turns.turn(self.share, weight, class);
        Turn { company: Company::Others, allowed, limit: s.turns.longest_charge }
    }

    /// Shows the others who runs and who waits from `now` on.
    #[inline]
    fn show_turn(&mut self, s: &Scheduler, now: Tsc) {
        let Some(current) = &self.current else { return };
        let (at, pace) = (current.progress.at, current.pace);
        self.raise_floor(at);
        let front = s.front(self.core);
        front.show_running(at, pace, now);
        front.show_waiting(self.first_movable());
        front.show_floor(self.floor);
    }

    #[inline]
    fn raise_floor(&mut self, running: u64) {
        let least = self.waiting.first().map_or(running, |first| running.min(first.key));
        self.floor = self.floor.max(least);
    }
}

/// See [`Queue::turn_of`].
#[derive(Clone, Copy, Debug)]
struct Turn {
    company: Company,
    allowed: u64,
    /// How much of it may be charged at once.
    limit: u64,
}

impl Current {
    /// Writes back what changed while it ran.
    #[inline]
    pub(crate) fn store(&self, entity: &mut Entity, now: Tsc) {
        entity.progress = self.progress;
        entity.since = now;
        entity.times.ran = entity.times.ran + Tsc(self.used);
        if let Some(budget) = &mut entity.budget {
            budget.left = i64::try_from(self.left).unwrap_or(i64::MAX).saturating_sub_unsigned(self.used);
        }
    }

    /// Charges what could not be charged before.
    #[cold]
    fn pay(&mut self, slot: &Slot, longest: u64) {
        let owed = slot.owed.swap(0, Ordering::Relaxed);
        self.progress.advance(owed.min(longest), self.pace);
        // The turn has begun and is not empty, but it may be short.
        self.allowed = self.allowed.saturating_add(owed);
        self.used = owed;
        self.left = self.left.max(self.allowed);
    }
}
