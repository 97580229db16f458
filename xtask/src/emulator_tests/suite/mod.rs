//! The test guest's suite, check by check: natively in Bochs, as a guest of Craton in Bochs, and natively in QEMU where
//! Bochs itself departs from the PC.
//!
//! Every check that does not come to the same, passing end on both sides is in `departures.txt` with its reason, and every
//! entry there must still be needed.

mod departures;
mod verdict;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Case;
use super::harness::{Lab, Setup, archive, boot};
use crate::bench::emulation::{Apic, Emulation, Processors, UnknownMsrs, Unmodelled};
use crate::bench::grub_disk::{self, Recipe};
use crate::machine::{Complaints, Kind, Size};
use crate::setup::{Package, packages};
use crate::{guests, paths, progress};
use departures::Departures;
use verdict::Verdicts;

pub(super) const CASES: &[Case] = &[
    Case { name: "native::suite_agrees_on_one_processor", run: |lab| agrees(lab, 1) },
    Case { name: "native::suite_agrees_on_two_processors", run: |lab| agrees(lab, 2) },
];

/// The longest that one run of the suite may take; a check that hangs is found out by it. A run takes seconds, but minutes on
/// a computer that is busy, and one that is cut short says nothing of the check it is at.
const PATIENCE: Duration = Duration::from_secs(300);
/// QEMU hangs if it says nothing for so long.
const SILENCE: Duration = Duration::from_secs(15);
/// How many checks may end the machine before the rest is given up.
const RESTARTS: usize = 100;
/// What a difference says of a guest that did as it should.
const GUEST_PASSED: &str = "as a guest pass";
/// What the suite says last.
const DONE: &str = "suite: done";
/// What is chosen from the suite: everything, unless the environment says otherwise.
const FILTER: &str = "CRATON_SUITE";

/// Runs the suite with `processors` everywhere and compares.
///
/// Some native verdicts depend on how the emulator's clock happens to run. Where only the native side is off, the suite runs once
/// more, and that run counts.
fn agrees(lab: &Lab, processors: u32) -> Result<()> {
    let directory = paths::created(paths::build()?.join("suite").join(processors.to_string()))?;
    let mut problems = differences(lab, processors, &directory)?;
    if !problems.is_empty() && problems.iter().all(|problem| problem.contains(GUEST_PASSED)) {
        progress::note(format_args!(
            "looking again, as only the native side is off:\n{}",
            problems.join("\n")
        ));
        problems = differences(lab, processors, &directory)?;
    }
    if problems.is_empty() {
        return Ok(());
    }
    bail!(
        "{} differences (all verdicts are in {}):\n{}",
        problems.len(),
        paths::shown(&directory),
        problems.join("\n")
    )
}

/// What differs in one run of the suite, a line each.
fn differences(lab: &Lab, processors: u32, directory: &Path) -> Result<Vec<String>> {
    let filter = std::env::var(FILTER).unwrap_or_default();
    let keep = |name: &str, text: &str| paths::write_whole(&directory.join(name), text.as_bytes());

    let native = progress::timed("the suite natively in Bochs", || {
        whole(&filter, |line| in_bochs(&disk(directory, line)?, processors))
    })?;
    let guest =
        progress::timed("the suite as a guest", || whole(&filter, |line| as_guest(lab, processors, line)))?;
    keep("native.txt", &native)?;
    keep("guest.txt", &guest)?;
    let departures = Departures::listed(&filter, processors)?;
    let asked = departures.asked_of_qemu();
    let reference = if asked.is_empty() {
        None
    } else {
        let text = progress::timed("its departures natively in QEMU", || {
            whole(&asked, |line| in_qemu(&disk(directory, line)?, processors, directory))
        })?;
        keep("qemu.txt", &text)?;
        Some(Verdicts::parse(&text))
    };
    drop(std::fs::remove_file(directory.join("suite.img")));
    let (native, guest) = (Verdicts::parse(&native), Verdicts::parse(&guest));
    progress::note(format_args!("natively: {}; as a guest: {}", native.summary(), guest.summary()));
    Ok(departures.compare(&native, &guest, reference.as_ref()))
}

