//! The text on a picture of the screen, read back by comparing each cell with the font that the hypervisor draws.
//!
//! Source: Netpbm, "PPM Format Specification" (the binary form, `P6`).

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

/// The hypervisor's font.
const WEIGHT: FontWeight = FontWeight::Regular;
const SIZE: RasterHeight = RasterHeight::Size16;
const HEIGHT: usize = SIZE.val();
const WIDTH: usize = get_raster_width(WEIGHT, SIZE);
/// A pixel of the picture, in bytes: red, green and blue.
const PIXEL: usize = 3;
/// Stands for a cell that holds none of the font's characters.
const UNREADABLE: char = '\u{fffd}';

/// What the screen shows, cell by cell.
#[derive(Debug)]
pub(super) struct ScreenText {
    rows: Vec<String>,
}

impl ScreenText {
    /// Reads a portable pixmap.
    ///
    /// # Errors
    /// When it is not one of 8 bits a colour, or is cut short.
    pub(super) fn read(pixmap: &[u8]) -> Result<Self> {
        let picture = Picture::parse(pixmap)?;
        let glyphs = glyphs();
        let rows = (0..picture.height / HEIGHT)
            .map(|row| {
                (0..picture.width / WIDTH)
                    .map(|column| glyphs.get(&picture.cell(row, column)).copied().unwrap_or(UNREADABLE))
                    .collect()
            })
            .collect();
        Ok(ScreenText { rows })
    }

    /// Whether `line` is on the screen. A long line goes on at the beginning of the next row, and below the last row
    /// at the first one.
    pub(super) fn shows(&self, line: &str) -> bool {
        let round = self.rows.concat();
        [round.as_str(), round.as_str()].concat().contains(line)
    }
}

impl std::fmt::Display for ScreenText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.rows.iter().map(|row| row.trim_end()).try_for_each(|row| writeln!(f, "{row}"))
    }
}

/// The characters by their intensities, row after row.
fn glyphs() -> BTreeMap<Vec<u8>, char> {
    let printable = (b' '..=b'~').map(char::from);
    printable.filter_map(|character| Some((raster(character)?, character))).collect()
}

fn raster(character: char) -> Option<Vec<u8>> {
    let glyph = get_raster(character, WEIGHT, SIZE)?;
    Some(glyph.rows().flat_map(|row| row.iter().copied()).collect())
}

struct Picture<'a> {
    width: usize,
    height: usize,
    pixels: &'a [u8],
}

impl<'a> Picture<'a> {
    fn parse(pixmap: &'a [u8]) -> Result<Self> {
        // Magic, width, height and depth, each ended by a single white space.
        let mut parts = pixmap.splitn(5, u8::is_ascii_whitespace);
        let mut word = || std::str::from_utf8(parts.next()?).ok();
        ensure!(word() == Some("P6"), "the picture is no binary pixmap");
        let mut number = || word()?.parse::<usize>().ok();
        let (width, height) = number().zip(number()).context("the picture has no size")?;
        ensure!(number() == Some(255), "the picture has not 8 bits a colour");
        let pixels = parts.next().unwrap_or_default();
        let bytes = width.checked_mul(height).and_then(|area| area.checked_mul(PIXEL));
        ensure!(bytes == Some(pixels.len()), "the picture is cut short");
        Ok(Picture { width, height, pixels })
    }

    /// The intensities of a cell; what is not grey becomes a value that no glyph has there.
    fn cell(&self, row: usize, column: usize) -> Vec<u8> {
        let mut cell = Vec::with_capacity(WIDTH * HEIGHT);
        for y in row * HEIGHT..(row + 1) * HEIGHT {
            let start = (y * self.width + column * WIDTH) * PIXEL;
            for pixel in self.pixels[start..start + WIDTH * PIXEL].chunks_exact(PIXEL) {
                if pixel.iter().any(|colour| *colour != pixel[0]) {
                    return Vec::new();
                }
                cell.push(pixel[0]);
            }
        }
        cell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws `rows` on a screen that is `spare` pixels larger than its cells, each way.
    fn draw(rows: &[&str], columns: usize, spare: usize) -> Vec<u8> {
        let (width, height) = (columns * WIDTH + spare, rows.len() * HEIGHT + spare);
        let mut pixels = vec![0; width * height * PIXEL];
        for (row, text) in rows.iter().enumerate() {
            for (column, character) in text.chars().enumerate() {
                for (index, intensity) in raster(character).expect("in the font").into_iter().enumerate() {
                    let (x, y) = (column * WIDTH + index % WIDTH, row * HEIGHT + index / WIDTH);
                    pixels[(y * width + x) * PIXEL..][..PIXEL].fill(intensity);
                }
            }
        }
        let mut pixmap = format!("P6\n{width} {height}\n255\n").into_bytes();
        pixmap.extend(pixels);
        pixmap
    }

    #[test]
    fn every_printable_character_is_read_back() {
        let all: String = (' '..='~').collect();
        let text = ScreenText::read(&draw(&["", &all], 100, 5)).expect("reads");
        assert_eq!(text.rows.len(), 2);
        assert_eq!(text.rows[1].trim_end(), all);
        assert_eq!(text.to_string(), format!("\n{all}\n"));
    }

    #[test]
    fn line_that_wraps_is_found_even_around_the_last_row() {
        let text = ScreenText::read(&draw(&["lo", "", "hel"], 3, 0)).expect("reads");
        assert!(text.shows("hello") && !text.shows("help"));
    }

    #[test]
    fn one_wrong_pixel_makes_a_cell_unreadable() {
        let mut pixmap = draw(&["ab"], 2, 0);
        let last = pixmap.len() - 1;
        pixmap[last] ^= 1;
        assert_eq!(ScreenText::read(&pixmap).expect("reads").rows, [format!("a{UNREADABLE}")]);
    }

    #[test]
    fn other_files_are_refused() {
        let whole = draw(&["ab"], 2, 0);
        let error = |bytes: &[u8]| ScreenText::read(bytes).expect_err("refused").to_string();
        assert!(error(&whole[..whole.len() - 1]).contains("cut short"));
        assert!(error(b"P5 1 1 255 x").contains("no binary pixmap"));
        assert!(error(b"P6 1 1 65535 xxxxxx").contains("8 bits"));
        assert!(error(b"P6 1").contains("no size"));
    }
}
