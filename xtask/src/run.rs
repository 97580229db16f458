//! `cargo xtask run`: from a checkout to a guest's console.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::console::{self, Ending, Interrupted};
use crate::guests::exec::{Marks, Progress};
use crate::machine::{self, Emulator, Firmware, Host, Kind, Machine, Processor, Size, Wish};
use crate::{guests, image, paths, progress};

/// How long a command may take, boot included, when no limit is given.
const EXEC_LIMIT: Duration = Duration::from_secs(1800);
/// What the hypervisor prints when this computer cannot run it.
const REFUSAL: &str = "cannot start";

/// Builds everything, boots it, and connects the terminal to the guest's console.
///
/// Ctrl-] switches to Craton's monitor; pressed twice in a row it leaves. The exit status is the command's with
/// `--exec`, otherwise 0.
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
    machine::emulator::prepare(kind)?;
    let mut archive = guests::pack(arguments.guests.as_deref())?;
    let directory = paths::build()?;
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
            guests::exec::add(&mut archive, &marks, command)?;
            // Images with a command of their own do not replace the ones that the user may write to a disk.
            let images = image::build(&archive.to_tar()?, &paths::created(directory.join("exec"))?)?;
            progress::step(format_args!("starting {}", kind.name()));
            let mut emulator = machine(images, "exec").start()?;
            let outcome = follow(&mut emulator, &marks, &interrupted, limit.unwrap_or(EXEC_LIMIT));
            finish(emulator, outcome.map(ExitCode::from))
        }
        None => {
            let images = image::build(&archive.to_tar()?, &directory)?;
            progress::step(format_args!(
                "starting {}; Ctrl-] is the monitor, twice in a row leaves",
                kind.name()
            ));
            let mut emulator = machine(images, "run").start()?;
            let outcome = console::connect(&mut emulator, &interrupted, limit);
            if let Ok(Ending::MachineOff) = outcome {
                progress::note("the machine is off");
            }
            finish(emulator, outcome.map(|_| ExitCode::SUCCESS))
        }
    }
}

fn finish(emulator: Emulator, outcome: Result<ExitCode>) -> Result<ExitCode> {
    match outcome {
        Ok(code) => {
            emulator.discard();
            Ok(code)
        }
        Err(error) => Err(error.context(format!("logs are in {}", emulator.directory().display()))),
    }
}

/// What the console shows on the way to the command, and what it means.
const MILESTONES: [(&str, &str); 2] = [
    ("Linux version", "the guest's kernel is running"),
    ("craton-guest: init reached", "the guest's /init is running"),
];

/// Prints what the command prints, and returns its status.
fn follow(machine: &mut Emulator, marks: &Marks, interrupted: &Interrupted, limit: Duration) -> Result<u8> {
    let deadline = Instant::now() + limit;
    let mut console = Vec::new();
    let mut printed = 0;
    let mut milestones = MILESTONES.iter().peekable();
    loop {
        let Some(bytes) = machine.serial.more(console.len(), Duration::from_millis(200)) else {
            bail!("the machine ended before the command did:\n{}", tail(&console));
        };
        console.extend(bytes);
        let text = String::from_utf8_lossy(&console);
        while let Some((_, meaning)) = milestones.next_if(|(sign, _)| text.contains(sign)) {
            progress::note(meaning);
        }
        let (output, status) = match marks.parse(&console) {
            Progress::NotStarted => {
                if text.contains(REFUSAL) && text.ends_with('\n') {
                    bail!("Craton refuses this machine:\n{}", tail(&console));
                }
                (Vec::new(), None)
            }
            Progress::Running(output) => (output, None),
            Progress::Ended(output, status) => (output, Some(status)),
        };
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&output[printed..]).and_then(|()| stdout.flush()).context("standard output")?;
        printed = output.len();
        if let Some(status) = status {
            return Ok(status);
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

/// The end of what the console showed.
fn tail(console: &[u8]) -> String {
    let text = String::from_utf8_lossy(console).replace('\r', "");
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
