//! Somebody comes to a core's queue.
//!
//! Who comes keeps what it has paid, within limits around what those have paid who are there: who slept long is one round
//! behind them and no more, so that sleep earns a quick start but no store of time; and who comes from cores that it has
//! nothing to do with any more is neither far behind nor far ahead.

use crate::current::Toll;
use crate::entity::{Awaits, Entity, Slot};
use crate::heap::Entry;
use crate::params::Lengths;
use crate::queue::{Phase, Queue};
use crate::scheduler::Scheduler;
use crate::spec::Class;
use arch::Tsc;

/// Rounds that one who slept may be behind those who are here.
const SLEEPER_CREDIT: u64 = 1;
/// The same for the latency class.
const LATENCY_CREDIT: u64 = 2;
/// [Strides](Queue::stride) that one who slept may be ahead.
const SLEEPER_DEBT: u64 = 4;
/// Strides that one who comes from another core may be behind or ahead.
const SPREAD: u64 = 16;
/// After so many rounds one who woke gets its first turn, whoever has paid less.
const PATIENCE: u64 = 3;
/// How many held entities are let go at once.
const RELEASES: u32 = 8;

/// How an entity comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// It woke. Those who wait elsewhere have paid so much at least.
    Woken { others: u64 },
    /// Its cap lets it run again.
    Released,
    /// From another core, where it waited or ran.
    Moved,
}

/// Whether the core must be told to ask again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Call {
    Needed,
    Unneeded,
}

impl Queue {
    /// Takes an entity in, which has the core of this queue as its home from now on as far as the caller sees to it.
    pub(crate) fn admit(
        &mut self,
        s: &Scheduler,
        slot: &'static Slot,
        entity: &mut Entity,
        arrival: Arrival,
        now: Tsc,
    ) -> Call {
        if let Some(budget) = &mut entity.budget {
            budget.refresh(now, s.turns.period);
            if budget.left <= 0 {
                return self.hold(slot, entity, now);
            }
        }
        let entities = self.runnable() + 1;
        let weight = self.weight + u64::from(entity.weight.get());
        let round = Lengths::virtual_round(s.turns.share(entities, weight));
        self.meet(entity, arrival, round, now);
        match arrival {
            Arrival::Woken { .. } | Arrival::Released => entity.since = now,
            Arrival::Moved => {}
        }
        if entity.awaits == Awaits::FirstTurn {
            let due = entity.since + Tsc(PATIENCE * s.turns.round(entities));
            self.line.join(&s.table, slot, due);
        }
        slot.seat.take(entity);
        let entry = Entry { key: entity.progress.at, slot };
        self.weight = weight;
        #[cfg(test)]
        {
            self.arrivals += 1;
        }
        self.enqueue(s, entry);
        self.show_load(s);
        // Things change: others are looked at soon.
        self.pause = 0;
        self.look_at = self.look_at.min(now + Tsc(s.turns.granule / 4));
        self.call(s, entry.key, entity.class, round, now)
    }

    /// Brings what one who comes has paid within the limits.
    fn meet(&mut self, entity: &mut Entity, arrival: Arrival, round: u64, now: Tsc) {
        let stride = round + self.grain;
        let credit = Self::credit(entity.class, round);
        let base = self.base(now);
        let (low, high) = match arrival {
            // Nobody is here to compare it with.
            Arrival::Moved if self.weight == 0 => (0, u64::MAX),
            Arrival::Woken { .. } | Arrival::Released if self.weight == 0 => {
                (self.floor.saturating_sub(credit), u64::MAX)
            }
            Arrival::Moved => (base.saturating_sub(SPREAD * stride), base.saturating_add(SPREAD * stride)),
            Arrival::Released => (base.saturating_sub(credit), base.saturating_add(SLEEPER_DEBT * stride)),
            Arrival::Woken { others } => {
                // Those who are here may happen to be ahead of all others, but to be so far behind would starve them.
                let fair = base.min(others).max(base.saturating_sub(SPREAD * stride));
                (fair.saturating_sub(credit), base.saturating_add(SLEEPER_DEBT * stride))
            }
        };
        entity.progress.clamp(low, high);
        if self.waiting.is_empty() {
            self.floor = self.floor.min(entity.progress.at);
        }
    }

