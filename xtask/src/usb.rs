//! `cargo xtask usb`: writes a disk image to a USB stick, or to a file, and reads it back.
//!
//! A wrong name can destroy a disk, so everything but an unmounted, removable, whole disk is refused without `--force`.

mod target;

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Advice, OFlags, fadvise};
use sha2::{Digest, Sha256};

use crate::machine::Firmware;
use crate::{guests, image, paths, progress};
use target::{Kind, Target};

/// Bytes written or read at a time.
const CHUNK: usize = 4 << 20;

/// Writes the disk image to DEVICE and verifies it. Everything on DEVICE is lost.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// A whole disk like /dev/sdX, or a file.
    device: PathBuf,
    /// The image to write; without it, the checkout's own is built.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// What the target computer boots by, when the image is built.
    #[arg(long, value_enum, default_value = "uefi")]
    firmware: BootBy,
    /// Write even to a disk that is mounted, not removable, or only a partition.
    #[arg(long)]
    force: bool,
}

/// A computer's firmware, as named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum BootBy {
    /// Computers since about 2012.
    Uefi,
    /// Older ones.
    Bios,
}

impl From<BootBy> for Firmware {
    fn from(value: BootBy) -> Self {
        match value {
            BootBy::Uefi => Firmware::Uefi,
            BootBy::Bios => Firmware::Bios,
        }
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    // Before anything is built: a mistake in the name is the likeliest one.
    let target = Target::inspect(&arguments.device)?;
    target.judge(arguments.force)?;
    let image = match &arguments.image {
        Some(path) => path.clone(),
        None => {
            let archive = guests::pack(None)?;
            let images = image::build(&archive.to_tar()?, &paths::build()?)?;
            match arguments.firmware.into() {
                Firmware::Uefi => images.uefi,
                Firmware::Bios => images.bios,
            }
        }
    };
    write_and_verify(&image, &target, arguments.force)?;
    println!(
        "{} is written to {} and verified; it can be removed",
        image.display(),
        arguments.device.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Copies the image, waits until it is on the medium, and compares what is there with what was written.
fn write_and_verify(image: &Path, target: &Target, force: bool) -> Result<()> {
    let mut source = File::open(image).with_context(|| format!("cannot read {}", image.display()))?;
    ensure!(source.metadata()?.is_file(), "{} is not an image file", image.display());
    let length = source.seek(SeekFrom::End(0))?;
    source.rewind()?;
    ensure!(length > 0, "{} is empty", image.display());
    ensure!(std::fs::canonicalize(image)? != target.path, "that would write {} to itself", image.display());
    if target.kind == Kind::Block {
        let size = target.size()?;
        ensure!(
            length <= size,
            "{} is too small: it holds {size} bytes, the image has {length}",
            target.path.display()
        );
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if target.kind == Kind::Block && !force {
        // The system then refuses when somebody mounted it since we looked.
        options.custom_flags(OFlags::EXCL.bits().cast_signed());
    }
    let mut device =
        options.open(&target.path).with_context(|| format!("cannot write to {}", target.path.display()))?;
    if target.kind == Kind::File {
        device.set_len(0)?;
    }
    let written = copy(&mut source, &mut device, length)?;
    progress::step("waiting until everything is on the medium");
    device.sync_all().context("the device did not take all that was written")?;
    // What the system still remembers is no proof; advice it may not follow is all there is for that.
    fadvise(&device, 0, None, Advice::DontNeed)?;
    device.rewind()?;
    let found = digest("verifying", &mut device, length)?;
    if written != found {
        bail!(
            "{} holds something else than what was written to it: it is broken, or smaller than it says",
            target.path.display()
        );
    }
    Ok(())
}

/// Copies `length` bytes and returns their SHA-256.
fn copy(source: &mut impl Read, device: &mut impl Write, length: u64) -> Result<[u8; 32]> {
    through("writing", source, length, |chunk| device.write_all(chunk).context("writing failed"))
}

/// SHA-256 of the next `length` bytes.
fn digest(what: &str, source: &mut impl Read, length: u64) -> Result<[u8; 32]> {
    through(what, source, length, |_| Ok(()))
}

/// Reads `length` bytes in chunks, hands each to `each`, and returns the SHA-256 of all.
fn through(
    what: &str,
    source: &mut impl Read,
    length: u64,
    mut each: impl FnMut(&[u8]) -> Result<()>,
) -> Result<[u8; 32]> {
    let mut buffer = vec![0; CHUNK];
    let mut hasher = Sha256::new();
    let mut done = 0;
    let mut shown = Percent::new(what, length);
    while done < length {
        let wanted = usize::try_from(length - done).unwrap_or(CHUNK).min(CHUNK);
        let chunk = &mut buffer[..wanted];
        source.read_exact(chunk).with_context(|| format!("{what}: reading failed at byte {done}"))?;
        each(chunk)?;
        hasher.update(&*chunk);
        done += u64::try_from(wanted)?;
        shown.show(done);
    }
    Ok(hasher.finalize().into())
}

/// A progress line that is rewritten on a terminal and written once elsewhere.
struct Percent<'a> {
    what: &'a str,
    total: u64,
    last: u64,
    is_terminal: bool,
}

impl<'a> Percent<'a> {
    fn new(what: &'a str, total: u64) -> Self {
        progress::step(format_args!("{what} {} MiB", total.div_ceil(1 << 20)));
        Percent { what, total, last: 0, is_terminal: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, done: u64) {
        let percent = done.saturating_mul(100).checked_div(self.total).unwrap_or(100);
        if self.is_terminal && percent != self.last {
            self.last = percent;
            eprint!("\r    {} {percent} %{}", self.what, if done == self.total { "\n" } else { "" });
        }
    }
}

#[cfg(test)]
mod tests;
