//! The same test guest on Linux KVM, in the same emulator.
//!
//! Debian's kernel boots natively in Bochs with an initial file system of busybox, KVM's modules, our runner
//! (`tests/bench/kvm-runner`) and the test guest. What differs from a plain boot, and why:
//! - `mitigations=off`, `lapic_timer_advance_ns=0` (no busy waiting before a timer's deadline): in KVM's favour.
//! - `enable_apicv` 1 and, for a part of the figures, 0: with and without the processor's help with the local APIC.
//! - `tsc_early_khz`: Bochs' CPUID promises 3.5 GHz; its time stamp counter does 100 MHz.
//! - `nokaslr norandmaps clearcpuid=rdrand,rdseed`: Bochs seeds its random numbers with the time of day; without them every
//!   run executes the same instructions.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::craton;
use super::emulation::{Apic, Emulation, Processors, UnknownMsrs, Unmodelled};
use super::exits::{self, Program};
use super::figures::Figures;
use super::grub_disk::{self, Recipe};
use super::report::Report;
use super::several;
use crate::guests::cpio::{Entry, Writer};
use crate::process::find_program;
use crate::setup::debian;
use crate::{guests, hash, paths, progress};

const KERNEL_COMMAND_LINE: &str = "console=ttyS0 mitigations=off tsc_early_khz=100000 nokaslr norandmaps \
                                   clearcpuid=rdrand,rdseed";
/// Modules in the order in which they are loaded, with their places and parameters.
const MODULES: [(&str, &str, &str); 2] =
    [("irqbypass", "virt/lib", ""), ("kvm", "arch/x86/kvm", "lapic_timer_advance_ns=0")];
/// The last module, whose parameter says whether the local APIC is left to the processor.
const VENDOR_MODULE: &str = "kvm-intel";
const VENDOR: (&str, &str) = (VENDOR_MODULE, "arch/x86/kvm");
const MEMORY_MIB: u32 = 512;
const PATIENCE: Duration = Duration::from_secs(900);
const HOST_TARGET: &str = "x86_64-unknown-linux-gnu";
/// What `/init` prints before each run of the guest, and at the end.
const SECTION: &str = "section: ";
const END: &str = "section: end";
/// The sections of the machine with one processor.
const BENCH: &str = "bench";
const SWITCHES: &str = "switches";

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
    pub(super) fn remembered(&self) -> Option<Report> {
        Report::from_json(&serde_json::from_str(&std::fs::read_to_string(&self.cache).ok()?).ok()?)
    }

    /// Boots the disk and measures; remembers the figures.
    pub(super) fn measure(&self) -> Result<Report> {
        let text = self.boot(1, "KVM: booting Linux and the test guest in Bochs (about a minute)")?;
        let one = one_processor(&text).with_context(|| excerpt(&text))?;
        let text = self.boot(
            several::PROCESSORS,
            "KVM: the same with two processors (minutes: their idle time is slow)",
        )?;
        let (two, exits) = two_processors(&text).with_context(|| excerpt(&text))?;
        let report = Report { one, two, exits };
        paths::write_whole(&self.cache, report.to_json().to_string().as_bytes())?;
        Ok(report)
    }

    fn boot(&self, processors: u32, what: &str) -> Result<String> {
        let name = format!("bench-kvm-{processors}");
        let emulation = Emulation {
            name: &name,
            disk: &self.disk,
            memory_mib: MEMORY_MIB,
            unknown_msrs: UnknownMsrs::Ignore,
            unmodelled: Unmodelled::End,
            patience: PATIENCE,
        };
        let processors = Processors { count: processors, apic: Apic::Virtualized };
        progress::timed(what, || emulation.run_on(processors, |text| text.contains(END)))
    }
}

/// What the runner and the kernel said at the end.
fn excerpt(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    format!("the run on KVM ended with:\n{}", lines[lines.len().saturating_sub(15)..].join("\n"))
}

/// What was printed in section `name`.
fn section<'a>(text: &'a str, name: &str) -> Result<&'a str> {
    let mark = format!("{SECTION}{name}\r\n");
    let (_, rest) = text.split_once(&mark).with_context(|| format!("no section {name}"))?;
    Ok(rest.split_once(SECTION).map_or(rest, |(body, _)| body))
}

/// Instructions on one processor.
fn one_processor(text: &str) -> Result<Figures> {
    let mut figures = Figures::parse(section(text, BENCH)?)?;
    figures.extend(Figures::lines(section(text, SWITCHES)?));
    Ok(figures)
}

/// Instructions on two processors, and exits per event.
fn two_processors(text: &str) -> Result<(Figures, Figures)> {
    let mut exits = Figures::default();
    for apic in [Apic::Virtualized, Apic::Plain] {
        for program in exits::PROGRAMS {
            let counts =
                exits::RUNS.map(|events| exit_count(section(text, &events_section(apic, program, events))?));
            if let [Ok(few), Ok(many)] = counts {
                exits.push(&program.figure(apic), exits::per_event([few, many])?);
            }
        }
    }
    let figures = Figures::parse(section(text, BENCH)?)?;
    Ok((several::work(&figures), exits))
}

