//! Exclusive entities and their cores.
//!
//! A core that an exclusive entity has to itself is left by all others, and stays so while the entity sleeps. Only those
//! that may run nowhere else remain, and share it by weight. The last core that is nobody's own is not given away.

use crate::entity::{Entity, Home, Slot};
use crate::heap::Reach;
use crate::scheduler::{Administration, Scheduler};
use crate::spec::{Class, CoreId, EntityId};

/// What an exclusive entity has got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exclusivity {
    /// A core that nobody else may use.
    Own(CoreId),
    /// A core of its own, but others may run nowhere else and share it.
    Shared(CoreId),
    /// No core, as none of its cores is free, or only the last one of the host: it runs like a normal entity.
    Refused,
}

impl Scheduler {
    /// What an exclusive entity has got, `None` if there is none of this number or it is not exclusive.
    pub fn exclusivity(&self, id: EntityId) -> Option<Exclusivity> {
        let administration = self.administration.lock();
        let slot = self.table.slot(id).filter(|slot| slot.home() != Home::Absent)?;
        let own = {
            let entity = slot.entity.lock();
            if entity.class != Class::Exclusive {
                return None;
            }
            entity.own
        };
        let Some(own) = own else { return Some(Exclusivity::Refused) };
        let mut others = self.present(&administration).filter(|other| other.id != id);
        let is_shared = others.any(|slot| self.allowed(&slot.entity.lock()).contains(own));
        Some(if is_shared { Exclusivity::Shared(own) } else { Exclusivity::Own(own) })
    }

    /// Gives cores to exclusive entities that have none yet, as far as there are any.
    pub(crate) fn settle_exclusives(&self, administration: &Administration) {
        for slot in self.present(administration) {
            let wants = {
                let entity = slot.entity.lock();
                entity.class == Class::Exclusive && entity.own.is_none()
            };
            if wants {
                self.claim(administration, slot);
            }
        }
    }

    /// Gives an exclusive entity a core.
    fn claim(&self, administration: &Administration, slot: &Slot) {
        let free = self.online.load().without(self.owned.load());
        if free.len() < 2 {
            return;
        }
        let home = match slot.home() {
            Home::On(core) => Some(core),
            Home::Absent | Home::Asleep | Home::Moving | Home::Stranded => None,
        };
        let cores = slot.entity.lock().cores;
        // Where nobody else must stay, then where it is, then where fewest are.
        let rank = |core: &CoreId| {
            (self.is_pinned_to(administration, *core, slot.id), home != Some(*core), self.front(*core).load())
        };
        let Some(core) = cores.and(free).iter().min_by_key(rank) else { return };
        slot.entity.lock().own = Some(core);
        self.owned.insert(core);
        self.rouse();
        self.unsettle(core);
        if let Some(home) = home.filter(|home| *home != core) {
            self.unsettle(home);
        }
    }

    /// Whether there are entities but `id` that may run on `core` and nowhere else.
    fn is_pinned_to(&self, administration: &Administration, core: CoreId, id: EntityId) -> bool {
        self.present(administration).filter(|other| other.id != id).any(|slot| {
            let entity = slot.entity.lock();
            slot.reach() == Reach::Pinned && entity.cores.contains(core)
        })
    }

    /// Has a core look whether all who are there may be there.
    fn unsettle(&self, core: CoreId) {
        let Some(unit) = self.unit(core) else { return };
        let mut queue = unit.queue.lock();
        queue.unsettle();
        let is_empty = queue.current.is_none() && queue.waiting.is_empty() && queue.held.is_empty();
        drop(queue);
        if !is_empty {
            self.kick(core);
        }
    }

    /// Takes its core from an entity.
    pub(crate) fn disown(&self, entity: &mut Entity, own: CoreId) {
        entity.own = None;
        self.owned.remove(own);
        self.rouse();
    }

    /// Has all cores that idle look for work, as entities may run on other cores than before.
    fn rouse(&self) {
        for core in self.idle.load().iter() {
            self.kick(core);
        }
    }
}
