//! The operator's core: between turns of guests it serves the terminal, the log, and the life of the machines.

use crate::boot_archive::Files;
use crate::cores::{self, Spare, Status};
use crate::cycle_test::Cycles;
use crate::operator::Operator;
use crate::terminal_line::Line;
use crate::vm::{Fleet, Next, TURN_US};
use alloc::string::String;
use alloc::vec::Vec;
use arch::Tsc;
use config::{Config, HostResources};
use hal::boot::Machine;
use monitor::{Control, Focus, Terminal};

/// While bytes wait for the serial line, it is looked at this often, in microseconds: a FIFO of 16 bytes takes
/// 1,389 at 115,200 bit/s.
const LINE_POLL_US: u64 = 1_200;
/// The most bytes of a guest's output that are taken at a time.
const OUTPUT_BYTES: usize = 512;
/// The log is drawn on the screen for this long at a time, in microseconds, ...
const PAINT_US: u64 = 100;
/// ... and guests have the core for this long in between; less if they leave it idle.
const PAINT_PAUSE_US: u64 = 20_000;
const PAINT_IDLE_PAUSE_US: u64 = 500;
/// A vCPU that has a core of its own is not made to leave its guest so that what it prints is noticed: the pipe is
/// looked at this often, in microseconds.
const EXCLUSIVE_LOOK_US: u64 = 50_000;

/// The operator's side of core 0.
struct Desk {
    operator: Operator,
    terminal: Terminal,
    line: Line,
    /// What was typed for a guest that had no room for it.
    unsent: Vec<u8>,
    /// When to look around without being called.
    due: Tsc,
    /// When to draw on the screen again.
    paint_due: Tsc,
    /// How long the core had been idle when the screen was last drawn on.
    idle: Tsc,
    cycles: Cycles,
}

/// Starts the cores and the configured virtual machines and runs them for ever.
pub(crate) fn run(machine: &Machine) -> ! {
    crate::clock::init();
    emulate::warm();
    let core = match cores::start_all(machine) {
        Ok(core) => core,
        Err(error) => {
            crate::log::print(format_args!("craton: cannot start: {error}\ncraton: halted\n"));
            hal::cpu::halt_forever();
        }
    };
    let files = Files::read(machine.archive);
    let up = core.shared().posts().filter(|(_, post)| post.status() == Status::Up);
    let config = read_config(&files, &up.map(|(core, _)| core.0).collect::<Vec<u32>>());
    let attached = config.console_vm().and_then(|index| config.vms.get(index)).map(|vm| vm.name.clone());
    let escape = config.host.escape;
    let cycles = Cycles::asked_for(&files, &config);
    let mut desk = Desk {
        operator: Operator::new(Fleet::new(core, config, files), machine),
        terminal: Terminal::with_escape(escape),
        line: Line::new(),
        unsent: Vec::new(),
        due: Tsc(0),
        paint_due: Tsc(0),
        idle: Tsc(0),
        cycles,
    };

    crate::log::defer();
    desk.operator.fleet.start_all();
    match attached {
        Some(name) => desk.terminal.attach(&name, &desk.operator, &mut desk.line),
        None => desk.terminal.open(&desk.operator, &mut desk.line),
    }
    loop {
        desk.turn();
    }
}

impl Desk {
    /// A look around if there is cause for one, then a turn of a guest.
    #[inline]
    fn turn(&mut self) {
        let cpu = hal::percpu::current();
        cpu.take_pending();
        let called = self.operator.fleet.core.shared().answer_operator();
        // Timers and other cores mean this core alone; keys come by interrupts of a device.
        let typed = cpu.take_device() && self.serve_input();
        let spare =
            if called || typed || hal::time::now() >= self.due { self.look_around() } else { Spare::Sleep };
        self.operator.fleet.core.step(self.due, spare);
    }

    fn look_around(&mut self) -> Spare {
        let now = hal::time::now();
        self.serve_input();
        self.serve_stopped();
        let next = self.operator.fleet.poll(now);
        let next = self.cycles.poll(&mut self.operator, &self.line, next);
        self.announce();
        if self.terminal.next_tick().is_some_and(|at| at <= self.operator.uptime()) {
            self.terminal.tick(&self.operator, &mut self.line);
        }
        self.show_log();
        self.show_output(now);
        self.line.flush();
        self.paint();
        self.plan(next)
    }

    /// Draws some of the log on the screen if it is time.
    fn paint(&mut self) {
        let now = hal::time::now();
        if now < self.paint_due || !crate::log::is_unpainted() {
            return;
        }
        crate::log::paint(now + hal::time::ticks(PAINT_US));
        let idle = self.operator.fleet.core.idle_ticks();
        let pause = if idle > self.idle { PAINT_IDLE_PAUSE_US } else { PAINT_PAUSE_US };
        self.idle = idle;
        self.paint_due = hal::time::now() + hal::time::ticks(pause);
    }

