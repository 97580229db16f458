//! What of a local APIC the processor keeps while it delivers the guest's interrupts itself.
//!
//! SDM Vol. 3C, "APIC Virtualization and Virtual Interrupts". TPR, ISR and IRR are lent to the processor, which changes
//! them as the guest runs; everything else stays here. IRR goes on as a tray: what arrives waits in it until it is
//! requested of the processor. TMR is never changed by the processor, so that the one here counts.

use super::spec::{FIRST_LEGAL_VECTOR, LvtEntry};
use super::{Effect, LocalApic, Mode, State, VectorSet};
use crate::ApicRegisters;
use arch::{Tsc, Vector};
use bus::TriggerMode;

impl LocalApic {
    /// Whether the processor can stand in for this local APIC: it is in x2APIC mode and enabled by software. A disabled
    /// one refuses interrupts that the processor would take.
    #[inline]
    pub(crate) fn is_lendable(&self) -> bool {
        self.mode == Mode::X2Apic && self.is_software_enabled()
    }

    /// Gives away TPR, ISR and IRR.
    pub(crate) fn lend(&mut self) -> ApicRegisters {
        let lent = ApicRegisters {
            task_priority: core::mem::take(&mut self.task_priority),
            in_service: core::mem::take(&mut self.in_service),
            requested: core::mem::take(&mut self.requested),
        };
        self.recompute();
        lent
    }

    /// Takes TPR, ISR and IRR back. What arrived since is requested as well.
    pub(crate) fn take_back(&mut self, lent: &ApicRegisters) {
        self.task_priority = lent.task_priority;
        self.in_service = lent.in_service;
        self.requested = self.requested.union(lent.requested);
        self.recompute();
    }

    /// Empties the tray.
    #[inline]
    pub(crate) fn take_requested(&mut self) -> VectorSet {
        let requested = core::mem::take(&mut self.requested);
        self.refresh();
        requested
    }

    /// IRR, or the tray.
    #[inline]
    pub(crate) const fn requested(&self) -> VectorSet {
        self.requested
    }

    /// TMR.
    #[inline]
    pub(crate) const fn triggered(&self) -> VectorSet {
        self.triggered
    }

    /// [`LocalApic::advance`] of one that is lent: the timer's vector, if it fires and can be requested of the processor as it
    /// is. Otherwise it goes into the tray.
    #[inline]
    pub(crate) fn advance_lent(&mut self, now: Tsc) -> Option<Vector> {
        if !self.timer.expire(now) {
            return None;
        }
        let entry = self.entry(LvtEntry::Timer);
        let vector = entry.vector();
        // What was level-triggered must no longer be when it is requested.
        if !entry.is_masked() && vector.0 >= FIRST_LEGAL_VECTOR && !self.triggered.contains(vector) {
            return Some(vector);
        }
        self.raise_edge(LvtEntry::Timer);
        None
    }

    /// The processor ended the interrupt `vector`.
    pub(crate) fn ended_by_processor(&mut self, vector: Vector) -> Effect {
        if self.triggered.contains(vector) { self.level_ended(vector) } else { Effect::None }
    }

    /// The guest sent itself `vector`, which the processor leaves to us.
    #[cold]
    pub(crate) fn self_ipi(&mut self, vector: Vector) {
        self.send_to_self(vector, TriggerMode::Edge);
    }

    /// The state of a local APIC that lent `lent`.
    pub(crate) fn save_with(&self, lent: &ApicRegisters) -> State {
        let mut whole = self.clone();
        whole.take_back(lent);
        whole.save()
    }
}
