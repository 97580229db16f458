//! From registers and memory to a picture.
//!
//! A picture has the pixels that software draws: a line that the CRT controller draws twice is there once, and so is
//! a pixel that the attribute controller stretches.

mod cells;
mod colour;

use super::dispi::Extended;
use super::ports::FRAME_NS;
use super::spec::{attribute, crtc, graphics, sequencer};
use super::text::TextScreen;
use super::{VgaState, VideoMemory};
use alloc::vec::Vec;
use arch::Nanos;

/// The screen at a moment: the registers as they were, the memory as it is. It can be looked at while the guest goes on.
#[derive(Clone, Debug)]
pub struct View {
    pub(super) state: VgaState,
    pub(super) memory: VideoMemory,
    /// Pictures shown since time zero, for what blinks.
    pub(super) frame: u64,
}

/// What the registers say is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// Characters.
    Text,
    /// A bit in each of four planes.
    Planes,
    /// Two bits a pixel, one half of a character's pixels in planes 0 and 2, the other in 1 and 3.
    Interleaved,
    /// A byte a pixel.
    Bytes,
    /// Bochs' extension, with a bit in each of four planes.
    ExtendedPlanes(Extended),
    /// Bochs' extension, with bytes in their order.
    Extended(Extended),
}

impl View {
    pub(super) fn new(state: VgaState, memory: VideoMemory, now: Nanos) -> Self {
        Self { state, memory, frame: now.0 / FRAME_NS }
    }

    /// Width and height in pixels, neither of them 0.
    pub fn size(&self) -> (u32, u32) {
        let columns = u32::from(self.state.crtc.values[crtc::COLUMNS_LESS_1]) + 1;
        match self.mode() {
            Mode::Text => (columns * self.cell_width(), self.picture_lines()),
            Mode::Planes | Mode::Interleaved => (columns * 8, self.picture_lines()),
            Mode::Bytes => (columns * 4, self.picture_lines()),
            Mode::ExtendedPlanes(shown) | Mode::Extended(shown) => (shown.width, shown.height),
        }
    }

    /// Puts line `y` of the picture into `line`, as red, green and blue of each pixel.
    pub fn line(&self, y: u32, line: &mut Vec<u8>) {
        line.clear();
        let (width, height) = self.size();
        let bytes = usize::try_from(width).unwrap_or(0) * 3;
        if self.is_off() || y >= height {
            line.resize(bytes, 0);
            return;
        }
        match self.mode() {
            Mode::Text => self.text_line(y, line),
            Mode::Planes => self.plane_line(self.line_address(y), line, bytes),
            Mode::Interleaved => self.interleaved_line(self.line_address(y), line, bytes),
            Mode::Bytes => self.byte_line(self.line_address(y), line, bytes),
            Mode::ExtendedPlanes(shown) => {
                self.plane_line(shown.start + u64::from(y) * shown.pitch, line, bytes);
            }
            Mode::Extended(shown) => self.extended_line(shown, y, line),
        }
        line.resize(bytes, 0);
    }

    /// The text that is shown, in a text mode.
    pub fn text(&self) -> Option<TextScreen> {
        (self.mode() == Mode::Text).then(|| self.cells())
    }

