//! The keyboard controller (ports 0x60 and 0x64) with an MF2 keyboard at its first port and nothing at its second.
//! Intel 8042 as programmed in the IBM PC/AT and Personal System/2.
//!
//! Bytes travel at once: the input buffer is never full, and the next byte of the keyboard is there when the last was
//! read. Each byte at the data port is an edge on the interrupt line of its port. The second port is there and works,
//! as its loop-back command shows, but no device answers on it. The A20 bit of the output port is kept and gates
//! nothing; a low reset bit resets the machine.
//!
//! Both ports are one byte; the platform splits wider accesses. Ports 0x61 to 0x63 are not the controller's.
//!
//! Not modelled: the time that bytes take; scan code set 3; the repetition of keys that stay down (whoever feeds the
//! keys repeats them); passwords.

mod keyboard;
mod spec;
#[cfg(test)]
mod tests;
mod translate;

use bus::{IrqLine, PowerRequest};
use keyboard::Keyboard;
use spec::{
    Command, Control, INPUT_PORT, INTERFACE_GOOD, NO_ANSWER, NO_PASSWORD, OutputPort, SELF_TEST_PASSED,
    Status,
};
use translate::Translator;

/// Bytes of the controller's memory.
const MEMORY_BYTES: usize = 32;

/// One of the two ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum I8042Port {
    /// Port 0x60.
    Data,
    /// Port 0x64: status, and commands.
    Command,
}

/// What the next write to the data port is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Expecting {
    /// A byte for the keyboard.
    ForKeyboard,
    /// A byte of the controller's memory, at this address.
    Memory(u8),
    OutputPort,
    /// As if the keyboard had sent it.
    KeyboardOutput,
    /// As if the device at the second port had sent it.
    AuxiliaryOutput,
    /// A byte for the device at the second port.
    ForAuxiliary,
}

/// Who put a byte into the output buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    /// The controller or the keyboard.
    Keyboard,
    Auxiliary,
    /// The second port, where nobody answered.
    AuxiliarySilence,
}

/// Everything about controller and keyboard that a snapshot needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct I8042State {
    control: Control,
    /// The controller's memory but for address 0, which is `control`.
    memory: [u8; MEMORY_BYTES],
    output_port: OutputPort,
    expecting: Expecting,
    /// Bits of the status that are kept: [`Status::SYSTEM`] and [`Status::COMMAND`].
    kept_status: Status,
    /// The byte at the data port, while it waits.
    output: Option<(u8, Source)>,
    /// The byte that was there last, which is read again while none waits.
    last_output: u8,
    translator: Translator,
    keyboard: Keyboard,
}

impl I8042State {
    /// As firmware leaves it: tested, keyboard on and translated. The interrupts are left to whoever wants them.
    fn after_reset() -> Self {
        Self {
            control: Control::SYSTEM | Control::TRANSLATE | Control::AUXILIARY_OFF,
            memory: [0; MEMORY_BYTES],
            output_port: OutputPort::NOT_RESET | OutputPort::A20_GATE,
            expecting: Expecting::ForKeyboard,
            kept_status: Status::SYSTEM,
            output: None,
            last_output: 0,
            translator: Translator::default(),
            keyboard: Keyboard::after_reset(),
        }
    }
}

/// A keyboard controller and its keyboard.
#[derive(Debug)]
pub struct I8042 {
    keyboard_irq: IrqLine,
    auxiliary_irq: IrqLine,
    state: I8042State,
}

impl I8042 {
    /// A controller as firmware leaves it, which interrupts through these lines.
    pub fn new(keyboard_irq: IrqLine, auxiliary_irq: IrqLine) -> Self {
        Self { keyboard_irq, auxiliary_irq, state: I8042State::after_reset() }
    }

