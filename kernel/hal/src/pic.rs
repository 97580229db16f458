//! The two 8259 interrupt controllers: moved out of the exceptions' way and masked for good.
//!
//! Intel 8259A data sheet, "Programming the 8259A".

use arch::Port;

use crate::interrupts::LEGACY_FIRST;
use crate::port;

const MASTER_COMMAND: Port = Port(0x20);
const MASTER_DATA: Port = Port(0x21);
const SLAVE_COMMAND: Port = Port(0xa0);
const SLAVE_DATA: Port = Port(0xa1);

/// Masks both controllers. Spurious interrupts then come at vectors that are ignored.
pub(crate) fn disable() {
    let sequence = [
        // ICW1: edge-triggered, cascaded, ICW4 follows.
        (MASTER_COMMAND, 0x11),
        (SLAVE_COMMAND, 0x11),
        // ICW2: the first vector.
        (MASTER_DATA, LEGACY_FIRST),
        (SLAVE_DATA, LEGACY_FIRST + 8),
        // ICW3: the slave is on line 2.
        (MASTER_DATA, 0x04),
        (SLAVE_DATA, 0x02),
        // ICW4: 8086 mode.
        (MASTER_DATA, 0x01),
        (SLAVE_DATA, 0x01),
        // OCW1: all masked.
        (MASTER_DATA, 0xff),
        (SLAVE_DATA, 0xff),
    ];
    for (port, value) in sequence {
        // SAFETY: the controllers' own ports; masking interrupts affects no memory.
        unsafe { port::write_u8(port, value) };
    }
}
