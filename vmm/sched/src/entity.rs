//! What the scheduler keeps of an entity, and the table of all of them.

use crate::budget::Budget;
use crate::heap::Reach;
use crate::line::Place;
use crate::mask::CoreMask;
use crate::params::Lengths;
use crate::seat::Seat;
use crate::spec::{AddError, Class, CoreId, EntityId, MAX_ENTITIES, Spec, Weight};
use crate::times::Times;
use crate::virtual_time::{LONGEST_CHARGE, Pace, Progress};
use alloc::boxed::Box;
use alloc::vec::Vec;
use arch::Tsc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use spin::{Mutex, Once};

/// Where an entity is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Home {
    /// There is none of this number.
    Absent,
    /// Blocked.
    Asleep,
    /// On its way to a core's queue, in the hands of one core, which holds no lock meanwhile.
    Moving,
    /// Runnable, but none of its cores is online.
    Stranded,
    /// In this core's queue, or held by its cap there, or running there.
    On(CoreId),
}

/// What an entity on a core waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Awaits {
    /// Its first turn after it woke.
    FirstTurn,
    /// Its next turn.
    Turn,
}

/// An entity. While it is in a queue, [`Slot::seat`] has newer values of some of these.
#[derive(Debug)]
pub(crate) struct Entity {
    pub(crate) progress: Progress,
    /// What it did not get of late because it waited, in virtual time, up to `judged`.
    missed: u64,
    /// How long it had waited in all when that was worked out.
    judged: Tsc,
    pub(crate) pace: Pace,
    pub(crate) weight: Weight,
    pub(crate) class: Class,
    pub(crate) awaits: Awaits,
    /// Since when it waits or is held.
    pub(crate) since: Tsc,
    pub(crate) last_core: Option<CoreId>,
    pub(crate) budget: Option<Budget>,
    /// The core that it has to itself.
    pub(crate) own: Option<CoreId>,
    pub(crate) cores: CoreMask,
    pub(crate) times: Times,
}

impl Entity {
    fn new() -> Self {
        Self {
            progress: Progress::default(),
            missed: 0,
            judged: Tsc(0),
            pace: Pace::of(Weight::DEFAULT),
            weight: Weight::DEFAULT,
            class: Class::Normal,
            awaits: Awaits::Turn,
            since: Tsc(0),
            last_core: None,
            budget: None,
            own: None,
            cores: CoreMask::EMPTY,
            times: Times::default(),
        }
    }

    /// What it did not get of late because it waited, in virtual time: older waits count for less each time.
    pub(crate) fn missed(&mut self) -> u64 {
        let waited = self.times.waited.since(self.judged).0.min(LONGEST_CHARGE);
        self.judged = self.times.waited;
        self.missed = (self.missed - self.missed / 4).saturating_add(self.pace.cost(waited));
        self.missed
    }

    /// Takes over what `spec` says, on a host with the cores `existing`.
    fn apply(&mut self, spec: &Spec, existing: CoreMask, period: u64) {
        self.weight = spec.weight;
        self.pace = Pace::of(spec.weight);
        self.class = spec.class;
        self.cores = spec.cores.and(existing);
        self.budget = spec.cap.map(|cap| match self.budget {
            None => Budget::new(cap, period),
            Some(budget) => budget.with(cap, period),
        });
    }
}

/// The place of an entity in the table.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) id: EntityId,
    /// What it was told, `None` when there is no entity. Held by whoever wakes, blocks, changes or removes it.
    pub(crate) control: Mutex<Option<Spec>>,
    home: AtomicU32,
    /// A [`Reach`]. Changed under the lock of the queue where the entity is.
    reach: AtomicU32,
    /// Ticks that it ran but that could not be charged to it while it ran.
    pub(crate) owed: AtomicU64,
    /// Where it stands among those who wait for their first turn.
    pub(crate) place: Place,
    pub(crate) seat: Seat,
    pub(crate) entity: Mutex<Entity>,
}

const PINNED: u32 = 0;
const MOVABLE: u32 = 1;

const ABSENT: u32 = u32::MAX;
const ASLEEP: u32 = u32::MAX - 1;
const MOVING: u32 = u32::MAX - 2;
const STRANDED: u32 = u32::MAX - 3;

impl Home {
    const fn encode(self) -> u32 {
        match self {
            Self::Absent => ABSENT,
            Self::Asleep => ASLEEP,
            Self::Moving => MOVING,
            Self::Stranded => STRANDED,
            Self::On(core) => core.0,
        }
    }

    const fn decode(word: u32) -> Self {
        match word {
            ABSENT => Self::Absent,
            ASLEEP => Self::Asleep,
            MOVING => Self::Moving,
            STRANDED => Self::Stranded,
            core => Self::On(CoreId(core)),
        }
    }
}

impl Slot {
    fn new(id: EntityId) -> Self {
        Self {
            id,
            control: Mutex::new(None),
            home: AtomicU32::new(ABSENT),
            reach: AtomicU32::new(MOVABLE),
            owed: AtomicU64::new(0),
            place: Place::default(),
            seat: Seat::new(),
            entity: Mutex::new(Entity::new()),
        }
    }

