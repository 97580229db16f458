//! System packages: found by the file they bring, installed with apt as root, otherwise named in one exact command.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{find_program, run_visibly};
use crate::progress;

/// A Debian package that some command of ours needs installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Package {
    /// The C++ compiler, to build Bochs.
    Gxx,
    /// To build Bochs.
    Make,
    /// To unpack the Bochs source.
    XzUtils,
    /// The packaged, slower Bochs.
    Bochs,
    /// QEMU for x86.
    QemuSystemX86,
    /// UEFI firmware for QEMU.
    Ovmf,
    /// LLVM tools, when rustup cannot provide them.
    Llvm,
    /// GRUB for BIOS, to boot what is measured against.
    GrubPcBin,
}

impl Package {
    /// Its name in Debian.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Package::Gxx => "g++",
            Package::Make => "make",
            Package::XzUtils => "xz-utils",
            Package::Bochs => "bochs",
            Package::QemuSystemX86 => "qemu-system-x86",
            Package::Ovmf => "ovmf",
            Package::Llvm => "llvm",
            Package::GrubPcBin => "grub-pc-bin",
        }
    }

    /// Whether what it brings is there, installed from a package or otherwise.
    pub(crate) fn is_present(self) -> bool {
        match self {
            Package::Gxx => find_program("g++").is_some(),
            Package::Make => find_program("make").is_some(),
            Package::XzUtils => find_program("xz").is_some(),
            Package::Bochs => find_program("bochs").is_some(),
            Package::QemuSystemX86 => find_program("qemu-system-x86_64").is_some(),
            Package::Ovmf => crate::machine::qemu::ovmf_code().is_some(),
            Package::Llvm => find_program("llvm-objcopy").is_some(),
            Package::GrubPcBin => {
                find_program("grub-mkimage").is_some() && std::path::Path::new(GRUB_MODULES).is_dir()
            }
        }
    }
}

/// Where `grub-pc-bin` puts GRUB's parts.
pub(crate) const GRUB_MODULES: &str = "/usr/lib/grub/i386-pc";

/// Packages are missing, and only root could install them.
#[derive(Debug)]
pub(crate) struct Missing {
    /// Names of the packages, separated by blanks.
    pub(crate) names: String,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "missing packages; run this, then try again:\n    sudo apt-get install --no-install-recommends {}",
            self.names
        )
    }
}

impl std::error::Error for Missing {}

/// Installs those of `wanted` that are missing.
///
/// # Errors
/// Without root the error is the exact command to run; as root, apt's own failure.
pub(crate) fn ensure(wanted: &[Package]) -> Result<()> {
    let missing: Vec<&str> = wanted.iter().filter(|p| !p.is_present()).map(|p| p.name()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !rustix::process::geteuid().is_root() {
        return Err(Missing { names: list }.into());
    }
    progress::step(format_args!("installing {list}"));
    if install(&missing).is_err() {
        // A fresh system may have no package lists yet, or stale ones.
        progress::note("trying again with fresh package lists");
        run_visibly(Command::new("apt-get").args(["update", "-qq"]))?;
        install(&missing)?;
    }
    let still: Vec<&str> = wanted.iter().filter(|p| !p.is_present()).map(|p| p.name()).collect();
    if !still.is_empty() {
        bail!("apt installed {list}, but what they should bring is still missing: {}", still.join(" "));
    }
    Ok(())
}

fn install(names: &[&str]) -> Result<()> {
    crate::process::run_quietly(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(names),
    )
}
