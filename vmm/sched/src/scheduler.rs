//! The scheduler of one core.

use crate::run_queue::{Key, RunQueue};
use alloc::vec::Vec;
use arch::Tsc;

/// Entity numbers are below this.
pub const MAX_ENTITIES: u32 = 1 << 16;

/// The number of something that can run: a vCPU. Chosen by the caller; small numbers make small tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct EntityId(pub u32);

/// An entity's share of a busy core, relative to the weights of the others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Weight(u32);

impl Weight {
    /// The weight of entities for which nobody chose another.
    pub const DEFAULT: Self = Self(100);

    /// A weight from 1 to 10,000.
    pub const fn new(weight: u32) -> Option<Self> {
        if weight >= 1 && weight <= 10_000 { Some(Self(weight)) } else { None }
    }

    /// The weight as a number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Who runs now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// This entity.
    Run {
        /// Which.
        id: EntityId,
        /// When to ask again at the latest; earlier when it blocks or another one wakes.
        until: Tsc,
    },
    /// Nobody is runnable.
    Idle,
}

/// Why an entity was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddError {
    /// There is one of this number.
    Taken(EntityId),
    /// The number is [`MAX_ENTITIES`] or more.
    TooLarge(EntityId),
}

/// No entity of this number was added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownEntity(pub EntityId);

#[derive(Clone, Copy, Debug)]
struct Entity {
    weight: Weight,
    /// Virtual time per tick: the inverse of the weight, with 32 binary places.
    pace: u64,
    /// What it has paid. Never goes back.
    virtual_time: u128,
    /// Ticks run in all.
    ran: Tsc,
    /// Ticks spent runnable while others ran, in all.
    waited: Tsc,
    /// Since when it is runnable and does not run.
    waiting_since: Option<Tsc>,
}

/// The entity that runs.
#[derive(Clone, Copy, Debug)]
struct Current {
    index: usize,
    /// Ticks run since it was picked.
    used: Tsc,
}

/// Whether an entity woke that has paid less than the one that runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Preemption {
    Unwanted,
    Wanted,
}

/// Picks among the entities of one core by weighted fair queueing.
///
/// [`Self::pick`], [`Self::charge`], [`Self::wake`] and [`Self::block`] take logarithmic time and do not allocate.
#[derive(Debug)]
pub struct Scheduler {
    slice: Tsc,
    entities: Vec<Option<Entity>>,
    /// The runnable entities, the running one too.
    queue: RunQueue,
    current: Option<Current>,
    preemption: Preemption,
    /// The lowest virtual time among the runnable, as far as it has come. Never goes back.
    floor: u128,
    /// Orders entities of one virtual time.
    turn: u64,
}

impl Scheduler {
    /// A scheduler without entities that lets each run for `slice` ticks at a time, at least for one.
    pub const fn new(slice: Tsc) -> Self {
        Self {
            slice: if slice.0 == 0 { Tsc(1) } else { slice },
            entities: Vec::new(),
            queue: RunQueue::new(),
            current: None,
            preemption: Preemption::Unwanted,
            floor: 0,
            turn: 0,
        }
    }

    /// Adds an entity, blocked.
    ///
    /// # Errors
    /// [`AddError`] when the number is taken or too large.
    pub fn add(&mut self, id: EntityId, weight: Weight) -> Result<(), AddError> {
        if id.0 >= MAX_ENTITIES {
            return Err(AddError::TooLarge(id));
        }
        let index = id.index();
        if self.entities.len() <= index {
            self.entities.resize(index + 1, None);
            self.queue.reserve(index + 1);
        }
        let slot = &mut self.entities[index];
        if slot.is_some() {
            return Err(AddError::Taken(id));
        }
        *slot = Some(Entity {
            weight,
            pace: (1 << 32) / u64::from(weight.get()),
            virtual_time: self.floor,
            ran: Tsc(0),
            waited: Tsc(0),
            waiting_since: None,
        });
        Ok(())
    }

    /// Forgets an entity.
    ///
    /// # Errors
    /// [`UnknownEntity`] when there is none of this number.
    pub fn remove(&mut self, id: EntityId) -> Result<(), UnknownEntity> {
        self.block(id)?;
        self.entities[id.index()] = None;
        Ok(())
    }

    /// Makes an entity runnable. One that slept long gets a head start of one slice over the others, no more.
    /// Nothing happens when it is runnable already.
    ///
    /// # Errors
    /// [`UnknownEntity`] when there is none of this number.
    pub fn wake(&mut self, id: EntityId, now: Tsc) -> Result<(), UnknownEntity> {
        let index = id.index();
        if self.queue.contains(index) {
            return Ok(());
        }
        let (slice, floor) = (self.slice, self.floor);
        let entity = self.entity_mut(id)?;
        let credit = entity.cost(slice);
        entity.virtual_time = entity.virtual_time.max(floor.saturating_sub(credit));
        entity.waiting_since = Some(now);
        let virtual_time = entity.virtual_time;
        self.enqueue(index, virtual_time);
        if self
            .current
            .and_then(|current| self.slot(current.index))
            .is_some_and(|running| virtual_time < running.virtual_time)
        {
            self.preemption = Preemption::Wanted;
        }
        Ok(())
    }

