//! The adapter as a video BIOS leaves it: 80 by 25 characters of 9 by 16 dots in 16 colours.

use super::dispi::DispiState;
use super::ports::{Dac, Indexed};
use super::spec::Misc;
use super::{VgaState, VideoMemory, font};

/// Characters of the font, with room for 32 lines each.
const FONT_LINES: u64 = 32;
/// A blank, light grey on black, in planes 0 and 1.
const BLANK: u32 = 0x0720;
const MOST_CHARACTERS: u64 = 0x4000;

impl VgaState {
    pub(super) fn after_reset() -> Self {
        Self {
            misc: Misc::from_bits_retain(0x67),
            feature: 0,
            sequencer: Indexed::new([3, 0, 3, 0, 2]),
            graphics: Indexed::new([0, 0, 0, 0, 0, 0x10, 0x0e, 0x0f, 0xff]),
            crtc: Indexed::new([
                0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00,
                0x00, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9, 0xa3, 0xff,
            ]),
            attribute: Indexed {
                index: 0x20,
                values: [
                    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e,
                    0x3f, 0x0c, 0x00, 0x0f, 0x08, 0x00,
                ],
            },
            attribute_data: false,
            dac: Dac::new(palette()),
            latches: 0,
            dispi: DispiState::after_reset(),
        }
    }
}

/// The first 64 colours are the EGA's, in which bits 2 to 0 are two thirds of red, green and blue and bits 5 to 3 one
/// third; the others are a scale of greys, over and over.
fn palette() -> [[u8; 3]; 256] {
    let mut palette = [[0; 3]; 256];
    for (index, entry) in (0_u8..=255).zip(palette.iter_mut()) {
        *entry = if index < 64 {
            [2_u8, 1, 0].map(|bit| 0x2a * (index >> bit & 1) + 0x15 * (index >> (bit + 3) & 1))
        } else {
            [index & 0x3f; 3]
        };
    }
    palette
}

/// Puts the font into plane 2.
pub(super) fn draw_font(memory: &VideoMemory) {
    for (code, first) in (0_u8..=255).zip((0_u64..).step_by(32)) {
        let lines = font::glyph(code);
        for (at, line) in (first..first + FONT_LINES).zip(lines.into_iter().chain([0; 16])) {
            memory.set_word(at, memory.word(at) & 0xff00_ffff | u32::from(line) << 16);
        }
    }
}

/// Blanks the text in planes 0 and 1.
pub(super) fn clear_text(memory: &VideoMemory) {
    for at in 0..MOST_CHARACTERS {
        memory.set_word(at, memory.word(at) & 0xffff_0000 | BLANK);
    }
}
