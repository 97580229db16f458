//! Where an entity may run, and where it is put.

use crate::entity::Entity;
use crate::front::NOBODY;
use crate::mask::CoreMask;
use crate::scheduler::Scheduler;
use crate::spec::CoreId;
use arch::Tsc;

/// How many busy cores are compared.
const COMPARED: usize = 8;

impl Scheduler {
    /// Where an entity may run now: its own core if it has one; else those of its cores that are online and not another's
    /// own, or, if all are, those online.
    pub(crate) fn allowed(&self, entity: &Entity) -> CoreMask {
        if let Some(own) = entity.own {
            return CoreMask::single(own);
        }
        let online = entity.cores.and(self.online.load());
        let free = online.without(self.owned.load());
        if free.is_empty() { online } else { free }
    }

    /// The core for an entity that is in no queue: its last core if that idles, else any that idles, which is told to
    /// nobody else then; else one where nobody is; else its last core if it would be next there, else another where it
    /// would be next, else the one with the least weight. `None` if none of its cores is online.
    pub(crate) fn choose(&self, entity: &Entity, allowed: CoreMask, now: Tsc) -> Option<Target> {
        let last = entity.last_core.unwrap_or(CoreId(0));
        let idle = self.idle.load().and(allowed);
        if !idle.is_empty()
            && let Some(core) = idle.iter_from(last).take(COMPARED).find(|core| self.idle.remove(*core))
        {
            return Some(Target { core, others: u64::MAX });
        }
        let margin = entity.pace.cost(self.turns.granule) / 4;
        let mut best: Option<(CoreId, Score)> = None;
        let mut others = u64::MAX;
        for core in allowed.iter_from(last).take(COMPARED) {
            let front = self.front(core);
            // Who slept may be one round behind.
            let at =
                entity.progress.at.max(front.floor().saturating_sub(front.round())).saturating_add(margin);
            let stands_at = front.running_at(now).unwrap_or(0);
            // Where nobody waits, or those who wait may run nowhere else, the floor says nothing about this one.
            if front.waiting_at() != NOBODY {
                others = others.min(front.floor());
            }
            let score = if front.weight() == 0 {
                Score::Empty
            } else if core == last && at < stands_at {
                Score::Last
            } else if at < stands_at {
                Score::Next { ahead: stands_at - at }
            } else {
                // It moves for a real difference only.
                let favour = if core == last { u64::from(entity.weight.get()) } else { 0 };
                Score::Waits { weight: front.weight().saturating_sub(favour) }
            };
            if best.is_none_or(|(_, other)| score.is_better_than(other)) {
                best = Some((core, score));
            }
        }
        best.map(|(core, _)| Target { core, others })
    }
}

/// Where an entity is put.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) core: CoreId,
    /// What those who run on the cores that were compared have paid at least.
    pub(crate) others: u64,
}

/// How good a busy core is for an entity.
#[derive(Clone, Copy, Debug)]
enum Score {
    /// Nobody is there: the core is about to ask, or does something else for a moment.
    Empty,
    /// It would run next where it ran last, as it has paid less than who runs there.
    Last,
    /// It would run next.
    Next { ahead: u64 },
    /// It would wait with so much weight.
    Waits { weight: u64 },
}

impl Score {
    const fn is_better_than(self, other: Self) -> bool {
        match (self, other) {
            (_, Self::Empty) => false,
            (Self::Empty, _) => true,
            (_, Self::Last) => false,
            (Self::Last, _) => true,
            (Self::Next { ahead }, Self::Next { ahead: others }) => ahead > others,
            (Self::Next { .. }, Self::Waits { .. }) => true,
            (Self::Waits { .. }, Self::Next { .. }) => false,
            (Self::Waits { weight }, Self::Waits { weight: others }) => weight < others,
        }
    }
}
