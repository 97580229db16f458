//! How messages find a local APIC: the part of its state that senders look at.
//!
//! SDM Vol. 3A, "Determining IPI Destination".

use super::Mode;
use super::spec::{DFR_FLAT, x2apic_logical};
use bus::Destination;

/// A local APIC's mode, ID and logical address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addressing {
    pub(super) mode: Mode,
    /// The APIC ID.
    pub(super) id: u32,
    /// The 8-bit logical address of xAPIC mode; in x2APIC mode it follows from the ID.
    pub(super) logical: u32,
    /// The 4-bit model of xAPIC mode: flat or cluster.
    pub(super) format: u32,
}

/// The model bits of the flat model.
const FLAT: u32 = DFR_FLAT >> 28;

impl Addressing {
    /// After reset: xAPIC mode, no logical address, flat model.
    pub const fn after_reset(id: u32) -> Self {
        Self { mode: Mode::XApic, id, logical: 0, format: FLAT }
    }

    /// As one word, for an atomic.
    pub(crate) const fn to_word(self) -> u64 {
        let mode = match self.mode {
            Mode::Disabled => 0,
            Mode::XApic => 1,
            Mode::X2Apic => 2,
        };
        self.id as u64 | (self.logical as u64 & 0xff) << 32 | (self.format as u64 & 0xf) << 40 | mode << 44
    }

    /// What [`Self::to_word`] made.
    #[expect(clippy::cast_possible_truncation, reason = "the fields of a word")]
    pub(crate) const fn from_word(word: u64) -> Self {
        let mode = match word >> 44 & 3 {
            1 => Mode::XApic,
            2 => Mode::X2Apic,
            _ => Mode::Disabled,
        };
        Self { mode, id: word as u32, logical: (word >> 32) as u32 & 0xff, format: (word >> 40) as u32 & 0xf }
    }

    /// Whether [`Self::to_word`] made `word` of a local APIC that is not disabled.
    #[inline]
    pub(crate) const fn is_enabled_in(word: u64) -> bool {
        word >> 44 & 3 != 0
    }

    /// Whether a message to `destination` is for this local APIC. A disabled one gets none.
    pub fn matches(self, destination: Destination) -> bool {
        match (self.mode, destination) {
            (Mode::Disabled, _) => false,
            // I/O APICs and MSIs know only the 8-bit broadcast, whatever mode the receiver is in.
            (Mode::XApic | Mode::X2Apic, Destination::Physical(id)) => {
                id == self.id || id == 0xff || id == u32::MAX
            }
            (Mode::XApic, Destination::Logical(address)) => self.matches_xapic_logical(address),
            (Mode::X2Apic, Destination::Logical(address)) => {
                let own = x2apic_logical(self.id);
                address == u32::MAX || (address >> 16 == own >> 16 && address & own & 0xffff != 0)
            }
        }
    }

    fn matches_xapic_logical(self, address: u32) -> bool {
        let own = self.logical;
        if address == 0xff || address == u32::MAX {
            true
        } else if self.format == FLAT {
            address & own != 0
        } else {
            // The cluster model: a cluster in the high nibble, places in the low one. Cluster 15 is all.
            let cluster = address >> 4;
            (cluster == own >> 4 || cluster == 0xf) && address & own & 0xf != 0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_the_way_through_a_word() {
        for mode in [Mode::Disabled, Mode::XApic, Mode::X2Apic] {
            let addressing = Addressing { mode, id: 0xdead_beef, logical: 0xa5, format: 0 };
            assert_eq!(Addressing::from_word(addressing.to_word()), addressing);
            assert_eq!(Addressing::is_enabled_in(addressing.to_word()), mode != Mode::Disabled);
        }
        let reset = Addressing::after_reset(7);
        assert_eq!(Addressing::from_word(reset.to_word()), reset);
    }
}
