//! The ports that reset a PC. Intel 82371SB (PIIX3) datasheet, "Reset Control Register" and "Port 92".

use bitflags::bitflags;

bitflags! {
    /// Reset control register, port 0xCF9.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Reset: u8 {
        /// The reset to come is of the whole system, not of the processor alone.
        const SYSTEM = 1 << 1;
        /// Resets when it goes from 0 to 1.
        const DO_IT = 1 << 2;
        /// The reset to come cycles the power.
        const FULL = 1 << 3;
    }

    /// System control port A, port 0x92.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct ControlA: u8 {
        /// Resets when it goes from 0 to 1.
        const FAST_RESET = 1 << 0;
        const A20_GATE = 1 << 1;
    }
}
