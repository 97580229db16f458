//! The same test guest on Linux KVM, in the same emulator.
//!
//! Debian's kernel boots natively in Bochs with an initial file system of busybox, KVM's modules, our runner
//! (`tests/bench/kvm-runner`) and the test guest. What differs from a plain boot, and why:
//! - `mitigations=off`, `lapic_timer_advance_ns=0` (no busy waiting before a timer's deadline): in KVM's favour.
//! - `enable_apicv=0`: Bochs 3.0 refuses the posted-interrupt descriptor where KVM puts it, and then KVM enters no guest.
//! - `tsc_early_khz`: Bochs' CPUID promises 3.5 GHz; its time stamp counter does 100 MHz.
//! - `nokaslr norandmaps clearcpuid=rdrand,rdseed`: Bochs seeds its random numbers with the time of day; without them every
//!   run executes the same instructions.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::emulation::{Emulation, UnknownMsrs};
use super::figures::Figures;
use super::grub_disk::{self, Recipe};
use crate::guests::cpio::{Entry, Writer};
use crate::process::find_program;
use crate::setup::debian;
use crate::{guests, hash, paths, progress};

const KERNEL_COMMAND_LINE: &str = "console=ttyS0 mitigations=off tsc_early_khz=100000 nokaslr norandmaps \
                                   clearcpuid=rdrand,rdseed";
/// Modules in the order in which they are loaded, with their parameters.
const MODULES: [(&str, &str, &str); 3] = [
    ("irqbypass", "virt/lib", ""),
    ("kvm", "arch/x86/kvm", "lapic_timer_advance_ns=0"),
    ("kvm-intel", "arch/x86/kvm", "enable_apicv=0"),
];
/// What the test guest says last.
const END: &str = "bench: done";
const MEMORY_MIB: u32 = 512;
const PATIENCE: Duration = Duration::from_secs(600);
const HOST_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Everything that the figures depend on, ready to boot.
pub(super) struct Kvm {
    disk: PathBuf,
    /// Where figures of this very disk are kept.
    cache: PathBuf,
}

/// Builds the disk.
pub(super) fn prepare() -> Result<Kvm> {
    let directory = paths::created(paths::build()?.join("bench"))?;
    let kernel = guests::ours("vmlinuz")?;
    let initramfs = initial_file_system()?;
    let recipe = Recipe {
        files: &[("vmlinuz", &kernel), ("initrd", &initramfs)],
        commands: &format!("linux /vmlinuz {KERNEL_COMMAND_LINE}\ninitrd /initrd"),
        loader: "linux",
    };
    let bytes = grub_disk::build(&recipe, &directory)?;
    let disk = directory.join("kvm.img");
    paths::write_whole(&disk, &bytes)?;
    let emulator = hash::of_file(&crate::setup::bochs::ensure()?.program)?;
    let key = hash::of_bytes(format!("{} {emulator} {MEMORY_MIB}", hash::of_bytes(&bytes)).as_bytes());
    let cache = paths::created(paths::cache()?.join("bench"))?.join(format!("kvm-{}.json", &key[..16]));
    Ok(Kvm { disk, cache })
}

impl Kvm {
    /// Figures of an earlier run of this very disk in this very emulator.
    pub(super) fn remembered(&self) -> Option<Figures> {
        Figures::from_json(&serde_json::from_str(&std::fs::read_to_string(&self.cache).ok()?).ok()?)
    }

    /// Boots the disk and measures; remembers the figures.
    pub(super) fn measure(&self) -> Result<Figures> {
        let text =
            progress::timed("KVM: booting Linux and the test guest in Bochs (about half a minute)", || {
                Emulation {
                    name: "bench-kvm",
                    disk: &self.disk,
                    memory_mib: MEMORY_MIB,
                    unknown_msrs: UnknownMsrs::Ignore,
                    patience: PATIENCE,
                }
                .run(|text| text.contains(END))
            })?;
        let figures = Figures::parse(&text).with_context(|| excerpt(&text))?;
        paths::write_whole(&self.cache, figures.to_json().to_string().as_bytes())?;
        Ok(figures)
    }
}

