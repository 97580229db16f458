//! How interrupts come in: messages, pins, and whom they are for.
//!
//! SDM Vol. 3A, "Determining IPI Destination", "Interrupt Acceptance for Fixed Interrupts", "Local Vector Table".

use super::spec::{Errors, FIRST_LEGAL_VECTOR, LvtEntry};
use super::{Addressing, Delivery, LocalApic, Mode, Pin};
use arch::Vector;
use bus::{DeliveryMode, Destination, InterruptMessage, TriggerMode};

impl LocalApic {
    /// Whether a message to `destination` is for this local APIC.
    pub fn matches(&self, destination: Destination) -> bool {
        self.addressing().matches(destination)
    }

    /// How messages find this local APIC.
    pub fn addressing(&self) -> Addressing {
        Addressing {
            mode: self.mode,
            id: self.config.id,
            logical: self.logical_destination >> 24,
            format: self.destination_format >> 28,
        }
    }

    /// The rank by which a lowest-priority message picks its processor: the lowest wins.
    pub fn arbitration_priority(&self) -> u8 {
        let requested = self.requested.highest().map_or(0, |vector| vector.0);
        let in_service = self.in_service_class();
        // SDM Vol. 3A, "Arbitration Priority Register".
        if self.task_priority >> 4 >= requested >> 4 && self.task_priority >> 4 > in_service >> 4 {
            self.task_priority
        } else {
            (self.task_priority & 0xf0).max(requested & 0xf0).max(in_service)
        }
    }

    /// A message arrives that [`Self::matches`], or that came by shorthand.
    #[inline]
    pub fn accept(&mut self, message: InterruptMessage) -> Delivery {
        if self.mode == Mode::Disabled {
            return Delivery::Refused;
        }
        match message.mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority => {
                if !self.is_software_enabled() {
                    return Delivery::Refused;
                }
                self.request(message.vector, message.trigger)
            }
            DeliveryMode::Smi => Delivery::Smi,
            DeliveryMode::Nmi => Delivery::Nmi,
            DeliveryMode::Init => Delivery::Init,
            DeliveryMode::StartUp => Delivery::StartUp(message.vector),
            DeliveryMode::ExtInt => Delivery::ExternalInterrupt,
        }
    }

    /// Whether an interrupt of the 8259 pair reaches the processor through LINT0.
    #[inline]
    pub fn accepts_external_interrupt(&self) -> bool {
        self.pin(Pin::Lint0) == Some(DeliveryMode::ExtInt)
    }

    /// A pulse on an interrupt pin.
    pub fn signal(&mut self, pin: Pin) -> Delivery {
        match self.pin(pin) {
            Some(DeliveryMode::Fixed) => {
                let entry = match pin {
                    Pin::Lint0 => self.entry(LvtEntry::Lint0),
                    Pin::Lint1 => self.entry(LvtEntry::Lint1),
                };
                self.request(entry.vector(), entry.trigger())
            }
            Some(DeliveryMode::Smi) => Delivery::Smi,
            Some(DeliveryMode::Nmi) => Delivery::Nmi,
            Some(DeliveryMode::Init) => Delivery::Init,
            Some(DeliveryMode::ExtInt) => Delivery::ExternalInterrupt,
            Some(DeliveryMode::LowestPriority | DeliveryMode::StartUp) | None => Delivery::Refused,
        }
    }

    /// What a signal on `pin` is, `None` when it is masked. Without an APIC the pins are INTR and NMI.
    fn pin(&self, pin: Pin) -> Option<DeliveryMode> {
        let (entry, without_apic) = match pin {
            Pin::Lint0 => (self.entry(LvtEntry::Lint0), DeliveryMode::ExtInt),
            Pin::Lint1 => (self.entry(LvtEntry::Lint1), DeliveryMode::Nmi),
        };
        match self.mode {
            Mode::Disabled => Some(without_apic),
            Mode::XApic | Mode::X2Apic if entry.is_masked() => None,
            Mode::XApic | Mode::X2Apic => entry.mode(),
        }
    }

    /// A fixed interrupt that another processor or a device left in the inbox arrives.
    pub(crate) fn request_from_outside(&mut self, vector: Vector, trigger: TriggerMode) {
        if self.mode != Mode::Disabled && self.is_software_enabled() {
            self.request(vector, trigger);
        }
    }

    /// A message with an illegal vector arrives.
    pub(crate) fn receive_illegal_vector(&mut self) {
        if self.mode != Mode::Disabled {
            self.note_error(Errors::RECEIVE_ILLEGAL_VECTOR);
        }
    }

    #[inline]
    pub(super) fn request(&mut self, vector: Vector, trigger: TriggerMode) -> Delivery {
        if vector.0 < FIRST_LEGAL_VECTOR {
            self.note_error(Errors::RECEIVE_ILLEGAL_VECTOR);
            return Delivery::Refused;
        }
        self.requested.insert(vector);
        match trigger {
            TriggerMode::Edge => self.triggered.remove(vector),
            TriggerMode::Level => self.triggered.insert(vector),
        };
        self.refresh();
        Delivery::Pending
    }
}
