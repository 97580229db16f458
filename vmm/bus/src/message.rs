//! Interrupt messages, as the IOAPIC and MSI sources send them to local APICs.
//!
//! SDM Vol. 3A, "Message Signalled Interrupts"; 82093AA IOAPIC datasheet, "I/O Redirection Table Registers".

use arch::Vector;

/// How a message is delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeliveryMode {
    /// To every processor of the destination.
    Fixed,
    /// To one processor of the destination, by priority.
    LowestPriority,
    /// System management interrupt.
    Smi,
    /// Non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// Start-up IPI; only processors send it.
    StartUp,
    /// As if an 8259 drove INTR.
    ExtInt,
}

/// Edge or level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TriggerMode {
    /// Edge: one message, one interrupt.
    Edge,
    /// Level: the EOI is reported back.
    Level,
}

/// To whom a message goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// The processor with this APIC ID; 0xff (0xffff_ffff in x2APIC) is all.
    Physical(u32),
    /// The processors whose logical destination register matches this message destination address.
    Logical(u32),
}

/// One interrupt message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterruptMessage {
    /// To whom.
    pub destination: Destination,
    /// How.
    pub mode: DeliveryMode,
    /// Edge or level.
    pub trigger: TriggerMode,
    /// The vector, ignored by modes that have none.
    pub vector: Vector,
}

impl InterruptMessage {
    /// The message that a device sends by writing the 4 bytes `data` at `address`, `None` if the address is not the
    /// local APICs' or the delivery mode is reserved.
    ///
    /// SDM Vol. 3A, "Message Address Register Format" and "Message Data Register Format". The redirection hint with
    /// a logical destination asks for one processor of several, as lowest-priority delivery does.
    pub const fn from_msi(address: u64, data: u32) -> Option<Self> {
        const ADDRESS_BASE: u64 = 0xfee0_0000;
        const ADDRESS_RANGE: u64 = 0xf_ffff;
        const REDIRECTION_HINT: u8 = 1 << 3;
        const LOGICAL: u8 = 1 << 2;
        const LEVEL_TRIGGERED: u8 = 1 << 7;
        if address & !ADDRESS_RANGE != ADDRESS_BASE {
            return None;
        }
        let [low, middle, high, ..] = address.to_le_bytes();
        let id = (high & 0x0f) << 4 | middle >> 4;
        let is_logical = low & LOGICAL != 0;
        let [vector, control, ..] = data.to_le_bytes();
        let mode = match control & 7 {
            0 if low & REDIRECTION_HINT != 0 && is_logical => DeliveryMode::LowestPriority,
            0 => DeliveryMode::Fixed,
            1 => DeliveryMode::LowestPriority,
            2 => DeliveryMode::Smi,
            4 => DeliveryMode::Nmi,
            5 => DeliveryMode::Init,
            7 => DeliveryMode::ExtInt,
            _ => return None,
        };
        Some(Self {
            destination: if is_logical {
                Destination::Logical(id as u32)
            } else {
                Destination::Physical(id as u32)
            },
            mode,
            trigger: if control & LEVEL_TRIGGERED != 0 { TriggerMode::Level } else { TriggerMode::Edge },
            vector: Vector(vector),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_write_says_to_whom_and_how() {
        let message = InterruptMessage::from_msi(0xfee1_2000, 0x0031).expect("the APICs' address");
        assert_eq!(message.destination, Destination::Physical(0x12));
        assert_eq!((message.mode, message.trigger), (DeliveryMode::Fixed, TriggerMode::Edge));
        assert_eq!(message.vector, Vector(0x31));
        let message = InterruptMessage::from_msi(0xfee0_300c, 0xc040).expect("the APICs' address");
        assert_eq!(message.destination, Destination::Logical(3));
        assert_eq!((message.mode, message.trigger), (DeliveryMode::LowestPriority, TriggerMode::Level));
    }

    #[test]
    fn other_addresses_and_reserved_modes_are_no_message() {
        assert_eq!(InterruptMessage::from_msi(0xfed0_0000, 0x31), None);
        assert_eq!(InterruptMessage::from_msi(0x1_fee0_0000, 0x31), None);
        assert_eq!(InterruptMessage::from_msi(0xfee0_0000, 0x0331), None);
        assert_eq!(InterruptMessage::from_msi(0xfee0_0000, 0x0631), None);
    }
}