    /// Makes an entity wait for [`Self::wake`]. Nothing happens when it does already.
    ///
    /// # Errors
    /// [`UnknownEntity`] when there is none of this number.
    pub fn block(&mut self, id: EntityId) -> Result<(), UnknownEntity> {
        self.entity_mut(id)?.waiting_since = None;
        self.queue.remove(id.index());
        if self.current.is_some_and(|current| current.index == id.index()) {
            self.current = None;
        }
        Ok(())
    }

    /// Changes an entity's weight from now on.
    ///
    /// # Errors
    /// [`UnknownEntity`] when there is none of this number.
    pub fn set_weight(&mut self, id: EntityId, weight: Weight) -> Result<(), UnknownEntity> {
        let entity = self.entity_mut(id)?;
        entity.weight = weight;
        entity.pace = (1 << 32) / u64::from(weight.get());
        Ok(())
    }

    /// Who runs from `now` on. An entity keeps the core until its slice is used up, it blocks, or one wakes that
    /// has paid less; then the one that has paid least is next.
    pub fn pick(&mut self, now: Tsc) -> Decision {
        if let Some(current) = self.current {
            let allowed = match self.preemption {
                Preemption::Unwanted => self.slice,
                Preemption::Wanted => self.shortest_turn(),
            };
            if current.used < allowed {
                let id = EntityId::from_index(current.index);
                return Decision::Run { id, until: now + (allowed - current.used) };
            }
        }
        self.switch(now)
    }

    /// Accounts for `ran` ticks that an entity ran.
    ///
    /// # Errors
    /// [`UnknownEntity`] when there is none of this number.
    pub fn charge(&mut self, id: EntityId, ran: Tsc) -> Result<(), UnknownEntity> {
        let index = id.index();
        let entity = self.entity_mut(id)?;
        entity.ran = entity.ran + ran;
        entity.virtual_time += entity.cost(ran);
        let virtual_time = entity.virtual_time;
        if self.queue.contains(index) {
            self.enqueue(index, virtual_time);
        }
        if let Some(current) = &mut self.current
            && current.index == index
        {
            current.used = current.used + ran;
        }
        self.raise_floor();
        Ok(())
    }

    /// Ticks that an entity ran in all, `None` when there is none of this number.
    pub fn ran(&self, id: EntityId) -> Option<Tsc> {
        self.slot(id.index()).map(|entity| entity.ran)
    }

    /// Ticks that an entity was runnable in all while others ran, up to when it was last picked: steal time.
    /// `None` when there is none of this number.
    pub fn waited(&self, id: EntityId) -> Option<Tsc> {
        self.slot(id.index()).map(|entity| entity.waited)
    }

    /// Gives the core to the entity that has paid least.
    fn switch(&mut self, now: Tsc) -> Decision {
        if let Some(Current { index, .. }) = self.current.take()
            && let Some(Some(entity)) = self.entities.get_mut(index)
        {
            entity.waiting_since = Some(now);
        }
        self.preemption = Preemption::Unwanted;
        let Some((index, _)) = self.queue.first() else { return Decision::Idle };
        if let Some(Some(entity)) = self.entities.get_mut(index)
            && let Some(since) = entity.waiting_since.take()
        {
            entity.waited = entity.waited + (now - since);
        }
        self.current = Some(Current { index, used: Tsc(0) });
        Decision::Run { id: EntityId::from_index(index), until: now + self.slice }
    }

    /// What even an entity with a rival gets, so that a rival that wakes all the time cannot make the core do
    /// nothing but switch.
    const fn shortest_turn(&self) -> Tsc {
        Tsc(self.slice.0 / 8)
    }

    fn enqueue(&mut self, index: usize, virtual_time: u128) {
        self.turn += 1;
        self.queue.set(index, Key { virtual_time, turn: self.turn });
    }

    fn raise_floor(&mut self) {
        if let Some((_, key)) = self.queue.first() {
            self.floor = self.floor.max(key.virtual_time);
        }
    }

    fn slot(&self, index: usize) -> Option<&Entity> {
        self.entities.get(index).and_then(Option::as_ref)
    }

    fn entity_mut(&mut self, id: EntityId) -> Result<&mut Entity, UnknownEntity> {
        self.entities.get_mut(id.index()).and_then(Option::as_mut).ok_or(UnknownEntity(id))
    }
}

impl Entity {
    /// What running for `ticks` costs in virtual time.
    fn cost(&self, ticks: Tsc) -> u128 {
        u128::from(ticks.0) * u128::from(self.pace)
    }
}

impl EntityId {
    #[inline]
    const fn index(self) -> usize {
        self.0 as usize
    }

    #[expect(clippy::cast_possible_truncation, reason = "indices are below MAX_ENTITIES")]
    #[inline]
    const fn from_index(index: usize) -> Self {
        Self(index as u32)
    }
}
