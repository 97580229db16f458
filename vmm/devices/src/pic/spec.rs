//! Command words of the 8259A. Intel 8259A datasheet, "Programming the 8259A"; for the edge/level control registers
//! (which a PC's chipset adds), Intel 82371SB (PIIX3) datasheet, "Interrupt Controller".

use bitflags::bitflags;

/// The input of the primary chip to which the secondary is connected.
pub(crate) const CASCADE: u8 = 2;
/// The input whose vector stands for a request that went away.
pub(crate) const SPURIOUS: u8 = 7;
/// Writable bits of the two edge/level control registers: 0, 1, 2, 8 and 13 are always edge-triggered.
pub(crate) const ELCR_WRITABLE: [u8; 2] = [0xf8, 0xde];

bitflags! {
    /// Initialization command word 1 (a write to the even port with bit 4 set).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Icw1: u8 {
        const NEEDS_ICW4 = 1 << 0;
        const SINGLE = 1 << 1;
        /// Without effect in a PC, where the edge/level control registers say it of each line.
        const LEVEL_TRIGGERED = 1 << 3;
        const THIS_IS_ICW1 = 1 << 4;
    }

    /// Initialization command word 4.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Icw4: u8 {
        const MODE_8086 = 1 << 0;
        const AUTO_EOI = 1 << 1;
        const SPECIAL_FULLY_NESTED = 1 << 4;
    }

    /// Operation command word 3 (a write to the even port with bits 4 and 3 reading 01).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Ocw3: u8 {
        const READ_ISR = 1 << 0;
        const READ_COMMAND = 1 << 1;
        const POLL = 1 << 2;
        const THIS_IS_OCW3 = 1 << 3;
        const SPECIAL_MASK = 1 << 5;
        const SPECIAL_MASK_COMMAND = 1 << 6;
    }
}

/// Operation command word 2, by its bits 7 to 5; a level is in bits 2 to 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ocw2 {
    RotateInAutoEoiOff,
    NonSpecificEoi,
    NoOperation,
    SpecificEoi(u8),
    RotateInAutoEoiOn,
    RotateOnNonSpecificEoi,
    SetPriority(u8),
    RotateOnSpecificEoi(u8),
}

impl Ocw2 {
    pub(crate) const fn decode(value: u8) -> Self {
        let level = value & 7;
        match value >> 5 {
            0 => Self::RotateInAutoEoiOff,
            1 => Self::NonSpecificEoi,
            2 => Self::NoOperation,
            3 => Self::SpecificEoi(level),
            4 => Self::RotateInAutoEoiOn,
            5 => Self::RotateOnNonSpecificEoi,
            6 => Self::SetPriority(level),
            _ => Self::RotateOnSpecificEoi(level),
        }
    }
}
