//! A ring of up to 16 bytes.

use super::spec::FIFO_BYTES;

/// The bytes of one FIFO, or of one holding register (of which only the first place is used).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Fifo {
    bytes: [u8; FIFO_BYTES],
    first: usize,
    length: usize,
}

impl Fifo {
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Appends `byte`; a full FIFO drops it. The caller keeps to the depth that is in force.
    pub(crate) fn push(&mut self, byte: u8) {
        if self.length < FIFO_BYTES {
            self.bytes[(self.first + self.length) % FIFO_BYTES] = byte;
            self.length += 1;
        }
    }

    pub(crate) fn front(&self) -> Option<u8> {
        (self.length > 0).then(|| self.bytes[self.first])
    }

    pub(crate) fn pop(&mut self) -> Option<u8> {
        let byte = self.front()?;
        // Popped places return to zero so that equal contents compare equal however they came about.
        self.bytes[self.first] = 0;
        self.length -= 1;
        self.first = if self.length == 0 { 0 } else { (self.first + 1) % FIFO_BYTES };
        Some(byte)
    }
}
