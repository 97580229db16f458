//! The escape key: once it is Craton's (it switches to the monitor), twice in a row it leaves.

/// Ctrl-].
const KEY: u8 = 0x1d;

/// What to do with a byte from the keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Send it to the machine.
    Pass,
    /// End the session.
    Leave,
}

/// Remembers whether the last key was the escape key.
#[derive(Default)]
pub(super) struct Escape {
    pending: bool,
}

impl Escape {
    /// Decides about the next byte.
    pub(super) fn next(&mut self, byte: u8) -> Action {
        let again = self.pending;
        self.pending = byte == KEY;
        if again && self.pending { Action::Leave } else { Action::Pass }
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, Escape, KEY};

    fn leaves(keys: &[u8]) -> bool {
        let mut escape = Escape::default();
        keys.iter().any(|key| escape.next(*key) == Action::Leave)
    }

    #[test]
    fn only_two_escape_keys_in_a_row_leave() {
        assert!(leaves(&[b'a', KEY, KEY]));
        assert!(!leaves(&[KEY, b'v', KEY, b'm']));
        assert!(!leaves(b"exit"));
    }
}
