//! `cargo xtask run`: from a checkout to a guest's console.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::console::{self, Ending, ExitStatus, Interrupted};
use crate::guests::exec::{Marks, Progress};
use crate::machine::{self, Emulator, Firmware, Host, Kind, Machine, Processor, Size, Wish};
use crate::{guests, image, paths, progress, screenshot};

/// How long a command may take, boot included, when no limit is given.
const EXEC_LIMIT: Duration = Duration::from_secs(1800);
/// The most memory that Bochs gives a machine.
const BOCHS_MEMORY_MIB: u32 = 2048;

/// Builds everything, boots it, and connects the terminal to the guest's console.
///
/// Ctrl-] switches to Craton's monitor; pressed twice in a row it leaves. The exit status is the command's with
/// `--exec`, that of a guest that ends its machine by the debug exit device, otherwise 0.
#[derive(clap::Args, Clone, Debug)]
#[group(id = "run-arguments")]
pub(crate) struct Arguments {
    /// What executes the image.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) machine: Wish,
    /// Number of processors of the machine.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) cpus: u32,
    /// Memory of the machine, in MiB.
    #[arg(long, default_value_t = 1024, value_name = "MiB", value_parser = clap::value_parser!(u32).range(128..=1_048_576))]
    pub(crate) memory: u32,
    /// A configuration like guest-images/craton.toml, or a directory that holds craton.toml and the images.
    #[arg(long, value_name = "FILE")]
    pub(crate) guests: Option<PathBuf>,
    /// Run CMD in the guest's shell, print what it prints, and exit with its status.
    #[arg(long, value_name = "CMD")]
    pub(crate) exec: Option<String>,
    /// Write the screen of the first guest that has one to FILE, as PNG, when the run ends: with the command of
    /// `--exec`, when you leave, or, which is no error then, when the time limit is over.
    #[arg(long, value_name = "FILE")]
    pub(crate) screenshot: Option<PathBuf>,
    /// End after this many seconds, with an error.
    #[arg(long, value_name = "S")]
    pub(crate) timeout: Option<u64>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let (kind, reason) = machine::choose(arguments.machine, Host::detect())?;
    progress::step(format_args!("machine: {} ({reason})", kind.name()));
    run_on(kind, arguments)
}

/// Runs the command on a machine that was chosen already.
pub(crate) fn run_on(kind: Kind, arguments: &Arguments) -> Result<ExitCode> {
    if kind == Kind::Bochs && arguments.memory > BOCHS_MEMORY_MIB {
        bail!("--memory {}: Bochs has at most {BOCHS_MEMORY_MIB} MiB", arguments.memory);
    }
    let interrupted = Interrupted::watch()?;
    machine::emulator::prepare(kind)?;
    let mut archive = guests::pack(arguments.guests.as_deref())?;
    let directory = paths::build()?;
    let with_screen =
        arguments.screenshot.as_ref().map(|_| screenshot::guest_with_screen(&archive)).transpose()?;
    let picture = |emulator: &mut Emulator| match (&arguments.screenshot, &with_screen) {
        (Some(path), Some(name)) => screenshot::take(&mut emulator.serial, name, path),
        (Some(_), None) | (None, _) => Ok(()),
    };
    let limit = arguments.timeout.map(Duration::from_secs);
    let machine = |images, name: &str| Machine {
        kind,
        firmware: Firmware::Bios,
        size: Size { cpus: arguments.cpus, memory_mib: arguments.memory },
        processor: Processor::Complete,
        images,
        name: name.to_owned(),
    };
    match &arguments.exec {
        Some(command) => {
            let marks = Marks::new();
            let guest = guests::exec::add(&mut archive, &marks, command)?;
            // Images with a command of their own do not replace the ones that the user may write to a disk.
            let images = image::build(&archive.to_tar()?, &paths::created(directory.join("exec"))?)?;
            progress::step(format_args!("starting {}", kind.name()));
            let mut emulator = machine(images, "exec").start()?;
            let limit = limit.unwrap_or(EXEC_LIMIT);
            let outcome = follow(&mut emulator, &guest, &marks, &interrupted, limit);
            let outcome = outcome.and_then(|status| picture(&mut emulator).map(|()| ExitCode::from(status)));
            finish(emulator, outcome)
        }
        None => {
            let images = image::build(&archive.to_tar()?, &directory)?;
            progress::step(format_args!(
                "starting {}; Ctrl-] is the monitor, twice in a row leaves",
                kind.name()
            ));
            let mut emulator = machine(images, "run").start()?;
            let ending = console::connect(&mut emulator, &interrupted, limit);
            let ending = match ending {
                Ok(Ending::TimeIsUp) if arguments.screenshot.is_none() => {
                    Err(anyhow!("the time limit of {} s is over", limit.unwrap_or_default().as_secs()))
                }
                Ok(ending @ (Ending::Left | Ending::TimeIsUp)) => picture(&mut emulator).map(|()| ending),
                other => other,
            };
            let outcome = ending.map(|ending| match ending {
                Ending::MachineOff => {
                    progress::note("the machine is off");
                    ExitCode::SUCCESS
                }
                Ending::GuestExit(status) => {
                    progress::note(format_args!("a guest ended with status {status}"));
                    ExitCode::from(status)
                }
                Ending::Left | Ending::TimeIsUp => ExitCode::SUCCESS,
            });
            finish(emulator, outcome)
        }
    }
}

