//! How interrupts come in by message, and whom they are for.
//!
//! SDM Vol. 3A, "Determining IPI Destination", "Interrupt Acceptance for Fixed Interrupts".

use super::spec::{Errors, FIRST_LEGAL_VECTOR};
use super::{Addressing, Delivery, LocalApic, Mode};
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

    /// APR, the arbitration priority register (SDM Vol. 3A, "Lowest Priority Delivery Mode").
    pub(super) fn arbitration_priority(&self) -> u8 {
        let requested = self.requested.highest().map_or(0, |vector| vector.0 & 0xf0);
        let (task, in_service) = (self.task_priority & 0xf0, self.in_service_class());
        if task >= requested && task > in_service {
            self.task_priority
        } else {
            // "AND" is the manual's word, and bitwise.
            (task & in_service).max(requested)
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
