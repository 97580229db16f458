//! The Rust target and components: from rustup, otherwise Debian's matching packages.
//!
//! `rust-toolchain.toml` names what is needed, but installs nothing by itself where rustup is told not to.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::debian::{self, Apt, Sources};
use super::{Package, packages};
use crate::process::{capture, find_program, run_quietly};
use crate::{paths, progress};

/// The target of the kernel and of our bare-metal guests.
pub(crate) const TARGET: &str = "x86_64-unknown-none";
/// The toolchain of `rust-toolchain.toml`.
const VERSION: &str = "1.95.0";

/// How code for [`TARGET`] is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CoreLibrary {
    /// The toolchain has `core` and `alloc` for the target.
    Installed,
    /// They are built from source with the program.
    FromSource,
}

impl CoreLibrary {
    /// Adds to a `cargo build` what this way of building needs.
    pub(crate) fn apply(self, cargo: &mut Command) {
        match self {
            CoreLibrary::Installed => {}
            CoreLibrary::FromSource => {
                cargo.env("RUSTC_BOOTSTRAP", "1").args([
                    "-Zbuild-std=core,alloc,compiler_builtins",
                    "-Zbuild-std-features=compiler-builtins-mem",
                ]);
            }
        }
    }
}

/// A part of the toolchain that can be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The standard library for [`TARGET`].
    Target,
    /// The standard library's source: the loader builds it for targets of its own.
    Source,
    /// `llvm-objcopy`, which the loader's build uses.
    LlvmTools,
    /// `cargo clippy`, for `cargo xtask lint`.
    Clippy,
    /// `cargo fmt`, for `cargo xtask lint`.
    Rustfmt,
}

impl Part {
    /// What rustup calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::Target => TARGET,
            Part::Source => "rust-src",
            Part::LlvmTools => "llvm-tools",
            Part::Clippy => "clippy",
            Part::Rustfmt => "rustfmt",
        }
    }

    /// Whether the toolchain at `sysroot` has it.
    pub(crate) fn is_present(self, sysroot: &Path) -> bool {
        match self {
            Part::Target => sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir(),
            Part::Source => sysroot.join("lib/rustlib/src/rust/library/Cargo.lock").is_file(),
            Part::LlvmTools => tools_directory(sysroot).join("llvm-objcopy").exists(),
            Part::Clippy => sysroot.join("bin/cargo-clippy").is_file(),
            Part::Rustfmt => sysroot.join("bin/cargo-fmt").is_file(),
        }
    }
}

/// The root of the toolchain in use.
pub(crate) fn sysroot() -> Result<PathBuf> {
    let text = capture(Command::new("rustc").args(["--print", "sysroot"]).current_dir(paths::root()))?;
    Ok(PathBuf::from(text.trim()))
}

/// Makes sure that the kernel can be built.
pub(crate) fn ensure_target() -> Result<CoreLibrary> {
    let sysroot = sysroot()?;
    if Part::Target.is_present(&sysroot) {
        return Ok(CoreLibrary::Installed);
    }
    match rustup_add(Part::Target) {
        Ok(()) if Part::Target.is_present(&sysroot) => Ok(CoreLibrary::Installed),
        Ok(()) => bail!("rustup added {TARGET}, but not to {}", sysroot.display()),
        Err(error) => {
            progress::note(format_args!("rustup cannot add {TARGET}: {error:#}"));
            ensure_part(Part::Source, &sysroot)?;
            progress::note("building the core library from Debian's source instead");
            Ok(CoreLibrary::FromSource)
        }
    }
}

/// Makes sure that the boot loader can be built.
pub(crate) fn ensure_loader_parts() -> Result<()> {
    let sysroot = sysroot()?;
    ensure_part(Part::Source, &sysroot)?;
    ensure_part(Part::LlvmTools, &sysroot)
}

