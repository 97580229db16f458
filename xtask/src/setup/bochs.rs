//! The Bochs emulator: version 3.0, built once into the user's cache from Debian's source archive.
//!
//! Debian 12 packages 2.7 with its debugger compiled in, which runs the same guest at a third of the speed and has
//! no posted interrupts. It is the fallback.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Package, debian, packages};
use crate::process::{find_program, run_quietly};
use crate::{hash, paths, progress};

/// SHA-256 of the source archive, as Debian publishes it.
const SOURCE_SHA256: &str = "78f6c73d4a6472d5130a87ab9dc306d02c7c71ed8e25b3a8ef642e2a7acd282b";
/// The archive's place on a Debian mirror.
const SOURCE_PATH: &str = "pool/main/b/bochs/bochs_3.0+dfsg.orig.tar.xz";
/// Names a local copy of the archive, for machines whose mirror does not offer it.
const SOURCE_VARIABLE: &str = "CRATON_BOCHS_SOURCE";
/// The idle hack does not compile without X11.
const CONFIGURE: [&str; 19] = [
    "--with-nogui",
    "--enable-smp",
    "--enable-cpu-level=6",
    "--enable-x86-64",
    "--enable-vmx=2",
    "--enable-svm",
    "--enable-avx",
    "--enable-evex",
    "--enable-pci",
    "--enable-e1000",
    "--enable-memtype",
    "--enable-all-optimizations",
    "--enable-repeat-speedups",
    "--enable-long-phy-address",
    "--enable-a20-pin",
    "--enable-usb",
    "--enable-usb-xhci",
    "--disable-docbook",
    "--disable-idle-hack",
];

/// Where a build of 3.0 with [`MENDS`] is in the cache; an older one without them is left alone.
const DIRECTORY: &str = "bochs-3.0-4";

/// A change to a file of the emulator's source.
struct Mend {
    file: &'static str,
    before: &'static str,
    after: &'static str,
}

/// What Bochs 3.0 has wrong where it matters here.
const MENDS: [Mend; 6] = [
    // With several processors RIP is not committed when an exception or a VM exit has come back to the main loop by
    // longjmp; with one it is. A VM exit right behind the delivery of an exception (the preemption timer's) then saves
    // the address of the instruction that faulted, with everything else already in the handler's state. The guest program
    // `exceptions-under-timer` shows it.
    Mend {
        file: "cpu/cpu.cc",
        before: "void BX_CPU_C::cpu_run_trace(void)\n{\n",
        after: "void BX_CPU_C::cpu_run_trace(void)\n{\n  BX_CPU_THIS_PTR prev_rip = RIP;\n  \
                BX_CPU_THIS_PTR speculative_rsp = false;\n",
    },
    // A posted-interrupt notification that finds no request, because software took them all, requests vector 255. The
    // guest program `bench` shows it on two processors.
    Mend {
        file: "cpu/vapic.cc",
        before: "  vector = BX_CPU_THIS_PTR lapic->highest_priority_int(virr);\n  \
                 if (vector >= vm->rvi) vm->rvi = vector;\n",
        after: "  int highest = BX_CPU_THIS_PTR lapic->highest_priority_int(virr);\n  \
                if (highest >= (int) vm->rvi) vm->rvi = (Bit8u) highest;\n",
    },
    // A host interrupt that arrives while a virtual one waits for the guest's interrupt flag delivers the virtual one
    // in spite of the flag.
    Mend {
        file: "cpu/event.cc",
        before: "    if (is_pending(BX_EVENT_PENDING_VMX_VIRTUAL_INTR)) {\n",
        after: "    if (is_unmasked_event_pending(BX_EVENT_PENDING_VMX_VIRTUAL_INTR)) {\n",
    },
    // Which interrupts are masked is computed before the processor counts as in a guest: a guest that is entered with its
    // interrupt flag clear does not exit for the host's interrupts.
    Mend {
        file: "cpu/vmx.cc",
        before: "  BX_CPU_THIS_PTR in_vmx_guest = true;\n",
        after: "  BX_CPU_THIS_PTR in_vmx_guest = true;\n  handleInterruptMaskChange();\n",
    },
    // The trace of an instruction that lies across two pages is kept by the second page, too. When fetching from that page
    // faults, the trace counts as empty for lookups and not for that list: the next write to the page puts an end-of-trace
    // mark where meanwhile another trace begins, which is then executed for ever without moving RIP. Seen once, in a
    // long run of the guest program `emulate-modes`.
    Mend {
        file: "cpu/icache.cc",
        before: "      entry->pAddr = ~entry->pAddr;\n      entry->tlen = 1;\n      \
                 boundaryFetch(fetchPtr, remainingInPage, i);\n\n      \
                 // Add the instruction to trace cache\n      entry->pAddr = ~entry->pAddr;\n",
        after: "      entry->pAddr = BX_ICACHE_INVALID_PHY_ADDRESS;\n      entry->tlen = 1;\n      \
                boundaryFetch(fetchPtr, remainingInPage, i);\n\n      \
                // Add the instruction to trace cache\n      entry->pAddr = pAddr;\n",
    },
    // The posted-interrupt descriptor has to be aligned to 64 bytes, not to a page: KVM's is.
    Mend {
        file: "cpu/vmx.cc",
        before: "      if (! IsValidPageAlignedPhyAddr(vm->pid_addr)) {\n",
        after: "      if ((vm->pid_addr & 0x3f) != 0 || ! IsValidPhyAddr(vm->pid_addr)) {\n",
    },
];

