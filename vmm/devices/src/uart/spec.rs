//! Register layouts of the 16550A. PC16550D datasheet, "Registers".

use bitflags::bitflags;

/// Frequency of the baud generator's input over 16: the character clock of divisor 1, in bits a second.
pub(crate) const BASE_BAUD: u64 = 115_200;
/// Depth of each FIFO, in bytes.
pub(crate) const FIFO_BYTES: usize = 16;

/// What an offset means to a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ReadRegister {
    ReceiveBuffer,
    DivisorLow,
    InterruptEnable,
    DivisorHigh,
    InterruptIdentification,
    LineControl,
    ModemControl,
    LineStatus,
    ModemStatus,
    Scratch,
}

impl ReadRegister {
    /// The register at `offset`, taken modulo 8, under `line_control`.
    #[inline]
    pub(crate) fn at(offset: u16, line_control: LineControl) -> Self {
        let divisor = line_control.contains(LineControl::DIVISOR_ACCESS);
        match offset & 7 {
            0 if divisor => Self::DivisorLow,
            0 => Self::ReceiveBuffer,
            1 if divisor => Self::DivisorHigh,
            1 => Self::InterruptEnable,
            2 => Self::InterruptIdentification,
            3 => Self::LineControl,
            4 => Self::ModemControl,
            5 => Self::LineStatus,
            6 => Self::ModemStatus,
            _ => Self::Scratch,
        }
    }
}

/// What an offset means to a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WriteRegister {
    TransmitHolding,
    DivisorLow,
    InterruptEnable,
    DivisorHigh,
    FifoControl,
    LineControl,
    ModemControl,
    /// Line and modem status: read-only.
    Status,
    Scratch,
}

impl WriteRegister {
    /// The register at `offset`, taken modulo 8, under `line_control`.
    #[inline]
    pub(crate) fn at(offset: u16, line_control: LineControl) -> Self {
        let divisor = line_control.contains(LineControl::DIVISOR_ACCESS);
        match offset & 7 {
            0 if divisor => Self::DivisorLow,
            0 => Self::TransmitHolding,
            1 if divisor => Self::DivisorHigh,
            1 => Self::InterruptEnable,
            2 => Self::FifoControl,
            3 => Self::LineControl,
            4 => Self::ModemControl,
            5 | 6 => Self::Status,
            _ => Self::Scratch,
        }
    }
}

bitflags! {
    /// Interrupt enable register.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct InterruptEnable: u8 {
        const RECEIVED = 1 << 0;
        const TRANSMIT_EMPTY = 1 << 1;
        const LINE_STATUS = 1 << 2;
        const MODEM_STATUS = 1 << 3;
    }

    /// FIFO control register, as far as it is kept.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct FifoControl: u8 {
        const ENABLE = 1 << 0;
        const CLEAR_RECEIVE = 1 << 1;
        const CLEAR_TRANSMIT = 1 << 2;
        const DMA_MODE = 1 << 3;
        const TRIGGER_LOW = 1 << 6;
        const TRIGGER_HIGH = 1 << 7;
    }

    /// Line control register.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct LineControl: u8 {
        const WORD_LENGTH_LOW = 1 << 0;
        const WORD_LENGTH_HIGH = 1 << 1;
        const TWO_STOP_BITS = 1 << 2;
        const PARITY = 1 << 3;
        const EVEN_PARITY = 1 << 4;
        const STICK_PARITY = 1 << 5;
        const BREAK = 1 << 6;
        const DIVISOR_ACCESS = 1 << 7;
    }

    /// Modem control register.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct ModemControl: u8 {
        const DTR = 1 << 0;
        const RTS = 1 << 1;
        const OUT1 = 1 << 2;
        const OUT2 = 1 << 3;
        const LOOPBACK = 1 << 4;
    }

    /// Line status register.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct LineStatus: u8 {
        const DATA_READY = 1 << 0;
        const OVERRUN = 1 << 1;
        const PARITY_ERROR = 1 << 2;
        const FRAMING_ERROR = 1 << 3;
        const BREAK = 1 << 4;
        const TRANSMIT_HOLDING_EMPTY = 1 << 5;
        const TRANSMITTER_EMPTY = 1 << 6;
        const FIFO_ERROR = 1 << 7;
    }

    /// Modem status register.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct ModemStatus: u8 {
        const DELTA_CTS = 1 << 0;
        const DELTA_DSR = 1 << 1;
        const TRAILING_RI = 1 << 2;
        const DELTA_DCD = 1 << 3;
        const CTS = 1 << 4;
        const DSR = 1 << 5;
        const RI = 1 << 6;
        const DCD = 1 << 7;
    }
}

impl FifoControl {
    /// How many received bytes raise the interrupt, while the FIFOs are on.
    pub(crate) fn trigger(self) -> usize {
        match (self.contains(Self::TRIGGER_HIGH), self.contains(Self::TRIGGER_LOW)) {
            (false, false) => 1,
            (false, true) => 4,
            (true, false) => 8,
            (true, true) => 14,
        }
    }
}

impl LineControl {
    /// Bits on the wire for one character: start, data, parity, stop.
    pub(crate) fn bits_per_character(self) -> u64 {
        let data = 5 + u64::from((self & (Self::WORD_LENGTH_LOW | Self::WORD_LENGTH_HIGH)).bits());
        let parity = u64::from(self.contains(Self::PARITY));
        let stop = 1 + u64::from(self.contains(Self::TWO_STOP_BITS));
        1 + data + parity + stop
    }
}

/// The interrupt that the identification register shows, highest priority first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Interrupt {
    LineStatus,
    ReceivedData,
    CharacterTimeout,
    TransmitEmpty,
    ModemStatus,
    None,
}

impl Interrupt {
    /// Bits 0 to 3 of the identification register.
    pub(crate) const fn identification(self) -> u8 {
        match self {
            Self::LineStatus => 0x06,
            Self::ReceivedData => 0x04,
            Self::CharacterTimeout => 0x0c,
            Self::TransmitEmpty => 0x02,
            Self::ModemStatus => 0x00,
            Self::None => 0x01,
        }
    }
}

/// Bits 6 and 7 of the identification register while the FIFOs are on.
pub(crate) const IDENTIFICATION_FIFOS_ON: u8 = 0xc0;
