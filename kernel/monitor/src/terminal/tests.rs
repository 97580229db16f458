//! The terminal, byte by byte, with a scripted hypervisor.

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
        shown.contains("[craton: monitor; 'help' lists commands, 'console' or Ctrl-] returns to debian]\r\n"),
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
    assert!(shown.contains("[craton: debian stopped: the guest powered off; 'vm start debian'"), "{shown}");
    assert!(shown.ends_with("craton> \u{1b}[K"));
    assert_eq!(bench.guest_writes("debian", b"new"), "", "a guest that was started again is not shown yet");
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
                Just("top "), Just("stats "), Just("set "), Just("weight="), Just("create "), Just("1"),
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

impl Bench {
    /// Time goes by and the kernel's loop comes by; returns what was written.
    fn pass(&mut self, time: Duration) -> String {
        let from = self.out.len();
        self.control.pass(time);
        self.terminal.tick(&self.control, &mut self.out);
        String::from_utf8_lossy(&self.out[from..]).into_owned()
    }
}

const SECOND: Duration = Duration::from_secs(1);
const PROMPT: &str = "\rcraton> \u{1b}[K";

#[test]
fn top_repeats_until_a_key_is_pressed_which_is_for_nobody_else() {
    for key in [b"q".as_slice(), b"\r", b"\x03", b"\x1b[A", b"\t"] {
        let mut bench = Bench::new();
        assert_eq!((bench.terminal.next_tick(), bench.pass(SECOND)), (None, String::new()));
        let started = bench.control.uptime;
        assert!(bench.type_in(b"top 2\r").ends_with("any key stops\r\n"), "there is no prompt meanwhile");
        assert_eq!(bench.terminal.next_tick(), Some(started + 2 * SECOND));
        assert_eq!(bench.pass(SECOND), "");
        let shown = bench.pass(SECOND);
        assert!(shown.contains("debian/1") && shown.ends_with("\r\n"), "{shown}");
        assert!(bench.pass(2 * SECOND).contains("debian/1"));
        assert_eq!(bench.type_in(key), PROMPT, "{key:?}");
        assert_eq!((bench.terminal.next_tick(), bench.pass(9 * SECOND)), (None, String::new()));
        assert_eq!(
            bench.type_in(b"log\r"),
            "log\rcraton> log\u{1b}[K\r\nlog level is info\r\n".to_owned() + PROMPT
        );
    }
}

#[test]
fn top_with_a_count_ends_by_itself_and_gives_the_prompt_back() {
    let mut bench = Bench::new();
    bench.type_in(b"top 1 2\r");
    assert!(!bench.pass(SECOND).contains("craton>"));
    let shown = bench.pass(SECOND);
    assert!(shown.contains("top: 1.0 s") && shown.ends_with(PROMPT), "{shown:?}");
    assert_eq!((bench.terminal.next_tick(), bench.pass(SECOND)), (None, String::new()));
    assert!(bench.type_in(b"\x1b[A").contains("craton> top 1 2"), "history has it");
}

#[test]
fn news_during_top_draws_no_prompt() {
    let mut bench = Bench::new();
    bench.type_in(b"top\r");
    let from = bench.out.len();
    bench.terminal.host_line("[info] something", &mut bench.out);
    bench.terminal.stopped("probe", "triple fault", &mut bench.out);
    assert_eq!(
        String::from_utf8_lossy(&bench.out[from..]),
        "[info] something\r\n[craton: probe stopped: triple fault]\r\n"
    );
}

#[test]
fn the_escape_key_ends_top_and_shows_the_console() {
    let mut bench = Bench::new();
    bench.type_in(b"top\r");
    assert!(bench.type_in(&[ESCAPE_KEY]).contains("console of debian"));
    assert_eq!((bench.terminal.focus(), bench.terminal.next_tick()), (Focus::Guest, None));
    bench.type_in(&[ESCAPE_KEY]);
    bench.type_in(b"top\r");
    bench.terminal.attach("probe", &bench.control, &mut bench.out);
    assert_eq!(bench.terminal.next_tick(), None);
    assert_eq!(bench.type_in(b"x"), "");
    assert_eq!(bench.to_guest, b"x");
}

#[test]
fn a_destroyed_machine_leaves_no_console_behind() {
    let mut bench = Bench::new();
    bench.guest_writes("probe", b"secret");
    bench.type_in(b"console probe\r\x1dvm destroy probe\r");
    assert_eq!(bench.terminal.attached(), None);
    bench.type_in(b"vm create probe debian\r");
    assert!(!bench.type_in(b"console probe\r").contains("secret"));
}

#[test]
fn consoles_of_a_thousand_machines_come_and_go() {
    let mut bench = Bench::new();
    for _ in 0..1000 {
        bench.type_in(b"vm create new probe\rvm start new\r");
        bench.guest_writes("new", b"hello");
        bench.type_in(b"vm stop new\rvm destroy new\r");
    }
    assert!(bench.terminal.consoles.is_empty());
    assert_eq!(bench.control.vms.len(), 2);
}

#[test]
fn a_paused_machine_s_console_says_how_it_goes_on() {
    let mut bench = Bench::new();
    let shown = bench.type_in(b"vm pause debian\rconsole debian\r");
    assert!(shown.contains("which is paused") && shown.contains("'vm resume debian'"), "{shown}");
}

#[test]
fn many_choices_are_cut() {
    let mut bench = Bench::new();
    let one = bench.control.vms[0].clone();
    let named = |n| crate::VmSummary { name: format!("vm{n}"), ..one.clone() };
    bench.control.vms = (0..5000).map(named).collect();
    let shown = bench.type_in(b"vm stop \t\t");
    assert!(shown.len() < 2000 && shown.contains("  and 4936 more\r\n"), "{shown}");
}
