//! How interrupts come in: messages, pins, and whom they are for.
//!
//! SDM Vol. 3A, "Determining IPI Destination", "Interrupt Acceptance for Fixed Interrupts", "Local Vector Table".

use super::spec::{Errors, FIRST_LEGAL_VECTOR, LvtEntry, x2apic_logical};
use super::{Delivery, LocalApic, Mode, Pin};
use arch::Vector;
use bus::{DeliveryMode, Destination, InterruptMessage, TriggerMode};

impl LocalApic {
    /// Whether a message to `destination` is for this local APIC (SDM Vol. 3A, "Determining IPI Destination").
    /// A disabled one gets none.
    pub fn matches(&self, destination: Destination) -> bool {
        match (self.mode, destination) {
            (Mode::Disabled, _) => false,
            // I/O APICs and MSIs know only the 8-bit broadcast, whatever mode the receiver is in.
            (Mode::XApic | Mode::X2Apic, Destination::Physical(id)) => {
                id == self.config.id || id == 0xff || id == u32::MAX
            }
            (Mode::XApic, Destination::Logical(address)) => self.matches_xapic_logical(address),
            (Mode::X2Apic, Destination::Logical(address)) => {
                let own = x2apic_logical(self.config.id);
                address == u32::MAX || (address >> 16 == own >> 16 && address & own & 0xffff != 0)
            }
        }
    }

    fn matches_xapic_logical(&self, address: u32) -> bool {
        let own = self.logical_destination >> 24;
        if address == 0xff || address == u32::MAX {
            true
        } else if self.destination_format >> 28 == 0xf {
            address & own != 0
        } else {
            // The cluster model: a cluster in the high nibble, places in the low one. Cluster 15 is all.
            let cluster = address >> 4;
            (cluster == own >> 4 || cluster == 0xf) && address & own & 0xf != 0
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