fn finish(emulator: Emulator, outcome: Result<ExitCode>) -> Result<ExitCode> {
    match outcome {
        Ok(code) => {
            emulator.discard();
            Ok(code)
        }
        Err(error) => Err(error.context(format!("logs are in {}", paths::shown(emulator.directory())))),
    }
}

/// What the console shows on the way to the command, and what it means.
const MILESTONES: [(&str, &str); 2] =
    [("Linux version", "the guest's kernel is running"), (INIT_SIGN, "the guest's /init is running")];
/// What `/init` says first.
const INIT_SIGN: &str = "craton-guest: init reached";

/// Prints what the command in `guest` prints, and returns its status.
fn follow(
    machine: &mut Emulator,
    guest: &str,
    marks: &Marks,
    interrupted: &Interrupted,
    limit: Duration,
) -> Result<u8> {
    let deadline = Instant::now() + limit;
    let mut console = Vec::new();
    let mut printed = 0;
    let mut milestones = MILESTONES.iter().peekable();
    let mut exit = ExitStatus::default();
    loop {
        let Some(bytes) = machine.serial.more(console.len(), Duration::from_millis(200)) else {
            bail!("the machine ended before the command did:\n{}", tail(&console));
        };
        let ended_with = exit.find(&bytes);
        console.extend(bytes);
        let text = String::from_utf8_lossy(&console);
        while let Some((_, meaning)) = milestones.next_if(|(sign, _)| text.contains(sign)) {
            progress::note(meaning);
        }
        let (output, status) = match marks.parse(&console) {
            Progress::NotStarted => (Vec::new(), None),
            Progress::Running(output) => (output, None),
            Progress::Ended(output, status) => (output, Some(status)),
        };
        let mut stdout = std::io::stdout().lock();
        let fresh = output.get(printed..).unwrap_or_default();
        stdout.write_all(fresh).and_then(|()| stdout.flush()).context("standard output")?;
        printed = output.len();
        if let Some(status) = status {
            return Ok(status);
        }
        if let Some(status) = ended_with {
            progress::note(format_args!("a guest ended with status {status}"));
            return Ok(status);
        }
        if let Some(reason) = hopeless(&text, guest) {
            bail!("{reason}; the console's last words:\n{}", tail(&console));
        }
        if interrupted.is_set() {
            bail!("interrupted");
        }
        if Instant::now() > deadline {
            bail!(
                "the time limit of {} s is over; the console's last words:\n{}",
                limit.as_secs(),
                tail(&console)
            );
        }
    }
}

/// Why the command in `guest` will never end, if the console shows that.
fn hopeless(console: &str, guest: &str) -> Option<&'static str> {
    // A line is judged when it is complete, so that the error shows all of it.
    let says = |sign: &str| console.split_once(sign).is_some_and(|(_, rest)| rest.contains('\n'));
    if says("craton: cannot start: ") {
        return Some("Craton refuses this machine");
    }
    if says("craton: panic") {
        return Some("Craton panicked");
    }
    if says(&format!("[craton: {guest} stopped: "))
        || says(&format!("[craton: console of {guest}, which is "))
    {
        return Some("the guest stopped before the command ended");
    }
    (console.matches(INIT_SIGN).count() > 1).then_some("the guest restarted before the command ended")
}

/// The end of what the console showed.
fn tail(console: &[u8]) -> String {
    let text = String::from_utf8_lossy(console).replace('\r', "");
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::hopeless;

    #[test]
    fn waiting_ends_when_the_guest_cannot_answer_any_more() {
        assert_eq!(hopeless("[craton: console of a; Ctrl-]]\nLinux version", "a"), None);
        assert_eq!(hopeless("[craton: b stopped: x]\n", "a"), None);
        assert!(hopeless("[craton: a stopped: triple fault]\n", "a").is_some());
        assert!(hopeless("[craton: console of a, which is refused; x]\n", "a").is_some());
        assert!(hopeless("craton: cannot start: no VT-x\n", "a").is_some());
        // Still half a line.
        assert_eq!(hopeless("craton: cannot start: no", "a"), None);
    }
}
