//! The last of the log's text.

/// Bytes kept.
const CAPACITY: usize = 32 * 1024;

/// A ring of text.
pub(super) struct Recent {
    bytes: [u8; CAPACITY],
    /// Where the next byte goes.
    next: usize,
    /// How many bytes are kept.
    length: usize,
}

impl Recent {
    /// No text.
    pub(super) const fn new() -> Self {
        Self { bytes: [0; CAPACITY], next: 0, length: 0 }
    }

    /// Adds `text`; the oldest text makes room.
    pub(super) fn push(&mut self, text: &[u8]) {
        for &byte in text {
            self.bytes[self.next] = byte;
            self.next = (self.next + 1) % CAPACITY;
            self.length = (self.length + 1).min(CAPACITY);
        }
    }

    /// Calls `each` with the text in pieces, oldest first.
    pub(super) fn for_each_piece(&self, mut each: impl FnMut(&[u8])) {
        let start = (self.next + CAPACITY - self.length) % CAPACITY;
        let first = self.length.min(CAPACITY - start);
        each(&self.bytes[start..start + first]);
        each(&self.bytes[..self.length - first]);
    }
}