    #[inline]
    pub(crate) fn home(&self) -> Home {
        Home::decode(self.home.load(Ordering::Acquire))
    }

    #[inline]
    pub(crate) fn set_home(&self, home: Home) {
        self.home.store(home.encode(), Ordering::Release);
    }

    /// Whether it ran more than was charged.
    #[inline]
    pub(crate) fn owes(&self) -> bool {
        self.owed.load(Ordering::Relaxed) != 0
    }

    #[inline]
    pub(crate) fn reach(&self) -> Reach {
        if self.reach.load(Ordering::Relaxed) == MOVABLE { Reach::Movable } else { Reach::Pinned }
    }

    /// Whether one of the two may run on more than one core and the other may not.
    #[inline]
    pub(crate) fn differs_in_reach(&self, other: &Self) -> bool {
        self.reach.load(Ordering::Relaxed) != other.reach.load(Ordering::Relaxed)
    }

    /// Has `entity`, which is this one's, take over what `spec` says, on a host with the cores `existing`.
    pub(crate) fn apply(&self, entity: &mut Entity, spec: &Spec, existing: CoreMask, turns: &Lengths) {
        entity.apply(spec, existing, turns.period);
        self.seat.set_terms(entity, turns);
        let reach = if entity.cores.len() > 1 { MOVABLE } else { PINNED };
        self.reach.store(reach, Ordering::Relaxed);
    }

    /// Where it is, once it is not on its way. Who holds its control lock finds it there until others move it.
    pub(crate) fn settled(&self) -> Home {
        loop {
            match self.home() {
                Home::Moving => core::hint::spin_loop(),
                home @ (Home::Absent | Home::Asleep | Home::Stranded | Home::On(_)) => return home,
            }
        }
    }

    /// Takes it on its way from where none of its cores is online: of several that try, one succeeds.
    pub(crate) fn rescue(&self) -> bool {
        self.home.compare_exchange(STRANDED, MOVING, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Says that none of its cores is online.
    pub(crate) fn strand(&self) {
        self.home.store(STRANDED, Ordering::SeqCst);
    }
}

/// Slots are made in blocks of this many.
const BLOCK: u32 = 32;

/// All slots. Blocks of them appear when an entity is first added there, and stay for ever, as a host has one scheduler
/// for as long as it runs: so queues refer to them without a search.
#[derive(Debug)]
pub(crate) struct Table {
    blocks: Box<[Once<&'static [Slot]>]>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { blocks: (0..MAX_ENTITIES / BLOCK as usize).map(|_| Once::new()).collect() }
    }

    #[inline]
    pub(crate) fn slot(&self, id: EntityId) -> Option<&'static Slot> {
        self.blocks.get(id.index() / BLOCK as usize)?.get()?.get(id.index() % BLOCK as usize)
    }

    /// The slot of an entity, which is made if need be.
    pub(crate) fn make(&self, id: EntityId) -> Result<&'static Slot, AddError> {
        let block = self.blocks.get(id.index() / BLOCK as usize).ok_or(AddError::TooLarge(id))?;
        let slots = block.try_call_once(|| {
            let mut slots = Vec::new();
            slots.try_reserve_exact(BLOCK as usize).map_err(|_| AddError::NoMemory)?;
            let first = id.0 - id.0 % BLOCK;
            slots.extend((first..first + BLOCK).map(|id| Slot::new(EntityId(id))));
            Ok(&*slots.leak())
        })?;
        slots.get(id.index() % BLOCK as usize).ok_or(AddError::TooLarge(id))
    }

    /// All slots that there are.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &'static Slot> {
        self.blocks.iter().filter_map(|block| block.get()).flat_map(|block| block.iter())
    }
}

impl Entity {
    /// As good as new, but for what is counted.
    pub(crate) fn renew(&mut self, times: Times) {
        *self = Self { times, ..Self::new() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_are_told_apart() {
        for home in [Home::Absent, Home::Asleep, Home::Moving, Home::Stranded, Home::On(CoreId(255))] {
            let slot = Slot::new(EntityId(0));
            assert_eq!(slot.home(), Home::Absent);
            slot.set_home(home);
            assert_eq!(slot.home(), home);
        }
    }

    #[test]
    fn one_rescuer_succeeds() {
        let slot = Slot::new(EntityId(0));
        slot.strand();
        assert!(slot.rescue());
        assert!(!slot.rescue());
        assert_eq!(slot.home(), Home::Moving);
    }

    #[test]
    fn the_table_grows_by_blocks() {
        let table = Table::new();
        assert!(table.slot(EntityId(40)).is_none());
        table.make(EntityId(40)).expect("in range");
        assert!(table.slot(EntityId(33)).is_some());
        assert!(table.slot(EntityId(31)).is_none());
        assert_eq!(table.slots().count(), BLOCK as usize);
        assert!(table.slots().zip(32..).all(|(slot, id)| slot.id == EntityId(id)));
        let large = EntityId(4096);
        assert_eq!(table.make(large).err(), Some(AddError::TooLarge(large)));
        assert!(table.slot(EntityId(u32::MAX)).is_none());
    }
}
