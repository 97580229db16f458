//! Load balance between busy cores.
//!
//! A core that is about to begin a turn compares who comes next there with those who wait elsewhere, and takes one over
//! who has paid less. A core where somebody runs alone does not ask by itself: others bring it work that comes first there.
//! So the entities of all cores pay alike, whatever the queues they stand in.
//!
//! An entity that runs all the time and still has paid less than those who wait deserves more than a core. As it cannot
//! have that, its claim is dropped but for a few strides.

use crate::arrival::Arrival;
use crate::current::Stay;
use crate::entity::Home;
use crate::heap::Reach;
use crate::mask::CoreMask;
use crate::queue::Queue;
use crate::scheduler::{Scheduler, Unit};
use crate::spec::{CoreId, EntityId};
use crate::virtual_time::Pace;
use arch::Tsc;
use spin::MutexGuard;

/// How many cores are looked at each time.
const COMPARED: usize = 8;
/// [Strides](Queue::stride) by which one who runs may be behind those who wait elsewhere.
const CLAIM: u64 = 4;

/// What is to be done once the core's own queue is unlocked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Errand {
    /// The entity, which is on its way, goes to this core.
    Push(EntityId, CoreId),
    /// The entity, which is on its way, goes anywhere.
    Away(EntityId),
    /// Who runs alone on this core does not know yet that somebody waits.
    Tell(CoreId),
    /// Who runs alone on this core is compared with those who wait, who have paid so much, give or take so much.
    Compare(CoreId, u64, u64),
}

/// What came of a look at other cores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Looked {
    /// Nothing more is to be done.
    Done,
    /// Nobody was taken over: others may take somebody who waits here. Those who wait elsewhere have paid so much at least.
    AtWaiting(u64),
}

/// A core where somebody runs alone, and how much that one has paid.
type Rival = (CoreId, u64);

