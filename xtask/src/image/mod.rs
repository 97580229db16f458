//! The disk images: kernel, boot archive with guests, and the loader for BIOS and UEFI.

pub(crate) mod archive;
pub(crate) mod command;
pub(crate) mod kernel;
mod loader;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::run_quietly;
use crate::{hash, paths, progress};

/// The pair of images made from one kernel and one archive.
#[derive(Clone, Debug)]
pub(crate) struct Images {
    /// Boots by BIOS: a whole disk with a master boot record.
    pub(crate) bios: PathBuf,
    /// Boots by UEFI: a whole disk with a GUID partition table.
    pub(crate) uefi: PathBuf,
}

/// Builds what is out of date and packs `archive` (a tar file's content) with the kernel into `directory`.
pub(crate) fn build(archive: &[u8], directory: &Path) -> Result<Images> {
    pack(archive, directory, || {
        progress::step(format_args!("packing disk images in {}", paths::shown(directory)));
    })
}

/// Like [`build`] without a progress line, for those who pack many small ones.
pub(crate) fn build_unannounced(archive: &[u8], directory: &Path) -> Result<Images> {
    pack(archive, directory, || ())
}

fn pack(archive: &[u8], directory: &Path, announce: impl FnOnce()) -> Result<Images> {
    let kernel = kernel::build()?;
    let tool = loader::ensure()?;
    let images = Images { bios: directory.join("craton-bios.img"), uefi: directory.join("craton-uefi.img") };
    let stamp = directory.join("craton.stamp");
    let current = format!(
        "kernel {}\narchive {}\nloader {}\n",
        hash::of_file(&kernel)?,
        hash::of_bytes(archive),
        tool.identity
    );
    let is_current = std::fs::read_to_string(&stamp).is_ok_and(|old| old == current);
    if is_current && images.bios.is_file() && images.uefi.is_file() {
        return Ok(images);
    }
    announce();
    paths::created(directory.to_owned())?;
    // Removed first: an interrupted run must not leave a stamp that vouches for other images.
    drop(std::fs::remove_file(&stamp));
    let packed = directory.join("guests.tar");
    paths::write_whole(&packed, archive)?;
    run_quietly(Command::new(&tool.program).args([&kernel, &packed, &images.bios, &images.uefi]))
        .context("packing the disk images")?;
    paths::write_whole(&stamp, current.as_bytes())?;
    Ok(images)
}
