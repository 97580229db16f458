//! A picture on its way over the serial line: runs of pixels, few bytes for what screens mostly show.
//!
//! Pixels go line by line, from the top, from the left. The bytes are
//! - `00`: the whole line is as the one above, at the beginning of a line;
//! - `01 RR GG BB`: the next of 16 places for colours, in turn from 0, holds this colour from now on;
//! - `1cccclll`: `l` + 1 pixels of the colour in place `c`;
//! - `01kkkkkk`: 8 (`k` + 1) more pixels of the colour of the last run.
//!
//! Behind that, base64 of it in lines (RFC 4648, "Base 64 Encoding").

use alloc::vec::Vec;

/// A screen's picture, encoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// What encodes it.
    pub bytes: Vec<u8>,
}

const COLOURS: usize = 16;
const AS_ABOVE: u8 = 0x00;
const COLOUR: u8 = 0x01;
const MORE: u8 = 0x40;
const RUN: u8 = 0x80;

/// Encodes a picture line by line.
#[derive(Debug)]
pub struct Encoder {
    width: u32,
    height: u32,
    colours: [Option<[u8; 3]>; COLOURS],
    next: usize,
    above: Vec<u8>,
    bytes: Vec<u8>,
}

impl Encoder {
    /// Begins a picture `width` pixels wide.
    pub const fn new(width: u32) -> Self {
        Self { width, height: 0, colours: [None; COLOURS], next: 0, above: Vec::new(), bytes: Vec::new() }
    }

    /// Adds a line: red, green and blue of each pixel.
    pub fn line(&mut self, line: &[u8]) {
        self.height += 1;
        if self.above == line {
            self.bytes.push(AS_ABOVE);
            return;
        }
        for run in line.as_chunks::<3>().0.chunk_by(|a, b| a == b) {
            if let Some(colour) = run.first() {
                self.run(*colour, run.len());
            }
        }
        self.above.clear();
        self.above.extend_from_slice(line);
    }

    /// How many bytes there are so far.
    pub const fn length(&self) -> usize {
        self.bytes.len()
    }

    /// The picture.
    pub fn finish(self) -> Picture {
        Picture { width: self.width, height: self.height, bytes: self.bytes }
    }

    fn run(&mut self, colour: [u8; 3], length: usize) {
        let place = self.colours.iter().position(|other| *other == Some(colour)).unwrap_or_else(|| {
            let place = self.next;
            self.next = (self.next + 1) % COLOURS;
            self.colours[place] = Some(colour);
            self.bytes.push(COLOUR);
            self.bytes.extend(colour);
            place
        });
        let [place, ..] = place.to_le_bytes();
        // One to eight pixels, then eights.
        let first = (length - 1) % 8 + 1;
        let [less_1, ..] = (first - 1).to_le_bytes();
        self.bytes.push(RUN | place << 3 | less_1);
        let mut eights = (length - first) / 8;
        while eights > 0 {
            let now = eights.min(64);
            let [less_1, ..] = (now - 1).to_le_bytes();
            self.bytes.push(MORE | less_1);
            eights -= now;
        }
    }
}

/// Base64 of `bytes`, in lines of 76 characters.
pub(crate) fn base64_lines(bytes: &[u8]) -> impl Iterator<Item = [u8; 76]> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes.chunks(57).map(|line| {
        let mut text = [b' '; 76];
        for (group, four) in line.chunks(3).zip(text.as_chunks_mut::<4>().0) {
            let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
            let word = byte(0) << 16 | byte(1) << 8 | byte(2);
            for (place, character) in four.iter_mut().enumerate() {
                let digit = word >> (18 - 6 * place) & 0x3f;
                let [digit, ..] = digit.to_le_bytes();
                *character = if place > group.len() { b'=' } else { ALPHABET[usize::from(digit)] };
            }
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(picture: &Picture) -> Vec<u8> {
        let width = usize::try_from(picture.width).expect("small") * 3;
        let mut colours = [[0; 3]; COLOURS];
        let (mut next, mut last, mut pixels) = (0, [0; 3], Vec::new());
        let mut bytes = picture.bytes.iter().copied();
        while let Some(byte) = bytes.next() {
            match byte {
                AS_ABOVE => pixels.extend_from_within(pixels.len() - width..),
                COLOUR => {
                    colours[next] = [0; 3].map(|_: u8| bytes.next().expect("a colour"));
                    next = (next + 1) % COLOURS;
                }
                _ if byte & RUN != 0 => {
                    last = colours[usize::from(byte >> 3 & 0xf)];
                    (0..=byte & 7).for_each(|_| pixels.extend(last));
                }
                _ => (0..8 * (u32::from(byte & 0x3f) + 1)).for_each(|_| pixels.extend(last)),
            }
        }
        pixels
    }

    #[test]
    fn what_repeats_is_short() {
        let mut encoder = Encoder::new(720);
        for _ in 0..400 {
            encoder.line(&[7; 2160]);
        }
        let picture = encoder.finish();
        assert_eq!((picture.width, picture.height), (720, 400));
        assert_eq!(&picture.bytes[..7], [1, 7, 7, 7, 0x87, 0x7f, 0x58]);
        assert_eq!(picture.bytes.len(), 7 + 399);
    }

    #[test]
    fn base64_is_as_the_rfc_has_it() {
        let text = |bytes: &[u8]| {
            base64_lines(bytes)
                .map(|line| String::from_utf8_lossy(&line).trim_end().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(text(b"foobar"), ["Zm9vYmFy"]);
        assert_eq!(text(b"fooba"), ["Zm9vYmE="]);
        assert_eq!(text(b"foob"), ["Zm9vYg=="]);
        assert_eq!(text(&[0xff; 58]), ["/".repeat(76), "/w==".into()]);
        assert!(text(b"").is_empty());
    }

    proptest! {
        #[test]
        fn any_picture_comes_back(
            width in 1_usize..700,
            lines in prop::collection::vec((any::<u8>(), any::<u8>(), 1_usize..300), 1..12),
        ) {
            let width_pixels = u32::try_from(width).expect("small");
            let mut encoder = Encoder::new(width_pixels);
            let mut all = Vec::new();
            for (colour, step, run) in lines {
                let line: Vec<u8> = (0..width)
                    .flat_map(|x| [colour, colour.wrapping_add(step.wrapping_mul((x / run).to_le_bytes()[0])), 3])
                    .collect();
                encoder.line(&line);
                all.extend(line);
            }
            prop_assert_eq!(decode(&encoder.finish()), all);
        }
    }
}
