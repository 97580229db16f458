//! PV EOI: a guest ends an interrupt by clearing a bit in its memory, which is seen at its next exit.
//!
//! The Linux Kernel documentation, "KVM-specific MSRs", MSR_KVM_EOI_EN. The bit is offered only when the interrupt's
//! end has no consequence that cannot wait: nothing else is requested, and no I/O APIC wants to hear of it.

use super::spec::{ENABLED, eoi_word};
use crate::lapic::GeneralProtection;
use arch::Gpa;
use memory::GuestMemory;

/// Whether the guest may end its interrupt in memory now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Offer {
    None,
    Made,
}

/// How an offer was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Ending {
    /// The guest ended its interrupt: call [`LocalApic::end_of_interrupt`](crate::lapic::LocalApic::end_of_interrupt).
    Ended,
    /// It did not; the offer is withdrawn, and it will write to its local APIC.
    Open,
}

/// One vCPU's PV EOI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct EndOfInterrupt {
    /// The register: the word's address, and bit 0.
    pub(super) register: u64,
    offer: Offer,
}

impl EndOfInterrupt {
    /// Off.
    pub(super) const fn new() -> Self {
        Self::restored(0)
    }

    /// A saved vCPU goes on.
    pub(super) const fn restored(register: u64) -> Self {
        Self { register, offer: Offer::None }
    }

    /// Whether the register may hold `value`.
    pub(super) const fn check(value: u64) -> Result<(), GeneralProtection> {
        if Gpa::new(value & !ENABLED).is_aligned(eoi_word::ALIGNMENT) {
            Ok(())
        } else {
            Err(GeneralProtection)
        }
    }

    /// The guest writes the register. Offers were withdrawn at the exit.
    pub(super) fn write<M: GuestMemory>(&mut self, value: u64, memory: &M) -> Result<(), GeneralProtection> {
        Self::check(value)?;
        if value & ENABLED != 0 {
            let mut word = [0; eoi_word::SIZE];
            memory.read(Gpa::new(value & !ENABLED), &mut word).map_err(|_| GeneralProtection)?;
        }
        *self = Self::restored(value);
        Ok(())
    }

    #[inline]
    pub(super) const fn is_offered(&self) -> bool {
        matches!(self.offer, Offer::Made)
    }

    #[inline]
    pub(super) fn offer<M: GuestMemory>(&mut self, memory: &M) {
        if self.register & ENABLED != 0
            && memory.write(Gpa::new(self.register & !ENABLED), &[eoi_word::OFFERED]).is_ok()
        {
            self.offer = Offer::Made;
        }
    }

    #[inline]
    pub(super) fn withdraw<M: GuestMemory>(&mut self, memory: &M) -> Ending {
        if !self.is_offered() {
            return Ending::Open;
        }
        self.offer = Offer::None;
        match memory.swap_u8(Gpa::new(self.register & !ENABLED), 0) {
            Ok(byte) if byte & eoi_word::OFFERED == 0 => Ending::Ended,
            Ok(_) | Err(_) => Ending::Open,
        }
    }
}
