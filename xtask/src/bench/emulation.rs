//! One run in Bochs that is the same every time: fixed date, serial output to a file, nothing typed.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::machine::{Processor, Size, bochs};
use crate::{paths, setup};

/// What the emulated clock shows at the start, in seconds since 1970: any fixed value.
const START: u64 = 1_800_000_000;
/// How often the serial output is looked at.
const PERIOD: Duration = Duration::from_millis(100);
/// How long a machine runs on after enough was seen: what it says together comes together.
const GRACE: Duration = Duration::from_secs(2);
/// How much of the serial output an error shows, in lines.
const SHOWN_LINES: usize = 25;

/// A machine to be run to a certain line of its output.
pub(crate) struct Emulation<'a> {
    /// Part of the directory's name.
    pub(crate) name: &'a str,
    /// The disk to boot, which is copied.
    pub(crate) disk: &'a Path,
    /// Memory in MiB.
    pub(crate) memory_mib: u32,
    /// What an access to an MSR does that Bochs does not know.
    pub(crate) unknown_msrs: UnknownMsrs,
    /// What becomes of it when Bochs meets what it does not model.
    pub(crate) unmodelled: Unmodelled,
    /// The longest that it may take.
    pub(crate) patience: Duration,
}

/// The processors of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Processors {
    /// How many.
    pub(crate) count: u32,
    /// What each of them is.
    pub(crate) apic: Apic,
}

/// How much of the local APIC a processor knows to virtualize.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Apic {
    /// APIC-register virtualization, virtual-interrupt delivery, posted interrupts.
    Virtualized,
    /// No virtual-interrupt delivery, and nothing that needs it.
    Plain,
}

impl Apic {
    fn processor(self) -> Processor {
        match self {
            Self::Virtualized => Processor::Complete,
            Self::Plain => Processor::WithoutVirtualInterrupts,
        }
    }
}

/// What an access to an MSR does that Bochs does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnknownMsrs {
    /// It is #GP, as on a real processor.
    Fault,
    /// It reads as zero: Linux expects some of a real processor's that Bochs has not.
    Ignore,
}

/// What becomes of a machine when Bochs meets what it does not model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmodelled {
    /// It ends.
    End,
    /// It goes on as if nothing had been asked.
    GoOn,
}

/// Ends the emulator whatever happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Emulation<'_> {
    /// Runs it with `processors` until `is_enough` accepts the serial output, and returns the output.
    ///
    /// # Errors
    /// When time is up or the machine switches itself off first, with the end of the output.
    pub(crate) fn run_on(&self, processors: Processors, is_enough: impl Fn(&str) -> bool) -> Result<String> {
        let directory = paths::build()?.join("runs").join(format!("{}-{}", self.name, std::process::id()));
        if directory.exists() {
            std::fs::remove_dir_all(&directory)?;
        }
        let directory = paths::created(directory)?;
        let disk = directory.join("disk.img");
        std::fs::copy(self.disk, &disk).with_context(|| format!("cannot copy {}", self.disk.display()))?;
        let serial = directory.join("serial.log");
        let result = self
            .start(processors, &directory, &disk, &serial)
            .and_then(|machine| self.wait(machine, &serial, &is_enough));
        // Large, and the image it was copied from is still there.
        drop(std::fs::remove_file(&disk));
        match result {
            Ok(text) => {
                drop(std::fs::remove_dir_all(&directory));
                Ok(text)
            }
            Err(error) => Err(error.context(format!("the logs are in {}", paths::shown(&directory)))),
        }
    }

    fn start(&self, processors: Processors, directory: &Path, disk: &Path, serial: &Path) -> Result<Running> {
        let installed = setup::bochs::ensure()?;
        let log = directory.join("bochs.log");
        let wiring = bochs::Wiring { disk, log: &log, serial_port: 0, uefi: None };
        let size = Size { cpus: processors.count, memory_mib: self.memory_mib };
        let configuration = directory.join("bochsrc");
        let script = directory.join("debugger-script");
        std::fs::write(
            &configuration,
            repeatable(
                &bochs::configuration(&installed, size, processors.apic.processor(), wiring),
                serial,
                self.unknown_msrs,
                self.unmodelled,
            ),
        )?;
        std::fs::write(&script, bochs::DEBUGGER_SCRIPT)?;
        let output = std::fs::File::create(directory.join("emulator.log"))?;
        let child = Command::new(&installed.program)
            .args(bochs::arguments(&installed, &configuration, &script))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", installed.program.display()))?;
        Ok(Running(child))
    }

    fn wait(&self, mut machine: Running, serial: &Path, is_enough: &impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + self.patience;
        let output = || {
            std::fs::read(serial)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .unwrap_or_default()
        };
        loop {
            let has_ended = machine.0.try_wait()?.is_some();
            let text = output();
            if is_enough(&text) {
                if !has_ended {
                    std::thread::sleep(GRACE);
                }
                return Ok(output());
            }
            if has_ended || Instant::now() > deadline {
                let lines: Vec<&str> = text.lines().collect();
                let why = if has_ended { "the machine ended too early" } else { "time is up" };
                bail!(
                    "{}: {why}. The serial line's last words:\n{}",
                    self.name,
                    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
                );
            }
            std::thread::sleep(PERIOD);
        }
    }
}

/// What a halted processor's turn counts for in the clock, if there are others: as little as possible. With the usual 16,
/// time would pass at several times the speed of the instructions that the others execute meanwhile.
const QUANTUM: u32 = 1;

/// The usual configuration with what comes from outside taken away: the date, and the other end of the serial line.
fn repeatable(
    configuration: &str,
    serial: &Path,
    unknown_msrs: UnknownMsrs,
    unmodelled: Unmodelled,
) -> String {
    let ignore = u8::from(unknown_msrs == UnknownMsrs::Ignore);
    configuration
        .lines()
        .map(|line| match line.split_once(':') {
            Some(("clock", _)) => format!("clock: sync=none, time0={START}\n"),
            Some(("com1", _)) => format!("com1: enabled=1, mode=file, dev=\"{}\"\n", serial.display()),
            Some(("cpu", _)) => {
                let line = line.replace("ignore_bad_msrs=0", &format!("ignore_bad_msrs={ignore}"));
                format!("{line}, quantum={QUANTUM}\n")
            }
            Some(("panic", _)) if unmodelled == Unmodelled::GoOn => "panic: action=report\n".to_owned(),
            Some(("error", _)) if unmodelled == Unmodelled::GoOn => "error: action=ignore\n".to_owned(),
            Some(("info", _)) => "info: action=ignore\n".to_owned(),
            Some(_) | None => format!("{line}\n"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn nothing_from_outside_is_left_in_the_configuration() {
        let usual = "cpu: model=x, ignore_bad_msrs=0\nclock: sync=none, time0=utc\n\
                     com1: enabled=1, mode=socket-client, dev=1:2\n";
        let text =
            super::repeatable(usual, Path::new("/s"), super::UnknownMsrs::Ignore, super::Unmodelled::End);
        assert_eq!(
            text,
            "cpu: model=x, ignore_bad_msrs=1, quantum=1\nclock: sync=none, time0=1800000000\n\
             com1: enabled=1, mode=file, dev=\"/s\"\n"
        );
    }
}
