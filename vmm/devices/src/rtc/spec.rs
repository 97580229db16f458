//! Registers of the MC146818A clock and the conventional contents of a PC's CMOS memory.
//! MC146818A datasheet, "Registers"; IBM PC/AT technical reference, "Real-time Clock/CMOS RAM Information".

use bitflags::bitflags;

/// Bytes of CMOS memory, the clock's registers included.
pub(crate) const CMOS_BYTES: usize = 128;

/// Indices of the registers.
pub(crate) const SECONDS: usize = 0x00;
pub(crate) const SECONDS_ALARM: usize = 0x01;
pub(crate) const MINUTES: usize = 0x02;
pub(crate) const MINUTES_ALARM: usize = 0x03;
pub(crate) const HOURS: usize = 0x04;
pub(crate) const HOURS_ALARM: usize = 0x05;
pub(crate) const WEEKDAY: usize = 0x06;
pub(crate) const DAY: usize = 0x07;
pub(crate) const MONTH: usize = 0x08;
pub(crate) const YEAR: usize = 0x09;
pub(crate) const CENTURY: usize = arch::platform_layout::CMOS_CENTURY as usize;

/// What an index means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Register {
    /// A register that the clock advances.
    Time,
    /// A register that the time is compared with.
    Alarm,
    A,
    B,
    C,
    D,
    /// Memory without a meaning to the clock.
    Memory,
}

impl Register {
    /// The register at `index`, below [`CMOS_BYTES`].
    pub(crate) const fn at(index: usize) -> Self {
        match index {
            SECONDS | MINUTES | HOURS | WEEKDAY | DAY | MONTH | YEAR | CENTURY => Self::Time,
            SECONDS_ALARM | MINUTES_ALARM | HOURS_ALARM => Self::Alarm,
            0x0a => Self::A,
            0x0b => Self::B,
            0x0c => Self::C,
            0x0d => Self::D,
            _ => Self::Memory,
        }
    }
}

/// Register A: an update is in progress or about to begin.
pub(crate) const UPDATE_IN_PROGRESS: u8 = 0x80;
/// Register A: the divider bits.
pub(crate) const DIVIDER: u8 = 0x70;
/// Register A: both of these divider bits set hold the divider in reset.
pub(crate) const DIVIDER_RESET: u8 = 0x60;
/// Register A: the periodic interrupt's rate.
pub(crate) const RATE: u8 = 0x0f;
/// Register A after power-on: a 32.768 kHz crystal, periodic rate 1024 Hz.
pub(crate) const A_DEFAULT: u8 = 0x26;
/// Register D: the battery is good.
pub(crate) const VALID_RAM_AND_TIME: u8 = 0x80;
/// An alarm register with both of these bits set matches everything.
pub(crate) const ALARM_ANY: u8 = 0xc0;
/// The hours registers' afternoon bit in 12-hour mode.
pub(crate) const AFTERNOON: u8 = 0x80;

bitflags! {
    /// Register B.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct ControlB: u8 {
        const DAYLIGHT_SAVING = 1 << 0;
        const HOURS_24 = 1 << 1;
        const BINARY = 1 << 2;
        const SQUARE_WAVE = 1 << 3;
        const UPDATE_INTERRUPT = 1 << 4;
        const ALARM_INTERRUPT = 1 << 5;
        const PERIODIC_INTERRUPT = 1 << 6;
        const SET = 1 << 7;
    }

    /// Register C; its flags are at the places of register B's enables.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct FlagsC: u8 {
        const UPDATE_ENDED = 1 << 4;
        const ALARM = 1 << 5;
        const PERIODIC = 1 << 6;
        const REQUEST = 1 << 7;
    }
}

/// Ticks of the 32.768 kHz divider between two periodic interrupts at `rate`, `None` for rate 0, which is off.
pub(crate) const fn periodic_ticks(rate: u8) -> Option<u64> {
    match rate & RATE {
        0 => None,
        // With a 32.768 kHz crystal the two fastest rates repeat 256 and 128 Hz.
        1 => Some(128),
        2 => Some(256),
        rate => Some(1 << (rate - 1)),
    }
}
