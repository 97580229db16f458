//! The operator's serial line: what is on its way out, and what came in for a guest and found no room yet.

use alloc::vec::Vec;

/// The most bytes that wait for the serial line; guests that print more wait with them.
pub(crate) const BACKLOG: usize = 2_048;

/// Text on its way to the serial line.
#[derive(Debug)]
pub(crate) struct Line {
    waiting: Vec<u8>,
    sent: usize,
}

impl Line {
    /// A line for which nothing waits.
    pub(crate) fn new() -> Self {
        Self { waiting: Vec::with_capacity(BACKLOG), sent: 0 }
    }

    /// Sends what the line takes now.
    pub(crate) fn flush(&mut self) {
        let rest = self.waiting.get(self.sent..).unwrap_or_default();
        if !rest.is_empty() {
            self.sent += hal::serial::Console.try_send_all(rest);
        }
        // Also while more comes all the time: a guest that never pauses must not make this grow.
        if self.sent >= self.waiting.len() || self.sent >= BACKLOG {
            self.waiting.drain(..self.sent.min(self.waiting.len()));
            self.sent = 0;
        }
        // A long table or many news at once made it larger.
        if self.waiting.is_empty() && self.waiting.capacity() > BACKLOG {
            self.waiting.shrink_to(BACKLOG);
        }
    }

    /// Bytes that may still be added before guests have to wait.
    pub(crate) fn room(&self) -> usize {
        BACKLOG.saturating_sub(self.waiting.len() - self.sent)
    }

    /// Whether all is sent.
    pub(crate) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl monitor::Output for Line {
    fn write_bytes(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }
}
