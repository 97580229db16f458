//! Ports for people who debug: the diagnostic port 0x80, the debug console 0xE9 as Bochs has it, the one at 0x402 to
//! which firmware writes, and the device at 0xF4 by which a test program ends its machine with a status, as QEMU's `isa-debug-exit` with `iobase=0xf4,iosize=4`.
//!
//! The diagnostic port keeps the last byte, as the page register of the DMA controller that is there does. The debug
//! console reads its own number, which is how programs find it. The exit device, where the machine has it, takes
//! a write of any width that starts in its four ports and fits in them, and reads zero; where the machine has none,
//! its ports are like any without a device.
#[cfg(test)]
mod tests;

use arch::platform_layout::{DEBUG_CONSOLE, DEBUG_EXIT_PORTS};
use bus::PowerRequest;

/// Whether the machine has the device that ends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DebugExit {
    /// No: its ports are open bus.
    #[default]
    Absent,
    /// Yes: a guest can end its machine with a status.
    Present,
}

/// What becomes of text that the guest writes to the debug console.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DebugConsole {
    /// Nothing.
    #[default]
    Silent,
    /// It goes out where the serial port's text does.
    OnConsole,
}

/// Everything about the ports that a snapshot needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DebugPortsState {
    diagnostic: u8,
}

/// The three ports.
#[derive(Debug)]
pub struct DebugPorts {
    exit: DebugExit,
    console: DebugConsole,
    state: DebugPortsState,
}

impl DebugPorts {
    /// The ports after reset.
    pub fn new(exit: DebugExit, console: DebugConsole) -> Self {
        Self { exit, console, state: DebugPortsState { diagnostic: 0 } }
    }

    /// The last byte that was written to the diagnostic port.
    #[inline]
    pub fn diagnostic(&self) -> u8 {
        self.state.diagnostic
    }

    /// Writes the diagnostic port.
    #[inline]
    pub fn write_diagnostic(&mut self, value: u8) {
        self.state.diagnostic = value;
    }

    /// Reads the debug console.
    pub fn read_console(&self) -> u8 {
        let [number, _] = DEBUG_CONSOLE.0.to_le_bytes();
        number
    }

    /// Reads firmware's debug console: as the other one where text is shown, so that firmware writes none in vain.
    pub fn read_firmware_console(&self) -> u8 {
        match self.console {
            DebugConsole::Silent => 0xff,
            DebugConsole::OnConsole => self.read_console(),
        }
    }

    /// Writes a debug console: the byte to show, if it is to be shown.
    pub fn write_console(&self, byte: u8) -> Option<u8> {
        match self.console {
            DebugConsole::Silent => None,
            DebugConsole::OnConsole => Some(byte),
        }
    }

    /// Reads a byte of the exit device.
    pub fn read_exit(&self) -> u8 {
        match self.exit {
            DebugExit::Absent => 0xff,
            DebugExit::Present => 0,
        }
    }

    /// Writes `bytes` bytes of `value` from the exit device's port `offset` on, and returns what that asks of the
    /// platform.
    pub fn write_exit(&self, offset: u16, bytes: usize, value: u32) -> Option<PowerRequest> {
        match self.exit {
            DebugExit::Present if usize::from(offset) + bytes <= usize::from(DEBUG_EXIT_PORTS) => {
                Some(PowerRequest::Exit { status: exit_status(value) })
            }
            DebugExit::Present | DebugExit::Absent => None,
        }
    }

    /// As after a reset of the machine.
    pub fn reset(&mut self) {
        *self = Self::new(self.exit, self.console);
    }

    /// The state, to be restored later.
    pub fn save(&self) -> DebugPortsState {
        self.state.clone()
    }

    /// Becomes what [`Self::save`] saw.
    pub fn restore(&mut self, state: &DebugPortsState) {
        self.state = state.clone();
    }
}

/// The status that stands for `value`: odd, so that no value is success.
const fn exit_status(value: u32) -> u32 {
    value << 1 | 1
}

const _: () = assert!(DEBUG_EXIT_PORTS == 4);
