//! Raw mode of the user's terminal, undone whatever happens.

use anyhow::{Context, Result};
use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

/// While it lives, every key goes to the machine, Ctrl-C included. Without a terminal it does nothing.
pub(super) struct RawTerminal {
    before: Option<Termios>,
}

impl RawTerminal {
    /// Changes the mode of the terminal on standard input.
    pub(super) fn enter() -> Result<Self> {
        if !isatty(stdin()) {
            return Ok(RawTerminal { before: None });
        }
        let before = tcgetattr(stdin()).context("reading the terminal's mode")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Flush, &raw).context("changing the terminal's mode")?;
        Ok(RawTerminal { before: Some(before) })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // Nothing is left to be done if even this fails.
            let _unrestored = tcsetattr(stdin(), OptionalActions::Flush, before);
            eprintln!();
        }
    }
}