    /// Reads a port.
    pub fn read(&mut self, port: I8042Port) -> u8 {
        match port {
            I8042Port::Command => self.status().bits(),
            I8042Port::Data => {
                if let Some((byte, _)) = self.state.output.take() {
                    self.state.last_output = byte;
                    // The interrupt goes away and comes back with the next byte: an edge for each.
                    self.drive_irqs();
                    self.refill();
                }
                self.state.last_output
            }
        }
    }

    /// Writes a port, and returns what that asks of the platform.
    pub fn write(&mut self, port: I8042Port, value: u8) -> Option<PowerRequest> {
        let request = match port {
            I8042Port::Command => {
                self.state.kept_status.insert(Status::COMMAND);
                self.command(Command::decode(value))
            }
            I8042Port::Data => {
                self.state.kept_status.remove(Status::COMMAND);
                self.data(value)
            }
        };
        self.refill();
        request
    }

    /// The keys did what the bytes `codes` of scan code set 2 say, as a keyboard sends them: `1c` for A going down,
    /// `f0 1c` for A going up. Returns whether they were taken, all or none: the keyboard keeps 16 bytes.
    pub fn keys(&mut self, codes: &[u8]) -> bool {
        let taken = self.state.keyboard.keys(codes);
        self.refill();
        taken
    }

    /// Whether [`Self::keys`] would take `count` bytes.
    pub(crate) const fn has_room_for(&self, count: usize) -> bool {
        self.state.keyboard.has_room_for(count)
    }

    /// As after a reset of the machine.
    pub fn reset(&mut self) {
        self.state = I8042State::after_reset();
        self.drive_irqs();
    }

    /// The state, to be restored later.
    pub fn save(&self) -> I8042State {
        self.state.clone()
    }

    /// Becomes the controller that [`Self::save`] saw.
    pub fn restore(&mut self, state: &I8042State) {
        self.state = state.clone();
        self.drive_irqs();
    }

    fn status(&self) -> Status {
        let output = match self.state.output {
            None => Status::empty(),
            Some((_, Source::Keyboard)) => Status::OUTPUT_FULL,
            Some((_, Source::Auxiliary)) => Status::OUTPUT_FULL | Status::AUXILIARY,
            Some((_, Source::AuxiliarySilence)) => Status::OUTPUT_FULL | Status::AUXILIARY | Status::TIMEOUT,
        };
        self.state.kept_status | Status::UNLOCKED | output
    }

    fn command(&mut self, command: Command) -> Option<PowerRequest> {
        self.state.expecting = Expecting::ForKeyboard;
        match command {
            Command::ReadMemory(address) => {
                let byte = match address {
                    0 => self.state.control.bits(),
                    _ => self.state.memory[usize::from(address) % MEMORY_BYTES],
                };
                self.answer(byte);
            }
            Command::WriteMemory(address) => self.state.expecting = Expecting::Memory(address),
            Command::TestPassword => self.answer(NO_PASSWORD),
            Command::AuxiliaryOff => self.state.control.insert(Control::AUXILIARY_OFF),
            Command::AuxiliaryOn => self.state.control.remove(Control::AUXILIARY_OFF),
            Command::TestAuxiliary | Command::TestKeyboard => self.answer(INTERFACE_GOOD),
            Command::SelfTest => {
                self.state.kept_status.insert(Status::SYSTEM);
                self.answer(SELF_TEST_PASSED);
            }
            Command::KeyboardOff => self.state.control.insert(Control::KEYBOARD_OFF),
            Command::KeyboardOn => self.state.control.remove(Control::KEYBOARD_OFF),
            Command::ReadInputPort => self.answer(INPUT_PORT),
            Command::ReadOutputPort => {
                let port = self.output_port();
                self.answer(port.bits());
            }
            Command::WriteOutputPort => self.state.expecting = Expecting::OutputPort,
            Command::WriteKeyboardOutput => self.state.expecting = Expecting::KeyboardOutput,
            Command::WriteAuxiliaryOutput => self.state.expecting = Expecting::AuxiliaryOutput,
            Command::WriteAuxiliary => self.state.expecting = Expecting::ForAuxiliary,
            Command::A20Off => self.state.output_port.remove(OutputPort::A20_GATE),
            Command::A20On => self.state.output_port.insert(OutputPort::A20_GATE),
            // Clock lines of both devices, which are idle.
            Command::ReadTestInputs => self.answer(0),
            Command::Pulse(lines) => {
                return (lines & OutputPort::NOT_RESET.bits() == 0).then_some(PowerRequest::Reset);
            }
            Command::Unknown => {}
        }
        None
    }

