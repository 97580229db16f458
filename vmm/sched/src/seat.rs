//! What turns change of an entity that waits or runs on a core, and what they depend on.
//!
//! It belongs to the lock of the queue where the entity is, so that one turn follows another without a lock of the
//! entities. An entity that comes to a queue brings what it has paid, and takes it along when it goes; the times that
//! were counted meanwhile are added to the others then, or when somebody asks.

use crate::entity::Entity;
use crate::params::Lengths;
use crate::spec::CoreId;
use crate::virtual_time::{Pace, Progress};
use arch::Tsc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// See the module.
#[derive(Debug)]
pub(crate) struct Seat {
    at: AtomicU64,
    rest: AtomicU32,
    pace: AtomicU32,
    /// Since when it waits.
    since: AtomicU64,
    /// Ticks that it ran, and that it waited, which are not in the table of times yet.
    ran: AtomicU64,
    waited: AtomicU64,
    weight: AtomicU32,
    /// The core where it has had a turn since it came, if it has no cap: nothing is to be noted when it has another.
    settled_on: AtomicU32,
    /// The longest turn of its class.
    longest: AtomicU64,
}

const NOWHERE: u32 = u32::MAX;

fn add(counter: &AtomicU64, amount: u64) {
    // Who has the lock is alone. A sum of spans of one clock is no longer than the clock has run.
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

impl Seat {
    pub(crate) const fn new() -> Self {
        Self {
            at: AtomicU64::new(0),
            rest: AtomicU32::new(0),
            pace: AtomicU32::new(0),
            since: AtomicU64::new(0),
            ran: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            weight: AtomicU32::new(1),
            settled_on: AtomicU32::new(NOWHERE),
            longest: AtomicU64::new(0),
        }
    }

    /// Takes over what the entity was told.
    pub(crate) fn set_terms(&self, entity: &Entity, turns: &Lengths) {
        self.pace.store(entity.pace.bits(), Ordering::Relaxed);
        self.weight.store(entity.weight.get(), Ordering::Relaxed);
        self.longest.store(turns.longest(entity.class), Ordering::Relaxed);
        self.settled_on.store(NOWHERE, Ordering::Relaxed);
    }

    /// The entity comes to a queue.
    pub(crate) fn take(&self, entity: &Entity) {
        self.settled_on.store(NOWHERE, Ordering::Relaxed);
        self.since.store(entity.since.0, Ordering::Relaxed);
        self.keep(entity.progress);
    }

    /// The entity goes from the queue.
    pub(crate) fn leave(&self, entity: &mut Entity) {
        entity.since = self.since();
        entity.progress = self.progress();
        self.flush(entity);
    }

    /// Adds the times to those of the entity.
    pub(crate) fn flush(&self, entity: &mut Entity) {
        let times = &mut entity.times;
        times.ran = times.ran + Tsc(self.ran.swap(0, Ordering::Relaxed));
        times.waited = times.waited + Tsc(self.waited.swap(0, Ordering::Relaxed));
    }

    #[inline(always)]
    pub(crate) fn progress(&self) -> Progress {
        Progress::from_parts(self.at.load(Ordering::Relaxed), self.rest.load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn keep(&self, progress: Progress) {
        let (at, rest) = progress.parts();
        self.at.store(at, Ordering::Relaxed);
        self.rest.store(rest, Ordering::Relaxed);
    }

    /// The entity has come to `progress` after it `ran`, and waits from `now` on.
    #[inline(always)]
    pub(crate) fn end_turn(&self, progress: Progress, ran: u64, now: Tsc) {
        self.keep(progress);
        self.since.store(now.0, Ordering::Relaxed);
        add(&self.ran, ran);
    }

    /// The wait ends `now`: how long it was.
    #[inline(always)]
    pub(crate) fn end_wait(&self, now: Tsc) -> Tsc {
        let waited = now.since(self.since());
        add(&self.waited, waited.0);
        waited
    }

    #[inline(always)]
    pub(crate) fn since(&self) -> Tsc {
        Tsc(self.since.load(Ordering::Relaxed))
    }

    /// The times that the entity's do not have yet: how long it ran, and how long it waited.
    #[inline]
    pub(crate) fn uncounted(&self) -> (Tsc, Tsc) {
        (Tsc(self.ran.load(Ordering::Relaxed)), Tsc(self.waited.load(Ordering::Relaxed)))
    }

    #[inline(always)]
    pub(crate) fn pace(&self) -> Pace {
        Pace::from_bits(self.pace.load(Ordering::Relaxed))
    }

    #[inline(always)]
    pub(crate) fn weight(&self) -> u64 {
        u64::from(self.weight.load(Ordering::Relaxed))
    }

    #[inline(always)]
    pub(crate) fn longest_turn(&self) -> u64 {
        self.longest.load(Ordering::Relaxed)
    }

    /// Whether a turn on `core` is to be noted nowhere else.
    #[inline(always)]
    pub(crate) fn is_settled_on(&self, core: CoreId) -> bool {
        self.settled_on.load(Ordering::Relaxed) == core.0
    }

    /// A turn on `core` was noted.
    pub(crate) fn settle_on(&self, core: CoreId, entity: &Entity) {
        let core = if entity.budget.is_none() { core.0 } else { NOWHERE };
        self.settled_on.store(core, Ordering::Relaxed);
    }
}
