//! Takes the cursor-position query out of what a machine prints.
//!
//! A shell asks the terminal where the cursor is and reads on. On Bochs emulated time runs ahead while the guest
//! waits, so an answer that comes within milliseconds of ours is minutes late for it: the shell has stopped waiting,
//! takes the answer for typing and shows `[50;10R` at the prompt. A shell that gets no answer goes on without it, as
//! on every serial line with nobody at its other end.
//!
//! Source: Standard ECMA-48, "DSR - Device Status Report".

/// Asks for the cursor's position.
const QUERY: &[u8] = b"\x1b[6n";

/// A filter for a stream that arrives in pieces.
#[derive(Debug, Default)]
pub(super) struct CursorQuery {
    /// How much of the query the stream's end may be.
    matched: usize,
}

impl CursorQuery {
    /// The next piece without queries. A beginning of one at its end is held back until it is known what it is.
    pub(super) fn remove(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut kept = Vec::with_capacity(piece.len());
        for &byte in piece {
            if byte != QUERY[self.matched] {
                kept.extend(&QUERY[..self.matched]);
                self.matched = 0;
            }
            if byte != QUERY[self.matched] {
                kept.push(byte);
                continue;
            }
            self.matched += 1;
            if self.matched == QUERY.len() {
                self.matched = 0;
            }
        }
        kept
    }

    /// What is held back: the stream is over.
    pub(super) fn finish(self) -> &'static [u8] {
        &QUERY[..self.matched]
    }
}

#[cfg(test)]
mod tests {
    use super::CursorQuery;

    fn filtered(pieces: &[&[u8]]) -> Vec<u8> {
        let mut filter = CursorQuery::default();
        let mut kept: Vec<u8> = pieces.iter().flat_map(|piece| filter.remove(piece)).collect();
        kept.extend(filter.finish());
        kept
    }

    #[test]
    fn query_is_removed_wherever_the_pieces_are_cut() {
        let stream = b"guest:/# \x1b[6nls\x1b[6n";
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(filtered(&pieces), b"guest:/# ls", "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn other_sequences_pass_unchanged() {
        for stream in [&b"\x1b[J\x1b[6m6n[6n\x1b\x1b[5n\n"[..], b"\x1b[66n", b"\x1b[6;1H", b"end\x1b[6"] {
            assert_eq!(filtered(&[stream]), stream);
        }
    }

    #[test]
    fn query_behind_a_beginning_of_one_is_removed() {
        assert_eq!(filtered(&[b"\x1b[\x1b[6n"]), b"\x1b[");
        assert_eq!(filtered(&[b"\x1b[6", b"\x1b", b"[6nx"]), b"\x1b[6x");
    }

    #[test]
    fn only_what_may_be_a_query_is_held_back() {
        let mut filter = CursorQuery::default();
        assert_eq!(filter.remove(b"a\x1b["), b"a");
        assert_eq!(filter.remove(b"K"), b"\x1b[K");
    }
}
