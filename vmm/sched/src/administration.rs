//! Entities and cores come, change and go.

use crate::entity::{Entity, Home, Slot};
use crate::heap::Entry;
use crate::queue::Phase;
use crate::scheduler::{Administration, Scheduler, Unit, Waking};
use crate::spec::{AddError, Class, CoreId, EntityId, RemoveError, SetError, Spec};
use crate::times::Times;
use alloc::vec::Vec;
use arch::Tsc;
use core::sync::atomic::Ordering;

/// The smallest number of entities that queues have room for.
const SMALLEST_ROOM: usize = 16;

/// An entity as plain data, to be saved with the virtual machine that it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Saved {
    /// What it was told.
    pub spec: Spec,
    /// What was counted.
    pub times: Times,
}

/// Where an entity is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Blocked.
    Asleep,
    /// Waiting for this core, or for another that takes it.
    Waiting(CoreId),
    /// Held by its cap; this core lets it go.
    Held(CoreId),
    /// Running on this core.
    Running(CoreId),
    /// On its way from one core to another.
    Moving,
    /// Runnable, but none of its cores is online.
    Stranded,
}

impl Scheduler {
    /// A core takes part from now on. It calls this before it [asks](Self::pick) for the first time.
    pub fn online(&self, core: CoreId) {
        let administration = self.administration.lock();
        let Some(unit) = self.unit(core) else { return };
        {
            let mut queue = unit.queue.lock();
            if queue.phase != Phase::Offline {
                return;
            }
            queue.phase = Phase::Busy;
        }
        self.online.insert(core);
        for slot in self.table.slots() {
            if slot.home() == Home::Stranded
                && slot.rescue()
                // It woke long ago, and the time does not matter.
                && let Some(core) = self.place(slot, Waking::No, Tsc(0))
            {
                self.kick(core);
            }
        }
        self.settle_exclusives(&administration);
    }

    /// Adds an entity, blocked.
    ///
    /// # Errors
    /// [`AddError`]; nothing is added then.
    pub fn add(&self, id: EntityId, spec: Spec) -> Result<(), AddError> {
        self.restore(id, &Saved { spec, times: Times::default() })
    }

    /// Adds an entity, blocked, that [`Self::save`] described.
    ///
    /// # Errors
    /// [`AddError`]; nothing is added then.
    pub fn restore(&self, id: EntityId, saved: &Saved) -> Result<(), AddError> {
        let mut administration = self.administration.lock();
        let existing = self.existing();
        if saved.spec.cores.and(existing).is_empty() {
            return Err(AddError::NoCore(id));
        }
        let slot = self.table.make(id)?;
        let mut control = slot.control.lock();
        if control.is_some() {
            return Err(AddError::Taken(id));
        }
        self.make_room(administration.entities + 1)?;
        administration.entities += 1;
        {
            let mut entity = slot.entity.lock();
            entity.renew(saved.times);
            slot.apply(&mut entity, &saved.spec, existing, &self.turns);
        }
        slot.owed.store(0, Ordering::Relaxed);
        *control = Some(saved.spec);
        slot.set_home(Home::Asleep);
        drop(control);
        self.settle_exclusives(&administration);
        Ok(())
    }

    /// Changes an entity, from `now` on. Returns the core that must be told to [ask](Self::pick) again, if one must. Look
    /// for [more](Self::take_kick).
    ///
    /// # Errors
    /// [`SetError`]; nothing is changed then.
    pub fn set(&self, id: EntityId, spec: Spec, now: Tsc) -> Result<Option<CoreId>, SetError> {
        let administration = self.administration.lock();
        let existing = self.existing();
        let slot = self.table.slot(id).ok_or(SetError::Unknown(id))?;
        let mut control = slot.control.lock();
        if control.is_none() {
            return Err(SetError::Unknown(id));
        }
        if spec.cores.and(existing).is_empty() {
            return Err(SetError::NoCore(id));
        }
        *control = Some(spec);
        let apply = |entity: &mut Entity| {
            let old = (entity.weight, slot.reach());
            slot.apply(entity, &spec, existing, &self.turns);
            if let Some(own) = entity.own
                && (spec.class != Class::Exclusive || !entity.cores.contains(own))
            {
                self.disown(entity, own);
            }
            old
        };
        let kick = loop {
            match slot.settled() {
                Home::On(home) => {
                    let Some(mut queue) = self.lock_home(slot, home) else { continue };
                    let mut entity = slot.entity.lock();
                    let old = apply(&mut entity);
                    queue.adjust(self, slot, old, &entity, now);
                    queue.unsettle();
                    let allowed = self.allowed(&entity);
                    drop(entity);
                    drop(queue);
                    self.offer(allowed);
                    break Some(home);
                }
                Home::Stranded if slot.rescue() => {
                    apply(&mut slot.entity.lock());
                    break self.place(slot, Waking::No, now);
                }
                Home::Stranded | Home::Moving => {}
                Home::Asleep | Home::Absent => {
                    apply(&mut slot.entity.lock());
                    break None;
                }
            }
        };
        drop(control);
        self.settle_exclusives(&administration);
        Ok(kick)
    }

