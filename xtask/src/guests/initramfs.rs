//! The guest's file system: Debian's static busybox, links for its applets, and our `/init`.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cpio::{Entry, Writer};
use crate::paths;
use crate::process::capture;
use crate::setup::debian;

/// Directories of the root file system.
const DIRECTORIES: [&str; 11] =
    ["bin", "dev", "etc", "mnt", "proc", "root", "sbin", "sys", "tmp", "usr", "usr/bin"];
/// Files in `guest-images/initramfs` and where they go.
const PROGRAMS: [&str; 1] = ["init"];
/// Further files, not executable.
const FILES: [&str; 2] = ["etc/profile", "etc/passwd"];

/// The plain (uncompressed) archive.
pub(super) fn build() -> Result<Vec<u8>> {
    let busybox = debian::unpacked("busybox-static")?.join("bin/busybox");
    let content = std::fs::read(&busybox).with_context(|| format!("cannot read {}", busybox.display()))?;
    let recipe = paths::root().join("guest-images/initramfs");
    let mut writer = Writer::default();
    for directory in DIRECTORIES {
        writer.add(directory, &Entry::Directory);
    }
    // The kernel opens it for /init before anything is mounted.
    writer.add("dev/console", &Entry::CharacterDevice { major: 5, minor: 1 });
    writer.add("dev/null", &Entry::CharacterDevice { major: 1, minor: 3 });
    writer.add("bin/busybox", &Entry::Program(&content));
    let applets = capture(Command::new(&busybox).arg("--list")).context("asking busybox for its applets")?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        if applet.contains('/') {
            bail!("busybox lists {applet}, which is not a name");
        }
        writer.add(&format!("bin/{applet}"), &Entry::Link("busybox"));
    }
    for name in PROGRAMS {
        writer.add(name, &Entry::Program(&read(&recipe, name)?));
    }
    for name in FILES {
        writer.add(name, &Entry::File(&read(&recipe, name)?));
    }
    Ok(writer.finish())
}

fn read(recipe: &std::path::Path, name: &str) -> Result<Vec<u8>> {
    let path = recipe.join(name);
    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}