    /// How far behind those who are here one who slept may be.
    #[inline]
    pub(crate) const fn credit(class: Class, round: u64) -> u64 {
        match class {
            Class::Latency => LATENCY_CREDIT * round,
            Class::Normal | Class::Exclusive => SLEEPER_CREDIT * round,
        }
    }

    /// Whether the core must be told that somebody came who has paid `at`.
    fn call(&mut self, s: &Scheduler, at: u64, class: Class, round: u64, now: Tsc) -> Call {
        let share = self.share;
        let is_first = self.waiting.len() == 1;
        let core = self.core;
        let Some(current) = &mut self.current else {
            return match self.phase {
                Phase::Idle => {
                    self.phase = Phase::Called;
                    s.idle.remove(core);
                    Call::Needed
                }
                Phase::Offline | Phase::Called | Phase::Busy => Call::Unneeded,
            };
        };
        let uncharged = current.uncharged(now);
        let used = current.used.saturating_add(uncharged);
        match current.toll {
            Toll::Due | Toll::DueAfter(_) => {}
            Toll::Free => {
                current.toll = Toll::DueAfter(uncharged);
                s.front(core).show_running(current.progress.at, current.pace(), now);
            }
        }
        if is_first {
            let turn = s.turns.turn(share, current.slot.seat.weight(), current.slot.seat.longest_turn());
            current.allowed = current.allowed.min(used.saturating_add(turn));
        }
        let (margin, guard) = match class {
            Class::Latency => (0, s.turns.latency_guard),
            Class::Normal | Class::Exclusive => (round / 4, s.turns.guard),
        };
        if at.saturating_add(margin) < current.by(now) {
            current.allowed = current.allowed.min(guard);
        }
        let end = now + Tsc(current.allowed.saturating_sub(used));
        self.call_by(end)
    }

    fn call_by(&mut self, end: Tsc) -> Call {
        if end < self.promised {
            self.promised = end;
            Call::Needed
        } else {
            Call::Unneeded
        }
    }

    /// Keeps an entity until its cap lets it go.
    fn hold(&mut self, slot: &'static Slot, entity: &mut Entity, now: Tsc) -> Call {
        let ends = entity.budget.map_or(now, |budget| budget.ends);
        entity.since = now;
        self.held.push(Entry { key: ends.0, slot });
        self.call_by(ends)
    }

    /// Begins the next period of the cap of the running entity, which used it up, if it is time, or else holds it.
    pub(crate) fn refill_or_hold_current(&mut self, s: &Scheduler, now: Tsc) {
        let Some(current) = &mut self.current else { return };
        let slot = current.slot;
        let mut entity = slot.entity.lock();
        let weight = slot.seat.weight();
        current.store(now);
        current.store_budget(&mut entity);
        slot.seat.leave(&mut entity);
        if let Some(budget) = &mut entity.budget {
            budget.refresh(now, s.turns.period);
            if budget.left > 0 {
                (current.used, current.allowed, current.left) = (0, 0, budget.left.unsigned_abs());
                return;
            }
        }
        self.current = None;
        self.last = slot.id.0;
        self.weight -= weight;
        // It asks just now: it need not be told to.
        let _ = self.hold(slot, &mut entity, now);
        self.show_load(s);
    }

    /// Lets those go whose caps allow it.
    #[inline]
    pub(crate) fn release_due(&mut self, s: &Scheduler, now: Tsc) {
        if self.next_release(s, now) <= now {
            self.release(s, now);
        }
    }

    #[cold]
    fn release(&mut self, s: &Scheduler, now: Tsc) {
        for _ in 0..RELEASES {
            if self.next_release(s, now) > now {
                return;
            }
            let Some(entry) = self.held.pop() else { return };
            let mut entity = entry.slot.entity.lock();
            let time = now.since(entity.since);
            entity.times.held = entity.times.held + time;
            // The core asks just now: it need not be told to.
            let _ = self.admit(s, entry.slot, &mut entity, Arrival::Released, now);
            let allowed = s.allowed(&entity);
            drop(entity);
            s.offer(allowed);
        }
    }
}
