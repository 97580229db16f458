//! Kernels out of Debian packages, unmodified.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::single;
use crate::paths;
use crate::setup::debian;

/// A kernel in the newest of the packages that another one depends on, or in that package itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packaged {
    /// The package whose name stays the same.
    package: &'static str,
    /// How the name begins of the package that it depends on and that holds the kernel.
    dependency: Option<&'static str>,
    /// How the name of the file in `/boot` begins.
    file: &'static str,
    /// How it ends.
    ending: &'static str,
}

/// The Linux kernel for virtual machines.
pub(super) const CLOUD_KERNEL: Packaged = Packaged {
    package: "linux-image-cloud-amd64",
    dependency: Some("linux-image-"),
    file: "vmlinuz-",
    ending: "",
};
/// GNU Mach, the Hurd's microkernel.
pub(super) const GNU_MACH: Packaged = Packaged {
    package: "gnumach-image-1-486",
    dependency: Some("gnumach-image-"),
    file: "gnumach-",
    ending: ".gz",
};
/// Xen.
pub(super) const XEN: Packaged =
    Packaged { package: "xen-hypervisor-4.17-amd64", dependency: None, file: "xen-", ending: ".gz" };

impl Packaged {
    /// The kernel, unpacked if it is packed by gzip. Downloads it at the first call.
    pub(super) fn content(self) -> Result<Vec<u8>> {
        single::unpacked(&self.path()?)
    }

    /// Where the kernel is; downloads it at the first call and remembers its version.
    fn path(self) -> Result<PathBuf> {
        let boot = self.directory()?.join("boot");
        for entry in std::fs::read_dir(&boot).with_context(|| format!("cannot read {}", boot.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(self.file) && name.ends_with(self.ending) {
                return Ok(path);
            }
        }
        bail!("Debian package {} holds no kernel", self.package)
    }

    /// The unpacked content of the package that holds the kernel.
    fn directory(self) -> Result<PathBuf> {
        let Some(dependency) = self.dependency else { return debian::unpacked(self.package) };
        let memory = paths::cache()?.join("debian").join(format!("{}.resolved", self.package));
        let name = match std::fs::read_to_string(&memory) {
            Ok(name) if debian::cached(name.trim())?.is_dir() => name.trim().to_owned(),
            Ok(_) | Err(_) => {
                let name = debian::dependencies(self.package)?
                    .into_iter()
                    .find(|name| name.starts_with(dependency))
                    .with_context(|| format!("{} depends on no kernel", self.package))?;
                debian::unpacked(&name)?;
                paths::write_whole(&memory, name.as_bytes())?;
                name
            }
        };
        debian::cached(&name)
    }
}
