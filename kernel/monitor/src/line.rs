//! The line being edited: ASCII text and a cursor, at most [`MAX_LINE`] characters.

use alloc::string::String;

/// The longest line, in characters. Longer input is refused with a bell.
pub(crate) const MAX_LINE: usize = 256;

/// Text and a cursor in it. The text is ASCII, so that characters, bytes and columns are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    text: String,
    cursor: usize,
}

impl Line {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn cursor(&self) -> usize {
        self.cursor
    }

    /// The text left of the cursor.
    pub(crate) fn before_cursor(&self) -> &str {
        self.text.get(..self.cursor).unwrap_or_default()
    }

    /// Empties the line and returns what it held.
    pub(crate) fn take(&mut self) -> String {
        self.cursor = 0;
        core::mem::take(&mut self.text)
    }

    /// Replaces everything, cursor at the end. What is not printable ASCII, or beyond the limit, is left out.
    pub(crate) fn set(&mut self, text: &str) {
        self.text.clear();
        self.text.extend(text.chars().filter(|&c| is_text(c)).take(MAX_LINE));
        self.cursor = self.text.len();
    }

    /// Inserts at the cursor; `false` if the line is full or `character` is not printable ASCII.
    pub(crate) fn insert(&mut self, character: char) -> bool {
        if self.text.len() >= MAX_LINE || !is_text(character) {
            return false;
        }
        self.text.insert(self.cursor, character);
        self.cursor += 1;
        true
    }

    /// Replaces the text from `start` to the cursor by `word`; `false`, and nothing changes, if that does not fit.
    pub(crate) fn replace_word(&mut self, start: usize, word: &str) -> bool {
        if start > self.cursor || !word.chars().all(is_text) {
            return false;
        }
        if self.text.len() - (self.cursor - start) + word.len() > MAX_LINE {
            return false;
        }
        self.text.replace_range(start..self.cursor, word);
        self.cursor = start + word.len();
        true
    }

    pub(crate) fn backspace(&mut self) -> bool {
        let moved = self.left();
        moved && self.delete()
    }

    pub(crate) fn delete(&mut self) -> bool {
        if self.cursor >= self.text.len() {
            return false;
        }
        self.text.remove(self.cursor);
        true
    }

    pub(crate) fn left(&mut self) -> bool {
        let moved = self.cursor > 0;
        self.cursor = self.cursor.saturating_sub(1);
        moved
    }

    pub(crate) fn right(&mut self) -> bool {
        let moves = self.cursor < self.text.len();
        self.cursor += usize::from(moves);
        moves
    }

    pub(crate) fn home(&mut self) {
        self.cursor = 0;
    }

    pub(crate) fn end(&mut self) {
        self.cursor = self.text.len();
    }

    pub(crate) fn kill_to_end(&mut self) {
        self.text.truncate(self.cursor);
    }

    pub(crate) fn kill_to_start(&mut self) {
        self.text.replace_range(..self.cursor, "");
        self.cursor = 0;
    }

    /// Removes the word left of the cursor, and the blanks between it and the cursor.
    pub(crate) fn kill_word(&mut self) {
        let kept = self.before_cursor().trim_end_matches(' ');
        let start = kept.rfind(' ').map_or(0, |blank| blank + 1);
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
    }
}

fn is_text(character: char) -> bool {
    character.is_ascii_graphic() || character == ' '
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str, cursor: usize) -> Line {
        let mut line = Line::default();
        line.set(text);
        while line.cursor() > cursor {
            line.left();
        }
        line
    }

    #[test]
    fn editing_happens_at_the_cursor() {
        let mut line = line("vm lst", 4);
        assert!(line.insert('i'));
        assert_eq!((line.as_str(), line.cursor()), ("vm list", 5));
        assert!(line.backspace() && line.delete());
        assert_eq!((line.as_str(), line.cursor()), ("vm lt", 4));
    }

    #[test]
    fn killing_a_word_takes_the_blanks_after_it() {
        let mut line = line("vm start  linux", 10);
        line.kill_word();
        assert_eq!((line.as_str(), line.cursor()), ("vm linux", 3));
        line.kill_to_start();
        assert_eq!((line.as_str(), line.cursor()), ("linux", 0));
        line.kill_word();
        assert_eq!(line.as_str(), "linux");
        line.kill_to_end();
        assert_eq!(line.as_str(), "");
    }

    #[test]
    fn the_line_never_grows_beyond_its_limit() {
        let mut line = Line::default();
        let taken = (0..MAX_LINE * 2).filter(|_| line.insert('x')).count();
        assert_eq!((taken, line.as_str().len()), (MAX_LINE, MAX_LINE));
        assert!(!line.replace_word(MAX_LINE, "y"));
        assert!(line.replace_word(0, "y"));
    }

    #[test]
    fn the_ends_of_the_line_are_refused_not_passed() {
        let mut line = line("a", 0);
        assert!(!line.left() && !line.backspace());
        line.end();
        assert!(!line.right() && !line.delete());
        assert_eq!(line.as_str(), "a");
    }
}