fn exit_count(body: &str) -> Result<u64> {
    let (_, rest) = body.split_once("kvm: exits ").context("KVM's counter of exits is not there")?;
    rest.split_whitespace().next().unwrap_or_default().parse().context("KVM's counter of exits")
}

fn events_section(apic: Apic, program: Program, events: u64) -> String {
    format!("{} {events}", program.figure(apic))
}

/// `/init` of the measuring Linux. It goes by the number of processors.
fn init_script() -> String {
    let mut script = String::from(
        "#!/bin/busybox sh\n\
         alias insmod='/bin/busybox insmod' rmmod='/bin/busybox rmmod' mount='/bin/busybox mount'\n\
         mount -t devtmpfs none /dev\n\
         mount -t proc none /proc\n\
         mount -t sysfs none /sys\n\
         mount -t debugfs none /sys/kernel/debug\n\
         echo 1 > /proc/sys/kernel/printk\n",
    );
    for (module, _, parameters) in MODULES {
        script.push_str(&format!("insmod /{module}.ko {parameters}\n"));
    }
    let run = |section: &str, cpus: u32, command_line: &str| {
        format!("echo '{SECTION}{section}'\n/kvm-runner --cpus {cpus} /testkit {command_line}\n")
    };
    script.push_str(&format!("insmod /{VENDOR_MODULE}.ko {}\n", apic_parameter(Apic::Virtualized)));
    script.push_str("if [ $(/bin/busybox nproc) = 1 ]; then\n");
    script.push_str(&run(BENCH, 1, craton::BENCH));
    script.push_str(&run(SWITCHES, 2, "test=switches"));
    script.push_str("else\n");
    script.push_str(&run(BENCH, several::PROCESSORS, craton::BENCH));
    for apic in [Apic::Virtualized, Apic::Plain] {
        if apic == Apic::Plain {
            script.push_str(&format!(
                "rmmod {VENDOR_MODULE}\ninsmod /{VENDOR_MODULE}.ko {}\n",
                apic_parameter(apic)
            ));
        }
        for program in exits::PROGRAMS {
            for events in exits::RUNS {
                script.push_str(&run(
                    &events_section(apic, program, events),
                    program.cpus,
                    &program.command_line(events),
                ));
            }
        }
    }
    script.push_str(&format!("fi\necho '{END}'\n/bin/busybox sleep 2\n/bin/busybox poweroff -f\n"));
    script
}

fn apic_parameter(apic: Apic) -> &'static str {
    match apic {
        Apic::Virtualized => "enable_apicv=1",
        Apic::Plain => "enable_apicv=0",
    }
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
    for (module, place) in MODULES.map(|(module, place, _)| (module, place)).into_iter().chain([VENDOR]) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_loaded_before_the_guest_runs() {
        let script = init_script();
        let place = |text: &str| script.find(text).expect(text);
        assert!(place("insmod /irqbypass.ko") < place("insmod /kvm.ko lapic_timer_advance_ns=0"));
        assert!(
            place("insmod /kvm-intel.ko enable_apicv=1")
                < place("/kvm-runner --cpus 1 /testkit test=bench-xapic,bench")
        );
        assert!(
            place("insmod /kvm-intel.ko enable_apicv=0") < place("section: exits-timer-tick-no-apicv 500")
        );
    }

    #[test]
    fn sections_are_told_apart() {
        let text = "boot\r\nsection: bench\r\nbench: a 1\r\nbench: done\r\nsection: switches\r\n\
                    bench: switch 4800\r\nsection: end\r\n";
        let figures = one_processor(text).expect("complete");
        assert_eq!(figures.iter().collect::<Vec<_>>(), [("a", 1), ("switch", 4_800)]);
    }

    #[test]
    fn exits_are_the_difference_of_two_runs() {
        let mut text = String::from(
            "section: bench\r\nbench: ipi-wake 100\r\nbench: ipi-wake-waiting 50\r\nbench: done\r\n",
        );
        for apic in [Apic::Virtualized, Apic::Plain] {
            for program in exits::PROGRAMS {
                for events in exits::RUNS {
                    let section = events_section(apic, program, events);
                    text.push_str(&format!("section: {section}\r\nkvm: exits {}\r\n", 77 + 2 * events));
                }
            }
        }
        text.push_str("section: end\r\n");
        let (two, exits) = two_processors(&text).expect("complete");
        assert_eq!(two.get("ipi-wake"), Some(150));
        assert_eq!(exits.get("exits-ipi-no-apicv"), Some(200));
    }
}
