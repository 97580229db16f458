//! The first serial port, polled: where the test guest reports.
//!
//! Source: National Semiconductor, "PC16550D Universal Asynchronous Receiver/Transmitter with FIFOs".

use core::fmt::{self, Write};

use crate::machine::cpu::{in8, out8};

/// COM1.
const BASE: u16 = 0x3f8;
/// The scratch register, which does nothing but remember a byte.
pub(crate) const SCRATCH: u16 = BASE + 7;
const LINE_STATUS: u16 = BASE + 5;
const TRANSMITTER_EMPTY: u8 = 0x60;

/// 115200 baud, eight bits, no parity, no interrupts.
pub(crate) fn init() {
    out8(BASE + 1, 0);
    out8(BASE + 3, 0x80);
    out8(BASE, 1);
    out8(BASE + 1, 0);
    out8(BASE + 3, 3);
    out8(BASE + 2, 7);
    out8(BASE + 4, 3);
}

/// Writes to COM1 and waits for the transmitter.
pub(crate) struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            wait_for(0x20);
            out8(BASE, byte);
        }
        Ok(())
    }
}

/// Waits until all that was written has left the port.
pub(crate) fn flush() {
    wait_for(TRANSMITTER_EMPTY);
}

fn wait_for(bits: u8) {
    for _ in 0..1_000_000 {
        if in8(LINE_STATUS) & bits == bits {
            return;
        }
    }
}

/// Prints a line on the serial port.
macro_rules! report {
    ($($argument:tt)*) => {{
        use core::fmt::Write as _;
        let _ = writeln!($crate::console::Console, $($argument)*);
    }};
}
pub(crate) use report;