    /// Forgets an entity.
    ///
    /// # Errors
    /// [`RemoveError`]; nothing is forgotten then.
    pub fn remove(&self, id: EntityId) -> Result<(), RemoveError> {
        let mut administration = self.administration.lock();
        let slot = self.table.slot(id).ok_or(RemoveError::Unknown(id))?;
        let mut control = slot.control.lock();
        if control.is_none() {
            return Err(RemoveError::Unknown(id));
        }
        loop {
            match slot.settled() {
                Home::On(home) => {
                    let Some(mut queue) = self.lock_home(slot, home) else { continue };
                    if queue.current.as_ref().is_some_and(|current| current.id() == id) {
                        return Err(RemoveError::Running(home));
                    }
                    queue.take_out(self, slot);
                    slot.set_home(Home::Absent);
                    break;
                }
                Home::Stranded if slot.rescue() => {
                    slot.set_home(Home::Absent);
                    break;
                }
                Home::Stranded | Home::Moving => {}
                Home::Asleep | Home::Absent => {
                    slot.set_home(Home::Absent);
                    break;
                }
            }
        }
        *control = None;
        {
            let mut entity = slot.entity.lock();
            if let Some(own) = entity.own {
                self.disown(&mut entity, own);
            }
            entity.renew(Times::default());
        }
        administration.entities -= 1;
        drop(control);
        self.settle_exclusives(&administration);
        Ok(())
    }

    /// What an entity was told, `None` if there is none of this number.
    pub fn spec(&self, id: EntityId) -> Option<Spec> {
        *self.table.slot(id)?.control.lock()
    }

    /// An entity as plain data, `None` if there is none of this number.
    pub fn save(&self, id: EntityId) -> Option<Saved> {
        Some(Saved { spec: self.spec(id)?, times: self.times(id)? })
    }

    /// Where an entity is, `None` if there is none of this number.
    pub fn place_of(&self, id: EntityId) -> Option<Place> {
        let slot = self.table.slot(id)?;
        loop {
            return Some(match slot.home() {
                Home::Absent => return None,
                Home::Asleep => Place::Asleep,
                Home::Moving => Place::Moving,
                Home::Stranded => Place::Stranded,
                Home::On(home) => {
                    let Some(queue) = self.lock_home(slot, home) else { continue };
                    if queue.current.as_ref().is_some_and(|current| current.id() == id) {
                        Place::Running(home)
                    } else if queue.held.position(id).is_some() {
                        Place::Held(home)
                    } else {
                        Place::Waiting(home)
                    }
                }
            });
        }
    }

    /// The cores that take part.
    pub fn cores_online(&self) -> crate::CoreMask {
        self.online.load()
    }

    /// Has every queue hold `entities` without allocation.
    fn make_room(&self, entities: usize) -> Result<(), AddError> {
        let existing = self.existing();
        existing.iter().filter_map(|core| self.unit(core)).try_for_each(|unit| make_room(unit, entities))
    }

    /// All entities that there are, while administration holds still.
    pub(crate) fn present(&self, _: &Administration) -> impl Iterator<Item = &'static Slot> {
        self.table.slots().filter(|slot| slot.home() != Home::Absent)
    }
}

/// Makes room in one queue. Its lock is not held while memory is allocated or freed.
fn make_room(unit: &Unit, entities: usize) -> Result<(), AddError> {
    let is_enough = {
        let queue = unit.queue.lock();
        queue.waiting.room().min(queue.held.room()) >= entities
    };
    if is_enough {
        return Ok(());
    }
    let room = entities.next_power_of_two().max(SMALLEST_ROOM);
    let allocate = || {
        let mut entries: Vec<Entry> = Vec::new();
        entries.try_reserve_exact(room).map(|()| entries).map_err(|_| AddError::NoMemory)
    };
    let (waiting, held) = (allocate()?, allocate()?);
    let mut queue = unit.queue.lock();
    let old = (queue.waiting.move_into(waiting), queue.held.move_into(held));
    drop(queue);
    drop(old);
    Ok(())
}
