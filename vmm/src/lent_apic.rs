//! The way between the local APIC and a processor that delivers its interrupts itself.
//!
//! SDM Vol. 3C, "APIC Virtualization and Virtual Interrupts". While the guest's local APIC is in x2APIC mode and enabled,
//! TPR, ISR and IRR are lent to the backend; timers, IPIs and devices go on requesting interrupts of [`LocalApic`], whose
//! IRR is then the tray from which they are requested of the processor before an entry. NMIs, the 8259 pair's interrupts
//! and what an exit cut off are injected as ever.
//!
//! [`LocalApic`]: crate::lapic::LocalApic

use crate::{InterruptSupport, Vcpu, VcpuBackend, lapic};
use arch::Tsc;

impl<B: VcpuBackend> Vcpu<B> {
    /// Lends the local APIC to the processor or takes it back, as its mode wants, and requests what is in the tray. Runs
    /// before an entry when something changed.
    #[inline]
    pub(crate) fn settle_apic(&mut self) {
        // While TPR and ISR are lent, all that is in the tray is deliverable.
        if self.apic_lendable
            && (self.lapic.is_lendable() != self.apic_lent
                || self.apic_lent && self.lapic.pending_vector().is_some())
        {
            self.serve_processor();
        }
    }

    #[inline(never)]
    fn serve_processor(&mut self) {
        if self.lapic.is_lendable() != self.apic_lent {
            self.change_apic();
        }
        if self.apic_lent {
            let vectors = self.lapic.take_requested();
            // First, so that no EOI goes by.
            self.backend.set_level_triggered(self.lapic.triggered());
            self.backend.request(vectors);
        }
    }

    /// Fires the local APIC's timer if it is due at `now` of the host. The backend must be loaded.
    #[inline]
    pub(crate) fn fire_lapic_timer(&mut self, now: Tsc) {
        let guest_now = self.guest_tsc(now);
        // A read of the current count fires a timer that is due, too, so that events may wait when nothing fires here.
        if self.apic_lent && self.lapic.is_lendable() {
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
    fn change_apic(&mut self) {
        if self.apic_lent {
            self.take_back_apic();
        } else {
            let registers = self.lapic.lend();
            self.backend.lend_apic(&registers, self.lapic.triggered());
            self.set_apic_lent(true);
        }
    }

    /// Takes a lent local APIC back. Must come before anything that resets or replaces it. The backend must be loaded.
    pub(crate) fn take_back_apic(&mut self) {
        if self.apic_lent {
            let registers = self.backend.take_back_apic();
            self.lapic.take_back(&registers);
            self.set_apic_lent(false);
            self.events_changed = true;
        }
    }

    fn set_apic_lent(&mut self, lent: bool) {
        self.apic_lent = lent;
        self.inbox.set_self_service(lent && self.backend.interrupt_support() == InterruptSupport::Posted);
    }

    /// Whether an interrupt of the local APIC outranks what the processor does. The backend need not be loaded.
    pub(crate) fn lapic_interrupt_waits(&self) -> bool {
        if self.apic_lent {
            self.backend.interrupt_waits(self.lapic.requested())
        } else {
            self.lapic.pending_vector().is_some()
        }
    }

    /// The local APIC's state, lent or not.
    pub(crate) fn lapic_state(&self) -> lapic::State {
        if self.apic_lent { self.lapic.save_with(&self.backend.lent_apic()) } else { self.lapic.save() }
    }
}
