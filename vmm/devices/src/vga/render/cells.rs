//! Lines of text: characters, attributes, the cursor.

use super::View;
use crate::vga::spec::{attribute, crtc, sequencer};
use crate::vga::text::TextScreen;
use alloc::vec::Vec;

/// The cursor is shown for this many pictures, and then as long not.
const CURSOR_FRAMES: u64 = 16;
/// Characters that blink are shown for this many pictures, and then as long not.
const BLINK_FRAMES: u64 = 32;

impl View {
    /// Dots of a character in a line.
    pub(super) fn cell_width(&self) -> u32 {
        let eight = self.state.sequencer.values[sequencer::CLOCKING] & sequencer::EIGHT_DOTS != 0;
        if eight { 8 } else { 9 }
    }

    fn columns(&self) -> usize {
        usize::from(self.state.crtc.values[crtc::COLUMNS_LESS_1]) + 1
    }

    /// The characters that are shown, and the cursor.
    pub(super) fn cells(&self) -> TextScreen {
        let (columns, lines) = (self.columns(), self.row_lines());
        let (_, height) = self.size();
        let mut cells = Vec::new();
        let mut cursor = None;
        for (row, y) in (0..height).step_by(usize::try_from(lines).unwrap_or(1)).enumerate() {
            let (first, _) = self.row_of(y);
            for (column, at) in (0..columns).zip(first..) {
                let [code, attribute, ..] = self.memory.word(at).to_le_bytes();
                cells.push((code, attribute));
                if Some(at) == self.cursor_address() {
                    cursor = cursor.or(Some((row, column)));
                }
            }
        }
        TextScreen { columns, cells, cursor }
    }

    /// Where the cursor is, unless it is switched off.
    fn cursor_address(&self) -> Option<u64> {
        let registers = &self.state.crtc.values;
        let at = u64::from(registers[crtc::CURSOR_HIGH]) << 8 | u64::from(registers[crtc::CURSOR_LOW]);
        (registers[crtc::CURSOR_START] & crtc::CURSOR_OFF == 0).then_some(at)
    }

    /// Whether line `line` of the cursor's cell is the cursor's, now.
    fn cursor_has_line(&self, line: u32) -> bool {
        let registers = &self.state.crtc.values;
        let first = u32::from(registers[crtc::CURSOR_START] & 0x1f);
        let last = u32::from(registers[crtc::CURSOR_END] & 0x1f);
        (first..=last).contains(&line) && (self.frame / CURSOR_FRAMES).is_multiple_of(2)
    }

    /// The words at which the two fonts begin: of characters with attribute bit 3 clear, and set.
    fn fonts(&self) -> [u64; 2] {
        let map = self.state.sequencer.values[sequencer::CHARACTER_MAP];
        // Each selects one of eight places of 8 KiB; the even ones come first.
        let place = |low: u8, high: u8| u64::from(low) << 14 | u64::from(high) << 13;
        [place(map & 3, map >> 4 & 1), place(map >> 2 & 3, map >> 5 & 1)]
    }

    /// A line of text.
    pub(super) fn text_line(&self, y: u32, line: &mut Vec<u8>) {
        let (first, row_line) = self.row_of(y);
        let colours = self.attribute_colours();
        let fonts = self.fonts();
        let registers = &self.state.attribute.values;
        let mode = registers[attribute::MODE];
        let underline = u32::from(self.state.crtc.values[crtc::UNDERLINE] & 0x1f);
        let hidden = !(self.frame / BLINK_FRAMES).is_multiple_of(2);
        let cursor = self.cursor_address().filter(|_| self.cursor_has_line(row_line));
        for at in (first..).take(self.columns()) {
            let [code, attributes, ..] = self.memory.word(at).to_le_bytes();
            let font = fonts[usize::from(attributes >> 3 & 1)];
            let [_, _, dots, _] =
                self.memory.word(font + 32 * u64::from(code) + u64::from(row_line)).to_le_bytes();
            let ninth = mode & attribute::LINE_GRAPHICS != 0 && (0xc0..=0xdf).contains(&code);
            // Nine dots, the leftmost in bit 8.
            let mut dots = u16::from(dots) << 1 | u16::from(ninth) & u16::from(dots);
            let (mut back, fore) = (attributes >> 4, attributes & 0xf);
            if mode & attribute::BLINK != 0 {
                if attributes & 0x80 != 0 && hidden {
                    dots = 0;
                }
                back &= 7;
            }
            let is_underlined = mode & attribute::MONOCHROME != 0 && attributes & 7 == 1;
            if (is_underlined && row_line == underline) || cursor == Some(at) {
                dots = 0x1ff;
            }
            for dot in (0..9).rev().take(usize::try_from(self.cell_width()).unwrap_or(9)) {
                let colour = if dots >> dot & 1 != 0 { fore } else { back };
                line.extend(colours[usize::from(colour)]);
            }
        }
    }
}