    /// What is shown, in words, for the operator.
    pub fn describe(&self) -> &'static str {
        match self.mode() {
            Mode::Text => "text",
            Mode::Planes | Mode::Interleaved | Mode::ExtendedPlanes(_) => "graphics with up to 16 colours",
            Mode::Bytes => "graphics with 256 colours",
            Mode::Extended(_) => "graphics by the VBE extension",
        }
    }

    pub(super) fn mode(&self) -> Mode {
        if let Some(shown) = self.state.dispi.shown() {
            return if shown.depth == 4 { Mode::ExtendedPlanes(shown) } else { Mode::Extended(shown) };
        }
        let registers = &self.state.graphics.values;
        if registers[graphics::MISC] & graphics::IS_GRAPHICS == 0 {
            Mode::Text
        } else if registers[graphics::MODE] & graphics::EIGHT_BITS != 0 {
            Mode::Bytes
        } else if registers[graphics::MODE] & graphics::INTERLEAVED != 0 {
            Mode::Interleaved
        } else {
            Mode::Planes
        }
    }

    /// Whether nothing is shown.
    fn is_off(&self) -> bool {
        !self.state.dispi.is_enabled()
            && (self.state.sequencer.values[sequencer::CLOCKING] & sequencer::SCREEN_OFF != 0
                || self.state.attribute.index & attribute::PALETTE_IN_USE == 0)
    }

    /// Lines that the CRT controller draws, those that it draws twice counted once.
    fn scan_lines(&self) -> u32 {
        let registers = &self.state.crtc.values;
        let overflow = u32::from(registers[crtc::OVERFLOW]);
        let last =
            u32::from(registers[crtc::DISPLAY_END]) | (overflow << 7 & 0x100) | (overflow << 3 & 0x200);
        (last + 1).div_ceil(if registers[crtc::MAX_SCAN] & crtc::DOUBLE_SCAN != 0 { 2 } else { 1 })
    }

    /// Scan lines for each row of addresses.
    pub(super) fn row_lines(&self) -> u32 {
        u32::from(self.state.crtc.values[crtc::MAX_SCAN] & 0x1f) + 1
    }

    /// Whether lines of one row of addresses differ: in text, and where a CGA's addressing is imitated.
    fn lines_differ(&self) -> bool {
        let keeps = crtc::KEEPS_BIT_13 | crtc::KEEPS_BIT_14;
        self.mode() == Mode::Text || self.state.crtc.values[crtc::MODE] & keeps != keeps
    }

    fn picture_lines(&self) -> u32 {
        if self.lines_differ() { self.scan_lines() } else { self.scan_lines().div_ceil(self.row_lines()) }
    }

    /// The row of addresses that line `y` of the picture shows, as its first word, and which line of the row it is.
    pub(super) fn row_of(&self, y: u32) -> (u64, u32) {
        let registers = &self.state.crtc.values;
        let scan = if self.lines_differ() { y } else { y * self.row_lines() };
        let start = u64::from(registers[crtc::START_HIGH]) << 8 | u64::from(registers[crtc::START_LOW]);
        let compare = u32::from(registers[crtc::LINE_COMPARE])
            | u32::from(registers[crtc::OVERFLOW] & crtc::LINE_COMPARE_8) << 4
            | u32::from(registers[crtc::MAX_SCAN] & crtc::LINE_COMPARE_9) << 3;
        let halved = if registers[crtc::MAX_SCAN] & crtc::DOUBLE_SCAN != 0 { compare / 2 } else { compare };
        // Below the line that is compared, the screen shows what is at address 0.
        let (start, scan) = if scan > halved { (0, scan - halved - 1) } else { (start, scan) };
        let pitch = u64::from(registers[crtc::OFFSET]) * 2;
        (start + u64::from(scan / self.row_lines()) * pitch, scan % self.row_lines())
    }

    /// The first word of line `y` of a graphics picture.
    fn line_address(&self, y: u32) -> u64 {
        let registers = &self.state.crtc.values;
        let (row, line) = self.row_of(y);
        let mode = registers[crtc::MODE];
        // A counter of words is a bit lower than the address it makes.
        let bit_13 = if mode & crtc::COUNTS_BYTES != 0 { 13 } else { 12 };
        let mut address = row;
        for (keeps, place, bit) in
            [(crtc::KEEPS_BIT_13, bit_13, line & 1), (crtc::KEEPS_BIT_14, bit_13 + 1, line >> 1 & 1)]
        {
            if mode & keeps == 0 {
                address = (address & !(1 << place)) | u64::from(bit) << place;
            }
        }
        address
    }
}