impl Mend {
    fn apply(&self, tree: &Path) -> Result<()> {
        let path = tree.join(self.file);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mended = self.applied(&text).with_context(|| path.display().to_string())?;
        std::fs::write(&path, mended).with_context(|| path.display().to_string())
    }

    /// `text` with the change.
    fn applied(&self, text: &str) -> Result<String> {
        let places = text.matches(self.before).count();
        if places != 1 {
            bail!("there are {places} places for a change that belongs to one");
        }
        Ok(text.replace(self.before, self.after))
    }
}

/// Which Bochs it is: they want different configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Our build of 3.0: no debugger, display `nogui`.
    Fast,
    /// Debian's 2.7: debugger, display `rfb`, sound that must be turned off.
    Packaged,
}

/// An installed Bochs with the firmware it boots.
#[derive(Clone, Debug)]
pub(crate) struct Bochs {
    /// The program.
    pub(crate) program: PathBuf,
    /// Which one it is.
    pub(crate) flavour: Flavour,
    /// System BIOS image.
    pub(crate) bios: PathBuf,
    /// Video BIOS image.
    pub(crate) vga_bios: PathBuf,
}

/// The fast Bochs' program in the cache, if it was built.
pub(crate) fn fast_program() -> Option<PathBuf> {
    let program = paths::cache_location().ok()?.join(DIRECTORY).join("install/bin/bochs");
    program.is_file().then_some(program)
}

/// Finds or makes a Bochs: the fast one if there is a way, else the packaged one.
pub(crate) fn ensure() -> Result<Bochs> {
    let (program, flavour) = match fast_program() {
        Some(program) => (program, Flavour::Fast),
        None => match build() {
            Ok(program) => (program, Flavour::Fast),
            Err(error) if error.is::<packages::Missing>() && !Package::Bochs.is_present() => {
                return Err(error);
            }
            Err(error) => {
                progress::note(format_args!("the fast Bochs 3.0 cannot be built: {error:#}"));
                packages::ensure(&[Package::Bochs])?;
                progress::note("using the packaged Bochs: it is about three times slower");
                (find_program("bochs").context("bochs vanished")?, Flavour::Packaged)
            }
        },
    };
    Ok(Bochs {
        program,
        flavour,
        bios: firmware("bochsbios", "usr/share/bochs/BIOS-bochs-latest")?,
        vga_bios: firmware("vgabios", "usr/share/vgabios/vgabios.bin")?,
    })
}

