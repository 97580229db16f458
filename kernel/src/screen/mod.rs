//! Text on the screen.
//!
//! At the bottom the text goes on at the top: moving all pixels up by a line is slow on an uncached frame buffer and
//! on an emulator. The line below the newest one is kept empty, so that one sees where the text ends.

mod pixel;

use hal::framebuffer::Framebuffer;
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use pixel::{MAX_PIXEL_BYTES, encode};

const HEIGHT: usize = RasterHeight::Size16.val();
const WIDTH: usize = get_raster_width(FontWeight::Regular, RasterHeight::Size16);
/// Shown for characters that the font does not have.
const UNKNOWN: char = '?';

/// A screen of text lines.
pub(crate) struct TextConsole {
    framebuffer: Framebuffer,
    columns: usize,
    rows: usize,
    column: usize,
    row: usize,
}

impl TextConsole {
    /// Clears the screen and starts at its top.
    pub(crate) fn new(framebuffer: Framebuffer) -> Self {
        let (columns, rows) = (framebuffer.width() / WIDTH, framebuffer.height() / HEIGHT);
        let mut console = Self { framebuffer, columns, rows, column: 0, row: 0 };
        for row in 0..console.rows {
            console.clear_row(row);
        }
        console
    }

    /// Prints `text`, wrapping at the right edge.
    pub(crate) fn print(&mut self, text: &str) {
        text.chars().for_each(|character| self.put(character));
    }

    /// Prints bytes of the log; what is not ASCII is shown as unknown.
    pub(crate) fn print_bytes(&mut self, text: &[u8]) {
        text.iter().for_each(|byte| self.put(char::from(*byte)));
    }

    fn put(&mut self, character: char) {
        if self.rows == 0 || self.columns == 0 {
            return;
        }
        if character == '\n' {
            self.next_row();
            return;
        }
        if self.column == self.columns {
            self.next_row();
        }
        self.draw(character);
        self.column += 1;
    }

    fn next_row(&mut self) {
        self.column = 0;
        self.row = (self.row + 1) % self.rows;
        self.clear_row((self.row + 1) % self.rows);
    }

    fn clear_row(&mut self, row: usize) {
        let row_bytes = HEIGHT * self.framebuffer.row_bytes();
        self.framebuffer.clear(row * row_bytes, row_bytes);
    }

    fn draw(&mut self, character: char) {
        let raster = |c| get_raster(c, FontWeight::Regular, RasterHeight::Size16);
        let Some(glyph) = raster(character).or_else(|| raster(UNKNOWN)) else { return };
        let pixel_bytes = self.framebuffer.pixel_bytes().min(MAX_PIXEL_BYTES);
        let format = self.framebuffer.pixel_format();
        let left = self.column * WIDTH * self.framebuffer.pixel_bytes();
        let mut line = [0; WIDTH * MAX_PIXEL_BYTES];
        for (y, intensities) in glyph.rows().enumerate() {
            // The row is clear: what is dark need not be written.
            let is_bright = |intensity: &u8| *intensity != 0;
            let Some(first) = intensities.iter().position(is_bright) else { continue };
            let end = intensities.iter().rposition(is_bright).map_or(first, |last| last + 1);
            for (intensity, pixel) in intensities[first..end].iter().zip(line.chunks_exact_mut(pixel_bytes)) {
                pixel.copy_from_slice(&encode(format, *intensity)[..pixel_bytes]);
            }
            let top = (self.row * HEIGHT + y) * self.framebuffer.row_bytes();
            self.framebuffer.write(top + left + first * pixel_bytes, &line[..(end - first) * pixel_bytes]);
        }
    }
}
