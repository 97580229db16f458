//! Bytes of a terminal to keys.
//!
//! ECMA-48, "Control Functions for Coded Character Sets" (CSI and SS3 sequences), with the codes that xterm, the
//! Linux console and PuTTY send for the editing keys.

/// What the operator pressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    Character(char),
    Enter,
    Tab,
    Backspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    KillToEnd,
    KillToStart,
    KillWord,
    ClearScreen,
    Interrupt,
    EndOfInput,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Ground,
    /// After a carriage return: a line feed now belongs to it.
    AfterReturn,
    /// After ESC.
    Escape,
    /// After ESC [, with the number so far.
    Csi(u16),
    /// After ESC O.
    Ss3,
}

/// Assembles keys from bytes.
#[derive(Clone, Debug)]
pub(crate) struct KeyDecoder {
    state: State,
}

impl KeyDecoder {
    pub(crate) const fn new() -> Self {
        Self { state: State::Ground }
    }

    /// Takes the next byte; a key when one is complete.
    pub(crate) fn feed(&mut self, byte: u8) -> Option<Key> {
        let state = core::mem::replace(&mut self.state, State::Ground);
        match state {
            State::AfterReturn if byte == b'\n' => None,
            State::Ground | State::AfterReturn => self.plain(byte),
            State::Escape => match byte {
                b'[' => self.enter(State::Csi(0)),
                b'O' => self.enter(State::Ss3),
                // ESC twice, or ESC and a control character: the second one counts.
                0x00..=0x1f | 0x7f => self.plain(byte),
                // Alt and a key: not an editing key here.
                _ => None,
            },
            State::Csi(number) => match byte {
                b'0'..=b'9' => {
                    let digit = u16::from(byte - b'0');
                    self.enter(State::Csi(number.saturating_mul(10).saturating_add(digit)))
                }
                // A modifier follows ("1;5C" is Ctrl-Right): the key without it is the best reading.
                b';' => self.enter(State::Csi(0)),
                // Other parameter and intermediate bytes belong to sequences that are no editing keys.
                0x20..=0x3f => self.enter(State::Csi(u16::MAX)),
                0x40..=0x7e => final_of_csi(number, byte),
                // A control character inside a sequence cancels it.
                _ => self.plain(byte),
            },
            State::Ss3 => final_of_csi(0, byte),
        }
    }

    /// Whether more bytes belong to the key that was begun.
    pub(crate) fn is_inside_sequence(&self) -> bool {
        match self.state {
            State::Ground | State::AfterReturn => false,
            State::Escape | State::Csi(_) | State::Ss3 => true,
        }
    }

    fn enter(&mut self, state: State) -> Option<Key> {
        self.state = state;
        None
    }

    fn plain(&mut self, byte: u8) -> Option<Key> {
        match byte {
            0x01 => Some(Key::Home),
            0x02 => Some(Key::Left),
            0x03 => Some(Key::Interrupt),
            0x04 => Some(Key::EndOfInput),
            0x05 => Some(Key::End),
            0x06 => Some(Key::Right),
            0x08 | 0x7f => Some(Key::Backspace),
            b'\t' => Some(Key::Tab),
            b'\n' => Some(Key::Enter),
            0x0b => Some(Key::KillToEnd),
            0x0c => Some(Key::ClearScreen),
            b'\r' => {
                self.state = State::AfterReturn;
                Some(Key::Enter)
            }
            0x0e => Some(Key::Down),
            0x10 => Some(Key::Up),
            0x15 => Some(Key::KillToStart),
            0x17 => Some(Key::KillWord),
            0x1b => self.enter(State::Escape),
            0x20..=0x7e => Some(Key::Character(char::from(byte))),
            // Commands and names are ASCII; the other control characters have no meaning here.
            0x00..=0x1f | 0x80..=0xff => None,
        }
    }
}

fn final_of_csi(number: u16, byte: u8) -> Option<Key> {
    match (byte, number) {
        (b'A', _) => Some(Key::Up),
        (b'B', _) => Some(Key::Down),
        (b'C', _) => Some(Key::Right),
        (b'D', _) => Some(Key::Left),
        (b'H', _) | (b'~', 1 | 7) => Some(Key::Home),
        (b'F', _) | (b'~', 4 | 8) => Some(Key::End),
        (b'~', 3) => Some(Key::Delete),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = KeyDecoder::new();
        bytes.iter().filter_map(|&byte| decoder.feed(byte)).collect()
    }

    #[test]
    fn every_spelling_of_home_end_and_delete_is_understood() {
        for home in [b"\x1b[H".as_slice(), b"\x1b[1~", b"\x1b[7~", b"\x1bOH", b"\x01"] {
            assert_eq!(keys(home), [Key::Home], "{home:x?}");
        }
        for end in [b"\x1b[F".as_slice(), b"\x1b[4~", b"\x1b[8~", b"\x1bOF", b"\x05"] {
            assert_eq!(keys(end), [Key::End], "{end:x?}");
        }
        assert_eq!(keys(b"\x1b[3~"), [Key::Delete]);
    }

    #[test]
    fn carriage_return_line_feed_and_both_are_one_enter() {
        assert_eq!(keys(b"\r"), [Key::Enter]);
        assert_eq!(keys(b"\n"), [Key::Enter]);
        assert_eq!(keys(b"\r\n"), [Key::Enter]);
        assert_eq!(keys(b"\n\n"), [Key::Enter, Key::Enter]);
        assert_eq!(keys(b"\r\r\n"), [Key::Enter, Key::Enter]);
    }

    #[test]
    fn unknown_sequences_leave_nothing_behind() {
        assert_eq!(keys(b"\x1b[200~a"), [Key::Character('a')]);
        assert_eq!(keys(b"\x1b[?25ha"), [Key::Character('a')]);
        assert_eq!(keys(b"\x1bxa"), [Key::Character('a')]);
        assert_eq!(keys(b"\x1b[99999999999~a"), [Key::Character('a')]);
        assert_eq!(keys(b"\x1b\x1b[A"), [Key::Up]);
    }

    #[test]
    fn a_modified_arrow_is_the_arrow() {
        assert_eq!(keys(b"\x1b[1;5D"), [Key::Left]);
    }
}
