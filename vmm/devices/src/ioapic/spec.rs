//! Registers of the 82093AA, with the EOI register that later I/O APICs have. Intel 82093AA datasheet, "Register
//! Description"; Intel ICH10 datasheet, "EOIR—EOI Register".

use arch::Vector;
use bus::{DeliveryMode, Destination, InterruptMessage, TriggerMode};

/// Offset of the register select register in the window.
pub(crate) const SELECT_OFFSET: u64 = 0x00;
/// Offset of the data window.
pub(crate) const WINDOW_OFFSET: u64 = 0x10;
/// Offset of the EOI register: a vector that is written to it ends, as if a local APIC had broadcast its end.
pub(crate) const EOI_OFFSET: u64 = 0x40;
/// Version 0x20, the first with an EOI register, in bits 7 to 0, the highest redirection entry in bits 23 to 16.
pub(crate) const VERSION: u32 = 0x0017_0020;
/// The ID register's writable bits.
pub(crate) const ID_MASK: u32 = 0x0f00_0000;

/// What a register index means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Register {
    Id,
    Version,
    Arbitration,
    /// The low half of the redirection entry of this pin.
    EntryLow(usize),
    /// The high half of the redirection entry of this pin.
    EntryHigh(usize),
    Reserved,
}

impl Register {
    pub(crate) fn at(index: u8) -> Self {
        match index {
            0x00 => Self::Id,
            0x01 => Self::Version,
            0x02 => Self::Arbitration,
            0x10..=0x3f => {
                let pin = usize::from((index - 0x10) >> 1);
                if index & 1 == 0 { Self::EntryLow(pin) } else { Self::EntryHigh(pin) }
            }
            0x03..=0x0f | 0x40..=0xff => Self::Reserved,
        }
    }
}

/// A redirection table entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry(pub(crate) u64);

impl Entry {
    const LOGICAL: u64 = 1 << 11;
    const REMOTE_IRR: u64 = 1 << 14;
    const LEVEL: u64 = 1 << 15;
    const MASKED: u64 = 1 << 16;
    /// Vector, delivery mode, destination mode, polarity, trigger mode, mask; remote IRR and status are read-only.
    const WRITABLE_LOW: u64 = 0x0001_afff;
    const WRITABLE_HIGH: u64 = 0xff00_0000;

    /// An entry after reset: masked.
    pub(crate) const RESET: Self = Self(Self::MASKED);

    /// This entry with its low half written.
    pub(crate) fn with_low(self, value: u32) -> Self {
        let entry = Self((self.0 & !Self::WRITABLE_LOW) | (u64::from(value) & Self::WRITABLE_LOW));
        // An entry that becomes edge-triggered has no remote IRR; that is how drivers clear a stuck one.
        if entry.is_level() { entry } else { entry.with_remote_irr(false) }
    }

    /// This entry with its high half written.
    pub(crate) fn with_high(self, value: u32) -> Self {
        Self((self.0 & 0xffff_ffff) | (u64::from(value) & Self::WRITABLE_HIGH) << 32)
    }

    pub(crate) fn with_remote_irr(self, set: bool) -> Self {
        Self(if set { self.0 | Self::REMOTE_IRR } else { self.0 & !Self::REMOTE_IRR })
    }

    pub(crate) fn remote_irr(self) -> bool {
        self.0 & Self::REMOTE_IRR != 0
    }

    pub(crate) fn is_masked(self) -> bool {
        self.0 & Self::MASKED != 0
    }

    pub(crate) fn vector(self) -> Vector {
        Vector(self.0.to_le_bytes()[0])
    }

    /// `None` for the two reserved modes.
    fn mode(self) -> Option<DeliveryMode> {
        match (self.0 >> 8) & 7 {
            0 => Some(DeliveryMode::Fixed),
            1 => Some(DeliveryMode::LowestPriority),
            2 => Some(DeliveryMode::Smi),
            4 => Some(DeliveryMode::Nmi),
            5 => Some(DeliveryMode::Init),
            7 => Some(DeliveryMode::ExtInt),
            _ => None,
        }
    }

    /// Whether the pin is level-triggered: only the modes with a vector can be ("Delivery Mode": the others are
    /// treated as edge-triggered even if programmed otherwise).
    pub(crate) fn is_level(self) -> bool {
        self.0 & Self::LEVEL != 0
            && matches!(self.mode(), Some(DeliveryMode::Fixed | DeliveryMode::LowestPriority))
    }

    /// The message of this entry, `None` if its delivery mode is reserved.
    pub(crate) fn message(self) -> Option<InterruptMessage> {
        let destination = u32::from(self.0.to_le_bytes()[7]);
        Some(InterruptMessage {
            destination: if self.0 & Self::LOGICAL != 0 {
                Destination::Logical(destination)
            } else {
                Destination::Physical(destination)
            },
            mode: self.mode()?,
            trigger: if self.is_level() { TriggerMode::Level } else { TriggerMode::Edge },
            vector: self.vector(),
        })
    }
}
