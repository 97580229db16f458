//! One serial line shared by the monitor and the guests' consoles.
//!
//! At any time the line belongs to the monitor or to one guest. [`ESCAPE_KEY`] switches between the two. What guests
//! write while they are not shown is kept, the newest [`MAX_BACKLOG`] bytes of each, and shown when they are.

use crate::complete::{Completion, complete};
use crate::control::{Control, VmState};
use crate::editor::{Edit, Editor};
use crate::output::{Output, print};
use crate::shell::{Request, run};
use crate::top::{Progress, Top};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// Ctrl-]: switches between the guest console and the monitor unless another key is chosen. Never reaches a guest.
pub const ESCAPE_KEY: u8 = 0x1d;

/// Bytes kept of a guest that is not shown.
const MAX_BACKLOG: usize = 8192;
/// Bytes kept of the row that a guest is writing, to show it again (a shell's prompt, mostly).
const MAX_ROW: usize = 256;
/// Consoles with a backlog. More guests than this still work, the ones beyond it are forgotten while not shown.
const MAX_CONSOLES: usize = 64;

/// Words shown when Tab finds several.
const MOST_CHOICES: usize = 64;

/// Whom the line belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Focus {
    /// The monitor.
    Monitor,
    /// The guest that [`Terminal::attached`] names.
    Guest,
}

/// What is kept of one guest's console.
#[derive(Clone, Debug)]
struct Console {
    name: String,
    /// The row being written, from its beginning.
    row: Vec<u8>,
    /// What was written while not shown, the newest of it.
    missed: VecDeque<u8>,
    /// Whether older bytes were dropped from `missed`.
    overflowed: bool,
}

impl Console {
    fn new(name: &str) -> Self {
        Self { name: String::from(name), row: Vec::new(), missed: VecDeque::new(), overflowed: false }
    }

    fn follow_row(&mut self, bytes: &[u8]) {
        let row = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => {
                self.row.clear();
                &bytes[end + 1..]
            }
            None => bytes,
        };
        let room = MAX_ROW.saturating_sub(self.row.len());
        self.row.extend_from_slice(&row[..row.len().min(room)]);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let newest = &bytes[bytes.len().saturating_sub(MAX_BACKLOG)..];
        let surplus = (self.missed.len() + newest.len()).saturating_sub(MAX_BACKLOG);
        self.overflowed |= surplus > 0 || newest.len() < bytes.len();
        self.missed.drain(..surplus);
        self.missed.extend(newest);
    }
}

/// A control character, by the key that makes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Key(u8);

impl core::fmt::Display for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Ctrl-{}", char::from(self.0 ^ 0x40))
    }
}