/// What the runner and the kernel said at the end.
fn excerpt(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    format!("the run on KVM ended with:\n{}", lines[lines.len().saturating_sub(15)..].join("\n"))
}

/// `/init` of the measuring Linux.
fn init_script() -> String {
    let mut script = String::from(
        "#!/bin/busybox sh\n\
         /bin/busybox mount -t devtmpfs none /dev\n\
         /bin/busybox mount -t proc none /proc\n",
    );
    for (module, _, parameters) in MODULES {
        script.push_str(&format!("/bin/busybox insmod /{module}.ko {parameters}\n"));
    }
    script.push_str("/kvm-runner /testkit test=bench\n/bin/busybox poweroff -f\n");
    script
}

fn initial_file_system() -> Result<Vec<u8>> {
    let busybox = std::fs::read(debian::unpacked("busybox-static")?.join("bin/busybox"))?;
    let modules = modules_directory()?;
    let runner = std::fs::read(build_runner()?)?;
    let testkit = guests::ours("testkit")?;
    let mut writer = Writer::default();
    for directory in ["bin", "dev", "proc", "sys"] {
        writer.add(directory, &Entry::Directory);
    }
    writer.add("dev/console", &Entry::CharacterDevice { major: 5, minor: 1 });
    writer.add("bin/busybox", &Entry::Program(&busybox));
    writer.add("init", &Entry::Program(init_script().as_bytes()));
    writer.add("kvm-runner", &Entry::Program(&runner));
    writer.add("testkit", &Entry::File(&testkit));
    for (module, place, _) in MODULES {
        let path = modules.join("kernel").join(place).join(format!("{module}.ko"));
        let content = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        writer.add(&format!("{module}.ko"), &Entry::File(&content));
    }
    Ok(writer.finish())
}

/// `lib/modules/VERSION` of the kernel that the guests use.
fn modules_directory() -> Result<PathBuf> {
    let memory = paths::cache()?.join("debian/linux-image-cloud-amd64.resolved");
    let package =
        std::fs::read_to_string(&memory).with_context(|| format!("cannot read {}", memory.display()))?;
    let parent = debian::unpacked(package.trim())?.join("lib/modules");
    for entry in std::fs::read_dir(&parent).with_context(|| format!("cannot read {}", parent.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            return Ok(path);
        }
    }
    bail!("{} holds no modules", parent.display())
}

/// Builds `tests/bench/kvm-runner`, statically linked, in a directory of its own.
fn build_runner() -> Result<PathBuf> {
    let source = paths::root().join("tests/bench/kvm-runner");
    let target = paths::build()?.join("kvm-runner");
    progress::step("building kvm-runner");
    if find_program("cc").is_none() {
        progress::note("no C compiler `cc` is installed: Rust needs one for linking");
    }
    let status = Command::new("cargo")
        .current_dir(&source)
        .args(["build", "--quiet", "--release", "--locked", "--target", HOST_TARGET, "--target-dir"])
        .arg(&target)
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .stdin(Stdio::null())
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("building kvm-runner failed");
    }
    Ok(target.join(HOST_TARGET).join("release/kvm-runner"))
}

impl Figures {
    /// Reads what [`Figures::to_json`] wrote.
    fn from_json(value: &Value) -> Option<Self> {
        let mut text = String::new();
        for (name, instructions) in value.as_object()? {
            text.push_str(&format!("bench: {name} {}\n", instructions.as_u64()?));
        }
        text.push_str("bench: done\n");
        Self::parse(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembered_figures_are_the_measured_ones() {
        let figures = Figures::parse("bench: a 1\nbench: b 22\nbench: done\n").expect("complete");
        assert_eq!(Figures::from_json(&figures.to_json()), Some(figures));
        assert_eq!(Figures::from_json(&serde_json::json!({ "a": "text" })), None);
    }

    #[test]
    fn modules_are_loaded_before_the_guest_runs() {
        let script = init_script();
        let place = |text: &str| script.find(text).expect(text);
        assert!(place("insmod /irqbypass.ko") < place("insmod /kvm.ko lapic_timer_advance_ns=0"));
        assert!(place("insmod /kvm-intel.ko enable_apicv=0") < place("/kvm-runner /testkit test=bench"));
    }
}
