//! Lines of graphics, and what colours are.

use super::View;
use crate::vga::dispi::Extended;
use crate::vga::spec::attribute;
use alloc::vec;
use alloc::vec::Vec;

impl View {
    /// The colour of palette entry `index`.
    fn entry(&self, index: u8) -> [u8; 3] {
        let dac = &self.state.dac;
        let entry = dac.palette[usize::from(index & dac.mask)];
        if self.state.dispi.has_8_bit_palette() { entry } else { entry.map(widen_6) }
    }

    /// The colour of a pixel of 4 bits.
    pub(super) fn attribute_colour(&self, pixel: u8) -> [u8; 3] {
        let registers = &self.state.attribute.values;
        let chosen = registers[usize::from(pixel & registers[attribute::PLANES] & 0xf)];
        let select = registers[attribute::COLOUR_SELECT];
        let index = if registers[attribute::MODE] & attribute::SELECTS_TWO != 0 {
            select << 4 | chosen & 0xf
        } else {
            (select & 0xc) << 4 | chosen & 0x3f
        };
        self.entry(index)
    }

    /// The colours of all pixels of 4 bits.
    pub(super) fn attribute_colours(&self) -> [[u8; 3]; 16] {
        core::array::from_fn(|pixel| self.attribute_colour(pixel.to_le_bytes()[0]))
    }

    /// Calls `show` with the bytes of each word from `address` on, until `line` has `bytes`.
    fn words(
        &self,
        address: u64,
        line: &mut Vec<u8>,
        bytes: usize,
        mut show: impl FnMut([u8; 4], &mut Vec<u8>),
    ) {
        let mut address = address;
        while line.len() < bytes {
            show(self.memory.word(address).to_le_bytes(), line);
            address += 1;
        }
    }

    /// Pixels of a bit in each plane.
    pub(super) fn plane_line(&self, address: u64, line: &mut Vec<u8>, bytes: usize) {
        let colours = self.attribute_colours();
        self.words(address, line, bytes, |planes, line| {
            for bit in (0..8).rev() {
                let pixel = planes.iter().rev().fold(0, |pixel, plane| pixel << 1 | plane >> bit & 1);
                line.extend(colours[usize::from(pixel & 0xf)]);
            }
        });
    }

    /// Pixels of two bits in planes 0 and 1; planes 2 and 3 give two more.
    pub(super) fn interleaved_line(&self, address: u64, line: &mut Vec<u8>, bytes: usize) {
        let colours = self.attribute_colours();
        self.words(address, line, bytes, |[a, b, c, d], line| {
            for (low, high) in [(a, c), (b, d)] {
                for shift in [6, 4, 2, 0] {
                    let pixel = low >> shift & 3 | (high >> shift & 3) << 2;
                    line.extend(colours[usize::from(pixel)]);
                }
            }
        });
    }

    /// Pixels of a byte.
    pub(super) fn byte_line(&self, address: u64, line: &mut Vec<u8>, bytes: usize) {
        self.words(address, line, bytes, |pixels, line| {
            pixels.into_iter().for_each(|pixel| line.extend(self.entry(pixel)));
        });
    }

    /// Pixels of Bochs' extension.
    pub(super) fn extended_line(&self, shown: Extended, y: u32, line: &mut Vec<u8>) {
        let pixel_bytes = usize::from(shown.depth.div_ceil(8));
        let width = usize::try_from(shown.width).unwrap_or(0);
        let mut raw = vec![0; width * pixel_bytes];
        self.memory.copy_out(shown.start + u64::from(y) * shown.pitch, &mut raw);
        for pixel in raw.chunks_exact(pixel_bytes) {
            line.extend(match *pixel {
                [index] => self.entry(index),
                [low, high] => {
                    let word = u16::from_le_bytes([low, high]);
                    if shown.depth == 15 { colour_555(word) } else { colour_565(word) }
                }
                [blue, green, red, ..] => [red, green, blue],
                [] => [0; 3],
            });
        }
    }
}

/// The 6 bits of a palette's colour as 8.
const fn widen_6(value: u8) -> u8 {
    (value & 0x3f) << 2 | (value & 0x3f) >> 4
}

/// The low 5 bits of `value` as 8.
const fn widen_5(value: u16) -> u8 {
    let low = value.to_le_bytes()[0] & 0x1f;
    low << 3 | low >> 2
}

const fn colour_555(word: u16) -> [u8; 3] {
    [widen_5(word >> 10), widen_5(word >> 5), widen_5(word)]
}

const fn colour_565(word: u16) -> [u8; 3] {
    [widen_5(word >> 11), widen_6((word >> 5).to_le_bytes()[0]), widen_5(word)]
}
