//! The entity that runs on a core.

use crate::heap::{Entry, Reach};
use crate::scheduler::Scheduler;
use crate::spec::{Class, CoreId, EntityId, Weight};
use crate::virtual_time::{Pace, Progress};
use arch::Tsc;

/// A turn without an end.
pub(crate) const ALONE: u64 = u64::MAX;
/// What is left to an entity without a cap.
pub(crate) const UNCAPPED: i64 = i64::MAX;

/// Whether the running entity may stay on the core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stay {
    Welcome,
    Leaves,
}

/// Whether running costs virtual time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Toll {
    Due,
    /// It does not, as nobody waits who could have run instead.
    Free,
}

/// What changes while an entity runs is here and not in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Current {
    pub(crate) id: EntityId,
    pub(crate) progress: Progress,
    /// What it did not get of late because it waited, in virtual time.
    pub(crate) missed: u64,
    pub(crate) pace: Pace,
    pub(crate) weight: Weight,
    pub(crate) class: Class,
    pub(crate) reach: Reach,
    pub(crate) stay: Stay,
    /// Ticks run in this turn.
    pub(crate) used: u64,
    /// Ticks that this turn may have; [`ALONE`] while nobody waits.
    pub(crate) allowed: u64,
    /// Ticks that its cap allows; so many that they never end if it has none.
    pub(crate) left: i64,
    /// Ticks run that are not in the table yet.
    pub(crate) ran: u64,
    /// Until when it is charged.
    pub(crate) charged_at: Tsc,
    /// No more than this is charged at once.
    pub(crate) limit: u64,
    pub(crate) toll: Toll,
    /// So many of the ticks that it has run since it was charged are free.
    pub(crate) exempt: u64,
}

impl Current {
    /// As it waits when its turn has ended.
    #[inline]
    pub(crate) const fn entry(&self) -> Entry {
        Entry { key: self.progress.at, id: self.id, reach: self.reach }
    }

    /// Whether its turn is over.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.used >= self.allowed || self.left <= 0 || self.stay == Stay::Leaves
    }

    /// How long it may still run.
    #[inline]
    pub(crate) fn room(&self) -> u64 {
        self.allowed.saturating_sub(self.used).min(self.left.max(0).unsigned_abs())
    }

    /// Accounts for a run that ended `now`.
    #[inline]
    pub(crate) fn charge(&mut self, s: &Scheduler, core: CoreId, ran: u64, now: Tsc) {
        let counted = ran.min(self.limit);
        self.used = self.used.saturating_add(ran);
        match self.toll {
            Toll::Due => {
                self.progress.advance(counted.saturating_sub(self.exempt), self.pace);
                self.exempt = 0;
            }
            Toll::Free => self.look_at_the_others(s, core),
        }
        self.left = self.left.saturating_sub_unsigned(counted);
        self.ran = self.ran.saturating_add(ran);
        self.charged_at = now;
    }

    /// It has run for free: if somebody waits elsewhere by now, its turn ends, so that its core looks around.
    fn look_at_the_others(&mut self, s: &Scheduler, core: CoreId) {
        if !s.is_calm_for(core) {
            self.toll = Toll::Due;
            self.allowed = self.used;
        }
    }

    /// Where it has come to if it has run since it was charged.
    #[inline]
    pub(crate) fn by(&self, now: Tsc) -> u64 {
        self.progress.at.saturating_add(self.unpaid(now))
    }

    /// How long it has run since it was charged.
    #[inline]
    pub(crate) fn uncharged(&self, now: Tsc) -> u64 {
        now.since(self.charged_at).0.min(self.limit)
    }

    /// What that will cost.
    pub(crate) fn unpaid(&self, now: Tsc) -> u64 {
        match self.toll {
            Toll::Due => self.pace.cost(self.uncharged(now).saturating_sub(self.exempt)),
            Toll::Free => 0,
        }
    }

    /// Drops what it is behind those who wait, who have paid `others` at least, but for what it missed and for `slack`: it
    /// deserves more than a core, and that cannot be had.
    pub(crate) fn limit_claim(&mut self, others: u64, slack: u64, now: Tsc) {
        let unpaid = self.unpaid(now);
        let least = others.saturating_sub(slack.saturating_add(self.missed)).saturating_sub(unpaid);
        self.progress.clamp(least, u64::MAX);
    }
}
