//! One serial line shared by the monitor and the guests' consoles.
//!
//! At any time the line belongs to the monitor or to one guest. [`ESCAPE_KEY`] switches between the two. What guests
//! write while they are not shown is kept, the newest [`MAX_BACKLOG`] bytes of each, and shown when they are.

use crate::complete::{Completion, complete};
use crate::control::{Control, VmState};
use crate::editor::{Edit, Editor};
use crate::output::{Output, print};
use crate::shell::{Request, run};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

/// Ctrl-]: switches between the guest console and the monitor unless another key is chosen. Never reaches a guest.
pub const ESCAPE_KEY: u8 = 0x1d;

/// Bytes kept of a guest that is not shown.
const MAX_BACKLOG: usize = 8192;
/// Bytes kept of the row that a guest is writing, to show it again (a shell's prompt, mostly).
const MAX_ROW: usize = 256;
/// Consoles with a backlog. More guests than this still work, the ones beyond it are forgotten while not shown.
const MAX_CONSOLES: usize = 64;

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
        for &byte in bytes {
            if byte == b'\n' {
                self.row.clear();
            } else if self.row.len() < MAX_ROW {
                self.row.push(byte);
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.missed.len() >= MAX_BACKLOG {
                self.missed.pop_front();
                self.overflowed = true;
            }
            self.missed.push_back(byte);
        }
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
        Self { escape, focus: Focus::Monitor, attached: None, editor: Editor::new(), consoles: Vec::new() }
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

    /// Gives the line to the console of the guest `name`, with what it wrote while it was not shown.
    pub fn attach(&mut self, name: &str, control: &dyn Control, out: &mut dyn Output) {
        if self.focus == Focus::Guest {
            self.leave_guest();
        }
        self.attached = Some(String::from(name));
        self.focus = Focus::Guest;
        let escape = self.escape;
        let state = control.vms().into_iter().find(|vm| vm.name == name).map(|vm| vm.state);
        match state {
            Some(VmState::Running) => {
                print(out, format_args!("[craton: console of {name}; {escape} goes to the monitor]\n"));
            }
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
                for word in words {
                    print(out, format_args!("  {word}"));
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
mod tests {
    use super::*;
    use crate::fake::FakeControl;
    use proptest::prelude::*;

    struct Bench {
        terminal: Terminal,
        control: FakeControl,
        out: Vec<u8>,
        to_guest: Vec<u8>,
    }

    impl Bench {
        fn new() -> Self {
            let control = FakeControl::two_vms();
            let mut out = Vec::new();
            let mut terminal = Terminal::new();
            terminal.open(&control, &mut out);
            Self { terminal, control, out, to_guest: Vec::new() }
        }

        /// Types, and returns what was written since.
        fn type_in(&mut self, bytes: &[u8]) -> String {
            let from = self.out.len();
            for &byte in bytes {
                self.to_guest.extend(self.terminal.feed(byte, &mut self.control, &mut self.out));
            }
            String::from_utf8_lossy(&self.out[from..]).into_owned()
        }

        /// A guest writes; returns what was written to the line.
        fn guest_writes(&mut self, name: &str, bytes: &[u8]) -> String {
            let from = self.out.len();
            self.terminal.guest_output(name, bytes, &mut self.out);
            String::from_utf8_lossy(&self.out[from..]).into_owned()
        }
    }

    #[test]
    fn bytes_go_to_the_monitor_until_a_console_is_attached_then_all_but_the_escape_key_to_it() {
        let mut bench = Bench::new();
        bench.type_in(b"console debian\r");
        assert_eq!((bench.terminal.focus(), bench.terminal.attached()), (Focus::Guest, Some("debian")));
        let every: Vec<u8> = (0..=255).filter(|&byte| byte != ESCAPE_KEY).collect();
        assert_eq!(bench.type_in(&every), "");
        assert_eq!(bench.to_guest, every);
        let shown = bench.type_in(&[ESCAPE_KEY]);
        assert!(
            shown.contains(
                "[craton: monitor; 'help' lists commands, 'console' or Ctrl-] returns to debian]\r\n"
            ),
            "{shown}"
        );
        bench.type_in(b"host\r");
        assert_eq!(bench.to_guest, every);
    }

    #[test]
    fn the_escape_key_in_the_monitor_returns_and_keeps_the_half_typed_line() {
        let mut bench = Bench::new();
        bench.type_in(b"console debian\r\x1dvm li\x1d");
        assert_eq!(bench.terminal.focus(), Focus::Guest);
        let shown = bench.type_in(&[ESCAPE_KEY]);
        assert!(shown.contains("craton> vm li"), "{shown}");
        assert!(bench.type_in(b"st\r").contains("running"));
    }

    #[test]
    fn the_first_escape_goes_to_the_first_machine_when_none_was_attached() {
        let mut bench = Bench::new();
        bench.type_in(&[ESCAPE_KEY]);
        assert_eq!(bench.terminal.attached(), Some("debian"));
        let mut bench = Bench::new();
        bench.control.vms.clear();
        let shown = bench.type_in(&[ESCAPE_KEY]);
        assert!(shown.contains("no console to show") && shown.ends_with("craton> \u{1b}[K"), "{shown:?}");
        assert_eq!(bench.terminal.focus(), Focus::Monitor);
    }

    #[test]
    fn output_of_a_guest_that_is_not_shown_appears_when_it_is() {
        let mut bench = Bench::new();
        assert_eq!(bench.guest_writes("debian", b"booting\r\n"), "");
        let shown = bench.type_in(b"console debian\r");
        assert!(shown.ends_with("booting\r\n"), "{shown}");
        assert_eq!(bench.guest_writes("debian", b"/ # "), "/ # ");
        assert_eq!(bench.guest_writes("probe", b"other"), "");
        bench.type_in(&[ESCAPE_KEY]);
        bench.guest_writes("debian", b"late\r\n");
        assert!(bench.type_in(&[ESCAPE_KEY]).ends_with("]\r\n/ # late\r\n"));
        bench.type_in(&[ESCAPE_KEY]);
        assert!(bench.type_in(&[ESCAPE_KEY]).ends_with("]\r\n"), "nothing is shown twice");
    }

    #[test]
    fn a_backlog_keeps_the_newest_bytes_and_says_that_it_dropped_some() {
        let mut bench = Bench::new();
        bench.guest_writes("debian", &[b'a'; MAX_BACKLOG]);
        bench.guest_writes("debian", b"end");
        let shown = bench.type_in(b"console debian\r");
        assert!(shown.contains("older output was dropped"));
        assert!(shown.ends_with("aend"));
        let kept = shown.chars().rev().take_while(|&c| c != '\n').count();
        assert_eq!(kept, MAX_BACKLOG);
    }

    #[test]
    fn a_guest_that_stops_while_shown_gives_the_line_back() {
        let mut bench = Bench::new();
        bench.type_in(b"console debian\r");
        bench.guest_writes("debian", b"down");
        bench.terminal.stopped("debian", "the guest powered off", &mut bench.out);
        assert_eq!(bench.terminal.focus(), Focus::Monitor);
        let shown = String::from_utf8_lossy(&bench.out).into_owned();
        assert!(
            shown.contains("[craton: debian stopped: the guest powered off; 'vm start debian'"),
            "{shown}"
        );
        assert!(shown.ends_with("craton> \u{1b}[K"));
        assert_eq!(
            bench.guest_writes("debian", b"new"),
            "",
            "a guest that was started again is not shown yet"
        );
        assert!(bench.type_in(b"console debian\r").ends_with("]\r\ndownnew"));
        bench.terminal.stopped("probe", "triple fault", &mut bench.out);
        assert_eq!(bench.terminal.focus(), Focus::Guest);
    }

    #[test]
    fn a_stopped_machine_s_console_says_how_to_start_it() {
        let mut bench = Bench::new();
        let shown = bench.type_in(b"vm console probe\r");
        assert!(
            shown.contains("console of probe, which is stopped") && shown.contains("'vm start probe'"),
            "{shown}"
        );
    }

    #[test]
    fn host_lines_stand_on_rows_of_their_own() {
        let mut bench = Bench::new();
        bench.type_in(b"vm l");
        let from = bench.out.len();
        bench.terminal.host_line("[info] something", &mut bench.out);
        assert_eq!(
            String::from_utf8_lossy(&bench.out[from..]),
            "\r\x1b[K[info] something\r\n\rcraton> vm l\x1b[K"
        );
        bench.type_in(b"\x03console debian\r");
        bench.guest_writes("debian", b"/ # ls");
        let from = bench.out.len();
        bench.terminal.host_line("[info] more", &mut bench.out);
        assert_eq!(String::from_utf8_lossy(&bench.out[from..]), "\x1b[0m\r\n[info] more\r\n/ # ls");
    }

    #[test]
    fn tab_completes_and_lists() {
        let mut bench = Bench::new();
        assert!(bench.type_in(b"vm sto\t").ends_with("craton> vm stop \u{1b}[K"));
        let shown = bench.type_in(b"\t");
        assert!(
            shown.contains("  debian  probe\r\n") && shown.ends_with("craton> vm stop \u{1b}[K"),
            "{shown:?}"
        );
        bench.type_in(b"d\t\r");
        assert_eq!(bench.control.calls, ["stop debian"]);
        assert_eq!(bench.type_in(b"zz\t").as_bytes().last(), Some(&7));
    }

    #[test]
    fn ctrl_d_on_an_empty_line_returns_to_the_console() {
        let mut bench = Bench::new();
        bench.type_in(b"\x04");
        assert_eq!(bench.terminal.focus(), Focus::Guest);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_grow_memory_without_bound(
            input in proptest::collection::vec(any::<u8>(), 0..600),
            guest in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let mut bench = Bench::new();
            for (index, &byte) in input.iter().enumerate() {
                bench.type_in(&[byte]);
                if let Some(&byte) = guest.get(index) {
                    bench.guest_writes("debian", &[byte]);
                }
            }
            for console in &bench.terminal.consoles {
                prop_assert!(console.missed.len() <= MAX_BACKLOG && console.row.len() <= MAX_ROW);
            }
        }

        /// Keys rather than bytes, so that lines get long, are recalled, and commands run.
        #[test]
        fn no_keys_panic_and_the_row_stays_within_the_terminal(
            keys in proptest::collection::vec(
                prop_oneof![
                    Just("\x1b[A"), Just("\x1b[B"), Just("\x1b[C"), Just("\x1b[D"), Just("\x1b[3~"), Just("\x7f"),
                    Just("\x01"), Just("\x05"), Just("\x0b"), Just("\x15"), Just("\x17"), Just("\t"), Just("\r"),
                    Just("\x03"), Just("\x04"), Just("\x1d"), Just("vm "), Just("start "), Just("debian"), Just(" "),
                    Just("a very long word that goes on and on "), Just("exits "), Just("99999999999999999999"),
                ],
                0..200,
            )
        ) {
            let mut bench = Bench::new();
            for key in keys {
                bench.type_in(key.as_bytes());
                let row_start = bench.out.iter().rposition(|&byte| byte == b'\r').unwrap_or(0);
                if bench.terminal.focus() == Focus::Monitor {
                    let drawn = bench.out[row_start..].iter().filter(|&&byte| byte != 7).count();
                    prop_assert!(drawn < 80 + 16, "{drawn} bytes on one row");
                }
            }
        }
    }

    #[test]
    fn another_escape_key_takes_the_place_of_the_usual_one() {
        let mut bench = Bench::new();
        bench.terminal = Terminal::with_escape(0x01);
        bench.terminal.attach("debian", &bench.control, &mut bench.out);
        assert!(String::from_utf8_lossy(&bench.out).contains("Ctrl-A goes to the monitor"));
        bench.type_in(&[ESCAPE_KEY]);
        assert_eq!(bench.to_guest, [ESCAPE_KEY], "now a key like any other");
        assert!(bench.type_in(&[0x01]).contains("Ctrl-A returns to debian"));
        assert_eq!(bench.terminal.focus(), Focus::Monitor);
    }
}
