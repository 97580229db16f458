//! Load balance between busy cores.
//!
//! A core that is about to begin a turn compares who comes next there with those who wait elsewhere, and takes one over
//! who has paid less. A core where somebody runs alone asks as soon as that one will have paid more than those who wait;
//! others bring it work that comes first there. So the entities of all cores pay alike, whatever the queues they stand in.
//!
//! Who runs alone while nobody waits anywhere does not pay: it takes nothing from anybody. An entity that runs all the
//! time and still has paid less than those who wait deserves more than a core. As it cannot have that, its claim is
//! dropped, but for what it missed while it waited and a few strides.

use crate::arrival::Arrival;
use crate::current::Toll;
use crate::entity::{Home, Slot};
use crate::front::NOBODY;
use crate::heap::{Entry, Reach};
use crate::mask::CoreMask;
use crate::queue::Queue;
use crate::scheduler::{Scheduler, Unit};
use crate::spec::CoreId;
use crate::virtual_time::Pace;
use arch::Tsc;
use spin::MutexGuard;

/// How many cores are looked at each time.
const COMPARED: usize = 8;
/// [Strides](Queue::stride) by which one who runs may be behind those who wait elsewhere.
const CLAIM: u64 = 4;
/// Slices between the looks of a core that has no others to look at.
const LONELY: u64 = 16;
/// Once in so many looks a core makes sure that one of those who wait there may be there.
const INSPECTION: u32 = 16;

/// What came of a look at other cores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Looked {
    /// Nothing more is to be done.
    Done,
    /// Nobody was taken over: others may take somebody who waits here. Those who wait elsewhere have paid so much at least.
    AtWaiting(u64),
}