/// Makes sure that the sources can be checked.
pub(crate) fn ensure_lint_parts() -> Result<()> {
    let sysroot = sysroot()?;
    ensure_part(Part::Clippy, &sysroot)?;
    ensure_part(Part::Rustfmt, &sysroot)
}

fn ensure_part(part: Part, sysroot: &Path) -> Result<()> {
    if part.is_present(sysroot) {
        return Ok(());
    }
    if let Err(error) = rustup_add(part) {
        progress::note(format_args!("rustup cannot add {}: {error:#}", part.name()));
        match part {
            Part::Source => link_debian_source(sysroot)?,
            Part::LlvmTools => link_debian_llvm(sysroot)?,
            Part::Target => bail!("the target has no Debian package; it is built from source"),
            Part::Clippy | Part::Rustfmt => {
                return Err(error.context(format!("`{}` of Rust {VERSION} is missing", part.name())));
            }
        }
    }
    if !part.is_present(sysroot) {
        bail!("{} was added, but is not in {}", part.name(), sysroot.display());
    }
    Ok(())
}

fn rustup_add(part: Part) -> Result<()> {
    if find_program("rustup").is_none() {
        bail!("there is no rustup");
    }
    progress::step(format_args!("adding {} with rustup", part.name()));
    let kind = match part {
        Part::Target => "target",
        Part::Source | Part::LlvmTools | Part::Clippy | Part::Rustfmt => "component",
    };
    run_quietly(Command::new("rustup").args([kind, "add", part.name()]).current_dir(paths::root()))
}

/// Debian's `rust-src` in the toolchain's version, linked to where the toolchain looks for its own.
fn link_debian_source(sysroot: &Path) -> Result<()> {
    let unpacked = paths::cache()?.join("debian").join(format!("rust-src-{VERSION}"));
    if !unpacked.is_dir() {
        progress::timed("downloading the standard library's source from Debian", || fetch_source(&unpacked))?;
    }
    let library = find_library(&unpacked).context("Debian's rust-src holds no standard library")?;
    let place = paths::created(sysroot.join("lib/rustlib/src/rust"))?;
    link(&library, &place.join("library"))
}

fn fetch_source(target: &Path) -> Result<()> {
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let line = format!("deb [signed-by={keyring}] {} trixie-backports main\n", debian::mirror()?);
    let apt = Apt::private("backports", &Sources::Only(line))?;
    let scratch = paths::created(target.with_extension("new"))?;
    apt.download(&format!("rust-src={VERSION}*"), &scratch)?;
    let archive = std::fs::read_dir(&scratch)?.next().context("apt downloaded nothing")??.path();
    let content = scratch.join("content");
    run_quietly(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&content))?;
    std::fs::rename(&content, target)?;
    std::fs::remove_dir_all(&scratch)?;
    Ok(())
}

/// The package keeps its files under a directory named after the version, and links to them.
fn find_library(unpacked: &Path) -> Option<PathBuf> {
    let sources = unpacked.join("usr/src");
    std::fs::read_dir(sources)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join("library")))
        .find(|library| library.join("Cargo.lock").is_file())
}

fn link_debian_llvm(sysroot: &Path) -> Result<()> {
    packages::ensure(&[Package::Llvm])?;
    let tools = paths::created(tools_directory(sysroot))?;
    for name in ["llvm-objcopy", "llvm-objdump"] {
        let program = find_program(name).with_context(|| format!("Debian's llvm has no {name}"))?;
        link(&program, &tools.join(name))?;
    }
    Ok(())
}

fn link(to: &Path, at: &Path) -> Result<()> {
    if at.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) {
        std::fs::remove_file(at)?;
    }
    std::os::unix::fs::symlink(to, at)
        .with_context(|| format!("cannot link {} to {}", at.display(), to.display()))
}

fn tools_directory(sysroot: &Path) -> PathBuf {
    sysroot.join("lib/rustlib").join(HOST).join("bin")
}

/// The only build machine that is supported: the guests and emulators are for it too.
const HOST: &str = "x86_64-unknown-linux-gnu";
