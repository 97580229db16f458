//! The pair of 8259A interrupt controllers of a PC, with the chipset's edge/level control registers.
//! Intel 8259A datasheet; 82371SB (PIIX3) datasheet, "Interrupt Controller", for the ELCR.
//!
//! The secondary's INT is wired to input 2 of the primary, whatever ICW3 says; a primary that is told to be single
//! takes it for an interrupt like the others. Buffered mode only turns an output pin, and is taken; so is the bit of
//! ICW1 for level triggering, in whose place a PC has the ELCR. An edge-triggered input that falls before it is
//! acknowledged withdraws its request, so that the acknowledge finds none and gives the spurious vector 7. At power-on
//! everything is masked, and the ELCR has the system control interrupt level-triggered, as firmware leaves it.
//!
//! Every register is one byte; the platform splits wider accesses into bytes at successive ports.
//!
//! Not modelled: MCS-80 mode, another wiring of the cascade.

mod chip;
mod spec;
#[cfg(test)]
mod tests;

use arch::Vector;
use arch::platform_layout::SCI_IRQ;
use chip::Registers;
use spec::{CASCADE, ELCR_WRITABLE, SPURIOUS};

/// One of the two chips.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chip {
    /// ISA interrupts 0 to 7, drives INTR.
    Primary,
    /// ISA interrupts 8 to 15, drives input 2 of the primary.
    Secondary,
}

/// Everything about the pair that a snapshot needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PicPairState {
    primary: Registers,
    secondary: Registers,
    intr: bool,
}

/// Two cascaded 8259As.
#[derive(Debug)]
pub struct PicPair {
    state: PicPairState,
}

impl Default for PicPair {
    fn default() -> Self {
        Self::new()
    }
}

impl PicPair {
    /// The pair at power-on, with all inputs low.
    pub fn new() -> Self {
        let [primary, secondary] = (1_u16 << SCI_IRQ).to_le_bytes();
        Self {
            state: PicPairState {
                primary: Registers::after_reset(primary),
                secondary: Registers::after_reset(secondary),
                intr: false,
            },
        }
    }

    /// Whether INTR is asserted.
    #[inline]
    pub fn output(&self) -> bool {
        self.state.intr
    }

    /// The 16 ISA interrupt lines are now at `level`, those in `rose` went up since the last call. Bit 2, the
    /// cascade, is not a line.
    pub fn set_lines(&mut self, level: u16, rose: u16) {
        let [low_level, high_level] = level.to_le_bytes();
        let [low_rose, high_rose] = rose.to_le_bytes();
        self.state.secondary.set_lines(high_level, high_rose);
        let cascade = self.state.primary.lines() & (1 << CASCADE);
        self.state.primary.set_lines((low_level & !(1 << CASCADE)) | cascade, low_rose & !(1 << CASCADE));
        self.settle();
    }

    /// The processor's INTA cycle: the vector to deliver.
    pub fn acknowledge(&mut self) -> Vector {
        let vector = match self.state.primary.acknowledge() {
            Some(CASCADE) if !self.state.primary.is_single() => {
                let input = self.state.secondary.acknowledge().unwrap_or(SPURIOUS);
                self.state.secondary.vector(input)
            }
            Some(input) => self.state.primary.vector(input),
            None => self.state.primary.vector(SPURIOUS),
        };
        // The secondary drops INT on the second INTA pulse, and raises it again if it has more.
        self.drive_cascade(false);
        self.settle();
        Vector(vector)
    }

    /// Reads a chip's even (`offset` 0) or odd (`offset` 1) port.
    pub fn read(&mut self, chip: Chip, offset: u16) -> u8 {
        let value = self.chip(chip).read(offset & 1 != 0);
        self.settle();
        value
    }

    /// Writes a chip's even (`offset` 0) or odd (`offset` 1) port.
    pub fn write(&mut self, chip: Chip, offset: u16, value: u8) {
        self.chip(chip).write(offset & 1 != 0, value);
        self.settle();
    }

    /// Reads a chip's edge/level control register.
    pub fn read_elcr(&self, chip: Chip) -> u8 {
        match chip {
            Chip::Primary => self.state.primary.elcr,
            Chip::Secondary => self.state.secondary.elcr,
        }
    }

    /// Writes a chip's edge/level control register: one bit an input, set for level-triggered.
    pub fn write_elcr(&mut self, chip: Chip, value: u8) {
        match chip {
            Chip::Primary => self.state.primary.elcr = value & ELCR_WRITABLE[0],
            Chip::Secondary => self.state.secondary.elcr = value & ELCR_WRITABLE[1],
        }
        self.settle();
    }

    /// As at power-on; lines that are up stay up and make no edge.
    pub fn reset(&mut self, level: u16) {
        *self = Self::new();
        self.set_lines(level, 0);
    }

    /// The state, to be restored later.
    pub fn save(&self) -> PicPairState {
        self.state.clone()
    }

    /// Becomes the pair that [`Self::save`] saw.
    pub fn restore(&mut self, state: &PicPairState) {
        self.state = state.clone();
    }

    fn chip(&mut self, chip: Chip) -> &mut Registers {
        match chip {
            Chip::Primary => &mut self.state.primary,
            Chip::Secondary => &mut self.state.secondary,
        }
    }

    /// Carries the secondary's INT to the primary and the primary's INT to INTR.
    fn settle(&mut self) {
        let secondary = self.state.secondary.output();
        self.drive_cascade(secondary);
        self.state.intr = self.state.primary.output();
    }

    fn drive_cascade(&mut self, level: bool) {
        let before = self.state.primary.lines();
        let after = if level { before | (1 << CASCADE) } else { before & !(1 << CASCADE) };
        if after != before {
            self.state.primary.set_lines(after, after & !before);
        }
    }
}
