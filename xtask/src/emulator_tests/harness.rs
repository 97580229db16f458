//! What the tests share: packing guests, booting them, and ending the machine with its log kept on failure.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::screen_text::ScreenText;
use crate::guests::exec::{Marks, Progress};
use crate::image::archive::Archive;
use crate::machine::{Complaints, Emulator, Firmware, Kind, Machine, Processor, Size};
use crate::{guests, image, paths};

/// How long a small guest of ours may take, boot included.
pub(super) const SHORT: Duration = Duration::from_secs(90);
/// How long Linux may take to its /init or its next prompt. The build machine is slow and may be busy.
pub(super) const LONG: Duration = Duration::from_secs(400);

/// A place to run tests on one kind of machine.
pub(super) struct Lab {
    kind: Kind,
}

/// The machine of a test.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// What executes it.
    pub(super) kind: Kind,
    /// What it boots by.
    pub(super) firmware: Firmware,
    /// Its processor.
    pub(super) processor: Processor,
    /// Its size.
    pub(super) size: Size,
    /// What becomes of the emulator's remarks.
    pub(super) complaints: Complaints,
}

impl Lab {
    /// A lab with machines of `kind`.
    pub(super) fn new(kind: Kind) -> Self {
        Lab { kind }
    }

    /// What the machines are executed by.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The usual machine: one processor, 1 GiB, BIOS.
    pub(super) fn usual(&self) -> Setup {
        Setup {
            kind: self.kind,
            firmware: Firmware::Bios,
            processor: Processor::Complete,
            size: Size { cpus: 1, memory_mib: 1024 },
            complaints: Complaints::Logged,
        }
    }

    /// Boots `archive` on the usual machine, runs `check`, and ends the machine.
    pub(super) fn boot(
        &self,
        name: &str,
        archive: &Archive,
        check: impl FnOnce(&mut Emulator) -> Result<()>,
    ) -> Result<()> {
        boot(name, self.usual(), &archive.to_tar()?, check)
    }

    /// Runs `command` in the guest on the console of `archive`, expects status 0, and returns what it printed.
    pub(super) fn exec(&self, name: &str, archive: Archive, command: &str) -> Result<String> {
        exec(name, self.usual(), archive, command)
    }
}

/// Runs `command` in the guest on the console of `archive` on the machine `setup`, expects status 0, and returns what it
/// printed.
pub(super) fn exec(name: &str, setup: Setup, mut archive: Archive, command: &str) -> Result<String> {
    let marks = Marks::new();
    guests::exec::add(&mut archive, &marks, command)?;
    let mut printed = String::new();
    boot(name, setup, &archive.to_tar()?, |machine| {
        machine.serial.wait_for("craton-exec-end", LONG)?;
        // The status follows the mark.
        machine.serial.wait_for("\n", SHORT)?;
        match marks.parse(machine.serial.text().as_bytes()) {
            Progress::Ended(output, 0) => printed = String::from_utf8_lossy(&output).into_owned(),
            other => anyhow::bail!("the command did not end well: {other:?}"),
        }
        Ok(())
    })?;
    Ok(printed)
}

/// Boots a tar file's content on the machine `setup`, runs `check`, and ends the machine.
///
/// # Errors
/// `check`'s, with the place of the serial line's log.
pub(super) fn boot(
    name: &str,
    setup: Setup,
    archive: &[u8],
    check: impl FnOnce(&mut Emulator) -> Result<()>,
) -> Result<()> {
    crate::machine::emulator::prepare(setup.kind)?;
    let directory = paths::created(paths::build()?.join("tests").join(name))?;
    let images = image::build_unannounced(archive, &directory)?;
    let Setup { kind, firmware, processor, size, complaints } = setup;
    let machine = Machine { kind, firmware, processor, size, images, name: name.to_owned() };
    let mut emulator = machine.start_with(complaints)?;
    let result = check(&mut emulator);
    let log = directory.join("serial.log");
    let kept = std::fs::copy(emulator.directory().join("serial.log"), &log);
    emulator.discard();
    // Images of one test are of no use to the next one, and large.
    remove_images(&directory);
    match (result, kept) {
        (Ok(()), _) => {
            drop(std::fs::remove_dir_all(&directory));
            Ok(())
        }
        (Err(error), Ok(_)) => Err(error.context(format!("the serial line is in {}", paths::shown(&log)))),
        (Err(error), Err(_)) => Err(error),
    }
}

/// How long a text may be on the serial line before it is on the screen.
const DRAWING: Duration = Duration::from_secs(20);

/// Expects each of `lines` on the screen.
pub(super) fn screen_shows(machine: &mut Emulator, lines: &[&str]) -> Result<()> {
    let deadline = Instant::now() + DRAWING;
    loop {
        let text = ScreenText::read(&machine.picture()?)?;
        let Some(missing) = lines.iter().find(|line| !text.shows(line)) else { return Ok(()) };
        ensure!(Instant::now() < deadline, "\"{missing}\" is not on the screen:\n{text}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn remove_images(directory: &Path) {
    for file in ["craton-bios.img", "craton-uefi.img", "guests.tar", "craton.stamp"] {
        // Not there after a failure to pack.
        drop(std::fs::remove_file(directory.join(file)));
    }
}

/// A configuration with images of ours.
pub(super) fn archive(configuration: &str, images: &[&str]) -> Result<Archive> {
    let mut archive = Archive::with_configuration(configuration);
    for name in images {
        archive.add(name, guests::ours(name).with_context(|| format!("guest image {name}"))?);
    }
    Ok(archive)
}

/// The checkout's own guests.
pub(super) fn default_guests() -> Result<Archive> {
    guests::pack(None)
}
