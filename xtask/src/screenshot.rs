//! A guest's screen as a PNG file: asks the monitor for the picture, and decodes what comes over the serial line.
//!
//! The encoding is that of `kernel/monitor`, `picture.rs`. Portable Network Graphics (PNG) Specification, by the `png`
//! crate.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::image::archive::{Archive, CONFIGURATION};
use crate::machine::Serial;

/// Ctrl-].
const ESCAPE: &[u8] = &[0x1d];
const PROMPT: &str = "craton> ";
/// How long the monitor may take to its prompt.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a picture may take over the line.
const PICTURE: Duration = Duration::from_secs(600);

/// A picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    /// Width in pixels.
    pub(crate) width: usize,
    /// Height in pixels.
    pub(crate) height: usize,
    /// Red, green and blue of each pixel, line by line.
    pub(crate) pixels: Vec<u8>,
}

impl Picture {
    /// The screen of the guest `name`, while the line shows the monitor's prompt.
    pub(crate) fn of(serial: &mut Serial, name: &str) -> Result<Self> {
        let command = format!("screenshot {name}");
        serial.send(format!("{command}\r").as_bytes())?;
        // Every key draws the line again; the answer is below it.
        serial.wait_for(&format!("{PROMPT}{command}"), ANSWER)?;
        let (index, text) = serial.wait_for_any(&["[screenshot of ", "error: "], ANSWER)?;
        ensure!(index == 0, "{text}{}", serial.wait_for("\n", ANSWER)?);
        let head = serial.wait_for("\n", ANSWER)?;
        let body = serial.wait_for("[end of screenshot]", PICTURE)?;
        let (width, height) = size(&head).with_context(|| format!("no size in {head:?}"))?;
        // Lines of other machines' and of the log may be between.
        let lines = body.lines().map(str::trim).filter(|line| is_base64(line));
        let encoded = lines.map(from_base64).collect::<Option<Vec<_>>>().context("no base64")?.concat();
        let pixels = decode(&encoded, width)?;
        ensure!(pixels.len() == width * height * 3, "{} bytes for {width} x {height} pixels", pixels.len());
        Ok(Picture { width, height, pixels })
    }

    /// Writes it as a PNG file.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut encoder =
            png::Encoder::new(BufWriter::new(file), u32::try_from(self.width)?, u32::try_from(self.height)?);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header()?.write_image_data(&self.pixels)?;
        Ok(())
    }

    /// What identifies its pixels.
    pub(crate) fn checksum(&self) -> String {
        crate::hash::of_bytes(&self.pixels)[..16].to_owned()
    }
}

/// From a guest's console to the monitor.
pub(crate) fn enter_monitor(serial: &mut Serial) -> Result<()> {
    serial.send(ESCAPE)?;
    serial.wait_for(PROMPT, ANSWER)?;
    Ok(())
}

/// Takes the screen of the guest `name` and writes it to `path`; the line may show a console or the monitor.
pub(crate) fn take(serial: &mut Serial, name: &str, path: &Path) -> Result<()> {
    // A second try: the escape key may have left the monitor for a console.
    if enter_monitor(serial).is_err() {
        enter_monitor(serial).context("the monitor does not answer")?;
    }
    let picture = Picture::of(serial, name)?;
    picture.write(path)?;
    crate::progress::note(format_args!(
        "the screen of {name}, {} x {}, is in {}",
        picture.width,
        picture.height,
        path.display()
    ));
    Ok(())
}

/// The first guest of `archive` that has a screen.
pub(crate) fn guest_with_screen(archive: &Archive) -> Result<String> {
    let text = archive.get(CONFIGURATION).context("the archive has no configuration")?;
    let table: toml::Table = std::str::from_utf8(text)?.parse().context(CONFIGURATION)?;
    let vms = table.get("vm").and_then(toml::Value::as_array).context("no [[vm]] in the configuration")?;
    let with_screen = vms.iter().find(|vm| vm.get("screen").and_then(toml::Value::as_str) == Some("vga"));
    let name = with_screen.and_then(|vm| vm.get("name")).and_then(toml::Value::as_str);
    Ok(name.context("--screenshot: no guest has screen = \"vga\"")?.to_owned())
}

/// Width and height in a line like "name: 720 x 400, 17 bytes]".
fn size(head: &str) -> Option<(usize, usize)> {
    let (_, rest) = head.rsplit_once(": ")?;
    let (size, _) = rest.split_once(',')?;
    let (width, height) = size.split_once(" x ")?;
    Some((width.parse().ok()?, height.parse().ok()?))
}

fn is_base64(line: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    !line.is_empty() && line.len().is_multiple_of(4) && line.bytes().all(is_digit)
}

fn from_base64(line: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(line.len() / 4 * 3);
    for group in line.as_bytes().as_chunks::<4>().0 {
        let mut word = 0_u32;
        for character in group {
            let digit = match character {
                b'A'..=b'Z' => character - b'A',
                b'a'..=b'z' => character - b'a' + 26,
                b'0'..=b'9' => character - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' => 0,
                _ => return None,
            };
            word = word << 6 | u32::from(digit);
        }
        let padding = group.iter().filter(|byte| **byte == b'=').count();
        bytes.extend(&word.to_be_bytes()[1..4 - padding]);
    }
    Some(bytes)
}

/// The pixels of lines of `width`.
fn decode(bytes: &[u8], width: usize) -> Result<Vec<u8>> {
    let (mut colours, mut next, mut last) = ([[0; 3]; 16], 0, [0; 3]);
    let mut pixels = Vec::new();
    let mut rest = bytes.iter().copied();
    while let Some(byte) = rest.next() {
        match byte {
            0x00 if pixels.len() < width * 3 => bail!("a line as the one above, and there is none"),
            0x00 => pixels.extend_from_within(pixels.len() - width * 3..),
            0x01 => {
                for component in &mut colours[next] {
                    *component = rest.next().context("cut off in a colour")?;
                }
                next = (next + 1) % colours.len();
            }
            0x02..0x40 => bail!("an unknown byte {byte:#x}"),
            0x40..0x80 => (0..8 * (u32::from(byte & 0x3f) + 1)).for_each(|_| pixels.extend(last)),
            0x80.. => {
                last = colours[usize::from(byte >> 3 & 0xf)];
                (0..=byte & 7).for_each(|_| pixels.extend(last));
            }
        }
    }
    Ok(pixels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_lines_come_back() {
        let bytes = from_base64("AQcHB4cBAAAAiEAA").expect("base64");
        assert_eq!(bytes, [1, 7, 7, 7, 0x87, 1, 0, 0, 0, 0x88, 0x40, 0]);
        let pixels = decode(&bytes, 17).expect("good");
        let line = [[7; 24].as_slice(), &[0; 27]].concat();
        assert_eq!(pixels, [line.clone(), line].concat());
        assert!(decode(&[0], 1).is_err() && decode(&[1, 2], 1).is_err() && decode(&[5], 1).is_err());
    }

    #[test]
    fn the_size_is_in_the_head() {
        assert_eq!(size("a.b: 720 x 400, 17 bytes]\r\n"), Some((720, 400)));
        assert_eq!(size("nothing"), None);
        assert_eq!(from_base64("/w=="), Some(vec![0xff]));
        assert!(is_base64("AQcH") && !is_base64("vm a: b") && !is_base64("abc"));
    }
}
