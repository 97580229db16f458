//! The configuration space of one function: registers, which of their bits are written, and the list of capabilities.
//! PCI Local Bus Specification 3.0, "Configuration Space Organization".
//!
//! Registers are 4 bytes; narrower writes come as byte enables, as on the bus. What is not there reads zero, in the
//! extended space too: there are no extended capabilities. Writes to bits that are read-only are ignored.

use super::spec::{
    CAPABILITIES, CLASS, COMMAND, COMMAND_KEPT, CONFIG_BYTES, FIRST_CAPABILITY, HAS_CAPABILITIES, ID,
    INTERRUPT, Identity, SUBSYSTEM,
};

/// 4-byte registers in the space.
const WORDS: usize = CONFIG_BYTES as usize / 4;

/// Everything about a configuration space that a snapshot needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigSpaceState([u32; WORDS]);

/// The registers of one function.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    values: [u32; WORDS],
    /// The bits that software writes.
    writable: [u32; WORDS],
    /// As at reset.
    initial: [u32; WORDS],
    /// Where the next capability may begin.
    free: u8,
    /// The register that points to the next capability, and the bits to shift the pointer by.
    link: (u16, u32),
}

impl ConfigSpace {
    /// A type 0 header of `identity`, with a command register, an interrupt line register, and nothing else.
    pub fn new(identity: Identity) -> Self {
        let mut space = Self {
            values: [0; WORDS],
            writable: [0; WORDS],
            initial: [0; WORDS],
            free: FIRST_CAPABILITY,
            link: (CAPABILITIES, 0),
        };
        let pair = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
        space.define(ID, pair(identity.vendor, identity.device), 0);
        space.define(COMMAND, 0, COMMAND_KEPT);
        space.define(CLASS, identity.class << 8 | u32::from(identity.revision), 0);
        space.define(SUBSYSTEM, pair(identity.subsystem.0, identity.subsystem.1), 0);
        space
    }

    /// Defines the register at `offset`: what it is at reset, and the bits that software writes.
    pub fn define(&mut self, offset: u16, initial: u32, writable: u32) {
        if let Some(index) = index_of(offset) {
            self.values[index] = initial;
            self.initial[index] = initial;
            self.writable[index] = writable;
        }
    }

    /// Gives the function interrupt pin `pin` (1 for INTA#), and a register for software to note the line in.
    pub fn define_interrupt_pin(&mut self, pin: u8) {
        self.define(INTERRUPT, u32::from(pin) << 8, 0xff);
    }

    /// Appends a capability: its `words`, each with the bits that software writes. The low half of the first word is
    /// filled in here. Returns where it is.
    pub fn add_capability(&mut self, id: u8, words: &[(u32, u32)]) -> u16 {
        let start = self.free;
        let (link, shift) = self.link;
        self.define_bits(link, u32::from(start) << shift);
        self.define_bits(COMMAND, HAS_CAPABILITIES);
        let mut offset = u16::from(start);
        for &(initial, writable) in words {
            self.define(offset, initial, writable);
            offset = offset.saturating_add(4);
        }
        self.define_bits(u16::from(start), u32::from(id));
        self.link = (u16::from(start), 8);
        self.free = u8::try_from(offset).unwrap_or(u8::MAX);
        u16::from(start)
    }

    /// The register at `offset`.
    pub fn get(&self, offset: u16) -> u32 {
        index_of(offset).map_or(0, |index| self.values[index])
    }

    /// Software writes those bits of the register at `offset` that `enables` has, as far as they can be written.
    pub fn write(&mut self, offset: u16, value: u32, enables: u32) {
        if let Some(index) = index_of(offset) {
            let written = self.writable[index] & enables;
            self.values[index] = (self.values[index] & !written) | (value & written);
        }
    }

    /// As after RST#.
    pub fn reset(&mut self) {
        self.values = self.initial;
    }

    /// The registers, to be restored later.
    pub fn save(&self) -> ConfigSpaceState {
        ConfigSpaceState(self.values)
    }

    /// Becomes what [`Self::save`] saw of a function of the same kind.
    pub fn restore(&mut self, state: &ConfigSpaceState) {
        for ((value, saved), writable) in self.values.iter_mut().zip(state.0).zip(self.writable) {
            *value = (*value & !writable) | (saved & writable);
        }
    }

    /// Sets bits of a register at reset.
    fn define_bits(&mut self, offset: u16, bits: u32) {
        if let Some(index) = index_of(offset) {
            self.values[index] |= bits;
            self.initial[index] |= bits;
        }
    }
}

fn index_of(offset: u16) -> Option<usize> {
    let index = usize::from(offset / 4);
    (index < WORDS).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity =
        Identity { vendor: 0x1234, device: 0x5678, class: 0x0c_03_30, revision: 2, subsystem: (1, 2) };

    #[test]
    fn the_header_says_what_the_function_is() {
        let space = ConfigSpace::new(IDENTITY);
        assert_eq!((space.get(0), space.get(8), space.get(0x2c)), (0x5678_1234, 0x0c03_3002, 0x0002_0001));
        assert_eq!(space.get(4), 0, "everything is off, and there are no capabilities");
        assert!(
            (0xc..0x1000).step_by(4).filter(|offset| *offset != 0x2c).all(|offset| space.get(offset) == 0)
        );
    }

    #[test]
    fn only_enabled_bytes_of_writable_bits_are_written() {
        let mut space = ConfigSpace::new(IDENTITY);
        space.write(0, u32::MAX, u32::MAX);
        assert_eq!(space.get(0), 0x5678_1234);
        space.write(4, u32::MAX, 0xff00);
        assert_eq!(space.get(4), 0x0500);
        space.write(4, u32::MAX, u32::MAX);
        assert_eq!(space.get(4), COMMAND_KEPT);
        space.reset();
        assert_eq!(space.get(4), 0);
        space.write(0x1000, u32::MAX, u32::MAX);
    }

    #[test]
    fn capabilities_form_a_list() {
        let mut space = ConfigSpace::new(IDENTITY);
        let first = space.add_capability(0x10, &[(0xaaaa_0000, 0), (1, 0)]);
        let second = space.add_capability(0x05, &[(0, 0x1_0000)]);
        assert_eq!((first, second), (0x40, 0x48));
        assert_eq!(space.get(4), HAS_CAPABILITIES);
        assert_eq!(space.get(0x34), 0x40);
        assert_eq!((space.get(0x40), space.get(0x48)), (0xaaaa_4810, 0x05));
    }

    #[test]
    fn a_restored_space_takes_what_software_can_write_and_nothing_else() {
        let mut space = ConfigSpace::new(IDENTITY);
        space.write(4, 7, 7);
        let mut copy = ConfigSpace::new(Identity { device: 1, ..IDENTITY });
        copy.restore(&space.save());
        assert_eq!((copy.get(0), copy.get(4)), (0x0001_1234, 7));
    }
}
