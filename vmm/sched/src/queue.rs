//! The queue of one core: who waits there by virtual time, whom its cap holds, and who runs. The one that has paid least
//! runs next.
//!
//! What happens when somebody comes is in [`crate::arrival`], when somebody goes in [`crate::departure`], and how turns
//! follow each other in [`crate::turn`].

use crate::current::{Company, Current};
use crate::front::NOBODY;
use crate::heap::{Entry, Heap, Reach};
use crate::line::Line;
use crate::params::Lengths;
use crate::scheduler::{Decision, Scheduler};
use crate::spec::{CoreId, EntityId};
use crate::times::CoreTimes;
use arch::Tsc;

/// How many of those who wait are looked at for one that may run elsewhere.
const EASY: usize = 8;

/// What the core does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// It is not there.
    Offline,
    /// It was told to idle.
    Idle,
    /// It was told to idle, and then to look again.
    Called,
    /// It runs somebody, or is about to ask.
    Busy,
}

/// Whether all who are here may be here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Guests {
    /// As far as the queue knows.
    Settled,
    /// Some may not, since somebody's cores changed: the core looks after it when it asks next.
    Unsettled,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) core: CoreId,
    /// By virtual time.
    pub(crate) waiting: Heap,
    /// By the time at which their caps let them go.
    pub(crate) held: Heap,
    /// Those of the waiting who wait for their first turn.
    pub(crate) line: Line,
    pub(crate) current: Option<Current>,
    pub(crate) phase: Phase,
    /// The least that anybody here has paid, or had once: it does not go back but when one who is alone meets another.
    pub(crate) floor: u64,
    /// The weight of those that wait and of the one that runs.
    pub(crate) weight: u64,
    /// What the dearest turn of late cost, in virtual time.
    pub(crate) grain: u64,
    /// Until when the core was told to run or to idle.
    pub(crate) promised: Tsc,
    /// When other cores are looked at next, at the latest.
    pub(crate) look_at: Tsc,
    /// How long after the last look.
    pub(crate) pause: u64,
    /// Who has paid more than this here may have to wait for somebody who waits elsewhere: a reason to look at once.
    pub(crate) seen: u64,
    /// Where the next look at other cores begins.
    pub(crate) rotor: u32,
    /// The core that had nobody for this one when it asked just now.
    pub(crate) refused: Option<CoreId>,
    /// How many of the waiting may run elsewhere too.
    movable: u32,
    pub(crate) guests: Guests,
    /// The number of who ran last.
    pub(crate) last: u32,
    /// The part of a round that each weight gets: see [`crate::params::Lengths::share`].
    pub(crate) share: u64,
    pub(crate) times: CoreTimes,
    /// How many ever came.
    #[cfg(test)]
    pub(crate) arrivals: u64,
}

impl Queue {
    pub(crate) fn new(core: CoreId) -> Self {
        Self {
            core,
            waiting: Heap::default(),
            held: Heap::default(),
            line: Line::new(),
            current: None,
            phase: Phase::Offline,
            floor: 0,
            weight: 0,
            grain: 0,
            promised: Tsc(0),
            look_at: Tsc(0),
            pause: 0,
            seen: u64::MAX,
            rotor: 0,
            refused: None,
            movable: 0,
            guests: Guests::Settled,
            last: u32::MAX,
            share: 0,
            times: CoreTimes::default(),
            #[cfg(test)]
            arrivals: 0,
        }
    }

    /// Charges the running entity, if it is `id`.
    #[inline]
    pub(crate) fn charge(&mut self, s: &Scheduler, id: EntityId, ran: Tsc, now: Tsc) -> bool {
        match &mut self.current {
            Some(current) if current.id() == id => {
                current.charge(s, self.core, ran.0, now);
                true
            }
            Some(_) | None => false,
        }
    }

    /// The answer to a core for which it has been decided who runs, if anybody does.
    pub(crate) fn answer(&mut self, s: &Scheduler, now: Tsc) -> Option<Decision> {
        self.current.as_ref()?;
        Some(self.promise(now, self.next_release_after(s, now)))
    }

    #[inline]
    pub(crate) fn promise(&mut self, now: Tsc, due: Tsc) -> Decision {
        let Some(current) = &self.current else { return Decision::Idle { until: due } };
        self.promised = current.end(now).min(due);
        Decision::Run { id: current.id(), until: self.promised }
    }

    /// Until when the core idles.
    pub(crate) fn idle(&mut self, s: &Scheduler, now: Tsc) -> Tsc {
        self.phase = Phase::Idle;
        self.times.idle_since = Some(now);
        s.front(self.core).show_nobody();
        s.idle.insert(self.core);
        self.promised = self.next_release_after(s, now);
        self.promised
    }

