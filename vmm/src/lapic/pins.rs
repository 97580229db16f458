//! The two interrupt pins: LINT0, where a PC wires the 8259 pair, and LINT1, where it wires NMI.
//!
//! SDM Vol. 3A, "Local Vector Table", "Valid Interrupt Vectors". An entry with fixed delivery can be level-triggered: its
//! remote IRR is set from the request to the EOI, and a pin that is high then requests again.

use super::spec::{Lvt, LvtEntry};
use super::{Delivery, LocalApic, Mode};
use arch::Vector;
use bus::{DeliveryMode, TriggerMode};

/// One of the two interrupt pins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pin {
    /// LINT0: where a PC wires the 8259 pair.
    Lint0,
    /// LINT1: where a PC wires NMI.
    Lint1,
}

/// The level of a pin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Level {
    /// Not asserted.
    #[default]
    Low,
    /// Asserted.
    High,
}

/// The levels of both pins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Pins([Level; 2]);

impl Pins {
    /// Bit 0 is LINT0, bit 1 is LINT1.
    pub(super) fn to_bits(self) -> u8 {
        let bit = |pin: Pin| u8::from(self.get(pin) == Level::High);
        bit(Pin::Lint0) | bit(Pin::Lint1) << 1
    }

    /// What [`Self::to_bits`] made; further bits count for nothing.
    pub(super) const fn from_bits(bits: u8) -> Self {
        const fn level(bit: u8) -> Level {
            if bit != 0 { Level::High } else { Level::Low }
        }
        Self([level(bits & 1), level(bits & 2)])
    }

    const fn get(self, pin: Pin) -> Level {
        let Self([lint0, lint1]) = self;
        match pin {
            Pin::Lint0 => lint0,
            Pin::Lint1 => lint1,
        }
    }

    fn set(&mut self, pin: Pin, level: Level) {
        let Self([lint0, lint1]) = self;
        match pin {
            Pin::Lint0 => *lint0 = level,
            Pin::Lint1 => *lint1 = level,
        }
    }
}

impl Pin {
    const BOTH: [Self; 2] = [Self::Lint0, Self::Lint1];

    const fn entry(self) -> LvtEntry {
        match self {
            Self::Lint0 => LvtEntry::Lint0,
            Self::Lint1 => LvtEntry::Lint1,
        }
    }
}

impl LocalApic {
    /// Whether an interrupt of the 8259 pair reaches the processor through LINT0.
    #[inline]
    pub fn accepts_external_interrupt(&self) -> bool {
        self.pin(Pin::Lint0) == Some(DeliveryMode::ExtInt)
    }

    /// `pin` is at `level` now. What is [`Delivery::ExternalInterrupt`] stays so for as long as the pin is high.
    pub fn set_pin(&mut self, pin: Pin, level: Level) -> Delivery {
        let before = self.pins.get(pin);
        self.pins.set(pin, level);
        match (before, level) {
            (Level::Low, Level::High) => self.signal(pin),
            (Level::High, _) | (Level::Low, Level::Low) => Delivery::Refused,
        }
    }

    /// A rising edge on an interrupt pin.
    pub(super) fn signal(&mut self, pin: Pin) -> Delivery {
        match self.pin(pin) {
            Some(DeliveryMode::Fixed) => match self.entry(pin.entry()).trigger() {
                TriggerMode::Edge => self.request(self.entry(pin.entry()).vector(), TriggerMode::Edge),
                TriggerMode::Level => self.request_level(pin),
            },
            Some(DeliveryMode::Smi) => Delivery::Smi,
            Some(DeliveryMode::Nmi) => Delivery::Nmi,
            Some(DeliveryMode::Init) => Delivery::Init,
            Some(DeliveryMode::ExtInt) => Delivery::ExternalInterrupt,
            Some(DeliveryMode::LowestPriority | DeliveryMode::StartUp) | None => Delivery::Refused,
        }
    }

    /// What a signal on `pin` is, `None` when it is masked. Without an APIC the pins are INTR and NMI.
    fn pin(&self, pin: Pin) -> Option<DeliveryMode> {
        let entry = self.entry(pin.entry());
        match self.mode {
            Mode::Disabled => Some(match pin {
                Pin::Lint0 => DeliveryMode::ExtInt,
                Pin::Lint1 => DeliveryMode::Nmi,
            }),
            Mode::XApic | Mode::X2Apic if entry.is_masked() => None,
            Mode::XApic | Mode::X2Apic => entry.mode(),
        }
    }

    /// Requests what level-triggered pins that are high stand for, unless it was and has not ended: after an entry was
    /// written, and after the EOI of `ended`.
    pub(super) fn look_at_levels(&mut self, ended: Option<Vector>) {
        for pin in Pin::BOTH {
            let entry = &mut self.lvt[pin.entry() as usize];
            if ended == Some(entry.vector()) {
                *entry = Lvt(entry.0 & !Lvt::REMOTE_IRR);
            }
            let is_level = entry.trigger() == TriggerMode::Level;
            if is_level && self.pins.get(pin) == Level::High && self.pin(pin) == Some(DeliveryMode::Fixed) {
                self.request_level(pin);
            }
        }
    }

    fn request_level(&mut self, pin: Pin) -> Delivery {
        let entry = &mut self.lvt[pin.entry() as usize];
        if entry.0 & Lvt::REMOTE_IRR != 0 {
            return Delivery::Refused;
        }
        let vector = entry.vector();
        *entry = Lvt(entry.0 | Lvt::REMOTE_IRR);
        let delivery = self.request(vector, TriggerMode::Level);
        if delivery == Delivery::Refused {
            // An illegal vector has no EOI to wait for.
            let entry = &mut self.lvt[pin.entry() as usize];
            *entry = Lvt(entry.0 & !Lvt::REMOTE_IRR);
        }
        delivery
    }
}
