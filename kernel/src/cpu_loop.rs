//! The loop that a core spends its life in: poll what is due, run a vCPU or sleep, again.

use crate::boot_archive::Files;
use crate::operator::Operator;
use crate::vm::{Fleet, Turn};
use alloc::vec::Vec;
use arch::Tsc;
use config::Config;
use hal::boot::Machine;
use hal::vmx::VmxCpu;
use monitor::{Focus, Terminal};

/// While bytes wait for the serial line, it is looked at this often, in microseconds: a FIFO of 16 bytes takes
/// 1,389 at 115,200 bit/s.
const LINE_POLL_US: u64 = 1_200;
/// The most bytes that wait for the serial line; guests that print more wait with them.
const LINE_BACKLOG: usize = 2_048;

/// Text on its way to the serial line.
#[derive(Debug, Default)]
struct Line {
    waiting: Vec<u8>,
    sent: usize,
}

impl Line {
    /// Sends what the line takes now.
    fn flush(&mut self) {
        let rest = self.waiting.get(self.sent..).unwrap_or_default();
        if !rest.is_empty() {
            self.sent += hal::serial::Console.try_send_all(rest);
        }
        // Also while more comes all the time: a guest that never pauses must not make this grow.
        if self.sent >= self.waiting.len() || self.sent >= LINE_BACKLOG {
            self.waiting.drain(..self.sent.min(self.waiting.len()));
            self.sent = 0;
        }
    }

    fn room(&self) -> usize {
        LINE_BACKLOG.saturating_sub(self.waiting.len() - self.sent)
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl monitor::Output for Line {
    fn write_bytes(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }
}

/// Starts the configured virtual machines and runs them for ever.
pub(crate) fn run(machine: &Machine) -> ! {
    crate::clock::init();
    emulate::warm();
    let cpu = match VmxCpu::start() {
        Ok(cpu) => cpu,
        Err(error) => {
            crate::log::print(format_args!("craton: cannot start: {error}\ncraton: halted\n"));
            hal::cpu::halt_forever();
        }
    };
    let files = Files::read(machine.archive);
    let config = read_config(&files);
    let attached = config.console_vm().and_then(|index| config.vms.get(index)).map(|vm| vm.name.clone());
    let escape = config.host.escape;
    let mut operator = Operator::new(Fleet::new(cpu, config, files), machine);
    let mut terminal = Terminal::with_escape(escape);
    let mut line = Line::default();

    crate::log::defer();
    operator.fleet.start_all();
    match attached {
        Some(name) => terminal.attach(&name, &operator, &mut line),
        None => terminal.open(&operator, &mut line),
    }
    show_log(&mut terminal, &mut line);
    let poll_ticks = Tsc(hal::time::tsc_hz() / 1_000_000 * LINE_POLL_US);
    let mut unsent: Vec<u8> = Vec::new();
    loop {
        let now = hal::time::now();
        hal::percpu::current().take_pending();
        serve_input(&mut operator, &mut terminal, &mut line, &mut unsent, now);
        show_log(&mut terminal, &mut line);
        show_output(&mut operator, &mut terminal, &mut line);
        line.flush();
        let next = operator.fleet.poll(now);
        let until = if line.is_idle() { Tsc::NEVER } else { now + poll_ticks };
        match operator.fleet.run(now, until) {
            Turn::Over => {}
            Turn::Idle => hal::idle_until(next.min(until)),
            Turn::Stopped { index, reason } => {
                // What it printed last comes before the news of its end.
                let last_words = |name: &str, bytes: &[u8]| terminal.guest_output(name, bytes, &mut line);
                operator.fleet.drain_console(index, usize::MAX, hal::time::now(), last_words);
                let ended = operator.fleet.finish(index, reason);
                show_log(&mut terminal, &mut line);
                if let Some(ended) = ended {
                    terminal.stopped(&ended.name, &ended.why, &mut line);
                }
            }
        }
    }
}

/// Brings the log's lines to the serial line.
fn show_log(terminal: &mut Terminal, line: &mut Line) {
    let mut lines: Vec<_> = core::iter::from_fn(crate::log::take_line).collect();
    if lines.is_empty() {
        return;
    }
    // At once, so that what the lines interrupt is drawn again only behind the last.
    let last = lines.len() - 1;
    lines[..last].iter_mut().for_each(|text| text.push('\n'));
    terminal.host_line(&lines.concat(), line);
}

/// Shows what guests printed: as much as the line takes of the one that is shown. The others do not wait for it; what
/// they print is kept by the terminal.
fn show_output(operator: &mut Operator, terminal: &mut Terminal, line: &mut Line) {
    let now = hal::time::now();
    for index in 0..operator.fleet.guests().len() {
        let name = Some(operator.fleet.guests()[index].config.name.as_str());
        let is_shown = terminal.focus() == Focus::Guest && terminal.attached() == name;
        let room = if is_shown { line.room() } else { LINE_BACKLOG };
        let show = |name: &str, bytes: &[u8]| terminal.guest_output(name, bytes, line);
        operator.fleet.drain_console(index, room, now, show);
    }
}

/// Takes what the operator typed: to the monitor, or to the guest that is shown.
fn serve_input(
    operator: &mut Operator,
    terminal: &mut Terminal,
    line: &mut Line,
    unsent: &mut Vec<u8>,
    now: Tsc,
) {
    // Bytes that the guest's serial port had no room for go first; until they are gone the line's own ring holds
    // the rest.
    while unsent.is_empty()
        && let Some(byte) = hal::serial::Console.try_receive()
    {
        if let Some(byte) = terminal.feed(byte, operator, line) {
            unsent.push(byte);
        }
        for ended in operator.take_ended() {
            terminal.stopped(&ended.name, &ended.why, line);
        }
        deliver(operator, terminal, unsent, now);
    }
    deliver(operator, terminal, unsent, now);
}

fn deliver(operator: &mut Operator, terminal: &Terminal, unsent: &mut Vec<u8>, now: Tsc) {
    if unsent.is_empty() {
        return;
    }
    match terminal.attached() {
        Some(name) => {
            let taken = operator.fleet.type_in(name, unsent, now);
            unsent.drain(..taken.min(unsent.len()));
        }
        None => unsent.clear(),
    }
}

/// Reads `craton.toml`, reporting every mistake in it; what is right is kept.
fn read_config(files: &Files) -> Config {
    if let Some(damage) = files.archive().damage() {
        log::error!("{damage}");
    }
    let mut config = Config::from_archive(files.archive());
    let free_mib = hal::memory::frames::counters().free_bytes >> 20;
    config.validate_against(free_mib, files.archive());
    for error in &config.errors {
        log::error!("{error}");
    }
    log::set_max_level(match config.host.log_level {
        config::LogLevel::Error => log::LevelFilter::Error,
        config::LogLevel::Warn => log::LevelFilter::Warn,
        config::LogLevel::Info => log::LevelFilter::Info,
        config::LogLevel::Debug => log::LevelFilter::Debug,
        config::LogLevel::Trace => log::LevelFilter::Trace,
    });
    config
}
