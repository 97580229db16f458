//! What of a local APIC the processor keeps while it delivers the guest's interrupts itself.
//!
//! SDM Vol. 3C, "APIC Virtualization and Virtual Interrupts". TPR, ISR and IRR are lent to the processor, which changes
//! them as the guest runs; everything else stays here. IRR goes on as a tray: what arrives waits in it until it is
//! requested of the processor. TMR is never changed by the processor, so that the one here counts.
//!
//! In xAPIC mode the guest reads most of the other registers from the processor's page as well, which is kept as they are
//! here. Of those the processor changes the interrupt command register alone.

use super::access::mmio_register;
use super::spec::{Command, DEFAULT_BASE, FIRST_LEGAL_VECTOR, LvtEntry};
use super::{Effect, LocalApic, Mode, State, VectorSet};
use crate::{ApicRegisters, Lending};
use arch::{PAGE_SIZE, Tsc, Vector, Width};
use bus::TriggerMode;

/// The registers that are read from the processor's page in xAPIC mode and do not belong to it: ID, version, LDR, DFR,
/// SVR, ESR, ICR, the local vector table, initial count and divide configuration. Offsets in the page.
const SHOWN: [u16; 16] = [
    0x20, 0x30, 0xd0, 0xe0, 0xf0, 0x280, 0x300, 0x310, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x3e0,
];

impl LocalApic {
    /// How the processor can stand in for this local APIC, if it can: it is enabled by software, and in x2APIC mode or where
    /// it is after reset. A disabled one refuses interrupts that the processor would take.
    #[inline]
    pub(crate) fn lendable(&self) -> Option<Lending> {
        if !self.is_software_enabled() {
            return None;
        }
        match self.mode {
            Mode::X2Apic => Some(Lending::Msrs),
            Mode::XApic if self.base & !(PAGE_SIZE - 1) == DEFAULT_BASE => Some(Lending::Page),
            Mode::XApic | Mode::Disabled => None,
        }
    }

    /// The registers that a guest reads from a lent page and that stay here, by their offsets in it.
    pub(crate) fn page_registers(&self) -> impl Iterator<Item = (u16, u32)> + '_ {
        SHOWN.iter().map(|offset| (*offset, self.page_register(*offset)))
    }

    /// What the register at `offset` in a lent page is to read as, if it stays here.
    #[inline]
    pub(crate) fn page_register(&self, offset: u16) -> u32 {
        mmio_register(offset).map_or(0, |register| self.shown(register))
    }

    /// The guest wrote `value` to the register at `offset` of the lent page.
    #[inline]
    pub(crate) fn page_written(&mut self, offset: u16, value: u32, now: Tsc) -> Effect {
        self.write_mmio(offset, Width::Four, value.into(), now)
    }

    /// Takes the command register over from the lent page, by its halves.
    #[inline]
    pub(crate) const fn take_command(&mut self, low: u32, high: u32) {
        self.command = Command::from_halves(high & 0xff00_0000, low & Command::LOW_WRITABLE);
    }

    /// Gives `lent` away again, of which nothing was written since it was taken back. What was requested since stays in the
    /// tray.
    pub(crate) fn part_again(&mut self, lent: &ApicRegisters) {
        self.task_priority = 0;
        self.in_service = VectorSet::EMPTY;
        self.requested = self.requested.without(lent.requested);
        self.recompute();
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

    /// The state of a local APIC that lent `lent`, and the halves of `command` with it if it lent its page.
    pub(crate) fn save_with(&self, lent: &ApicRegisters, command: Option<(u32, u32)>) -> State {
        let mut whole = self.clone();
        whole.take_back(lent);
        if let Some((low, high)) = command {
            whole.take_command(low, high);
        }
        whole.save()
    }
}