    fn data(&mut self, value: u8) -> Option<PowerRequest> {
        match core::mem::replace(&mut self.state.expecting, Expecting::ForKeyboard) {
            Expecting::ForKeyboard => {
                // Whoever talks to the keyboard wants to hear it.
                self.state.control.remove(Control::KEYBOARD_OFF);
                self.state.keyboard.receive(value);
            }
            Expecting::Memory(0) => {
                self.state.control = Control::from_bits_truncate(value);
                let system = self.state.control.contains(Control::SYSTEM);
                self.state.kept_status.set(Status::SYSTEM, system);
                self.drive_irqs();
            }
            Expecting::Memory(address) => {
                self.state.memory[usize::from(address) % MEMORY_BYTES] = value;
            }
            Expecting::OutputPort => {
                let kept = OutputPort::NOT_RESET | OutputPort::A20_GATE;
                self.state.output_port = OutputPort::from_bits_truncate(value) & kept | OutputPort::NOT_RESET;
                if value & OutputPort::NOT_RESET.bits() == 0 {
                    return Some(PowerRequest::Reset);
                }
            }
            Expecting::KeyboardOutput => self.put(value, Source::Keyboard),
            Expecting::AuxiliaryOutput => self.put(value, Source::Auxiliary),
            Expecting::ForAuxiliary => self.put(NO_ANSWER, Source::AuxiliarySilence),
        }
        None
    }

    /// The output port: two lines that are kept, and the state of the interrupt lines.
    fn output_port(&self) -> OutputPort {
        let mut port = self.state.output_port;
        port.set(OutputPort::KEYBOARD_INTERRUPT, matches!(self.state.output, Some((_, Source::Keyboard))));
        port.set(
            OutputPort::AUXILIARY_INTERRUPT,
            matches!(self.state.output, Some((_, Source::Auxiliary | Source::AuxiliarySilence))),
        );
        port
    }

    /// The controller itself answers a command.
    fn answer(&mut self, byte: u8) {
        self.put(byte, Source::Keyboard);
    }

    /// Puts a byte at the data port; one that nobody read is lost.
    fn put(&mut self, byte: u8, source: Source) {
        self.state.output = None;
        self.drive_irqs();
        self.state.output = Some((byte, source));
        self.drive_irqs();
    }

    /// Puts the keyboard's next byte at the data port, if it is free and the keyboard on.
    fn refill(&mut self) {
        while self.state.output.is_none() && !self.state.control.contains(Control::KEYBOARD_OFF) {
            let Some(byte) = self.state.keyboard.take() else { return };
            let byte = if self.state.control.contains(Control::TRANSLATE) {
                self.state.translator.translate(byte)
            } else {
                Some(byte)
            };
            if let Some(byte) = byte {
                self.put(byte, Source::Keyboard);
            }
        }
    }

    fn drive_irqs(&self) {
        let (keyboard, auxiliary) = match self.state.output {
            None => (false, false),
            Some((_, Source::Keyboard)) => (true, false),
            Some((_, Source::Auxiliary | Source::AuxiliarySilence)) => (false, true),
        };
        let control = self.state.control;
        self.keyboard_irq.set(keyboard && control.contains(Control::KEYBOARD_INTERRUPT));
        self.auxiliary_irq.set(auxiliary && control.contains(Control::AUXILIARY_INTERRUPT));
    }
}
