//! Those who woke and wait for their first turn, in the order in which they are due at the latest.
//!
//! Their places are in the table, so that it takes no memory and who runs leaves the line at once, wherever it stands.
//! Places belong to the lock of the queue where the entity is.

use crate::entity::{Slot, Table};
use crate::spec::EntityId;
use arch::Tsc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const NOBODY: u32 = u32::MAX;
/// How many places one who comes may get ahead of others.
const OVERTAKES: u32 = 8;

/// An entity's place in a line.
#[derive(Debug)]
pub(crate) struct Place {
    before: AtomicU32,
    behind: AtomicU32,
    /// When it is due; zero when it is in no line.
    due: AtomicU64,
}

/// The line of one core.
#[derive(Debug)]
pub(crate) struct Line {
    first: u32,
    last: u32,
    /// When the first is due.
    pub(crate) due: Tsc,
}

impl Default for Place {
    fn default() -> Self {
        Self { before: AtomicU32::new(NOBODY), behind: AtomicU32::new(NOBODY), due: AtomicU64::new(0) }
    }
}

impl Line {
    pub(crate) const fn new() -> Self {
        Self { first: NOBODY, last: NOBODY, due: Tsc::NEVER }
    }

    /// The first, if it is due.
    #[inline]
    pub(crate) fn overdue(&self, now: Tsc) -> Option<EntityId> {
        (self.due <= now).then_some(EntityId(self.first))
    }

    /// Puts an entity in that is in no line.
    pub(crate) fn join(&mut self, table: &Table, slot: &Slot, due: Tsc) {
        let (id, own) = (slot.id, &slot.place);
        let mut before = self.last;
        for _ in 0..OVERTAKES {
            match place(table, before) {
                Some(other) if other.due.load(Ordering::Relaxed) > due.0 => {
                    before = other.before.load(Ordering::Relaxed);
                }
                Some(_) | None => break,
            }
        }
        let behind = match place(table, before) {
            None => core::mem::replace(&mut self.first, id.0),
            Some(other) => other.behind.swap(id.0, Ordering::Relaxed),
        };
        match place(table, behind) {
            None => self.last = id.0,
            Some(other) => other.before.store(id.0, Ordering::Relaxed),
        }
        own.before.store(before, Ordering::Relaxed);
        own.behind.store(behind, Ordering::Relaxed);
        own.due.store(due.0.max(1), Ordering::Relaxed);
        self.look_at_first(table);
    }

    /// Takes an entity out, if it is in.
    #[inline]
    pub(crate) fn leave(&mut self, table: &Table, slot: &Slot) {
        if slot.place.due.load(Ordering::Relaxed) != 0 {
            self.take_out(table, &slot.place);
        }
    }

    fn take_out(&mut self, table: &Table, own: &Place) {
        own.due.store(0, Ordering::Relaxed);
        let before = own.before.load(Ordering::Relaxed);
        let behind = own.behind.load(Ordering::Relaxed);
        match place(table, before) {
            None => self.first = behind,
            Some(other) => other.behind.store(behind, Ordering::Relaxed),
        }
        match place(table, behind) {
            None => self.last = before,
            Some(other) => other.before.store(before, Ordering::Relaxed),
        }
        self.look_at_first(table);
    }

    fn look_at_first(&mut self, table: &Table) {
        self.due =
            place(table, self.first).map_or(Tsc::NEVER, |first| Tsc(first.due.load(Ordering::Relaxed)));
    }
}

fn place(table: &Table, number: u32) -> Option<&Place> {
    table.slot(EntityId(number)).map(|slot| &slot.place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn the_first_is_the_one_that_is_due_first_and_nobody_is_lost(
            steps in prop::collection::vec((0u32..12, 0u64..20, any::<bool>()), 0..120),
        ) {
            let table = Table::new();
            let slot = |number| table.make(EntityId(number)).expect("in range");
            let mut line = Line::new();
            let mut model: Vec<(u64, u32)> = Vec::new();
            for (step, (number, slack, leaves)) in (1u64..).zip(steps) {
                // Nearly in order, as those are who come.
                let due = 10 * step + slack;
                let position = model.iter().position(|(_, other)| *other == number);
                match (position, leaves) {
                    (Some(position), true) => {
                        model.remove(position);
                        line.leave(&table, slot(number));
                    }
                    (None, false) => {
                        model.push((due, number));
                        line.join(&table, slot(number), Tsc(due));
                    }
                    (None, true) => line.leave(&table, slot(number)),
                    (Some(_), false) => {}
                }
                let least = model.iter().map(|(due, _)| *due).min();
                prop_assert_eq!(line.due, least.map_or(Tsc::NEVER, Tsc));
                if let Some(least) = least {
                    prop_assert_eq!(line.overdue(Tsc(least - 1)), None);
                    let first = line.overdue(Tsc(least)).expect("it is due");
                    prop_assert!(model.contains(&(least, first.0)));
                }
            }
            while let Some(first) = line.overdue(Tsc(u64::MAX - 1)) {
                line.leave(&table, slot(first.0));
                model.retain(|(_, number)| *number != first.0);
            }
            prop_assert!(model.is_empty());
        }
    }
}
