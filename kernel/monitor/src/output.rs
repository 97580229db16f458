//! Where the operator's text goes.

use core::fmt;

/// A byte sink: the serial line, the screen, or both.
pub trait Output {
    /// Writes `bytes` as they are. Never fails: what the line cannot take now, its driver holds or waits for.
    fn write_bytes(&mut self, bytes: &[u8]);
}

impl Output for alloc::vec::Vec<u8> {
    fn write_bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// Text written through [`fmt::Write`], each line ended as terminals want it.
pub(crate) struct Text<'a>(pub(crate) &'a mut dyn Output);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive('\n') {
            match piece.strip_suffix('\n') {
                Some(line) => {
                    self.0.write_bytes(line.as_bytes());
                    self.0.write_bytes(b"\r\n");
                }
                None => self.0.write_bytes(piece.as_bytes()),
            }
        }
        Ok(())
    }
}

/// Writes formatted text to `out`, with terminal line ends.
pub(crate) fn print(out: &mut dyn Output, text: fmt::Arguments<'_>) {
    // `Text` never fails, and an error of a `Display` implementation only cuts the text short.
    let _cut_short = fmt::write(&mut Text(out), text);
}
