//! Lengths on a core.

use crate::current::{Company, Current, ENDLESS, Stay, Toll};
use crate::entity::{Awaits, Entity, Slot, Table};
use crate::front::Front;
use crate::heap::{Entry, Reach};
use crate::line::Line;
use crate::queue::{Guests, Queue};
use crate::scheduler::{Decision, Scheduler};
use crate::spec::{CoreId, EntityId};
use crate::virtual_time::{LONGEST_CHARGE, Progress};
use arch::Tsc;
use core::sync::atomic::Ordering;

impl Queue {
    /// The answer to a core whose entity goes on, or whose entity's turn is over and where nothing is to be done but to
    /// begin the next one's: what most decisions are, so nothing is done twice here and nothing is called.
    #[inline(always)]
    pub(crate) fn proceed(&mut self, s: &Scheduler, front: &Front, now: Tsc) -> Option<Decision> {
        let due = self.next_release(s, now);
        let current = self.current.as_mut()?;
        if due <= now {
            return None;
        }
        if !current.is_done() {
            current.charged_at = now;
            return Some(self.promise(now, due));
        }
        let (last, at, used) = (current.slot, current.progress.at, current.used);
        let is_special = current.is_capped() || current.company == Company::Nobody;
        let first = self.waiting.first()?;
        let is_next = first.key <= at && first.key <= self.seen;
        if !is_next || now >= self.look_at || now >= self.line.due || is_special {
            return None;
        }
        if self.guests != Guests::Settled || last.reach() == Reach::Movable && !s.idle.is_empty() {
            return None;
        }
        // Whatever is to be noted of who comes takes longer.
        let next = first.slot;
        if !next.seat.is_settled_on(self.core) || next.owes() || next.differs_in_reach(last) {
            return None;
        }
        self.waiting.exchange_first(Entry { key: at, slot: last });
        self.times.switches += 1;
        let grain = self.grain.max(last.seat.pace().cost(used.min(s.turns.slice)));
        self.grain = grain - grain / 16;
        // Nobody here has paid less than that.
        self.floor = self.floor.max(first.key);
        last.seat.end_turn(current.progress, used, now);
        next.seat.end_wait(now);
        let allowed = s.turns.turn(self.share, next.seat.weight(), next.seat.longest_turn());
        let progress = next.seat.progress();
        // As those before it: all that is not said here is the same.
        (current.slot, current.progress, current.used) = (next, progress, 0);
        (current.allowed, current.charged_at) = (allowed, now);
        let until = (now + Tsc(allowed)).min(due);
        self.promised = until;
        front.show_running(progress.at, next.seat.pace(), now);
        front.show_floor(self.floor);
        front.show_waiting(self.first_movable());
        Some(Decision::Run { id: next.id, until })
    }

