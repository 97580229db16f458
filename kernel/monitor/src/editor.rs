//! Line editing on a terminal: keys in, the line and the escape sequences that show it out.
//!
//! The line is shown on one row, scrolled sideways when it is longer, so that the width of the operator's terminal
//! beyond [`COLUMNS`] need not be known.

use crate::history::History;
use crate::keys::{Key, KeyDecoder};
use crate::line::Line;
use crate::output::{Output, print};
use alloc::string::String;

/// Columns used, prompt included: a terminal has at least 80, and writing to the last one may wrap.
const COLUMNS: usize = 79;
/// Shown left of the line.
const PROMPT: &str = "craton> ";
/// Columns that the line itself has.
const WINDOW: usize = COLUMNS - PROMPT.len();

const BELL: &[u8] = b"\x07";

/// What a byte led to, beyond what was drawn.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Edit {
    /// Nothing.
    Continue,
    /// The line is complete. The cursor is on a fresh row; the prompt is not drawn yet.
    Entered(String),
    /// The operator asks for completion.
    Complete,
    /// Ctrl-D on an empty line.
    EndOfInput,
}

/// The line editor.
#[derive(Clone, Debug)]
pub(crate) struct Editor {
    keys: KeyDecoder,
    line: Line,
    history: History,
    /// The first column of the line that is shown.
    scroll: usize,
    /// What becomes of the key that is being assembled.
    next_key: NextKey,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NextKey {
    Obeyed,
    Swallowed,
}

impl Editor {
    pub(crate) fn new() -> Self {
        Self {
            keys: KeyDecoder::new(),
            line: Line::default(),
            history: History::default(),
            scroll: 0,
            next_key: NextKey::Obeyed,
        }
    }

    /// The text left of the cursor, for completion.
    pub(crate) fn before_cursor(&self) -> &str {
        self.line.before_cursor()
    }

    /// Takes the next byte.
    pub(crate) fn feed(&mut self, byte: u8, out: &mut dyn Output) -> Edit {
        if self.next_key == NextKey::Swallowed {
            self.swallow(byte);
            return Edit::Continue;
        }
        let Some(key) = self.keys.feed(byte) else { return Edit::Continue };
        match key {
            Key::Character(character) => self.insert(character, out),
            Key::Enter => return self.enter(out),
            Key::Tab => return Edit::Complete,
            Key::EndOfInput if self.line.as_str().is_empty() => return Edit::EndOfInput,
            Key::Backspace => self.edited(Line::backspace, out),
            Key::Delete | Key::EndOfInput => self.edited(Line::delete, out),
            Key::Left => self.edited(Line::left, out),
            Key::Right => self.edited(Line::right, out),
            Key::Home => self.changed(Line::home, out),
            Key::End => self.changed(Line::end, out),
            Key::KillToEnd => self.changed(Line::kill_to_end, out),
            Key::KillToStart => self.changed(Line::kill_to_start, out),
            Key::KillWord => self.changed(Line::kill_word, out),
            Key::Up => {
                let older = self.history.older(self.line.as_str());
                recall(&mut self.line, older, out);
                self.draw(out);
            }
            Key::Down => {
                let newer = self.history.newer();
                recall(&mut self.line, newer, out);
                self.draw(out);
            }
            Key::ClearScreen => {
                out.write_bytes(b"\x1b[2J\x1b[H");
                self.draw(out);
            }
            Key::Interrupt => {
                out.write_bytes(b"^C\r\n");
                self.line.take();
                self.history.leave();
                self.draw(out);
            }
        }
        Edit::Continue
    }

    /// Takes the first byte of a key that was meant for something else: nothing comes of the key.
    pub(crate) fn swallow(&mut self, byte: u8) {
        let _for_something_else = self.keys.feed(byte);
        let is_begun = self.keys.is_inside_sequence();
        self.next_key = if is_begun { NextKey::Swallowed } else { NextKey::Obeyed };
    }

    /// Replaces the text from `start` to the cursor by `word`, and draws.
    pub(crate) fn replace_word(&mut self, start: usize, word: &str, out: &mut dyn Output) {
        if !self.line.replace_word(start, word) {
            out.write_bytes(BELL);
        }
        self.draw(out);
    }

    /// Draws prompt and line on the current row, and puts the cursor where it belongs.
    pub(crate) fn draw(&mut self, out: &mut dyn Output) {
        let cursor = self.line.cursor();
        self.scroll = self.scroll.clamp(cursor.saturating_sub(WINDOW), cursor);
        if self.line.as_str().len() <= WINDOW {
            self.scroll = 0;
        }
        let rest = self.line.as_str().get(self.scroll..).unwrap_or_default();
        let shown = rest.get(..WINDOW).unwrap_or(rest);
        print(out, format_args!("\r{PROMPT}{shown}\x1b[K"));
        let left_by = (self.scroll + shown.len()).saturating_sub(cursor);
        if left_by > 0 {
            print(out, format_args!("\x1b[{left_by}D"));
        }
    }

    /// Clears the row that [`Self::draw`] drew, for something else to be written there.
    pub(crate) fn erase(out: &mut dyn Output) {
        out.write_bytes(b"\r\x1b[K");
    }

    fn insert(&mut self, character: char, out: &mut dyn Output) {
        if !self.line.insert(character) {
            out.write_bytes(BELL);
            return;
        }
        let length = self.line.as_str().len();
        if self.line.cursor() == length && length <= WINDOW {
            // The common case costs one byte on the line.
            print(out, format_args!("{character}"));
        } else {
            self.draw(out);
        }
    }

