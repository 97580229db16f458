//! The screen as text.

use super::font;
use alloc::string::String;
use alloc::vec::Vec;

/// What a screen in text mode shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextScreen {
    pub(super) columns: usize,
    /// Code and attribute of each character, row by row.
    pub(super) cells: Vec<(u8, u8)>,
    /// Row and column of the cursor, if it is shown.
    pub(super) cursor: Option<(usize, usize)>,
}

impl TextScreen {
    /// How many characters a row has.
    pub const fn columns(&self) -> usize {
        self.columns
    }

    /// Row and column of the cursor, if it is shown on the screen.
    pub const fn cursor(&self) -> Option<(usize, usize)> {
        self.cursor
    }

    /// The rows, as characters, without the blanks at their ends.
    pub fn rows(&self) -> impl Iterator<Item = String> {
        self.cells.chunks(self.columns.max(1)).map(|row| {
            let text: String = row.iter().map(|(code, _)| font::character(*code)).collect();
            String::from(text.trim_end())
        })
    }

    /// Code and attribute of the character at `row` and `column`.
    pub fn cell(&self, row: usize, column: usize) -> Option<(u8, u8)> {
        if column >= self.columns {
            return None;
        }
        self.cells.get(row.checked_mul(self.columns)?.checked_add(column)?).copied()
    }
}