/// What is to be done once the core's own queue is unlocked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Errand {
    /// The entity, which is on its way, goes to this core.
    Push(&'static Slot, CoreId),
    /// The entity, which is on its way, goes anywhere.
    Away(&'static Slot),
    /// Who runs alone on this core does not know yet that somebody waits.
    Tell(CoreId),
    /// Who runs alone on this core is compared with those who wait, who have paid so much, give or take so much.
    Compare(CoreId, u64, u64),
}

/// Those cores, of some, where somebody runs alone.
#[derive(Clone, Copy, Default, Debug)]
struct Loners {
    /// Where one runs for free.
    free: Option<CoreId>,
    /// Where one has paid most, and how much.
    ahead: Option<(CoreId, u64)>,
    /// Where one has paid least.
    behind: Option<(CoreId, u64)>,
}

impl Scheduler {
    /// Looks at other cores before a turn begins. May take somebody over from one of them.
    pub(crate) fn look_around<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue>,
        now: Tsc,
    ) -> (MutexGuard<'a, Queue>, Looked) {
        // As long as nobody comes and there is nothing to do, it looks more and more seldom.
        queue.pause = (2 * queue.pause).clamp(self.turns.granule / 4, self.turns.slice);
        queue.look_at = now + Tsc(queue.pause);
        queue.rotor = queue.rotor.wrapping_add(1);
        queue.seen = u64::MAX;
        let peers = self.peers(queue.core);
        if peers.is_empty() {
            queue.look_at = now + Tsc(LONELY * self.turns.slice);
            return (queue, Looked::Done);
        }
        let Some(next) = queue.next_at() else { return (queue, Looked::Done) };
        let needy = self.needy(peers, &queue);
        // It is left out once: what it shows may have been true again since, and it may be the only other core.
        queue.refused = None;
        let Some((peer, at)) = needy else { return (queue, Looked::AtWaiting(NOBODY)) };
        let round = self.front(peer).round();
        let limit = next.saturating_sub(round);
        if at < limit {
            let core = queue.core;
            drop(queue);
            return (self.take_over(core, peer, limit, now), Looked::Done);
        }
        queue.seen = at.saturating_add(round);
        (queue, Looked::AtWaiting(at))
    }

    /// The cores that exchange work with this one.
    fn peers(&self, core: CoreId) -> CoreMask {
        let shared = self.online.load().without(self.owned.load());
        if shared.contains(core) { shared.without(CoreMask::single(core)) } else { CoreMask::EMPTY }
    }

    /// Where among `peers` somebody waits who has paid least, and how much.
    fn needy(&self, peers: CoreMask, queue: &Queue) -> Option<(CoreId, u64)> {
        let mut least: Option<(CoreId, u64)> = None;
        for peer in self.some_of(peers, queue).filter(|peer| queue.refused != Some(*peer)) {
            let at = self.front(peer).waiting_at();
            if at < least.map_or(NOBODY, |(_, least)| least) {
                least = Some((peer, at));
            }
        }
        least
    }

    /// Takes somebody from `peer` over who has paid less than `limit`.
    fn take_over(&self, core: CoreId, peer: CoreId, limit: u64, now: Tsc) -> MutexGuard<'_, Queue> {
        let taken = self.units_of(peer).queue.lock().give(self, core, limit);
        let mut queue = self.units_of(core).queue.lock();
        queue.pause = 0;
        match taken {
            None => queue.refused = Some(peer),
            Some(slot) => {
                // The core asks just now: it need not be told to.
                let _ = queue.admit(self, slot, &mut slot.entity.lock(), Arrival::Moved, now);
                slot.set_home(Home::On(core));
                queue.times.pulls += 1;
            }
        }
        queue
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
        let needy = self.needy(self.peers(queue.core), queue);
        let Some(current) = &mut queue.current else { return };
        let Some((peer, at)) = needy else {
            current.allow(current.used.saturating_add(self.turns.slice));
            return;
        };
        let round = self.front(peer).round();
        current.limit_claim(at, CLAIM * round, now);
        let room = at.saturating_add(round).saturating_sub(current.progress.at);
        let ticks = room.saturating_mul(current.slot.seat.weight());
        let more = match room {
            0 => self.turns.slice,
            _ => ticks.clamp(self.turns.guard / 8, 16 * self.turns.slice),
        };
        current.allow(current.used.saturating_add(more));
        queue.look_at = now;
    }

    /// What there is to do for others, once it is decided who runs here: looks at one of those who still wait, mostly the
    /// first. Those who wait elsewhere have paid `least` at least.
    pub(crate) fn errand(&self, queue: &mut Queue, least: u64, now: Tsc) -> Option<Errand> {
        let position = self.position_of_subject(queue)?;
        let subject = *queue.waiting.entries().get(position)?;
        let others = least.min(subject.key);
        let claim = CLAIM * queue.stride();
        if let Some(current) = queue.current.as_mut().filter(|current| current.reach() == Reach::Movable) {
            current.limit_claim(others, claim, now);
        }
        if queue.rotor.is_multiple_of(INSPECTION)
            && let Some(errand) = self.inspect(queue, position, subject)
        {
            return Some(errand);
        }
        let round = queue.virtual_round();
        let is_ahead = |(_, at): &(CoreId, u64)| subject.key.saturating_add(round) < *at;
        let is_behind = |(_, at): &(CoreId, u64)| at.saturating_add(claim) < others;
        let peers = self.peers(queue.core);
        let seen = self.loners(peers, queue, now);
        // At a glance first: mostly there is nothing to do.
        if seen.free.is_none()
            && !seen.ahead.is_some_and(|seen| is_ahead(&seen))
            && !seen.behind.is_some_and(|seen| is_behind(&seen))
        {
            return None;
        }
        let slot = subject.slot;
        let allowed = self.allowed(&slot.entity.lock());
        let waited = now.since(slot.seat.since());
        let loners = self.loners(peers.and(allowed), queue, now);
        // Short waits do not count.
        if let Some(free) = loners.free.filter(|_| waited.0 >= self.turns.granule) {
            return Some(Errand::Tell(free));
        }
        if let Some((peer, _)) = loners.ahead.filter(is_ahead) {
            slot.set_home(Home::Moving);
            queue.times.pushes += 1;
            return queue.take(self, position).map(|slot| Errand::Push(slot, peer));
        }
        loners.behind.filter(is_behind).map(|(peer, _)| Errand::Compare(peer, others, claim))
    }

    /// The first of those who wait, and every other time another.
    fn position_of_subject(&self, queue: &Queue) -> Option<usize> {
        let count = queue.waiting.len();
        match queue.rotor {
            _ if count == 0 => None,
            rotor if rotor & 1 == 0 => Some(0),
            rotor => Some(rotor as usize / 2 % count),
        }
    }

    /// Sends one away who may not be here: it came while its cores changed.
    #[cold]
    fn inspect(&self, queue: &mut Queue, position: usize, subject: Entry) -> Option<Errand> {
        let slot = subject.slot;
        if self.allowed(&slot.entity.lock()).contains(queue.core) {
            return None;
        }
        slot.set_home(Home::Moving);
        queue.times.pushes += 1;
        queue.take(self, position).map(Errand::Away)
    }

    /// Where among `peers` somebody runs alone.
    fn loners(&self, peers: CoreMask, queue: &Queue, now: Tsc) -> Loners {
        let (pace, turn) = match &queue.current {
            Some(current) => (current.pace(), current.allowed.min(self.turns.slice)),
            None => (Pace::from_bits(u32::MAX), 0),
        };
        let mut loners = Loners::default();
        for peer in self.some_of(peers, queue) {
            let front = self.front(peer);
            if front.load() != 1 {
                continue;
            }
            let Some(at) = front.running_at(now) else { continue };
            if front.is_free() {
                loners.free = Some(peer);
            }
            // One who is much lighter gets far ahead before this core looks again.
            let soon = now + Tsc(if front.is_dearer_than(pace) { turn } else { 0 });
            let then = front.running_at(soon).unwrap_or(at);
            if loners.ahead.is_none_or(|(_, most)| then > most) {
                loners.ahead = Some((peer, then));
            }
            if loners.behind.is_none_or(|(_, least)| at < least) {
                loners.behind = Some((peer, at));
            }
        }
        loners
    }

    /// A few of `peers`: others each time if there are many.
    #[inline]
    fn some_of(&self, peers: CoreMask, queue: &Queue) -> impl Iterator<Item = CoreId> {
        let step = u32::try_from(COMPARED).unwrap_or(1);
        let start = queue.core.0.wrapping_add(queue.rotor.wrapping_mul(step)) % self.cores();
        peers.iter_from(CoreId(start)).take(COMPARED)
    }

    /// Does what [`Self::look_around`] found.
    pub(crate) fn carry_out(&self, errand: Errand, now: Tsc) {
        match errand {
            Errand::Away(slot) => self.send(slot, now),
            Errand::Tell(core) => self.kick(core),
            Errand::Push(slot, core) => {
                let Some(unit) = self.unit(core) else { return };
                let allowed = self.allowed(&slot.entity.lock());
                if !allowed.contains(core) {
                    self.send(slot, now);
                } else if let Some(core) = self.put(unit, slot, allowed, Arrival::Moved, now) {
                    self.kick(core);
                }
            }
            Errand::Compare(core, others, slack) => {
                let Some(unit) = self.unit(core) else { return };
                let mut queue = unit.queue.lock();
                if !queue.waiting.is_empty() {
                    return;
                }
                let Some(current) = &mut queue.current else { return };
                match current.toll {
                    Toll::Due | Toll::DueAfter(_) => {
                        current.limit_claim(others, slack, now);
                        unit.front.show_running(current.progress.at, current.pace(), current.charged_at);
                    }
                    Toll::Free => {}
                }
            }
        }
    }

    fn units_of(&self, core: CoreId) -> &Unit {
        self.unit(core).expect("cores that are online exist")
    }
}
