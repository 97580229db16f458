//! `cargo xtask run`: from a checkout to a guest's console.

mod watch;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::console::{self, Ending, ExitStatus, Interrupted};
use crate::guests::exec::{Marks, Progress};
use crate::image::archive::Archive;
use crate::machine::{self, Emulator, Firmware, Host, Kind, Machine, Processor, Size, Wish};
use crate::{guests, image, paths, progress, screenshot};

/// How long a command may take, boot included, when no limit is given.
const EXEC_LIMIT: Duration = Duration::from_secs(1800);
/// The most memory that Bochs gives a machine.
const BOCHS_MEMORY_MIB: u32 = 2048;
/// The least memory of a machine, in MiB, and what it has unless told otherwise.
const LEAST_MEMORY_MIB: u32 = 128;
const DEFAULT_MEMORY_MIB: u32 = 1024;
/// Memory of a guest whose kernel is named on the command line, in MiB, unless told otherwise.
const DEFAULT_GUEST_MEMORY_MIB: u32 = 128;
/// What the machine has beyond such a guest's memory and its files, in MiB.
const HOST_MEMORY_MIB: u32 = 256;

/// Builds everything, boots it, and connects the terminal to the guest's console.
///
/// Ctrl-] switches to Craton's monitor; pressed twice in a row it leaves. The exit status is the command's with
/// `--exec`, that of a guest that ends its machine by the debug exit device, otherwise 0.
///
/// With `--guest-kernel FILE` that kernel is the only guest. Its end is the end of the run.
#[derive(clap::Args, Clone, Debug)]
#[group(id = "run-arguments")]
pub(crate) struct Arguments {
    /// What executes the image.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) machine: Wish,
    /// Number of processors of the machine.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) cpus: u32,
    /// Memory of the machine, in MiB; 1024 unless told otherwise. With --guest-kernel it is the guest's, 128 unless told
    /// otherwise, and the machine has as much more as Craton and the files need.
    #[arg(long, value_name = "MiB", value_parser = clap::value_parser!(u32).range(8..=1_048_576))]
    pub(crate) memory: Option<u32>,
    /// A configuration like guest-images/craton.toml, or a directory that holds craton.toml and the images.
    #[arg(long, value_name = "FILE")]
    pub(crate) guests: Option<PathBuf>,
    /// Boot this one of the guests in guest-images/*.toml, alone.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["guests", "guest_kernel"])]
    pub(crate) guest: Option<String>,
    /// The guest that is named on the command line.
    #[command(flatten)]
    pub(crate) single: guests::single::Arguments,
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
    let interrupted = Interrupted::watch()?;
    let mut archive = match (&arguments.single.guest_kernel, &arguments.guest) {
        (Some(kernel), _) => {
            let memory_mib = arguments.memory.unwrap_or(DEFAULT_GUEST_MEMORY_MIB);
            guests::single::pack(kernel, &arguments.single, memory_mib)?
        }
        (None, Some(name)) => guests::named::pack(name)?,
        (None, None) => guests::pack(arguments.guests.as_deref())?,
    };
    let memory_mib = machine_memory(kind, arguments, &archive)?;
    machine::emulator::prepare(kind)?;
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
        size: Size { cpus: arguments.cpus, memory_mib },
        processor: Processor::Complete,
        images,
        name: name.to_owned(),
    };
    let is_single = arguments.single.guest_kernel.is_some();
    match &arguments.exec {
        None if is_single && !std::io::stdin().is_terminal() => {
            let images = image::build(&archive.to_tar()?, &paths::created(directory.join("guest"))?)?;
            progress::step(format_args!("starting {}", kind.name()));
            let emulator = machine(images, "guest").start()?;
            let outcome = watch::watch(&emulator, guests::single::NAME, &interrupted, limit);
            finish(emulator, outcome.map(ExitCode::from))
        }
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
            // Neither do those with a guest of the command line.
            let place = if is_single { paths::created(directory.join("guest"))? } else { directory };
            let images = image::build(&archive.to_tar()?, &place)?;
            progress::step(format_args!(
                "starting {}; Ctrl-] is the monitor, twice in a row leaves",
                kind.name()
            ));
            let mut emulator = machine(images, "run").start()?;
            let guest = is_single.then_some(guests::single::NAME);
            let ending = console::connect(&mut emulator, guest, &interrupted, limit);
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
                Ending::GuestStopped => {
                    progress::note("the guest stopped");
                    ExitCode::FAILURE
                }
                Ending::GuestOff | Ending::Left | Ending::TimeIsUp => ExitCode::SUCCESS,
            });
            finish(emulator, outcome)
        }
    }
}

/// The machine's memory, in MiB: what the command line says, or enough for the guest that it describes.
fn machine_memory(kind: Kind, arguments: &Arguments, archive: &Archive) -> Result<u32> {
    let memory_mib = if arguments.single.guest_kernel.is_some() {
        let guest = arguments.memory.unwrap_or(DEFAULT_GUEST_MEMORY_MIB);
        let files = u32::try_from(archive.bytes() >> 20).unwrap_or(u32::MAX);
        let needed = guest.saturating_add(HOST_MEMORY_MIB).saturating_add(files.saturating_mul(2));
        needed.max(DEFAULT_MEMORY_MIB)
    } else {
        arguments.memory.unwrap_or(DEFAULT_MEMORY_MIB)
    };
    if memory_mib < LEAST_MEMORY_MIB {
        bail!("--memory {memory_mib}: the machine needs {LEAST_MEMORY_MIB} MiB or more");
    }
    if kind == Kind::Bochs && memory_mib > BOCHS_MEMORY_MIB {
        bail!(
            "the machine would have {memory_mib} MiB of memory, and Bochs has at most {BOCHS_MEMORY_MIB}; lower --memory"
        );
    }
    Ok(memory_mib)
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
