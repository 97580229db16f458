//! The 82093AA I/O APIC: 24 pins to interrupt messages. Intel 82093AA datasheet. It has the EOI register of later ones, so
//! that local APICs that do not broadcast the end of an interrupt can be used with it.
//!
//! A message that nobody has taken yet waits in a slot of its pin, so that there are never more than 24; a second
//! one of the same pin replaces it, as two interrupts of one vector become one in a local APIC. Lines are "asserted
//! or not": the polarity bit is kept and ignored, as a board wires each line to match. An edge on a masked pin is
//! lost, as the datasheet says; a level is not.
//!
//! Registers are 32 bits wide. Accesses must start at a register's first byte; they read and write ones and
//! nothing elsewhere. The select and the EOI register take the low byte of a write of any width; the latter reads
//! ones. The data window reads its low bytes at any width (zero in the upper half of an 8-byte read), and is written
//! by 4- and 8-byte accesses only. Indices without a register read zero, as they do of other makers' chips.
//!
//! Not modelled: the arbitration bus; delivery status, which always reads idle.

mod spec;
#[cfg(test)]
mod tests;

use arch::platform_layout::{IOAPIC_ID, IOAPIC_PINS};
use arch::{Vector, Width};
use bus::InterruptMessage;
use spec::{EOI_OFFSET, Entry, ID_MASK, Register, SELECT_OFFSET, VERSION, WINDOW_OFFSET};

use crate::lanes::{low_byte, low_word};

const PINS: usize = IOAPIC_PINS as usize;
const PIN_MASK: u32 = (1 << IOAPIC_PINS) - 1;

/// Everything about the I/O APIC that a snapshot needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IoApicState {
    select: u8,
    id: u32,
    entries: [Entry; PINS],
    /// Levels of the pins.
    lines: u32,
    /// Messages not taken yet, by pin.
    waiting: [Option<InterruptMessage>; PINS],
    /// The pins that have one.
    waiting_pins: u32,
}

/// An 82093AA.
#[derive(Debug)]
pub struct IoApic {
    state: IoApicState,
}

impl Default for IoApic {
    fn default() -> Self {
        Self::new()
    }
}

impl IoApic {
    /// An I/O APIC after reset, all pins masked and low.
    pub fn new() -> Self {
        Self {
            state: IoApicState {
                select: 0,
                id: u32::from(IOAPIC_ID) << 24,
                entries: [Entry::RESET; PINS],
                lines: 0,
                waiting: [None; PINS],
                waiting_pins: 0,
            },
        }
    }

    /// Reads `width` at `offset` in the register window.
    pub fn read(&mut self, offset: u64, width: Width) -> u64 {
        let register = match offset {
            SELECT_OFFSET => u32::from(self.state.select),
            WINDOW_OFFSET => self.read_register(),
            _ => return width.mask(),
        };
        u64::from(register) & width.mask()
    }

    /// Writes `width` at `offset` in the register window.
    pub fn write(&mut self, offset: u64, width: Width, value: u64) {
        let value = low_word(value);
        match offset {
            SELECT_OFFSET => self.state.select = low_byte(value),
            WINDOW_OFFSET => match width {
                Width::Four | Width::Eight => self.write_register(value),
                Width::One | Width::Two => {}
            },
            EOI_OFFSET => self.end_of_interrupt(Vector(low_byte(value))),
            _ => {}
        }
    }

    /// The pins are now at `level`; those in `rose` went up since the last call, perhaps down again.
    pub fn set_lines(&mut self, level: u32, rose: u32) {
        let level = level & PIN_MASK;
        let mut look_at = (rose | (level & !self.state.lines)) & PIN_MASK;
        self.state.lines = level;
        while look_at != 0 {
            let pin = first_pin(look_at);
            look_at &= look_at - 1;
            let entry = self.state.entries[pin];
            if entry.is_level() {
                self.deliver_level(pin);
            } else if !entry.is_masked() {
                self.send(pin, entry.message());
            }
        }
    }

    /// A local APIC broadcast the EOI of `vector`: every level-triggered pin with it is ready again, and delivers
    /// again if it is still up.
    pub fn end_of_interrupt(&mut self, vector: Vector) {
        for pin in 0..PINS {
            let entry = self.state.entries[pin];
            if entry.is_level() && entry.remote_irr() && entry.vector() == vector {
                self.state.entries[pin] = entry.with_remote_irr(false);
                self.deliver_level(pin);
            }
        }
    }

    /// Whether a message waits.
    #[inline]
    pub fn has_message(&self) -> bool {
        self.state.waiting_pins != 0
    }

    /// Takes a waiting message, of the lowest pin first.
    pub fn take_message(&mut self) -> Option<InterruptMessage> {
        if self.state.waiting_pins == 0 {
            return None;
        }
        let pin = first_pin(self.state.waiting_pins);
        self.state.waiting_pins &= self.state.waiting_pins - 1;
        self.state.waiting[pin].take()
    }

    /// As after the RESET pin; `level` is where the lines are, which makes no edge.
    pub fn reset(&mut self, level: u32) {
        *self = Self::new();
        self.state.lines = level & PIN_MASK;
    }

    /// The state, to be restored later.
    pub fn save(&self) -> IoApicState {
        self.state.clone()
    }

    /// Becomes the I/O APIC that [`Self::save`] saw.
    pub fn restore(&mut self, state: &IoApicState) {
        self.state = state.clone();
    }

    fn read_register(&self) -> u32 {
        match Register::at(self.state.select) {
            // Nothing arbitrates here, so the arbitration ID is the one that was written.
            Register::Id | Register::Arbitration => self.state.id,
            Register::Version => VERSION,
            Register::EntryLow(pin) => low_word(self.state.entries[pin].0),
            Register::EntryHigh(pin) => low_word(self.state.entries[pin].0 >> 32),
            Register::Reserved => 0,
        }
    }

    fn write_register(&mut self, value: u32) {
        match Register::at(self.state.select) {
            Register::Id => self.state.id = value & ID_MASK,
            Register::EntryLow(pin) => {
                self.state.entries[pin] = self.state.entries[pin].with_low(value);
                // A level that was masked, or seen as edges until now, is delivered as soon as it may.
                if self.state.entries[pin].is_level() {
                    self.deliver_level(pin);
                }
            }
            Register::EntryHigh(pin) => self.state.entries[pin] = self.state.entries[pin].with_high(value),
            Register::Version | Register::Arbitration | Register::Reserved => {}
        }
    }

    /// Sends the message of a level-triggered pin if the line is up and the last one is done with.
    fn deliver_level(&mut self, pin: usize) {
        let entry = self.state.entries[pin];
        if self.state.lines & (1 << pin) != 0 && !entry.is_masked() && !entry.remote_irr() {
            self.state.entries[pin] = entry.with_remote_irr(true);
            self.send(pin, entry.message());
        }
    }

    fn send(&mut self, pin: usize, message: Option<InterruptMessage>) {
        if message.is_some() {
            self.state.waiting[pin] = message;
            self.state.waiting_pins |= 1 << pin;
        }
    }
}

/// The lowest pin in `pins`, which is not empty.
fn first_pin(pins: u32) -> usize {
    // `trailing_zeros` of a nonzero mask of pins is below 24.
    (pins.trailing_zeros() as usize).min(PINS - 1)
}
