//! The way between the local APIC and a processor that delivers its interrupts itself.
//!
//! SDM Vol. 3C, "APIC Virtualization and Virtual Interrupts". While the guest's local APIC is enabled, in x2APIC mode or at
//! its place after reset, TPR, ISR and IRR are lent to the backend; timers, IPIs and devices go on requesting interrupts of
//! [`LocalApic`], whose IRR is then the tray from which they are requested of the processor before an entry. NMIs, the 8259
//! pair's interrupts and what an exit cut off are injected as ever.
//!
//! In xAPIC mode the processor also answers reads of the other registers, from copies that are kept up here. Emulated
//! instructions may access the page too: they find the local APIC whole, and what they write takes it back.
//!
//! [`LocalApic`]: crate::lapic::LocalApic

use crate::{InterruptSupport, Lending, Vcpu, VcpuBackend, lapic};
use arch::Tsc;

/// The command register's halves in the page, and the pins' entries.
const COMMAND: u16 = 0x300;
const COMMAND_HIGH: u16 = 0x310;
const LINT0: u16 = 0x350;
const LINT1: u16 = 0x360;

/// How a local APIC on `backend` can be lent at most.
pub(crate) fn most_lendable(backend: &impl VcpuBackend) -> Option<Lending> {
    match backend.interrupt_support() {
        InterruptSupport::Software => None,
        InterruptSupport::Virtual | InterruptSupport::Posted if backend.lends_page() => Some(Lending::Page),
        InterruptSupport::Virtual | InterruptSupport::Posted => Some(Lending::Msrs),
    }
}

impl<B: VcpuBackend> Vcpu<B> {
    /// Lends the local APIC to the processor or takes it back, as its mode wants, and requests what is in the tray. Runs
    /// before an entry when something changed.
    #[inline]
    pub(crate) fn settle_apic(&mut self) {
        match self.apic_lent {
            Some(Lending::Msrs) if self.lapic.lendable() == Some(Lending::Msrs) => {
                // While TPR and ISR are lent, all that is in the tray is deliverable.
                if self.lapic.pending_vector().is_some() {
                    self.request_tray();
                }
            }
            None if self.apic_lendable.is_none() => {}
            Some(Lending::Msrs | Lending::Page) | None => self.change_or_show_apic(),
        }
    }

    #[inline(never)]
    fn request_tray(&mut self) {
        let vectors = self.lapic.take_requested();
        // First, so that no EOI goes by.
        self.backend.set_level_triggered(self.lapic.triggered());
        self.backend.request(vectors);
    }

    #[inline(never)]
    fn change_or_show_apic(&mut self) {
        let wanted = self.lapic.lendable().filter(|lending| Some(*lending) <= self.apic_lendable);
        if wanted != self.apic_lent {
            self.change_apic(wanted);
        }
        if wanted.is_some() && self.lapic.pending_vector().is_some() {
            self.request_tray();
        }
        if wanted == Some(Lending::Page) {
            // A request of a level-triggered pin and its end change remote IRR.
            self.show_register(LINT0);
            self.show_register(LINT1);
        }
    }

    /// Fires the local APIC's timer if it is due at `now` of the host. The backend must be loaded.
    #[inline]
    pub(crate) fn fire_lapic_timer(&mut self, now: Tsc) {
        let guest_now = self.guest_tsc(now);
        // A read of the current count fires a timer that is due, too, so that events may wait when nothing fires here.
        if self.apic_lent.is_some() && self.apic_lent == self.lapic.lendable() {
            if let Some(vector) = self.lapic.advance_lent(guest_now) {
                self.backend.request_one(vector);
            }
            self.events_changed |= self.lapic.pending_vector().is_some();
        } else {
            self.lapic.advance(guest_now);
            self.events_changed = true;
        }
    }

    #[cold]
    fn change_apic(&mut self, wanted: Option<Lending>) {
        self.take_back_apic();
        let Some(lending) = wanted else { return };
        let registers = self.lapic.lend();
        self.backend.lend_apic(lending, &registers, self.lapic.triggered());
        self.set_apic_lent(wanted);
        if lending == Lending::Page {
            for (offset, value) in self.lapic.page_registers() {
                self.backend.set_lent_register(offset, value);
            }
        }
    }

    /// Takes a lent local APIC back. Must come before anything that resets or replaces it. The backend must be loaded.
    pub(crate) fn take_back_apic(&mut self) {
        if self.apic_lent.is_some() {
            self.take_command();
            let registers = self.backend.take_back_apic();
            self.lapic.take_back(&registers);
            self.set_apic_lent(None);
            self.events_changed = true;
        }
    }

    /// Makes the local APIC whole while the page of its registers is lent, as an instruction that is about to be emulated may
    /// access it. [`Self::part_from_apic`] must follow.
    #[inline(never)]
    pub(crate) fn look_at_apic(&mut self) {
        self.take_command();
        let lent = self.backend.lent_apic();
        self.lapic.take_back(&lent);
    }

    /// Ends a look at the local APIC in which no register was written.
    #[inline(never)]
    pub(crate) fn part_from_apic(&mut self) {
        self.lapic.part_again(&self.backend.lent_apic());
        // A request that is not new is the page's, but may be of another kind.
        self.backend.set_level_triggered(self.lapic.triggered());
    }

    /// Ends a look at the local APIC in which registers were written: it stays here until the next entry.
    #[cold]
    pub(crate) fn keep_apic(&mut self) {
        // What it gives back is here already.
        let _known = self.backend.take_back_apic();
        self.set_apic_lent(None);
        self.events_changed = true;
    }

    /// Has the guest read from the lent page what the register at `offset` is now.
    #[inline]
    pub(crate) fn show_register(&mut self, offset: u16) {
        let value = self.lapic.page_register(offset);
        self.backend.set_lent_register(offset, value);
    }

    /// Takes the command register over from a lent page.
    #[inline]
    pub(crate) fn take_command(&mut self) {
        if let Some((low, high)) = self.lent_command() {
            self.lapic.take_command(low, high);
        }
    }

    fn lent_command(&self) -> Option<(u32, u32)> {
        (self.apic_lent == Some(Lending::Page))
            .then(|| (self.backend.lent_register(COMMAND), self.backend.lent_register(COMMAND_HIGH)))
    }

    fn set_apic_lent(&mut self, lent: Option<Lending>) {
        self.apic_lent = lent;
        let posted = self.backend.interrupt_support() == InterruptSupport::Posted;
        self.inbox.set_self_service(lent.is_some() && posted);
    }

    /// Whether an interrupt of the local APIC outranks what the processor does. The backend need not be loaded.
    pub(crate) fn lapic_interrupt_waits(&self) -> bool {
        if self.apic_lent.is_some() {
            self.backend.interrupt_waits(self.lapic.requested())
        } else {
            self.lapic.pending_vector().is_some()
        }
    }

    /// The local APIC's state, lent or not.
    pub(crate) fn lapic_state(&self) -> lapic::State {
        if self.apic_lent.is_none() {
            return self.lapic.save();
        }
        self.lapic.save_with(&self.backend.lent_apic(), self.lent_command())
    }
}