impl Scheduler {
    /// Looks at other cores before a turn begins. May take somebody over from one of them.
    pub(crate) fn look_around<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue>,
        now: Tsc,
    ) -> (MutexGuard<'a, Queue>, Looked) {
        queue.look_at = now + Tsc(self.turns.granule / 2);
        queue.rotor = queue.rotor.wrapping_add(1);
        let core = queue.core;
        let Some(next) = queue.next_at() else { return (queue, Looked::Done) };
        let peers = self.online.load().without(self.owned.load()).without(CoreMask::single(core));
        if peers.is_empty() || self.owned.contains(core) {
            return (queue, Looked::Done);
        }
        let needy = self.needy(peers, &queue);
        queue.seen = u64::MAX;
        if let Some((peer, at)) = needy {
            let round = self.round_of(peer);
            let limit = next.saturating_sub(round);
            if at < limit {
                drop(queue);
                queue = self.take_over(core, peer, limit, now);
                return (queue, Looked::Done);
            }
            queue.seen = at.saturating_add(round);
        }
        (queue, Looked::AtWaiting(needy.map_or(u64::MAX, |(_, at)| at)))
    }

    /// Where among `peers` somebody waits who has paid least, and how much.
    fn needy(&self, peers: CoreMask, queue: &Queue) -> Option<(CoreId, u64)> {
        let peers = peers.iter_from(self.start_of_look(queue, peers)).take(COMPARED);
        let mut least: Option<(CoreId, u64)> = None;
        for peer in peers.filter(|peer| queue.refused != Some(*peer)) {
            let at = self.front(peer).waiting_at();
            if at < least.map_or(u64::MAX, |(_, least)| least) {
                least = Some((peer, at));
            }
        }
        least
    }

    /// A round of those who are on another core, in virtual time.
    fn round_of(&self, peer: CoreId) -> u64 {
        let front = self.front(peer);
        self.turns.virtual_round(front.load(), front.weight())
    }

    /// Whether nobody waits who could run on `core`, as far as that can be told at a glance.
    pub(crate) fn is_calm_for(&self, core: CoreId) -> bool {
        self.waiting.is_empty() || self.owned.contains(core)
    }

    /// Has one who runs alone pay nothing if nobody waits elsewhere either, or else has it look around when it will have
    /// paid more than those.
    pub(crate) fn settle_alone(&self, queue: &mut Queue, now: Tsc) {
        if self.is_calm_for(queue.core) {
            queue.run_free(self);
            return;
        }
        let peers = self.online.load().without(self.owned.load()).without(CoreMask::single(queue.core));
        let Some((peer, at)) = self.needy(peers, queue) else {
            if let Some(current) = &mut queue.current {
                current.allowed = current.used.saturating_add(self.turns.slice);
            }
            return;
        };
        let round = self.round_of(peer);
        let Some(current) = &mut queue.current else { return };
        current.limit_claim(at, CLAIM * round, now);
        let room = at.saturating_add(round).saturating_sub(current.progress.at);
        let ticks = room.saturating_mul(u64::from(current.weight.get()));
        let more = match room {
            0 => self.turns.slice,
            _ => ticks.clamp(self.turns.guard / 8, 16 * self.turns.slice),
        };
        current.allowed = current.used.saturating_add(more);
        queue.look_at = now;
    }

    /// Takes somebody from `peer` over who has paid less than `limit`.
    fn take_over(&self, core: CoreId, peer: CoreId, limit: u64, now: Tsc) -> MutexGuard<'_, Queue> {
        let taken = self.units_of(peer).queue.lock().give(self, core, limit);
        let mut queue = self.units_of(core).queue.lock();
        queue.refused = None;
        match taken.and_then(|id| Some((id, self.table.slot(id)?))) {
            None => queue.refused = Some(peer),
            Some((id, slot)) => {
                // The core asks just now: it need not be told to.
                let _ = queue.admit(self, id, &mut slot.entity.lock(), Arrival::Moved, now);
                slot.set_home(Home::On(core));
                queue.times.pulls += 1;
            }
        }
        queue
    }

    /// What there is to do for others, once it is decided who runs here: looks at one of those who still wait, mostly the
    /// first.
    pub(crate) fn errand(&self, queue: &mut Queue, least: u64, now: Tsc) -> Option<Errand> {
        let waiting = queue.waiting.entries();
        let position = match queue.rotor {
            rotor if rotor & 1 == 0 => 0,
            rotor => rotor as usize / 2 % waiting.len().max(1),
        };
        let subject = *waiting.get(position)?;
        let slot = self.table.slot(subject.id)?;
        let (allowed, weight, pace, waited) = {
            let entity = slot.entity.lock();
            (self.allowed(&entity), entity.weight, entity.pace, now.since(entity.since))
        };
        let round = queue.virtual_round(self);
        let claim = CLAIM * queue.stride(self);
        let others = least.min(subject.key);
        if let Some(current) = queue.current.as_mut().filter(|current| current.reach == Reach::Movable) {
            current.limit_claim(others, claim, now);
        }
        if !allowed.contains(queue.core) {
            slot.set_home(Home::Moving);
            queue.times.pushes += 1;
            return queue.take(self, position, weight).map(Errand::Away);
        }
        let peers = allowed.without(CoreMask::single(queue.core));
        // Short waits do not count.
        if waited.0 >= self.turns.granule
            && let Some(free) = peers.iter().find(|peer| self.front(*peer).is_free())
        {
            return Some(Errand::Tell(free));
        }
        let (ahead, behind) = self.alone(peers, queue, pace, now);
        if let Some((peer, at)) = ahead
            && subject.key.saturating_add(round) < at
        {
            slot.set_home(Home::Moving);
            queue.times.pushes += 1;
            return queue.take(self, position, weight).map(|id| Errand::Push(id, peer));
        }
        behind
            .filter(|(_, at)| at.saturating_add(claim) < others)
            .map(|(peer, _)| Errand::Compare(peer, others, claim))
    }

    /// Where among `peers` somebody runs alone who has paid most, and where least, and how much.
    fn alone(&self, peers: CoreMask, queue: &Queue, pace: Pace, now: Tsc) -> (Option<Rival>, Option<Rival>) {
        let turn = queue.current.as_ref().map_or(0, |current| current.allowed.min(self.turns.slice));
        let (mut ahead, mut behind): (Option<Rival>, Option<Rival>) = (None, None);
        for peer in peers.iter_from(self.start_of_look(queue, peers)).take(COMPARED) {
            let front = self.front(peer);
            if front.load() != 1 {
                continue;
            }
            let Some(at) = front.running_at(now) else { continue };
            // One who is much lighter gets far ahead before this core looks again.
            let soon = now + Tsc(if front.is_dearer_than(pace) { turn } else { 0 });
            let then = front.running_at(soon).unwrap_or(at);
            if ahead.is_none_or(|(_, most)| then > most) {
                ahead = Some((peer, then));
            }
            if behind.is_none_or(|(_, least)| at < least) {
                behind = Some((peer, at));
            }
        }
        (ahead, behind)
    }

    /// Where the next look at `peers` begins, so that with many cores each has its turn.
    fn start_of_look(&self, queue: &Queue, peers: CoreMask) -> CoreId {
        if peers.len() as usize <= COMPARED {
            return CoreId(0);
        }
        let step = u32::try_from(COMPARED).unwrap_or(1);
        CoreId(queue.core.0.wrapping_add(queue.rotor.wrapping_mul(step)) % self.existing().len().max(1))
    }

    /// Does what [`Self::look_around`] found.
    pub(crate) fn carry_out(&self, errand: Errand, now: Tsc) {
        match errand {
            Errand::Away(id) => self.send(id, now),
            Errand::Tell(core) => self.kick(core),
            Errand::Push(id, core) => {
                let (Some(slot), Some(unit)) = (self.table.slot(id), self.unit(core)) else { return };
                let allowed = self.allowed(&slot.entity.lock());
                if !allowed.contains(core) {
                    self.send(id, now);
                } else if let Some(core) = self.put(unit, id, slot, allowed, Arrival::Moved, now) {
                    self.kick(core);
                }
            }
            Errand::Compare(core, others, slack) => {
                let Some(unit) = self.unit(core) else { return };
                let mut queue = unit.queue.lock();
                if !queue.waiting.is_empty() {
                    return;
                }
                if let Some(current) = queue.current.as_mut().filter(|current| current.stay == Stay::Welcome)
                {
                    current.limit_claim(others, slack, now);
                    unit.front.show_progress(current.progress.at, current.charged_at);
                }
            }
        }
    }

    fn units_of(&self, core: CoreId) -> &Unit {
        self.unit(core).expect("cores that are online exist")
    }
}
