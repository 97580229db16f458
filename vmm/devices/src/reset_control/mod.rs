//! The ports that reset the machine: the reset control register (0xCF9) and system control port A (0x92) with the A20
//! gate. Intel 82371SB (PIIX3) datasheet; IBM PC/AT technical reference.
//!
//! Every kind of reset, a soft one included, resets the whole machine. The A20 gate's bit is kept, and gates nothing:
//! address line 20 is always on (ADR 0017). The third way to reset, the keyboard controller's, is a device of its own.
//!
//! Every register is one byte; the platform splits wider accesses into bytes at successive ports.

mod spec;
#[cfg(test)]
mod tests;

use bus::PowerRequest;
use spec::{ControlA, Reset};

/// One of the ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// The reset control register, port 0xCF9.
    ResetControl,
    /// System control port A, port 0x92.
    ControlA,
}

/// Everything about the ports that a snapshot needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResetControlState {
    reset: Reset,
    control_a: ControlA,
}

/// The reset ports.
#[derive(Debug)]
pub struct ResetControl {
    state: ResetControlState,
}

impl Default for ResetControl {
    fn default() -> Self {
        Self::new()
    }
}

impl ResetControl {
    /// The ports after reset, with A20 shown as on.
    pub fn new() -> Self {
        Self { state: ResetControlState { reset: Reset::empty(), control_a: ControlA::A20_GATE } }
    }

    /// Reads a port.
    pub fn read(&self, port: Trigger) -> u8 {
        match port {
            Trigger::ResetControl => self.state.reset.bits(),
            Trigger::ControlA => self.state.control_a.bits(),
        }
    }

    /// Writes a port, and returns what that asks of the platform.
    pub fn write(&mut self, port: Trigger, value: u8) -> Option<PowerRequest> {
        let resets = match port {
            Trigger::ResetControl => {
                let before = self.state.reset;
                self.state.reset = Reset::from_bits_truncate(value);
                (self.state.reset & !before).contains(Reset::DO_IT)
            }
            Trigger::ControlA => {
                let before = self.state.control_a;
                self.state.control_a = ControlA::from_bits_truncate(value);
                (self.state.control_a & !before).contains(ControlA::FAST_RESET)
            }
        };
        resets.then_some(PowerRequest::Reset)
    }

    /// As after power-on.
    pub fn reset(&mut self) {
        *self = Self::new();
    }

    /// The state, to be restored later.
    pub fn save(&self) -> ResetControlState {
        self.state.clone()
    }

    /// Becomes what [`Self::save`] saw.
    pub fn restore(&mut self, state: &ResetControlState) {
        self.state = state.clone();
    }
}
