//! The tool in `xtask/disk-image`, which carries the boot loader. Built once into the user's cache, for every checkout
//! with the same tool.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{capture, run_quietly};
use crate::{hash, paths, progress, setup};

/// The built tool.
pub(super) struct Tool {
    /// The program.
    pub(super) program: PathBuf,
    /// Changes whenever the tool or its compiler does.
    pub(super) identity: String,
}

/// Finds the tool in the cache or builds it there.
pub(super) fn ensure() -> Result<Tool> {
    let source = paths::root().join("xtask/disk-image");
    let identity = identity(&source)?;
    let base = paths::cache()?.join("disk-image");
    let program = base.join(&identity).join("disk-image");
    if program.is_file() {
        return Ok(Tool { program, identity });
    }
    setup::rust::ensure_loader_parts()?;
    let target = base.join("target");
    progress::timed("building the boot loader (once; a few minutes)", || {
        run_quietly(
            Command::new("cargo")
                .current_dir(&source)
                .args(["build", "--release", "--locked", "--target-dir"])
                .arg(&target)
                .env("RUSTC_BOOTSTRAP", "1")
                // Cargo started from inside the loader's build would wait for this one's lock on the directory.
                .env_remove("CARGO_TARGET_DIR")
                .env_remove("CARGO_BUILD_TARGET_DIR"),
        )
    })?;
    let directory = program.parent().context("the cache has no parent")?;
    paths::created(directory.to_owned())?;
    let partial = directory.join(format!("disk-image.{}.new", std::process::id()));
    std::fs::copy(target.join("release/disk-image"), &partial).context("the build left no program")?;
    std::fs::rename(&partial, &program)?;
    Ok(Tool { program, identity })
}

fn identity(source: &Path) -> Result<String> {
    let mut text = capture(Command::new("rustc").arg("--version").current_dir(source))?;
    let mut files: Vec<PathBuf> = ["Cargo.toml", "Cargo.lock"].map(|name| source.join(name)).to_vec();
    for entry in std::fs::read_dir(source.join("src"))? {
        files.push(entry?.path());
    }
    files.sort();
    for file in files {
        text.push_str(&hash::of_file(&file)?);
    }
    Ok(hash::of_bytes(text.as_bytes())[..16].to_owned())
}