    /// Decides when to look around again, from when this look is over: guests have the core in between.
    fn plan(&mut self, next: Next) -> Spare {
        let now = hal::time::now();
        let after = |us| now + hal::time::ticks(us);
        let is_quiet = self.line.is_idle() && !crate::log::has_lines();
        let mut due = if is_quiet { Tsc::NEVER } else { after(LINE_POLL_US) };
        if crate::log::is_unpainted() {
            due = due.min(self.paint_due);
        }
        if self.operator.fleet.has_exclusive() {
            due = due.min(after(EXCLUSIVE_LOOK_US));
        }
        if let Some(at) = self.terminal.next_tick() {
            due = due.min(now + tsc(at.saturating_sub(self.operator.uptime())));
        }
        match next {
            Next::At(at) => {
                self.due = due.min(at);
                Spare::Sleep
            }
            Next::AtOnce => {
                self.due = due.min(after(TURN_US));
                // Goes on after the turn, however short that is.
                self.operator.fleet.core.shared().call_operator();
                Spare::Return
            }
        }
    }

    /// Takes apart the machines that ended.
    fn serve_stopped(&mut self) {
        while let Some((index, stopped)) = self.operator.fleet.next_stopped() {
            // What it printed last comes before the news of its end.
            let Self { operator, terminal, line, .. } = self;
            let last_words = |name: &str, bytes: &[u8]| terminal.guest_output(name, bytes, line);
            operator.fleet.drain_console(index, usize::MAX, hal::time::now(), last_words);
            let ended = operator.fleet.finish(index, stopped);
            self.show_log();
            if let Some(ended) = ended {
                self.terminal.stopped(&ended.name, &ended.why, &mut self.line);
            }
        }
    }

    /// Brings the log's lines to the serial line, as many as it has room for: the rest waits in the log, which drops what
    /// is too much.
    fn show_log(&mut self) {
        let room = self.line.room();
        let mut text = String::new();
        while text.len() < room
            && let Some(line) = crate::log::take_line()
        {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&line);
        }
        // At once, so that what the lines interrupt is drawn again only behind the last.
        if !text.is_empty() {
            self.terminal.host_line(&text, &mut self.line);
        }
    }

    /// Shows what guests printed: as much as the line takes of the one that is shown. The others do not wait for it;
    /// what they print is kept by the terminal.
    fn show_output(&mut self, now: Tsc) {
        let Self { operator, terminal, line, .. } = self;
        for index in 0..operator.fleet.guests().len() {
            let name = Some(operator.fleet.config(index).name.as_str());
            let is_shown = terminal.focus() == Focus::Guest && terminal.attached() == name;
            let room = if is_shown { line.room().min(OUTPUT_BYTES) } else { OUTPUT_BYTES };
            let show = |name: &str, bytes: &[u8]| terminal.guest_output(name, bytes, line);
            if operator.fleet.drain_console(index, room, now, show) == OUTPUT_BYTES {
                // There may be more, and other guests have a turn first.
                operator.fleet.core.shared().call_operator();
            }
        }
    }

    /// Takes what the operator typed: to the monitor, or to the guest that is shown. Returns whether there was anything.
    fn serve_input(&mut self) -> bool {
        let now = hal::time::now();
        let mut typed = false;
        // Bytes that the guest's serial port had no room for go first; until they are gone the line's own ring holds
        // the rest.
        self.deliver(now);
        while self.unsent.is_empty()
            && let Some(byte) = hal::serial::Console.try_receive()
        {
            typed = true;
            if let Some(byte) = self.terminal.feed(byte, &mut self.operator, &mut self.line) {
                self.unsent.push(byte);
            }
            self.announce();
            self.deliver(now);
        }
        typed
    }

    /// Tells the terminal what commands ended and destroyed.
    fn announce(&mut self) {
        for ended in self.operator.take_ended() {
            self.terminal.stopped(&ended.name, &ended.why, &mut self.line);
        }
        for name in self.operator.take_destroyed() {
            self.terminal.forget(&name);
        }
    }

    fn deliver(&mut self, now: Tsc) {
        if self.unsent.is_empty() {
            return;
        }
        match self.terminal.attached() {
            Some(name) => {
                let taken = self.operator.fleet.type_in(name, &self.unsent, now);
                self.unsent.drain(..taken.min(self.unsent.len()));
            }
            None => self.unsent.clear(),
        }
    }
}

/// A time in ticks of the TSC, rounded up to a microsecond.
fn tsc(time: core::time::Duration) -> Tsc {
    hal::time::ticks(u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 1_000_000).saturating_add(1))
}

/// Reads `craton.toml`, reporting every mistake in it; what is right is kept.
fn read_config(files: &Files, cores: &[u32]) -> Config {
    if let Some(damage) = files.archive().damage() {
        log::error!("{damage}");
    }
    let mut config = Config::from_archive(files.archive());
    let memory_mib = hal::memory::frames::counters().free_bytes >> 20;
    config.validate_against(&HostResources { memory_mib, cores }, files.archive());
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