/// The multiplexer: decides for every byte where it goes.
#[derive(Clone, Debug)]
pub struct Terminal {
    /// Switches between monitor and guest.
    escape: Key,
    focus: Focus,
    attached: Option<String>,
    editor: Editor,
    consoles: Vec<Console>,
    /// The `top` that has the monitor's rows instead of the prompt.
    top: Option<Top>,
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Terminal {
    /// A terminal that belongs to the monitor. Nothing is written until [`Self::open`] or [`Self::attach`].
    pub fn new() -> Self {
        Self::with_escape(ESCAPE_KEY)
    }

    /// A terminal like [`Self::new`]'s whose escape key is the control character `escape`.
    pub fn with_escape(escape: u8) -> Self {
        let escape = Key(escape);
        Self {
            escape,
            focus: Focus::Monitor,
            attached: None,
            editor: Editor::new(),
            consoles: Vec::new(),
            top: None,
        }
    }

    /// Greets the operator and shows the prompt.
    pub fn open(&mut self, control: &dyn Control, out: &mut dyn Output) {
        self.focus = Focus::Monitor;
        print(out, format_args!("{}; 'help' lists commands\n", control.version()));
        self.editor.draw(out);
    }

    /// Whom the line belongs to.
    pub fn focus(&self) -> Focus {
        self.focus
    }

    /// The guest whose console is shown, or would be shown by [`ESCAPE_KEY`].
    pub fn attached(&self) -> Option<&str> {
        self.attached.as_deref()
    }

    /// Takes a byte from the line. `Some` is a byte for the console of [`Self::attached`]; everything else has been
    /// dealt with.
    pub fn feed(&mut self, byte: u8, control: &mut dyn Control, out: &mut dyn Output) -> Option<u8> {
        let is_escape = byte == self.escape.0;
        if self.top.take().is_some() && !is_escape {
            self.editor.swallow(byte);
            self.editor.draw(out);
            return None;
        }
        match self.focus {
            Focus::Guest if is_escape => self.show_monitor(out),
            Focus::Guest => return Some(byte),
            Focus::Monitor if is_escape => {
                Editor::erase(out);
                if !self.show_console(control, out) {
                    self.editor.draw(out);
                }
            }
            Focus::Monitor => match self.editor.feed(byte, out) {
                Edit::Continue => {}
                Edit::Complete => self.complete(control, out),
                Edit::EndOfInput => {
                    Editor::erase(out);
                    if !self.show_console(control, out) {
                        self.editor.draw(out);
                    }
                }
                Edit::Entered(line) => self.entered(&line, control, out),
            },
        }
        None
    }

    /// Shows what a repeating command has to show by now. To be called once in a while, at [`Self::next_tick`] at the
    /// latest; costs nothing when nothing repeats.
    pub fn tick(&mut self, control: &dyn Control, out: &mut dyn Output) {
        let Some(top) = &mut self.top else { return };
        match top.tick(control, out) {
            Progress::GoesOn => {}
            Progress::Done => {
                self.top = None;
                self.editor.draw(out);
            }
        }
    }

    /// When [`Self::tick`] has something to do next, on the clock of [`Control::uptime`]; `None` while no command
    /// repeats.
    pub fn next_tick(&self) -> Option<Duration> {
        self.top.as_ref().map(Top::due)
    }

    /// Forgets what the guest `name` wrote, for another of that name to begin afresh.
    pub fn forget(&mut self, name: &str) {
        self.consoles.retain(|console| console.name != name);
        if self.focus == Focus::Monitor && self.attached.as_deref() == Some(name) {
            self.attached = None;
        }
    }

    /// Gives the line to the console of the guest `name`, with what it wrote while it was not shown.
    pub fn attach(&mut self, name: &str, control: &dyn Control, out: &mut dyn Output) {
        if self.focus == Focus::Guest {
            self.leave_guest();
        }
        self.top = None;
        self.attached = Some(String::from(name));
        self.focus = Focus::Guest;
        let escape = self.escape;
        let state = control.vms().into_iter().find(|vm| vm.name == name).map(|vm| vm.state);
        match state {
            Some(VmState::Running) => {
                print(out, format_args!("[craton: console of {name}; {escape} goes to the monitor]\n"));
            }
            Some(VmState::Paused) => print(
                out,
                format_args!(
                    "[craton: console of {name}, which is paused; {escape} goes to the monitor, \
                     'vm resume {name}' there lets it go on]\n"
                ),
            ),
            Some(state @ (VmState::Stopped | VmState::Crashed | VmState::Refused)) => print(
                out,
                format_args!(
                    "[craton: console of {name}, which is {state}; {escape} goes to the monitor, \
                     'vm start {name}' there starts it]\n"
                ),
            ),
            None => print(out, format_args!("[craton: console of {name}; {escape} goes to the monitor]\n")),
        }
        if let Some(console) = self.consoles.iter_mut().find(|console| console.name == name) {
            if core::mem::take(&mut console.overflowed) {
                print(out, format_args!("[craton: older output was dropped]\n"));
            }
            let (older, newer) = console.missed.as_slices();
            out.write_bytes(older);
            out.write_bytes(newer);
            console.missed.clear();
        }
    }

    /// Takes bytes that the guest `name` wrote: shows them, or keeps them for later.
    pub fn guest_output(&mut self, name: &str, bytes: &[u8], out: &mut dyn Output) {
        let shown = self.focus == Focus::Guest && self.attached.as_deref() == Some(name);
        if shown {
            out.write_bytes(bytes);
        }
        let Some(console) = self.console(name) else { return };
        console.follow_row(bytes);
        if !shown {
            console.keep(bytes);
        }
    }

    /// Says that the guest `name` stopped, and gives the line to the monitor if its console was shown. `why` reads
    /// like "the guest powered off".
    pub fn stopped(&mut self, name: &str, why: &str, out: &mut dyn Output) {
        if self.focus == Focus::Guest && self.attached.as_deref() == Some(name) {
            self.fresh_row(out);
            self.leave_guest();
            self.focus = Focus::Monitor;
            print(out, format_args!("[craton: {name} stopped: {why}; 'vm start {name}' starts it again]\n"));
            self.editor.draw(out);
        } else {
            self.notice_line(format_args!("[craton: {name} stopped: {why}]"), out);
        }
        // A next start begins on a row of its own.
        if let Some(console) = self.consoles.iter_mut().find(|console| console.name == name) {
            console.row.clear();
        }
    }

    /// Writes a line of the host, such as a log line, without disturbing what is being typed.
    pub fn host_line(&mut self, line: &str, out: &mut dyn Output) {
        self.notice_line(format_args!("{line}"), out);
    }

    fn notice_line(&mut self, line: core::fmt::Arguments<'_>, out: &mut dyn Output) {
        match self.focus {
            // There is no prompt while a command repeats.
            Focus::Monitor if self.top.is_some() => print(out, format_args!("{line}\n")),
            Focus::Monitor => {
                Editor::erase(out);
                print(out, format_args!("{line}\n"));
                self.editor.draw(out);
            }
            Focus::Guest => {
                self.fresh_row(out);
                print(out, format_args!("{line}\n"));
                if let Some(row) = self.attached_row() {
                    out.write_bytes(row);
                }
            }
        }
    }

    fn entered(&mut self, line: &str, control: &mut dyn Control, out: &mut dyn Output) {
        match run(line, control, out) {
            None => self.editor.draw(out),
            Some(Request::Attach(name)) => self.attach(&name, control, out),
            Some(Request::ReturnToConsole) => {
                if !self.show_console(control, out) {
                    self.editor.draw(out);
                }
            }
            Some(Request::Repeat(top)) => self.top = Some(top),
            Some(Request::Forget(name)) => {
                self.forget(&name);
                self.editor.draw(out);
            }
            Some(Request::ClearScreen) => {
                out.write_bytes(b"\x1b[2J\x1b[H");
                self.editor.draw(out);
            }
        }
    }

    fn complete(&mut self, control: &dyn Control, out: &mut dyn Output) {
        let names: Vec<String> = control.vms().into_iter().map(|vm| vm.name).collect();
        match complete(self.editor.before_cursor(), &names) {
            Completion::Nothing => out.write_bytes(b"\x07"),
            Completion::Replace { start, word } => self.editor.replace_word(start, &word, out),
            Completion::Choices(words) => {
                out.write_bytes(b"\r\n");
                for word in words.iter().take(MOST_CHOICES) {
                    print(out, format_args!("  {word}"));
                }
                if words.len() > MOST_CHOICES {
                    print(out, format_args!("  and {} more", words.len() - MOST_CHOICES));
                }
                out.write_bytes(b"\r\n");
                self.editor.draw(out);
            }
        }
    }

    /// Gives the line to the console that was shown last, or to the first virtual machine's. `false`, and says so,
    /// when there is none.
    fn show_console(&mut self, control: &dyn Control, out: &mut dyn Output) -> bool {
        let vms = control.vms();
        let last = self.attached.take().filter(|name| vms.iter().any(|vm| vm.name == *name));
        match last.or_else(|| vms.first().map(|vm| vm.name.clone())) {
            Some(name) => {
                self.attach(&name, control, out);
                true
            }
            None => {
                print(
                    out,
                    format_args!(
                        "error: there is no console to show: craton.toml names no virtual machine\n"
                    ),
                );
                false
            }
        }
    }

    fn show_monitor(&mut self, out: &mut dyn Output) {
        self.fresh_row(out);
        self.leave_guest();
        self.focus = Focus::Monitor;
        let escape = self.escape;
        let name = self.attached.as_deref().unwrap_or("the guest");
        print(
            out,
            format_args!(
                "[craton: monitor; 'help' lists commands, 'console' or {escape} returns to {name}]\n"
            ),
        );
        self.editor.draw(out);
    }

    /// Keeps the row being written, so that it is shown again on return.
    fn leave_guest(&mut self) {
        let Some(name) = self.attached.as_deref() else { return };
        if let Some(console) = self.consoles.iter_mut().find(|console| console.name == name) {
            let row = console.row.clone();
            console.keep(&row);
        }
    }

    /// Ends the row that the guest is writing, and any colour it has set.
    fn fresh_row(&mut self, out: &mut dyn Output) {
        let on_a_row = self.attached_row().is_some_and(|row| !row.is_empty());
        out.write_bytes(if on_a_row { b"\x1b[0m\r\n" } else { b"\x1b[0m\r" });
    }

    fn attached_row(&self) -> Option<&[u8]> {
        let name = self.attached.as_deref()?;
        self.consoles.iter().find(|console| console.name == name).map(|console| console.row.as_slice())
    }

    fn console(&mut self, name: &str) -> Option<&mut Console> {
        if let Some(index) = self.consoles.iter().position(|console| console.name == name) {
            return self.consoles.get_mut(index);
        }
        if self.consoles.len() >= MAX_CONSOLES {
            return None;
        }
        self.consoles.push(Console::new(name));
        self.consoles.last_mut()
    }
}

#[cfg(test)]
mod tests;