    #[cold]
    fn exchange_movable(&mut self, s: &Scheduler, comes: Reach, goes: Reach) {
        self.count_movable(s, comes);
        self.uncount_movable(s, goes);
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
            self.uncount_movable(s, first.reach());
            self.times.switches += u64::from(self.last != first.id().0);
            self.start(s, first, now);
        }
    }

    /// Gives the core, where nobody else is, to somebody for whom nobody waits anywhere.
    #[inline]
    pub(crate) fn start_alone(&mut self, s: &Scheduler, entry: Entry, now: Tsc) {
        self.times.switches += u64::from(self.last != entry.id().0);
        self.start(s, entry, now);
        self.run_free(s);
    }

    /// Ends the turn of the running entity, which has paid as much as who comes next or more, and begins that one's.
    pub(crate) fn switch(&mut self, s: &Scheduler, now: Tsc) {
        let Some(current) = &self.current else { return };
        let entry = current.entry();
        self.grain = self.grain.max(current.pace().cost(current.used.min(s.turns.slice)));
        current.store(now);
        current.store_budget(&mut current.slot.entity.lock());
        let Some(next) = self.waiting.replace_first(entry) else { return };
        self.times.switches += 1;
        if next.reach() != entry.reach() {
            self.exchange_movable(s, entry.reach(), next.reach());
        }
        self.start(s, next, now);
    }

    /// Begins the turn of an entity that is not among the waiting any more.
    fn start(&mut self, s: &Scheduler, entry: Entry, now: Tsc) {
        let slot = entry.slot;
        let mut entity = slot.entity.lock();
        let waited = slot.seat.end_wait(now);
        self.line.welcome(&s.table, self.core, slot, &mut entity, waited);
        slot.seat.settle_on(self.core, &entity);
        self.grain -= self.grain / 16;
        let turn = self.turn_of(s, slot);
        let current = self.current.insert(Current::new(slot, slot.seat.progress(), turn, now));
        if let Some(budget) = &entity.budget {
            current.left = budget.left.max(1).unsigned_abs();
            current.allow(turn.allowed);
        }
        drop(entity);
        if slot.owes() {
            current.pay(s.turns.longest_charge);
        }
        self.show_turn(s, now);
    }

    /// Lets the running entity go on for another turn.
    pub(crate) fn renew(&mut self, s: &Scheduler, now: Tsc) {
        let Some(slot) = self.current.as_ref().map(|current| current.slot) else { return };
        let turn = self.turn_of(s, slot);
        let Some(current) = &mut self.current else { return };
        current.store(now);
        current.store_budget(&mut slot.entity.lock());
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
    pub(crate) fn stop_current(&mut self, s: &Scheduler, now: Tsc) -> Option<&'static Slot> {
        let current = self.current.take()?;
        let slot = current.slot;
        self.last = slot.id.0;
        self.weight -= slot.seat.weight();
        self.raise_floor(current.progress.at);
        current.store(now);
        {
            let mut entity = slot.entity.lock();
            current.store_budget(&mut entity);
            slot.seat.leave(&mut entity);
        }
        let front = s.front(self.core);
        front.show_nobody();
        front.show_floor(self.floor);
        self.show_load(s);
        Some(slot)
    }

    /// The next turn of the running entity.
    #[inline]
    fn turn_of(&self, s: &Scheduler, slot: &Slot) -> Turn {
        if self.waiting.is_empty() {
            return Turn { company: Company::Nobody, allowed: ENDLESS, limit: LONGEST_CHARGE };
        }
        let allowed = s.turns.turn(self.share, slot.seat.weight(), slot.seat.longest_turn());
        Turn { company: Company::Others, allowed, limit: s.turns.longest_charge }
    }

    /// Shows the others who runs and who waits from `now` on.
    #[inline]
    fn show_turn(&mut self, s: &Scheduler, now: Tsc) {
        let Some(current) = &self.current else { return };
        let (at, pace) = (current.progress.at, current.pace());
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
pub(crate) struct Turn {
    company: Company,
    allowed: u64,
    /// How much of it may be charged at once.
    limit: u64,
}

impl Line {
    /// Notes that an entity, which has `waited`, comes to `core`: for the first time since it woke, or from another core.
    #[inline(never)]
    fn welcome(&mut self, table: &Table, core: CoreId, slot: &Slot, entity: &mut Entity, waited: Tsc) {
        if entity.awaits == Awaits::FirstTurn {
            entity.awaits = Awaits::Turn;
            entity.times.wake_delay.record(waited);
            self.leave(table, slot);
        }
        if entity.last_core != Some(core) {
            entity.times.migrations += u64::from(entity.last_core.is_some());
            entity.last_core = Some(core);
        }
    }
}

impl Current {
    /// The one of `slot`, which has come to `progress`, as its turn begins. It has no cap.
    #[inline(always)]
    const fn new(slot: &'static Slot, progress: Progress, turn: Turn, now: Tsc) -> Self {
        Self {
            slot,
            progress,
            stay: Stay::Welcome,
            company: turn.company,
            toll: Toll::Due,
            used: 0,
            allowed: turn.allowed,
            left: ENDLESS,
            charged_at: now,
            limit: turn.limit,
        }
    }

    /// Writes back what changed while it ran.
    #[inline(always)]
    pub(crate) fn store(&self, now: Tsc) {
        self.slot.seat.end_turn(self.progress, self.used, now);
    }

    /// Writes back what its cap leaves it.
    pub(crate) fn store_budget(&self, entity: &mut Entity) {
        if let Some(budget) = &mut entity.budget {
            budget.left = i64::try_from(self.left).unwrap_or(i64::MAX).saturating_sub_unsigned(self.used);
        }
    }

    /// Charges what could not be charged before.
    #[cold]
    fn pay(&mut self, longest: u64) {
        let owed = self.slot.owed.swap(0, Ordering::Relaxed);
        self.progress.advance(owed.min(longest), self.pace());
        // The turn has begun and is not empty, but it may be short.
        self.allowed = self.allowed.saturating_add(owed);
        self.used = owed;
        self.left = self.left.max(self.allowed);
    }
}
