//! The log: one text, on the serial line, on the screen, and kept for the monitor.
//!
//! A line reads `[    0.123456] INFO  message`: seconds since the kernel was entered.

mod recent;

use core::fmt::{self, Write};

use ::log::{LevelFilter, Log, Metadata, Record};
use spin::Mutex;

use crate::screen::TextConsole;
use recent::Recent;

/// Where the text goes besides the serial line.
struct Sinks {
    recent: Recent,
    screen: Option<TextConsole>,
}

static SINKS: Mutex<Sinks> = Mutex::new(Sinks { recent: Recent::new(), screen: None });

struct Logger;

static LOGGER: Logger = Logger;

impl Write for Sinks {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        hal::serial::write_log(text.as_bytes());
        self.recent.push(text.as_bytes());
        if let Some(screen) = &mut self.screen {
            screen.print(text);
        }
        Ok(())
    }
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let us = hal::time::uptime_us();
        let (seconds, fraction) = (us / 1_000_000, us % 1_000_000);
        // The sinks cannot fail.
        let _ = writeln!(SINKS.lock(), "[{seconds:5}.{fraction:06}] {:<5} {}", record.level(), record.args());
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

/// Prints for the panic path: takes no lock that might be held, and goes around what is.
pub(crate) fn print_emergency(arguments: fmt::Arguments<'_>) {
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
