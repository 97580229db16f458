//! Steal time: how long a vCPU waited for a core that others had, and whether it waits now.
//!
//! The Linux Kernel documentation, "KVM-specific MSRs", MSR_KVM_STEAL_TIME.

use super::clock::next_odd;
use super::spec::{ENABLED, steal_record};
use super::tlb_flush::{self, Loaded};
use crate::lapic::GeneralProtection;
use arch::{Gpa, Nanos};
use memory::{GuestMemory, OutsideRam};

/// What the record says of the vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// It runs, or halted of its own will.
    Present,
    /// It was taken off its core; requests may gather in the record.
    Preempted,
}

/// One vCPU's steal time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct StealTime {
    /// The register: the record's address, and bit 0.
    pub(super) register: u64,
    pub(super) presence: Presence,
    /// How long the vCPU has waited in its life.
    waited: Nanos,
    /// How much of that the guest was told, or is not to be.
    told: Nanos,
    /// Turns began without its being said how long the vCPU had waited: what it waited until the next one that says so is
    /// not the guest's business.
    is_uncounted: bool,
}

impl StealTime {
    /// Off.
    pub(super) const fn new() -> Self {
        Self {
            register: 0,
            presence: Presence::Present,
            waited: Nanos(0),
            told: Nanos(0),
            is_uncounted: false,
        }
    }

    /// INIT: off, and what was waited so far is forgotten.
    pub(super) const fn reset(&mut self) {
        *self =
            Self { waited: self.waited, told: self.waited, is_uncounted: self.is_uncounted, ..Self::new() };
    }

    /// A saved vCPU goes on, with what it has waited in its life here.
    pub(super) const fn restored(register: u64, presence: Presence, waited: Nanos) -> Self {
        Self { register, presence, waited, told: waited, is_uncounted: false }
    }

    /// Whether the register may hold `value`.
    pub(super) const fn check(value: u64) -> Result<(), GeneralProtection> {
        if value & steal_record::RESERVED == 0 { Ok(()) } else { Err(GeneralProtection) }
    }

    /// The guest writes the register. Time before is not counted; an address outside of RAM gets no record, as on KVM.
    pub(super) fn write<M: GuestMemory>(
        &mut self,
        value: u64,
        memory: &M,
    ) -> Result<Loaded, GeneralProtection> {
        Self::check(value)?;
        self.register = value;
        self.told = self.waited;
        self.presence = Presence::Present;
        match self.record() {
            Some(gpa) => Ok(tlb_flush::take(memory, gpa + steal_record::PREEMPTED)),
            None => Ok(Loaded::Ready),
        }
    }

    /// The vCPU is about to run, and has waited for so long in all.
    #[inline]
    pub(super) fn loaded<M: GuestMemory>(&mut self, memory: &M, waited: Nanos) -> Loaded {
        self.waited = waited;
        if core::mem::take(&mut self.is_uncounted) {
            self.told = waited;
        }
        match self.record() {
            Some(gpa) if self.presence == Presence::Preempted || self.told != waited => {
                self.update(gpa, memory)
            }
            Some(_) | None => Loaded::Ready,
        }
    }

    /// Whether there is to be a record.
    #[inline]
    pub(super) const fn is_on(&self) -> bool {
        self.register & ENABLED != 0
    }

    /// The vCPU is about to run, and nobody wants to know how long it has waited.
    #[inline]
    pub(super) const fn forget_waits(&mut self) {
        self.is_uncounted = true;
    }

    /// The vCPU left its core, which it still wants.
    #[inline]
    pub(super) fn preempted<M: GuestMemory>(&mut self, memory: &M) {
        if let Some(gpa) = self.record()
            && self.presence == Presence::Present
            && tlb_flush::mark_preempted(memory, gpa + steal_record::PREEMPTED).is_ok()
        {
            self.presence = Presence::Preempted;
        }
    }

    /// Where the record is, if there is to be one.
    #[inline]
    const fn record(&self) -> Option<Gpa> {
        if self.register & ENABLED == 0 { None } else { Some(Gpa::new(self.register & !ENABLED)) }
    }

    fn update<M: GuestMemory>(&mut self, gpa: Gpa, memory: &M) -> Loaded {
        let loaded = match self.presence {
            Presence::Present => Loaded::Ready,
            Presence::Preempted => tlb_flush::take(memory, gpa + steal_record::PREEMPTED),
        };
        self.presence = Presence::Present;
        let new = self.waited.since(self.told);
        self.told = self.waited;
        // What the guest does not let us tell it is lost to it alone.
        Self::add(gpa, memory, new).ok();
        loaded
    }

    /// Adds `new` to the record. The sum is the guest's own, so that it never falls when a vCPU is taken out and put
    /// back.
    fn add<M: GuestMemory>(gpa: Gpa, memory: &M, new: Nanos) -> Result<(), OutsideRam> {
        if new == Nanos(0) {
            return Ok(());
        }
        // A record of 64 aligned bytes lies in one page: it is RAM as a whole or not at all.
        let steal = memory.read_u64(gpa + steal_record::STEAL)?;
        let odd = next_odd(memory.read_u32(gpa + steal_record::VERSION)?.to_le_bytes());
        memory.write_u32(gpa + steal_record::VERSION, odd)?;
        memory.write_u64(gpa + steal_record::STEAL, steal.wrapping_add(new.0))?;
        memory.write_u32(gpa + steal_record::VERSION, odd.wrapping_add(1))
    }
}

const _: () = assert!(steal_record::SIZE == 64 && steal_record::RESERVED | ENABLED == 63);
