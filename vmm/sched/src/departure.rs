//! Somebody goes from a core's queue, or changes there.

use crate::current::ENDLESS;
use crate::entity::{Entity, Home, Slot};
use crate::heap::Reach;
use crate::queue::Queue;
use crate::scheduler::Scheduler;
use crate::spec::{CoreId, Weight};
use arch::Tsc;

/// How many of those who wait are looked at for one that may run on the core that asks.
const SEARCH: usize = 64;

impl Queue {
    /// Takes the waiting entity at `position` of the heap out.
    pub(crate) fn take(&mut self, s: &Scheduler, position: usize) -> Option<&'static Slot> {
        let entry = self.waiting.remove(position)?;
        self.uncount_movable(s, entry.reach());
        self.line.leave(&s.table, entry.slot);
        self.weight -= entry.slot.seat.weight();
        entry.slot.seat.leave(&mut entry.slot.entity.lock());
        self.show_load(s);
        Some(entry.slot)
    }

    /// Takes somebody out who may run on `core` and has paid less than `limit`: the first, or else one of the next, who is
    /// [on its way](Home::Moving) then.
    pub(crate) fn give(&mut self, s: &Scheduler, core: CoreId, limit: u64) -> Option<&'static Slot> {
        // A core that is about to ask takes the last one itself.
        if self.current.is_none() && self.waiting.len() <= 1 {
            return None;
        }
        let entries = self.waiting.entries().iter().take(SEARCH).enumerate();
        let mut movable = entries.filter(|(_, entry)| entry.reach() == Reach::Movable && entry.key < limit);
        let (position, entry) =
            movable.find(|(_, entry)| s.allowed(&entry.slot.entity.lock()).contains(core))?;
        let slot = entry.slot;
        slot.set_home(Home::Moving);
        self.times.pushes += 1;
        self.take(s, position)
    }

    /// Takes an entity out that waits here or is held here, and says whether it was. Takes time with their number.
    pub(crate) fn take_out(&mut self, s: &Scheduler, slot: &Slot) -> bool {
        let id = slot.id;
        if let Some(position) = self.waiting.position(id) {
            return self.take(s, position).is_some();
        }
        let held = self.held.position(id).and_then(|position| self.held.remove(position));
        held.is_some()
    }

    /// Takes over what changed of an entity that is here and had the weight and the reach `old`.
    pub(crate) fn adjust(
        &mut self,
        s: &Scheduler,
        slot: &Slot,
        old: (Weight, Reach),
        entity: &Entity,
        now: Tsc,
    ) {
        let id = slot.id;
        let (old, old_reach) = (u64::from(old.0.get()), old.1);
        let new = u64::from(entity.weight.get());
        if let Some(current) = self.current.as_mut().filter(|current| current.id() == id) {
            current.left = match entity.budget {
                None => ENDLESS,
                Some(budget) => {
                    // What it ran before the cap is not held against it.
                    let before = current.used.saturating_add(current.uncharged(now));
                    current.left.min(before.saturating_add(budget.left.max(1).unsigned_abs()))
                }
            };
            self.weight = self.weight - old + new;
        } else if self.waiting.position(id).is_some() {
            self.uncount_movable(s, old_reach);
            self.count_movable(s, slot.reach());
            self.weight = self.weight - old + new;
        }
        self.show_load(s);
    }
}