/// Runs the suite by `run`, which takes a command line, and again from behind each check that ended the machine.
fn whole(filter: &str, mut run: impl FnMut(&str) -> Result<String>) -> Result<String> {
    let mut all = String::new();
    let mut after = String::new();
    for _ in 0..RESTARTS {
        let text = run(&format!("test=suite only={filter} after={after}"))?;
        all.push_str(&text);
        if is_over(&text) {
            return Ok(all);
        }
        all.push('\n');
        match verdict::last_name(&text) {
            Some(name) => after = name.to_owned(),
            None => break,
        }
    }
    Ok(all)
}

/// A disk that starts the suite without a hypervisor.
fn disk(directory: &Path, command_line: &str) -> Result<PathBuf> {
    let testkit = guests::ours("testkit")?;
    let recipe = Recipe {
        files: &[("testkit", &testkit)],
        commands: &format!("multiboot2 /testkit {command_line}"),
        loader: "multiboot2",
    };
    let disk = directory.join("suite.img");
    paths::write_whole(&disk, &grub_disk::build(&recipe, directory)?)?;
    Ok(disk)
}

fn is_over(text: &str) -> bool {
    text.contains(DONE)
}

fn in_bochs(disk: &Path, processors: u32) -> Result<String> {
    let run = Emulation {
        name: "suite",
        disk,
        memory_mib: 256,
        unknown_msrs: UnknownMsrs::Fault,
        unmodelled: Unmodelled::GoOn,
        patience: PATIENCE,
    }
    .run_on(Processors { count: processors, apic: Apic::Virtualized }, is_over);
    // A machine that ended early said something before.
    let kept = paths::build()?.join("runs").join(format!("suite-{}", std::process::id())).join("serial.log");
    run.or_else(|error| std::fs::read_to_string(kept).map_err(|_| error))
}

fn as_guest(lab: &Lab, processors: u32, command_line: &str) -> Result<String> {
    let configuration = format!(
        "[[vm]]\nname = \"suite\"\nmemory_mib = 64\nvcpus = {processors}\nkernel = \"testkit\"\nboot = \"pvh\"\n\
         cmdline = \"{command_line}\"\nconsole = true\nrestart = \"never\"\n\
         test_devices = true\n"
    );
    let usual = lab.usual();
    let setup = Setup {
        kind: Kind::Bochs,
        size: Size { cpus: processors, ..usual.size },
        complaints: Complaints::Dropped,
        ..usual
    };
    let mut said = String::new();
    let archive = archive(&configuration, &["testkit"])?.to_tar()?;
    boot(&format!("suite-{processors}"), setup, &archive, |machine| {
        // A hang is as good as an end: what was said before tells where it was.
        drop(machine.serial.wait_for_any(&[DONE, "vm suite: stopped: "], PATIENCE));
        said = machine.serial.text();
        Ok(())
    })?;
    Ok(said)
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

fn in_qemu(disk: &Path, processors: u32, directory: &Path) -> Result<String> {
    packages::ensure(&[Package::QemuSystemX86])?;
    let serial = directory.join("qemu.serial");
    drop(std::fs::remove_file(&serial));
    let child = Command::new("qemu-system-x86_64")
        .args(["-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "256", "-no-reboot"])
        .args(["-smp", &processors.to_string(), "-nodefaults", "-display", "none", "-vga", "std"])
        .arg("-drive")
        .arg(format!("format=raw,file={}", disk.display()))
        .arg("-serial")
        .arg(format!("file:{}", serial.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start QEMU")?;
    let mut machine = Running(child);
    let (mut length, mut grown) = (0, Instant::now());
    loop {
        let has_ended = machine.0.try_wait()?.is_some();
        let bytes = std::fs::read(&serial).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if text.len() > length {
            (length, grown) = (text.len(), Instant::now());
        }
        // A reference that ends early still says what it saw before.
        if is_over(&text) || has_ended || grown.elapsed() > SILENCE {
            drop(std::fs::remove_file(&serial));
            return Ok(text);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
