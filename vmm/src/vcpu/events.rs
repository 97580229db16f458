//! Events of a vCPU: exceptions raised, interrupts and NMIs accepted, and the one that is injected before an entry.

use super::Vcpu;
use crate::lapic::Delivery;
use crate::vm::DEVICE_VCPU;
use crate::{Event, Interruptibility, VcpuBackend, Vm};
use arch::{Exception, RFlags, Tsc, Vector};
use bus::{InterruptMessage, Platform};
use memory::GuestMemory;

/// DR7.GD: the next access to a debug register is a #DB.
const DR7_GENERAL_DETECT: u64 = 1 << 13;

impl<B: VcpuBackend> Vcpu<B> {
    /// Delivers `exception`, with the register effects that the CPU has before delivery.
    pub(super) fn raise(&mut self, exception: Exception) {
        if let Exception::PageFault { address, .. } = exception {
            self.backend.set_cr2(address);
        } else if let Exception::Debug { dr6 } = exception {
            // SDM Vol. 3B, "Debug Status Register (DR6)": B0 to B3 are replaced, the others accumulate.
            let before = self.backend.dr6();
            self.backend.set_dr6(before & !0xf | dr6);
            self.enter_debug_handler();
        }
        match self.backend.displace_event() {
            Some(Event::Nmi) => self.nmi_pending = true,
            Some(Event::Interrupt(vector)) => self.displaced = Some(vector),
            Some(Event::Exception(_)) | None => {}
        }
        self.backend.inject(Event::Exception(exception));
        self.events_changed = true;
    }

    /// SDM Vol. 3B, "Debug Control Register (DR7)": the handler of a debug exception may use the debug registers.
    pub(crate) fn enter_debug_handler(&mut self) {
        let dr7 = self.backend.dr7();
        if dr7 & DR7_GENERAL_DETECT != 0 {
            self.backend.set_dr7(dr7 & !DR7_GENERAL_DETECT);
        }
    }

    /// Whether an HLT with these RFLAGS ends at once.
    pub(super) fn wakes<M, P: Platform>(&self, vm: &Vm<M, P>, flags: RFlags) -> bool {
        if self.nmi_pending || self.backend.has_pending_event() {
            return true;
        }
        flags.contains(RFlags::INTERRUPT_FLAG)
            && (self.displaced.is_some() || self.lapic_interrupt_waits() || self.external_interrupt_waits(vm))
    }

    /// Whether an interrupt is to be injected.
    #[inline]
    fn interrupt_waits<M, P: Platform>(&self, vm: &Vm<M, P>) -> bool {
        self.displaced.is_some() || self.lapic.pending_vector().is_some() || self.external_interrupt_waits(vm)
    }

    /// Whether the 8259 pair's interrupt gets through to this processor: by message or by LINT0. A request that went away
    /// is not taken.
    #[inline]
    fn external_interrupt_waits<M, P: Platform>(&self, vm: &Vm<M, P>) -> bool {
        vm.external_interrupt()
            && (self.external_pending || self.index == DEVICE_VCPU && self.lapic.accepts_external_interrupt())
    }

    /// Injects the most urgent event, or asks for the window in which it can be.
    ///
    /// Runs once before an entry and after the scheduling decision, so that nothing overwrites what it injects.
    pub(super) fn deliver_events<M: GuestMemory, P: Platform>(&mut self, vm: &Vm<M, P>) {
        self.events_changed = false;
        self.take_eoi(vm);
        self.settle_apic();
        let blocking = self.backend.interruptibility();
        let mut slot_free = !self.backend.has_pending_event();
        let shadowed = blocking.intersects(Interruptibility::STI | Interruptibility::MOV_SS);

        if self.nmi_pending {
            if slot_free && !shadowed && !blocking.contains(Interruptibility::NMI) {
                self.nmi_pending = false;
                self.backend.inject(Event::Nmi);
                slot_free = false;
                self.backend.set_nmi_window(false);
            } else {
                self.backend.set_nmi_window(true);
            }
        }

        if !self.interrupt_waits(vm) {
            self.backend.set_interrupt_window(false);
            return;
        }
        let open = slot_free && !shadowed && self.backend.rflags().contains(RFlags::INTERRUPT_FLAG);
        if !open {
            self.backend.set_interrupt_window(true);
            return;
        }
        // The 8259's request comes before the local APIC's, as INTR has no priority among its vectors.
        let vector = if let Some(vector) = self.displaced.take() {
            vector
        } else if self.external_interrupt_waits(vm) {
            self.acknowledge_external_interrupt(vm)
        } else if let Some(vector) = self.lapic.pending_vector() {
            self.lapic.acknowledge(vector);
            vector
        } else {
            return;
        };
        self.backend.inject(Event::Interrupt(vector));
        let more = self.interrupt_waits(vm);
        self.backend.set_interrupt_window(more);
        if !more && self.lapic.ends_quietly(vector) {
            self.paravirt.offer_eoi(&vm.memory);
        }
    }

    /// The INTA cycle: what the 8259 pair has for this processor.
    #[cold]
    fn acknowledge_external_interrupt<M, P: Platform>(&mut self, vm: &Vm<M, P>) -> Vector {
        self.external_pending = false;
        let mut platform = vm.platform();
        let vector = platform.acknowledge_external_interrupt();
        // It may have more, for which the I/O APIC sends another message.
        let attention = platform.take_attention();
        // An acknowledge asks for no power off.
        let _nothing = self.serve_platform(vm, &mut platform, attention);
        drop(platform);
        if self.index != DEVICE_VCPU {
            vm.tell_device_vcpu();
        }
        vector
    }

    /// Tells senders how this processor is addressed now.
    pub(crate) fn publish_addressing(&self) {
        self.inbox.publish(self.lapic.addressing());
    }

    /// Hands an interrupt message to the local APIC.
    pub(crate) fn accept(&mut self, message: InterruptMessage) {
        let delivery = self.lapic.accept(message);
        self.external_pending |= delivery == Delivery::ExternalInterrupt;
        self.deliver(delivery);
    }

    /// Does to the processor what the local APIC passes on.
    pub(super) fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Nmi => self.nmi_pending = true,
            Delivery::Init => {
                // An INIT to oneself: acted on before the next entry.
                self.init_pending = true;
                self.deadline = Tsc(0);
            }
            // INTR of the 8259 is looked at before every entry anyway. A running processor ignores a start-up IPI; SMI
            // has no handler to go to.
            Delivery::Pending
            | Delivery::ExternalInterrupt
            | Delivery::Refused
            | Delivery::StartUp(_)
            | Delivery::Smi => {}
        }
        self.events_changed = true;
    }

    /// Delivers an NMI from outside the guest.
    pub const fn send_nmi(&mut self) {
        self.nmi_pending = true;
        self.events_changed = true;
    }
}
