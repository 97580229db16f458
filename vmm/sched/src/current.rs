//! The entity that runs on a core.

use crate::entity::Slot;
use crate::heap::{Entry, Reach};
use crate::scheduler::Scheduler;
use crate::spec::{CoreId, EntityId};
use crate::virtual_time::{Pace, Progress};
use arch::Tsc;

/// A turn without an end, and what is left to an entity without a cap.
pub(crate) const ENDLESS: u64 = 1 << 63;

/// Whether the running entity may stay on the core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stay {
    Welcome,
    Leaves,
}

/// Whether anybody waited when the turn began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Company {
    Others,
    Nobody,
}

/// Whether running costs virtual time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Toll {
    Due,
    /// It does, but for so many of the ticks since it was charged.
    DueAfter(u64),
    /// It does not, as nobody waits who could have run instead.
    Free,
}

/// What changes while an entity runs is here and not in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Current {
    pub(crate) slot: &'static Slot,
    pub(crate) progress: Progress,
    pub(crate) stay: Stay,
    pub(crate) company: Company,
    pub(crate) toll: Toll,
    /// Ticks run in this turn, which are not in the table yet.
    pub(crate) used: u64,
    /// Ticks that this turn may have, no more than [`Self::left`].
    pub(crate) allowed: u64,
    /// Ticks that its cap left it when the turn began; [`ENDLESS`] if it has none.
    pub(crate) left: u64,
    /// Until when it is charged.
    pub(crate) charged_at: Tsc,
    /// No more than this is charged to virtual time at once.
    pub(crate) limit: u64,
}

impl Current {
    #[inline]
    pub(crate) fn pace(&self) -> Pace {
        self.slot.seat.pace()
    }

    /// As it waits when its turn has ended.
    #[inline]
    pub(crate) const fn entry(&self) -> Entry {
        Entry { key: self.progress.at, slot: self.slot }
    }

    #[inline]
    pub(crate) const fn id(&self) -> EntityId {
        self.slot.id
    }

    #[inline]
    pub(crate) fn reach(&self) -> Reach {
        self.slot.reach()
    }

    /// Whether its turn is over.
    #[inline]
    pub(crate) const fn is_done(&self) -> bool {
        self.used >= self.allowed
    }

    /// Whether it has a cap.
    #[inline]
    pub(crate) const fn is_capped(&self) -> bool {
        self.left < ENDLESS
    }

    /// Whether its cap is used up.
    #[inline]
    pub(crate) const fn is_spent(&self) -> bool {
        self.used >= self.left
    }

    /// Lets the turn last for `ticks`, or as long as its cap allows.
    #[inline]
    pub(crate) fn allow(&mut self, ticks: u64) {
        self.allowed = ticks.min(self.left);
    }

    /// When its turn ends if it goes on `now`.
    #[inline]
    pub(crate) fn end(&self, now: Tsc) -> Tsc {
        // An end so late is none, whatever was used of it.
        let room = self.allowed.saturating_sub(self.used);
        if room >= ENDLESS / 2 { Tsc::NEVER } else { now + Tsc(room) }
    }

    /// Accounts for a run that ended `now`.
    #[inline]
    pub(crate) fn charge(&mut self, s: &Scheduler, core: CoreId, ran: u64, now: Tsc) {
        self.used = self.used.saturating_add(ran);
        self.charged_at = now;
        let counted = ran.min(self.limit);
        match self.toll {
            Toll::Due => self.progress.advance(counted, self.pace()),
            Toll::DueAfter(exempt) => {
                self.progress.advance(counted.saturating_sub(exempt), self.pace());
                self.toll = Toll::Due;
            }
            Toll::Free => self.look_at_the_others(s, core),
        }
    }

    /// It has run for free: if somebody waits elsewhere by now, its turn ends, so that its core looks around.
    fn look_at_the_others(&mut self, s: &Scheduler, core: CoreId) {
        if !s.is_calm_for(core) {
            self.toll = Toll::Due;
            self.allowed = 0;
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
            Toll::Due => self.pace().cost(self.uncharged(now)),
            Toll::DueAfter(exempt) => self.pace().cost(self.uncharged(now).saturating_sub(exempt)),
            Toll::Free => 0,
        }
    }

    /// Drops what it is behind those who wait, who have paid `others` at least, but for what it missed and for `slack`: it
    /// deserves more than a core, and that cannot be had.
    pub(crate) fn limit_claim(&mut self, others: u64, slack: u64, now: Tsc) {
        let least = others.saturating_sub(slack);
        if self.by(now) >= least {
            return;
        }
        let missed = {
            let mut entity = self.slot.entity.lock();
            self.slot.seat.flush(&mut entity);
            entity.missed()
        };
        self.progress.clamp(least.saturating_sub(missed).saturating_sub(self.unpaid(now)), u64::MAX);
    }
}
