//! Whether the vCPUs of one machine read one TSC.
//!
//! The guest may write its TSC on one vCPU alone. Each vCPU's own record still turns its TSC into the same time, but
//! Linux reads one vCPU's record on all of them when the record is marked stable, so the mark must go everywhere.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Whether the TSCs of all vCPUs are one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stability {
    /// All vCPUs read the same TSC.
    Stable,
    /// At least one reads another.
    Apart,
}

/// What a changed TSC means for the other vCPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Others {
    /// Nothing.
    Unconcerned,
    /// Their records are out of date: have every vCPU looked at, so that it calls
    /// [`Paravirt::tsc_changed`](super::Paravirt::tsc_changed).
    OutOfDate,
}

/// The TSC offsets of up to 64 vCPUs against the one that all began with.
#[derive(Debug)]
pub struct TscAgreement {
    /// What is added to the host's TSC where nobody wrote.
    reference: AtomicU64,
    /// The vCPUs whose offset is another, one bit each.
    apart: AtomicU64,
    /// Counts the changes between stable and apart.
    generation: AtomicU32,
    /// A single vCPU always agrees with itself.
    vcpus: usize,
}

impl TscAgreement {
    /// An agreement of `vcpus`, at most 64, on `offset` from the host's TSC.
    pub const fn new(vcpus: usize, offset: u64) -> Self {
        Self {
            reference: AtomicU64::new(offset),
            apart: AtomicU64::new(0),
            generation: AtomicU32::new(0),
            vcpus,
        }
    }

    /// Begins anew with `offset` on all vCPUs, as after a restore. No vCPU may run.
    pub fn restart(&self, offset: u64) {
        self.reference.store(offset, Ordering::Release);
        self.apart.store(0, Ordering::Release);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// vCPU number `vcpu` has `offset` from now on.
    pub fn set(&self, vcpu: usize, offset: u64) -> Others {
        if self.vcpus <= 1 {
            return Others::Unconcerned;
        }
        let bit = 1_u64 << (vcpu & 63);
        let agrees = offset == self.reference.load(Ordering::Acquire);
        let (before, after) = if agrees {
            let before = self.apart.fetch_and(!bit, Ordering::AcqRel);
            (before, before & !bit)
        } else {
            let before = self.apart.fetch_or(bit, Ordering::AcqRel);
            (before, before | bit)
        };
        if (before == 0) == (after == 0) {
            return Others::Unconcerned;
        }
        self.generation.fetch_add(1, Ordering::AcqRel);
        Others::OutOfDate
    }

    /// Whether all agree now.
    pub fn stability(&self) -> Stability {
        if self.apart.load(Ordering::Acquire) == 0 { Stability::Stable } else { Stability::Apart }
    }

    /// How often agreement came or went. One load, for the start of each turn.
    #[inline]
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_moves_away_and_back_concerns_all_twice() {
        let agreement = TscAgreement::new(3, 77);
        assert_eq!(agreement.stability(), Stability::Stable);
        assert_eq!(agreement.set(1, 78), Others::OutOfDate);
        assert_eq!(agreement.stability(), Stability::Apart);
        assert_eq!(agreement.set(1, 79), Others::Unconcerned, "already apart");
        assert_eq!(agreement.set(2, 79), Others::Unconcerned, "already apart");
        assert_eq!(agreement.set(1, 77), Others::Unconcerned, "vCPU 2 is still apart");
        assert_eq!(agreement.set(2, 77), Others::OutOfDate);
        assert_eq!((agreement.stability(), agreement.generation()), (Stability::Stable, 2));
    }

    #[test]
    fn a_lone_vcpu_stays_stable_whatever_it_writes() {
        let agreement = TscAgreement::new(1, 0);
        assert_eq!(agreement.set(0, 5), Others::Unconcerned);
        assert_eq!(agreement.stability(), Stability::Stable);
    }

    #[test]
    fn a_restart_forgets_who_was_apart() {
        let agreement = TscAgreement::new(64, 0);
        assert_eq!(agreement.set(63, 5), Others::OutOfDate);
        agreement.restart(9);
        assert_eq!(agreement.stability(), Stability::Stable);
        assert_eq!(agreement.set(63, 9), Others::Unconcerned);
        assert_eq!(agreement.set(0, 0), Others::OutOfDate);
    }
}
