//! Control words of the 8254. Intel 8254 datasheet, "Programming the 8254" and "Read Operations"; IBM PC/AT
//! technical reference, "System Control Port B", for port 0x61.

use bitflags::bitflags;

/// What a counter does when it counts down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Mode 0.
    InterruptOnTerminalCount,
    /// Mode 1.
    OneShot,
    /// Mode 2.
    RateGenerator,
    /// Mode 3.
    SquareWave,
    /// Mode 4.
    SoftwareStrobe,
    /// Mode 5.
    HardwareStrobe,
}

impl Mode {
    /// From bits 3 to 1 of a control word; 6 and 7 are modes 2 and 3 again.
    pub(crate) const fn decode(control: u8) -> Self {
        match (control >> 1) & 7 {
            0 => Self::InterruptOnTerminalCount,
            1 => Self::OneShot,
            2 | 6 => Self::RateGenerator,
            3 | 7 => Self::SquareWave,
            4 => Self::SoftwareStrobe,
            _ => Self::HardwareStrobe,
        }
    }

    /// Bits 3 to 1 of a status byte.
    pub(crate) const fn encode(self) -> u8 {
        let number = match self {
            Self::InterruptOnTerminalCount => 0,
            Self::OneShot => 1,
            Self::RateGenerator => 2,
            Self::SquareWave => 3,
            Self::SoftwareStrobe => 4,
            Self::HardwareStrobe => 5,
        };
        number << 1
    }
}

/// Which bytes of a count are written and read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Low,
    High,
    LowThenHigh,
}

impl Access {
    /// From bits 5 and 4 of a control word; `None` is the counter latch command.
    pub(crate) const fn decode(control: u8) -> Option<Self> {
        match (control >> 4) & 3 {
            0 => None,
            1 => Some(Self::Low),
            2 => Some(Self::High),
            _ => Some(Self::LowThenHigh),
        }
    }

    /// Bits 5 and 4 of a status byte.
    pub(crate) const fn encode(self) -> u8 {
        match self {
            Self::Low => 0x10,
            Self::High => 0x20,
            Self::LowThenHigh => 0x30,
        }
    }
}

/// How a counter counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Radix {
    Binary,
    /// Four decimal digits.
    Bcd,
}

impl Radix {
    /// From bit 0 of a control word.
    pub(crate) const fn decode(control: u8) -> Self {
        if control & 1 == 0 { Self::Binary } else { Self::Bcd }
    }

    /// How many values the counter has: also the count that a zero stands for.
    pub(crate) const fn modulus(self) -> i64 {
        match self {
            Self::Binary => 0x1_0000,
            Self::Bcd => 10_000,
        }
    }

    /// The number of ticks that a written count means, 1 to 0x10000. Digits above 9 count as what they are.
    pub(crate) fn count(self, raw: u16) -> i64 {
        let raw = i64::from(raw);
        let value = match self {
            Self::Binary => raw,
            Self::Bcd => (raw >> 12) * 1000 + ((raw >> 8) & 15) * 100 + ((raw >> 4) & 15) * 10 + (raw & 15),
        };
        if value == 0 { self.modulus() } else { value }
    }

    /// The two bytes, low first, in which the counting element shows `value`.
    pub(crate) fn bytes(self, value: i64) -> [u8; 2] {
        let value = value.rem_euclid(self.modulus());
        let shown = match self {
            Self::Binary => value,
            Self::Bcd => {
                ((value / 1000) << 12) | ((value / 100 % 10) << 8) | ((value / 10 % 10) << 4) | (value % 10)
            }
        };
        let bytes = shown.to_le_bytes();
        [bytes[0], bytes[1]]
    }
}

/// Status byte: OUT is high.
pub(crate) const STATUS_OUT: u8 = 1 << 7;
/// Status byte: the count that was written is not in the counting element yet.
pub(crate) const STATUS_NULL_COUNT: u8 = 1 << 6;
/// Read-back command: set to leave the counts unlatched.
pub(crate) const READ_BACK_NO_COUNT: u8 = 1 << 5;
/// Read-back command: set to leave the status unlatched.
pub(crate) const READ_BACK_NO_STATUS: u8 = 1 << 4;

bitflags! {
    /// System control port B.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct ControlB: u8 {
        const TIMER_2_GATE = 1 << 0;
        const SPEAKER_DATA = 1 << 1;
        const PARITY_CHECK_OFF = 1 << 2;
        const CHANNEL_CHECK_OFF = 1 << 3;
        const REFRESH_TOGGLE = 1 << 4;
        const TIMER_2_OUT = 1 << 5;
    }
}

impl ControlB {
    /// The bits that a write sets.
    pub(crate) const WRITABLE: Self = Self::TIMER_2_GATE
        .union(Self::SPEAKER_DATA)
        .union(Self::PARITY_CHECK_OFF)
        .union(Self::CHANNEL_CHECK_OFF);
}