    fn enter(&mut self, out: &mut dyn Output) -> Edit {
        self.line.end();
        self.draw(out);
        out.write_bytes(b"\r\n");
        self.scroll = 0;
        let line = self.line.take();
        self.history.remember(&line);
        Edit::Entered(line)
    }

    fn edited(&mut self, edit: fn(&mut Line) -> bool, out: &mut dyn Output) {
        if edit(&mut self.line) {
            self.draw(out);
        } else {
            out.write_bytes(BELL);
        }
    }

    fn changed(&mut self, edit: fn(&mut Line), out: &mut dyn Output) {
        edit(&mut self.line);
        self.draw(out);
    }
}

fn recall(line: &mut Line, entry: Option<&str>, out: &mut dyn Output) {
    match entry {
        Some(entry) => line.set(entry),
        None => out.write_bytes(BELL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::MAX_LINE;

    /// The row a terminal would show after `bytes`, and its cursor column. Knows only what the editor sends.
    fn screen_row(bytes: &[u8]) -> (String, usize) {
        let (mut row, mut column) = (Vec::new(), 0_usize);
        let mut rest = bytes.iter().copied().peekable();
        while let Some(byte) = rest.next() {
            match byte {
                b'\r' => column = 0,
                b'\n' => row.clear(),
                0x07 => {}
                0x1b => {
                    assert_eq!(rest.next(), Some(b'['));
                    let mut number = 0;
                    while let Some(digit) = rest.next_if(u8::is_ascii_digit) {
                        number = number * 10 + usize::from(digit - b'0');
                    }
                    match rest.next() {
                        Some(b'K') => row.truncate(column),
                        Some(b'D') => column = column.checked_sub(number).expect("stays on the row"),
                        Some(b'J') => row.clear(),
                        Some(b'H') => column = 0,
                        other => panic!("unexpected sequence {other:?}"),
                    }
                }
                _ => {
                    if column == row.len() {
                        row.push(byte);
                    } else {
                        row[column] = byte;
                    }
                    column += 1;
                    assert!(column <= COLUMNS, "the row wraps");
                }
            }
        }
        (String::from_utf8(row).expect("ASCII"), column)
    }

    fn type_into(editor: &mut Editor, bytes: &[u8]) -> (Vec<u8>, Vec<Edit>) {
        let mut out = Vec::new();
        editor.draw(&mut out);
        let edits = bytes.iter().map(|&byte| editor.feed(byte, &mut out)).collect();
        (out, edits)
    }

    #[test]
    fn the_screen_shows_the_edited_line_and_cursor() {
        let mut editor = Editor::new();
        let (out, _) = type_into(&mut editor, b"vm lisst\x1b[D\x1b[D\x7fX\x01>");
        assert_eq!(screen_row(&out), ("craton> >vm liXst".into(), PROMPT.len() + 1));
    }

    #[test]
    fn a_long_line_scrolls_and_never_wraps() {
        let mut editor = Editor::new();
        let mut input = vec![b'x'; MAX_LINE + 10];
        input.extend_from_slice(b"\x1b[D\x1b[Dy\x01\x05\x01ab\x0b");
        let (out, _) = type_into(&mut editor, &input);
        assert_eq!(screen_row(&out), ("craton> ".into(), PROMPT.len()));
        let (out, _) = type_into(&mut editor, &[b'z'; 100]);
        assert_eq!(screen_row(&out), (format!("craton> {}", "z".repeat(WINDOW)), COLUMNS));
    }

    #[test]
    fn enter_hands_the_line_over_and_up_brings_it_back() {
        let mut editor = Editor::new();
        let (_, edits) = type_into(&mut editor, b"host\r");
        assert_eq!(edits.last(), Some(&Edit::Entered("host".into())));
        let (out, edits) = type_into(&mut editor, b"\x1b[A");
        assert_eq!(edits.last(), Some(&Edit::Continue));
        assert_eq!(screen_row(&out).0, "craton> host");
        let (_, edits) = type_into(&mut editor, b"\r");
        assert_eq!(edits, [Edit::Entered("host".into())]);
    }

    #[test]
    fn ctrl_c_drops_the_line_and_ctrl_d_ends_only_an_empty_one() {
        let mut editor = Editor::new();
        let (_, edits) = type_into(&mut editor, b"ab\x01\x04\x03\x04");
        assert_eq!(edits.last(), Some(&Edit::EndOfInput));
        assert!(edits[..5].iter().all(|edit| *edit == Edit::Continue));
    }

    #[test]
    fn clearing_the_screen_keeps_the_line() {
        let mut editor = Editor::new();
        let (out, _) = type_into(&mut editor, b"host\x0c");
        assert_eq!(screen_row(&out).0, "craton> host");
    }

    #[test]
    fn a_swallowed_key_leaves_nothing_behind_however_many_bytes_it_has() {
        for key in [b"x".as_slice(), b"\r\n", b"\x1b[A", b"\x1b[3~", b"\x1bOH", b"\x1bq", b"\x03"] {
            let mut editor = Editor::new();
            editor.history.remember("older");
            editor.swallow(key[0]);
            let mut input = key[1..].to_vec();
            input.extend_from_slice(b"host\r");
            let (_, edits) = type_into(&mut editor, &input);
            assert_eq!(edits.last(), Some(&Edit::Entered("host".into())), "{key:?}");
        }
    }
}