    /// The core asks what to do: it does not idle any more.
    #[inline]
    pub(crate) fn enter(&mut self, s: &Scheduler, now: Tsc) {
        if let Some(since) = self.times.idle_since.take() {
            self.times.idle = self.times.idle + now.since(since);
        }
        if self.phase != Phase::Busy {
            self.phase = Phase::Busy;
            s.idle.remove(self.core);
        }
    }

    /// Has the core look, when it asks next, whether all who are here may be here.
    pub(crate) fn unsettle(&mut self) {
        self.guests = Guests::Unsettled;
        if let Some(current) = &mut self.current {
            current.allowed = 0;
        }
    }

    /// When the next of the held is let go.
    #[inline]
    pub(crate) fn next_release(&self, s: &Scheduler, now: Tsc) -> Tsc {
        match self.held.first() {
            None => Tsc::NEVER,
            // Only a clock that went back leads here.
            Some(first) if Tsc(first.key).since(now).0 > s.turns.period => now,
            Some(first) => Tsc(first.key),
        }
    }

    /// The same, but not just now: if more were due than are let go at once, the next follow soon.
    fn next_release_after(&self, s: &Scheduler, now: Tsc) -> Tsc {
        self.next_release(s, now).max(now + Tsc(s.turns.latency_guard))
    }

    /// How many are runnable here.
    #[inline]
    pub(crate) fn runnable(&self) -> u32 {
        let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        waiting + u32::from(self.current.is_some())
    }

    /// Whether somebody runs for whom nobody waits here.
    #[inline]
    pub(crate) fn is_alone(&self) -> bool {
        self.waiting.is_empty()
            && self.current.as_ref().is_some_and(|current| current.company == Company::Nobody)
    }

    /// A round of those that are here, in virtual time.
    #[inline]
    pub(crate) const fn virtual_round(&self) -> u64 {
        Lengths::virtual_round(self.share)
    }

    /// How far apart those who are here come as their turns follow each other, in virtual time.
    pub(crate) const fn stride(&self) -> u64 {
        self.virtual_round() + self.grain
    }

    /// The least that anybody here has paid by `now`, or had once.
    pub(crate) fn base(&self, now: Tsc) -> u64 {
        let current = self.current.as_ref().map(|current| current.by(now));
        self.floor.max(self.least(current).unwrap_or(self.floor))
    }

    /// What the one has paid that comes next: the first of those who wait, or the running one.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.least(self.current.as_ref().map(|current| current.progress.at))
    }

    fn least(&self, current: Option<u64>) -> Option<u64> {
        match (self.waiting.first(), current) {
            (Some(first), Some(current)) => Some(current.min(first.key)),
            (Some(first), None) => Some(first.key),
            (None, current) => current,
        }
    }

    /// Puts an entity among those who wait.
    #[inline]
    pub(crate) fn enqueue(&mut self, s: &Scheduler, entry: Entry) {
        self.waiting.push(entry);
        self.count_movable(s, entry.reach());
    }

    #[inline]
    pub(crate) fn count_movable(&mut self, s: &Scheduler, reach: Reach) {
        match reach {
            Reach::Pinned => {}
            Reach::Movable => {
                self.movable += 1;
                if self.movable == 1 {
                    s.waiting.insert(self.core);
                }
            }
        }
    }

    #[inline]
    pub(crate) fn uncount_movable(&mut self, s: &Scheduler, reach: Reach) {
        match reach {
            Reach::Pinned => {}
            Reach::Movable => {
                self.movable -= 1;
                if self.movable == 0 {
                    s.waiting.remove(self.core);
                }
            }
        }
    }

    /// Works out what follows from who is here, and shows it to the others.
    #[inline]
    pub(crate) fn show_load(&mut self, s: &Scheduler) {
        self.share = s.turns.share(self.runnable(), self.weight);
        let front = s.front(self.core);
        front.show_load(self.runnable(), self.weight, self.virtual_round());
        front.show_waiting(self.first_movable());
    }

    /// What the first has paid of those who wait and may run elsewhere too, as far as it is easy to find.
    #[inline(always)]
    pub(crate) fn first_movable(&self) -> u64 {
        if self.movable == 0 { NOBODY } else { self.search_movable() }
    }

    #[inline(never)]
    fn search_movable(&self) -> u64 {
        match self.waiting.first() {
            None => NOBODY,
            Some(first) if first.reach() == Reach::Movable => first.key,
            Some(_) => self.next_movable(),
        }
    }

    fn next_movable(&self) -> u64 {
        let mut easy = self.waiting.entries().iter().take(EASY);
        easy.find(|entry| entry.reach() == Reach::Movable).map_or(NOBODY, |entry| entry.key)
    }
}
