//! The log: one text, on the serial line, on the screen, and kept for the monitor.
//!
//! A line reads `[    0.123456] INFO  message`: seconds since the kernel was entered.

mod recent;

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use arch::Tsc;
use core::fmt::{self, Write};

use ::log::{LevelFilter, Log, Metadata, Record};
use spin::Mutex;

use crate::screen::TextConsole;
use recent::Recent;

/// Where the text goes.
struct Sinks {
    recent: Recent,
    screen: Option<TextConsole>,
    /// Lines on their way to the serial line, once the loop of a core brings them there; until then it is written
    /// directly.
    waiting: Option<VecDeque<String>>,
    /// Lines that were dropped because too many waited.
    dropped: u64,
    /// Text on its way to the screen, once lines wait: drawing takes longer than guests should wait.
    unpainted: VecDeque<u8>,
}

/// The most lines that wait for the serial line: the log never waits for it, as guests would wait too.
const MOST_WAITING: usize = 512;
/// The most bytes that wait for the screen: more than it shows at once. The oldest give way.
const MOST_UNPAINTED: usize = 16 * 1024;

static SINKS: Mutex<Sinks> = Mutex::new(Sinks {
    recent: Recent::new(),
    screen: None,
    waiting: None,
    dropped: 0,
    unpainted: VecDeque::new(),
});

impl Write for Sinks {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.recent.push(text.as_bytes());
        if self.waiting.is_some() {
            self.paint_later(text);
            return Ok(());
        }
        hal::serial::write_log(text.as_bytes());
        if let Some(screen) = &mut self.screen {
            screen.print(text);
        }
        Ok(())
    }
}

impl Sinks {
    /// Takes one line. Before lines wait, there may be no heap yet: nothing is allocated then.
    fn put(&mut self, line: fmt::Arguments<'_>) {
        if self.waiting.is_none() {
            // The sinks cannot fail.
            let _ = writeln!(self, "{line}");
            return;
        }
        let line = format!("{line}");
        // As above.
        let _ = self.write_str(&line).and_then(|()| self.write_str("\n"));
        match &mut self.waiting {
            Some(lines) if lines.len() < MOST_WAITING => lines.push_back(line),
            Some(_) | None => self.dropped += 1,
        }
    }

    fn paint_later(&mut self, text: &str) {
        if self.screen.is_some() {
            let newest = text.len().min(MOST_UNPAINTED);
            let surplus = (self.unpainted.len() + newest).saturating_sub(MOST_UNPAINTED);
            self.unpainted.drain(..surplus);
            self.unpainted.extend(text.bytes().skip(text.len() - newest));
        }
    }

    /// Draws the next character that waits for the screen. Returns whether there was one.
    fn paint_next(&mut self) -> bool {
        match (&mut self.screen, self.unpainted.pop_front()) {
            (Some(screen), Some(byte)) => {
                screen.print_bytes(&[byte]);
                true
            }
            (None, _) | (_, None) => false,
        }
    }
}

struct Logger;

static LOGGER: Logger = Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let us = hal::time::uptime_us();
        let (seconds, fraction) = (us / 1_000_000, us % 1_000_000);
        let (level, text) = (record.level(), record.args());
        SINKS.lock().put(format_args!("[{seconds:5}.{fraction:06}] {level:<5} {text}"));
        // It brings the line to the terminal.
        crate::cores::call_operator();
    }

    fn flush(&self) {}
}

/// Makes the log work, first on the serial line alone.
pub(crate) fn init() {
    // Fails only when called twice, and then a logger is there.
    let _ = ::log::set_logger(&LOGGER);
    ::log::set_max_level(LevelFilter::Info);
}

/// Shows the log on the screen too, what was logged so far included.
pub(crate) fn add_screen(mut screen: TextConsole) {
    let mut sinks = SINKS.lock();
    sinks.recent.for_each_piece(|text| screen.print_bytes(text));
    sinks.screen = Some(screen);
}

/// Prints `arguments` as they are, without time and level: on the serial line and the screen.
pub(crate) fn print(arguments: fmt::Arguments<'_>) {
    // The sinks cannot fail.
    let _ = SINKS.lock().write_fmt(arguments);
}

/// From now on lines wait for [`take_line`].
pub(crate) fn defer() {
    let mut sinks = SINKS.lock();
    // Room for all, so that what waits takes no more memory later on.
    sinks.unpainted.reserve_exact(MOST_UNPAINTED);
    sinks.waiting.get_or_insert_with(|| VecDeque::with_capacity(MOST_WAITING));
}

/// The next line that waits for the serial line.
pub(crate) fn take_line() -> Option<String> {
    let mut sinks = SINKS.lock();
    let line = sinks.waiting.as_mut()?.pop_front();
    if line.is_none() && sinks.dropped > 0 {
        let dropped = core::mem::take(&mut sinks.dropped);
        return Some(format!("({dropped} lines of the log were dropped)"));
    }
    line
}

/// Whether text waits for the screen.
pub(crate) fn is_unpainted() -> bool {
    !SINKS.lock().unpainted.is_empty()
}

/// Draws what waits for the screen, until `until` at the latest.
pub(crate) fn paint(until: Tsc) {
    // Locked for each character anew, so that no core that logs waits for long.
    while SINKS.lock().paint_next() {
        if hal::time::now() >= until {
            return;
        }
    }
}

/// Whether lines wait for [`take_line`].
pub(crate) fn has_lines() -> bool {
    let sinks = SINKS.lock();
    sinks.dropped > 0 || sinks.waiting.as_ref().is_some_and(|lines| !lines.is_empty())
}

/// Prints for the panic path: takes no lock that might be held, and goes around what is. Lines that still wait come
/// first.
pub(crate) fn print_emergency(arguments: fmt::Arguments<'_>) {
    if let Some(mut sinks) = SINKS.try_lock()
        && let Some(lines) = sinks.waiting.take()
    {
        for line in &lines {
            hal::serial::write_emergency(line.as_bytes());
            hal::serial::write_emergency(b"\n");
        }
        // The memory stays where it is: the heap may be what failed.
        core::mem::forget(lines);
        while sinks.paint_next() {}
    }
    struct Emergency;
    impl Write for Emergency {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            hal::serial::write_emergency(text.as_bytes());
            if let Some(mut sinks) = SINKS.try_lock()
                && let Some(screen) = &mut sinks.screen
            {
                screen.print(text);
            }
            Ok(())
        }
    }
    // The sinks cannot fail.
    let _ = Emergency.write_fmt(arguments);
}
