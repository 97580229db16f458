//! The adapter's memory: four planes of bytes, and how the processor's accesses reach them.
//!
//! Byte `n` of plane `p` is byte `4n + p` of the memory, so that the 32-bit words of it are what the latches hold, and
//! so that modes of 8 bits a pixel and more, in which software sees successive bytes, have them in their order. The
//! adapter stores bytes that are addressed by fours (chain 4) or by twos (odd and even) with gaps in each plane; here
//! they are without gaps, which software notices only where it changes between addressings and expects what it wrote
//! in the other.
//!
//! IBM Personal System/2 Hardware Interface Technical Reference, "Graphics Controller".

use super::spec::{MemoryMode, Misc, graphics, sequencer};
use super::{VgaState, VideoMemory};

/// Where an access goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// To this byte, as it is.
    Byte(u64),
    /// To this word of the planes; `odd_even` and `chained` name those among them.
    Planes { word: u64, of: Planes },
}

/// Which planes an address reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Planes {
    /// As the masks say.
    All,
    /// Of those, the even (0) or the odd (1).
    Half(u8),
    /// Of those, this.
    One(u8),
}

impl Planes {
    const fn mask(self) -> u8 {
        match self {
            Self::All => 0xf,
            Self::Half(0) => 0x5,
            Self::Half(_) => 0xa,
            Self::One(plane) => 1 << (plane & 3),
        }
    }
}

/// Bit `n` of `planes` in every bit of byte `n`.
pub(super) const fn expand(planes: u8) -> u32 {
    let mut bytes = [0; 4];
    let mut plane = 0;
    while plane < 4 {
        if planes & (1 << plane) != 0 {
            bytes[plane] = 0xff;
        }
        plane += 1;
    }
    u32::from_le_bytes(bytes)
}

/// `byte` in each of four planes.
const fn spread(byte: u8) -> u32 {
    u32::from_le_bytes([byte; 4])
}

impl VgaState {
    /// A read of the byte at `offset` in the legacy memory's 128 KiB.
    pub(super) fn read_legacy(&mut self, memory: &VideoMemory, offset: u64) -> u8 {
        let odd_even = self.graphics.values[graphics::MODE] & graphics::ODD_EVEN != 0;
        match self.place(offset, odd_even) {
            None => 0xff,
            Some(Place::Byte(at)) => memory.byte(at),
            Some(Place::Planes { word, of }) => {
                self.latches = memory.word(word);
                let registers = &self.graphics.values;
                if registers[graphics::MODE] & graphics::READ_COMPARES != 0 {
                    let differing = (self.latches ^ expand(registers[graphics::COMPARE]))
                        & expand(registers[graphics::COMPARED]);
                    let [a, b, c, d] = differing.to_le_bytes();
                    return !(a | b | c | d);
                }
                let map = registers[graphics::READ_MAP];
                let plane = match of {
                    Planes::All => map,
                    Planes::Half(half) => map & 2 | half,
                    Planes::One(plane) => plane,
                };
                self.latches.to_le_bytes()[usize::from(plane & 3)]
            }
        }
    }

    /// A write of the byte at `offset` in the legacy memory's 128 KiB.
    pub(super) fn write_legacy(&mut self, memory: &VideoMemory, offset: u64, value: u8) {
        let mode = MemoryMode::from_bits_truncate(self.sequencer.values[sequencer::MEMORY_MODE]);
        match self.place(offset, !mode.contains(MemoryMode::SEQUENTIAL)) {
            None => {}
            Some(Place::Byte(at)) => memory.set_byte(at, value),
            Some(Place::Planes { word, of }) => {
                let planes = expand(self.sequencer.values[sequencer::MAP_MASK] & of.mask());
                if planes != 0 {
                    let new = self.drawn(value);
                    memory.set_word(word, (memory.word(word) & !planes) | (new & planes));
                }
            }
        }
    }

    /// What the graphics controller makes of `value`, in four planes.
    fn drawn(&self, value: u8) -> u32 {
        let registers = &self.graphics.values;
        let rotated = value.rotate_right(u32::from(registers[graphics::ROTATE] & 7));
        let bits = registers[graphics::BIT_MASK];
        let set_reset = expand(registers[graphics::SET_RESET]);
        let (source, bits) = match registers[graphics::MODE] & 3 {
            0 => {
                let fixed = expand(registers[graphics::SET_RESET_ENABLE]);
                ((spread(rotated) & !fixed) | (set_reset & fixed), bits)
            }
            1 => return self.latches,
            2 => (expand(value), bits),
            _ => (set_reset, bits & rotated),
        };
        let combined = match registers[graphics::ROTATE] >> 3 & 3 {
            0 => source,
            1 => source & self.latches,
            2 => source | self.latches,
            _ => source ^ self.latches,
        };
        let bits = spread(bits);
        (combined & bits) | (self.latches & !bits)
    }

    /// Where `offset` in the legacy memory leads, `None` where the adapter does not answer.
    fn place(&self, offset: u64, odd_even: bool) -> Option<Place> {
        if !self.misc.contains(Misc::RAM) {
            return None;
        }
        let (first, bytes) = self.legacy_window();
        let offset = offset.checked_sub(first).filter(|offset| *offset < bytes)?;
        let banked = offset | u64::from(self.dispi.bank()) << 16;
        if self.dispi.is_packed() {
            return Some(Place::Byte(banked));
        }
        let mode = MemoryMode::from_bits_truncate(self.sequencer.values[sequencer::MEMORY_MODE]);
        let low = offset.to_le_bytes()[0];
        Some(if mode.contains(MemoryMode::CHAIN_4) {
            Place::Planes { word: banked >> 2, of: Planes::One(low & 3) }
        } else if odd_even {
            Place::Planes { word: banked >> 1, of: Planes::Half(low & 1) }
        } else {
            Place::Planes { word: banked, of: Planes::All }
        })
    }

    /// Where the legacy memory is a plain window to the memory: first byte in its 128 KiB, length, and what byte of the
    /// memory is there. What the latches hold is not looked at: a window that the processor reads by itself does not
    /// load them.
    pub(super) fn plain_window(&self, memory_bytes: u64) -> Option<(u64, u64, u64)> {
        let (first, bytes) = self.legacy_window();
        let offset = u64::from(self.dispi.bank()) << 16;
        let registers = &self.graphics.values;
        let is_chained = self.sequencer.values[sequencer::MEMORY_MODE] & MemoryMode::CHAIN_4.bits() != 0
            && self.sequencer.values[sequencer::MAP_MASK] == 0xf
            && registers[graphics::MODE] & (3 | graphics::READ_COMPARES) == 0
            && registers[graphics::SET_RESET_ENABLE] == 0
            && registers[graphics::ROTATE] == 0
            && registers[graphics::BIT_MASK] == 0xff
            && !self.dispi.is_enabled();
        let plain = self.misc.contains(Misc::RAM) && (self.dispi.is_packed() || is_chained);
        (plain && offset + bytes <= memory_bytes).then_some((first, bytes, offset))
    }

    /// Where in the legacy memory's 128 KiB the adapter answers: first byte and length.
    pub(super) const fn legacy_window(&self) -> (u64, u64) {
        match self.graphics.values[graphics::MISC] >> 2 & 3 {
            0 => (0, 0x2_0000),
            1 => (0, 0x1_0000),
            2 => (0x1_0000, 0x8000),
            _ => (0x1_8000, 0x8000),
        }
    }
}
