//! The last lines that were entered.

use alloc::collections::VecDeque;
use alloc::string::String;

/// How many lines are remembered.
pub(crate) const MAX_HISTORY: usize = 32;

/// Remembered lines, and where in them the operator is looking.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// Oldest first.
    entries: VecDeque<String>,
    /// How many entries back the line shown is; 0 is the line being typed.
    back: usize,
    /// The line being typed, kept while older ones are shown.
    draft: String,
}

impl History {
    /// Remembers `line`, unless it is blank or the same as the last one, and returns to the line being typed.
    pub(crate) fn remember(&mut self, line: &str) {
        self.back = 0;
        self.draft.clear();
        if line.trim().is_empty() || self.entries.back().is_some_and(|last| last == line) {
            return;
        }
        if self.entries.len() >= MAX_HISTORY {
            self.entries.pop_front();
        }
        self.entries.push_back(String::from(line));
    }

    /// Leaves the older lines, without remembering anything.
    pub(crate) fn leave(&mut self) {
        self.back = 0;
        self.draft.clear();
    }

    /// The line before the one shown; `current` is what the operator has typed so far. `None` at the oldest.
    pub(crate) fn older(&mut self, current: &str) -> Option<&str> {
        if self.back >= self.entries.len() {
            return None;
        }
        if self.back == 0 {
            self.draft = String::from(current);
        }
        self.back += 1;
        self.entries.get(self.entries.len() - self.back).map(String::as_str)
    }

    /// The line after the one shown, in the end the one being typed. `None` if that is shown already.
    pub(crate) fn newer(&mut self) -> Option<&str> {
        self.back = self.back.checked_sub(1)?;
        if self.back == 0 {
            return Some(&self.draft);
        }
        self.entries.get(self.entries.len() - self.back).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walking_back_and_forth_ends_at_what_was_being_typed() {
        let mut history = History::default();
        history.remember("one");
        history.remember("two");
        assert_eq!(history.older("draft"), Some("two"));
        assert_eq!(history.older("two"), Some("one"));
        assert_eq!(history.older("one"), None);
        assert_eq!(history.newer(), Some("two"));
        assert_eq!(history.newer(), Some("draft"));
        assert_eq!(history.newer(), None);
    }

    #[test]
    fn blanks_and_repeats_are_not_remembered() {
        let mut history = History::default();
        for line in ["one", "one", "  ", ""] {
            history.remember(line);
        }
        assert_eq!(history.older(""), Some("one"));
        assert_eq!(history.older("one"), None);
    }

    #[test]
    fn the_oldest_lines_make_room() {
        let mut history = History::default();
        for number in 0..MAX_HISTORY + 5 {
            history.remember(&format!("line {number}"));
        }
        let mut oldest = String::new();
        while let Some(line) = history.older("") {
            oldest = line.to_string();
        }
        assert_eq!(oldest, "line 5");
    }
}
