//! Registers and commands of a PC's keyboard controller and of the keyboard behind it. Intel 8042 as programmed in the
//! IBM PC/AT and Personal System/2; IBM Personal System/2 Hardware Interface Technical Reference, "Keyboard and
//! Auxiliary Device Controller" and "Keyboards".

use bitflags::bitflags;

bitflags! {
    /// Status, read at the command port.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Status: u8 {
        /// A byte waits at the data port.
        const OUTPUT_FULL = 1 << 0;
        /// The self test has passed.
        const SYSTEM = 1 << 2;
        /// The last write was to the command port.
        const COMMAND = 1 << 3;
        /// The keyboard is not locked by the key in the case.
        const UNLOCKED = 1 << 4;
        /// The byte that waits is from the second port.
        const AUXILIARY = 1 << 5;
        /// A device did not answer.
        const TIMEOUT = 1 << 6;
    }

    /// The controller's command byte, at address 0 of its memory.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Control: u8 {
        const KEYBOARD_INTERRUPT = 1 << 0;
        const AUXILIARY_INTERRUPT = 1 << 1;
        const SYSTEM = 1 << 2;
        const KEYBOARD_OFF = 1 << 4;
        const AUXILIARY_OFF = 1 << 5;
        /// What the keyboard sends is translated from scan code set 2 to set 1.
        const TRANSLATE = 1 << 6;
    }

    /// The controller's output port.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct OutputPort: u8 {
        /// Low resets the processor.
        const NOT_RESET = 1 << 0;
        const A20_GATE = 1 << 1;
        const KEYBOARD_INTERRUPT = 1 << 4;
        const AUXILIARY_INTERRUPT = 1 << 5;
    }
}

/// Input port: the keyboard is not locked, a color display.
pub(crate) const INPUT_PORT: u8 = 0x80;
/// The answer of a passed controller self test.
pub(crate) const SELF_TEST_PASSED: u8 = 0x55;
/// The answer of a passed interface test.
pub(crate) const INTERFACE_GOOD: u8 = 0x00;
/// The answer to "is a password set": none is.
pub(crate) const NO_PASSWORD: u8 = 0xf1;
/// What is read where a device did not answer.
pub(crate) const NO_ANSWER: u8 = 0xfe;

/// A command to the controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    ReadMemory(u8),
    WriteMemory(u8),
    TestPassword,
    AuxiliaryOff,
    AuxiliaryOn,
    TestAuxiliary,
    SelfTest,
    TestKeyboard,
    KeyboardOff,
    KeyboardOn,
    ReadInputPort,
    ReadOutputPort,
    WriteOutputPort,
    WriteKeyboardOutput,
    WriteAuxiliaryOutput,
    WriteAuxiliary,
    A20Off,
    A20On,
    ReadTestInputs,
    /// Pulses the output lines whose bit is zero.
    Pulse(u8),
    Unknown,
}

impl Command {
    pub(crate) const fn decode(value: u8) -> Self {
        match value {
            0x20..=0x3f => Self::ReadMemory(value & 0x1f),
            0x60..=0x7f => Self::WriteMemory(value & 0x1f),
            0xa4 => Self::TestPassword,
            0xa7 => Self::AuxiliaryOff,
            0xa8 => Self::AuxiliaryOn,
            0xa9 => Self::TestAuxiliary,
            0xaa => Self::SelfTest,
            0xab => Self::TestKeyboard,
            0xad => Self::KeyboardOff,
            0xae => Self::KeyboardOn,
            0xc0 => Self::ReadInputPort,
            0xd0 => Self::ReadOutputPort,
            0xd1 => Self::WriteOutputPort,
            0xd2 => Self::WriteKeyboardOutput,
            0xd3 => Self::WriteAuxiliaryOutput,
            0xd4 => Self::WriteAuxiliary,
            0xdd => Self::A20Off,
            0xdf => Self::A20On,
            0xe0 => Self::ReadTestInputs,
            0xf0..=0xff => Self::Pulse(value & 0x0f),
            _ => Self::Unknown,
        }
    }
}

/// The keyboard takes a command, or an argument.
pub(crate) const ACKNOWLEDGE: u8 = 0xfa;
/// The keyboard did not understand.
pub(crate) const RESEND: u8 = 0xfe;
/// The keyboard's answer to "echo".
pub(crate) const ECHO: u8 = 0xee;
/// The keyboard passed its self test.
pub(crate) const KEYBOARD_TEST_PASSED: u8 = 0xaa;
/// The keyboard lost keys.
pub(crate) const OVERRUN: u8 = 0x00;
/// The keyboard's identification: an MF2 keyboard.
pub(crate) const IDENTIFICATION: [u8; 2] = [0xab, 0x83];
/// Prefix of a released key in scan code set 2.
pub(crate) const BREAK: u8 = 0xf0;
/// Bit of a released key in scan code set 1.
pub(crate) const BREAK_BIT: u8 = 0x80;

/// A command to the keyboard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KeyboardCommand {
    SetIndicators,
    Echo,
    ScanCodeSet,
    Identify,
    SetRate,
    Enable,
    DisableAndDefault,
    Default,
    /// Makes all keys of set 3 repeat, or tell of their release, or neither; of no effect in the other sets.
    AllKeys,
    Resend,
    Reset,
    Unknown,
}

impl KeyboardCommand {
    pub(crate) const fn decode(value: u8) -> Self {
        match value {
            0xed => Self::SetIndicators,
            0xee => Self::Echo,
            0xf0 => Self::ScanCodeSet,
            0xf2 => Self::Identify,
            0xf3 => Self::SetRate,
            0xf4 => Self::Enable,
            0xf5 => Self::DisableAndDefault,
            0xf6 => Self::Default,
            0xf7..=0xfa => Self::AllKeys,
            0xfe => Self::Resend,
            0xff => Self::Reset,
            _ => Self::Unknown,
        }
    }
}
