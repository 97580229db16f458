//! An MF2 keyboard: a queue of scan codes, and the commands that are sent to it.

use super::spec::{
    ACKNOWLEDGE, ECHO, IDENTIFICATION, KEYBOARD_TEST_PASSED, KeyboardCommand, OVERRUN, RESEND,
};
use super::translate::Translator;

/// Bytes that the keyboard keeps until they are taken.
const QUEUE_BYTES: usize = 16;
/// Bytes that answers to a command may need beyond that.
const ANSWER_BYTES: usize = 4;

/// Which codes the keyboard sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ScanCodeSet {
    One,
    Two,
}

/// What the next byte that is sent to the keyboard is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expecting {
    Command,
    Indicators,
    Set,
    Rate,
}

/// Whether keys are reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scanning {
    On,
    Off,
}

/// A keyboard, as plain data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Keyboard {
    queue: [u8; QUEUE_BYTES + ANSWER_BYTES],
    queued: usize,
    set: ScanCodeSet,
    to_set_1: Translator,
    scanning: Scanning,
    expecting: Expecting,
    indicators: u8,
    rate: u8,
    last_sent: u8,
}

/// The repeat rate after reset: half a second, then 10.9 a second.
const DEFAULT_RATE: u8 = 0x2b;

impl Keyboard {
    /// A keyboard after power-on, its self test long done.
    pub(super) const fn after_reset() -> Self {
        Self {
            queue: [0; QUEUE_BYTES + ANSWER_BYTES],
            queued: 0,
            set: ScanCodeSet::Two,
            to_set_1: Translator::Pressed,
            scanning: Scanning::On,
            expecting: Expecting::Command,
            indicators: 0,
            rate: DEFAULT_RATE,
            last_sent: 0,
        }
    }

    /// The bytes `codes` of scan code set 2 are what the keys did. Returns whether they were taken: all or none.
    pub(super) fn keys(&mut self, codes: &[u8]) -> bool {
        match self.scanning {
            // Nobody listens; nobody needs to be told.
            Scanning::Off => return true,
            Scanning::On => {}
        }
        if self.queued + codes.len() > QUEUE_BYTES {
            if self.queued < QUEUE_BYTES {
                self.send(OVERRUN);
            }
            return false;
        }
        for &code in codes {
            match self.set {
                ScanCodeSet::Two => self.send(code),
                ScanCodeSet::One => {
                    if let Some(code) = self.to_set_1.translate(code) {
                        self.send(code);
                    }
                }
            }
        }
        true
    }

    /// Whether [`Self::keys`] takes `count` bytes.
    pub(super) const fn has_room_for(&self, count: usize) -> bool {
        matches!(self.scanning, Scanning::Off) || self.queued + count <= QUEUE_BYTES
    }

    /// Takes the next byte to the controller.
    pub(super) fn take(&mut self) -> Option<u8> {
        if self.queued == 0 {
            return None;
        }
        let byte = self.queue[0];
        self.queue.copy_within(1.., 0);
        self.queued -= 1;
        self.last_sent = byte;
        Some(byte)
    }

    /// The controller sends `byte` to the keyboard.
    pub(super) fn receive(&mut self, byte: u8) {
        let expecting = core::mem::replace(&mut self.expecting, Expecting::Command);
        let command = KeyboardCommand::decode(byte);
        if expecting != Expecting::Command && command == KeyboardCommand::Unknown {
            return self.argument(expecting, byte);
        }
        // A command instead of an argument is a command.
        match command {
            KeyboardCommand::Echo => self.send(ECHO),
            KeyboardCommand::Unknown => self.send(RESEND),
            KeyboardCommand::Resend => self.send(self.last_sent),
            KeyboardCommand::SetIndicators => self.acknowledge(Expecting::Indicators),
            KeyboardCommand::ScanCodeSet => self.acknowledge(Expecting::Set),
            KeyboardCommand::SetRate => self.acknowledge(Expecting::Rate),
            KeyboardCommand::AllKeys => self.acknowledge(Expecting::Command),
            KeyboardCommand::Identify => {
                self.acknowledge(Expecting::Command);
                IDENTIFICATION.into_iter().for_each(|byte| self.send(byte));
            }
            KeyboardCommand::Enable => {
                self.queued = 0;
                self.scanning = Scanning::On;
                self.acknowledge(Expecting::Command);
            }
            KeyboardCommand::DisableAndDefault => {
                *self = Self { scanning: Scanning::Off, last_sent: self.last_sent, ..Self::after_reset() };
                self.acknowledge(Expecting::Command);
            }
            KeyboardCommand::Default => {
                *self = Self { last_sent: self.last_sent, ..Self::after_reset() };
                self.acknowledge(Expecting::Command);
            }
            KeyboardCommand::Reset => {
                *self = Self::after_reset();
                self.acknowledge(Expecting::Command);
                self.send(KEYBOARD_TEST_PASSED);
            }
        }
    }

    fn argument(&mut self, expecting: Expecting, value: u8) {
        match expecting {
            Expecting::Command => {}
            Expecting::Indicators => {
                self.indicators = value & 7;
                self.acknowledge(Expecting::Command);
            }
            Expecting::Rate => {
                self.rate = value & 0x7f;
                self.acknowledge(Expecting::Command);
            }
            Expecting::Set => match value {
                0 => {
                    self.acknowledge(Expecting::Command);
                    self.send(match self.set {
                        ScanCodeSet::One => 1,
                        ScanCodeSet::Two => 2,
                    });
                }
                1 => self.choose(ScanCodeSet::One),
                2 => self.choose(ScanCodeSet::Two),
                _ => self.send(RESEND),
            },
        }
    }

    fn choose(&mut self, set: ScanCodeSet) {
        self.set = set;
        self.to_set_1 = Translator::default();
        self.acknowledge(Expecting::Command);
    }

    fn acknowledge(&mut self, then: Expecting) {
        self.expecting = then;
        self.send(ACKNOWLEDGE);
    }

    fn send(&mut self, byte: u8) {
        // Room for one answer is always left unless somebody sends commands and never reads; then they are lost.
        if let Some(place) = self.queue.get_mut(self.queued) {
            *place = byte;
            self.queued += 1;
        }
    }
}