/// A firmware file: the installed one, or the one from an unpacked package.
fn firmware(package: &str, file: &str) -> Result<PathBuf> {
    let installed = Path::new("/").join(file);
    if installed.is_file() {
        return Ok(installed);
    }
    let unpacked = debian::unpacked(package)?.join(file);
    if !unpacked.is_file() {
        bail!("Debian package {package} has no /{file}");
    }
    Ok(unpacked)
}

fn build() -> Result<PathBuf> {
    packages::ensure(&[Package::Gxx, Package::Make, Package::XzUtils])?;
    let base = paths::created(paths::cache()?.join(DIRECTORY))?;
    let archive = source_archive(&base)?;
    let source = base.join("src");
    if source.exists() {
        // Left by an interrupted build.
        std::fs::remove_dir_all(&source)?;
    }
    paths::created(source.clone())?;
    run_quietly(Command::new("tar").arg("-xJf").arg(&archive).arg("-C").arg(&source))?;
    let tree = only_directory(&source)?;
    for mend in &MENDS {
        mend.apply(&tree)?;
    }
    let install = base.join("install");
    progress::timed("configuring Bochs 3.0", || {
        let prefix = format!("--prefix={}", install.display());
        run_quietly(Command::new("./configure").arg(prefix).args(CONFIGURE).current_dir(&tree))
    })?;
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    progress::timed("building Bochs 3.0 (once; about 5 minutes on 2 cores)", || {
        run_quietly(Command::new("make").arg(format!("-j{jobs}")).current_dir(&tree))
    })?;
    // `make install` stops at BIOS images that Debian's archive leaves out. The program is all we need of it.
    let program = paths::created(install.join("bin"))?.join("bochs");
    let partial = program.with_extension("new");
    std::fs::copy(tree.join("bochs"), &partial).context("the build left no program")?;
    std::fs::rename(&partial, &program)?;
    std::fs::remove_dir_all(&source)?;
    Ok(program)
}

fn source_archive(base: &Path) -> Result<PathBuf> {
    if let Some(local) = std::env::var_os(SOURCE_VARIABLE).map(PathBuf::from) {
        let found = hash::of_file(&local).with_context(|| format!("{SOURCE_VARIABLE} is set"))?;
        if found != SOURCE_SHA256 {
            bail!("{SOURCE_VARIABLE}={}: SHA-256 is {found}, not {SOURCE_SHA256}", local.display());
        }
        return Ok(local);
    }
    let archive = base.join("bochs-3.0.tar.xz");
    if archive.is_file() && hash::of_file(&archive)? == SOURCE_SHA256 {
        return Ok(archive);
    }
    progress::timed("downloading the source of Bochs 3.0", || {
        debian::download(SOURCE_PATH, &archive, SOURCE_SHA256).with_context(|| {
            format!("set {SOURCE_VARIABLE} to a local copy of the archive if the mirror refuses it")
        })
    })?;
    let found = hash::of_file(&archive)?;
    if found != SOURCE_SHA256 {
        bail!("the downloaded archive's SHA-256 is {found}, not {SOURCE_SHA256}");
    }
    Ok(archive)
}

fn only_directory(parent: &Path) -> Result<PathBuf> {
    for entry in std::fs::read_dir(parent)? {
        let path = entry?.path();
        if path.is_dir() {
            return Ok(path);
        }
    }
    bail!("the source archive holds no directory")
}

#[cfg(test)]
mod tests {
    use super::MENDS;

    #[test]
    fn a_mend_needs_its_one_place() {
        for mend in &MENDS {
            let source = format!("// before\n{}  // behind\n}}\n", mend.before);
            let mended = mend.applied(&source).unwrap();
            assert!(mended.contains(mend.after));
            assert!(mended.ends_with("  // behind\n}\n"));
            assert!(mend.applied("another version").is_err());
            assert!(mend.applied(&source.repeat(2)).is_err());
        }
    }
}
