//! The test guest and a Linux boot on Craton.

use std::time::Duration;

use anyhow::{Context, Result};

use super::boot_stats::BootStats;
use super::emulation::{Apic, Emulation, Processors, UnknownMsrs, Unmodelled};
use super::exits::{self, Program};
use super::figures::Figures;
use super::report::Report;
use super::several;
use crate::guests::exec::{self, Marks};
use crate::image::archive::{Archive, CONFIGURATION};
use crate::{guests, image, paths, progress};

const MEMORY_MIB: u32 = 1024;
const PATIENCE: Duration = Duration::from_secs(900);
/// Name of the measuring guest.
const TESTKIT: &str = "testkit";
/// Name of the Linux guest in `guest-images/craton.toml`.
const LINUX: &str = "linux";
const ONE: Processors = Processors { count: 1, apic: Apic::Virtualized };

/// The guest's command line. What is measured in xAPIC mode comes before what is measured in x2APIC mode.
pub(super) const BENCH: &str = "test=bench-xapic,bench";

/// How many processors are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// One.
    One,
    /// One, and what two do together.
    Two,
}

/// The measuring guest's configuration.
fn configuration(vcpus: u32, command_line: &str) -> String {
    format!(
        "[[vm]]\nname = \"{TESTKIT}\"\nmemory_mib = 64\nvcpus = {vcpus}\nkernel = \"testkit\"\nboot = \"pvh\"\n\
         cmdline = \"{command_line}\"\nautostart = true\nconsole = true\nrestart = \"never\"\n\
         test_devices = true\n"
    )
}

/// Measures with the test guest.
pub(super) fn measure(extent: Extent) -> Result<Report> {
    let text = run(ONE, 1, BENCH, "Craton: booting with the test guest in Bochs")?;
    let mut report =
        Report { one: Figures::parse(&text).with_context(|| excerpt(&text))?, ..Report::default() };
    if extent == Extent::One {
        return Ok(report);
    }
    let text = run(ONE, 2, "test=switches", "Craton: two virtual processors on one")?;
    report.one.extend(Figures::lines(&text));
    let two = Processors { count: several::PROCESSORS, ..ONE };
    let text = run(two, several::PROCESSORS, BENCH, "Craton: the same with two processors")?;
    report.two = several::work(&Figures::parse(&text).with_context(|| excerpt(&text))?);
    for apic in [Apic::Virtualized, Apic::Plain] {
        for program in exits::PROGRAMS {
            report.exits.push(&program.figure(apic), exits_per_event(program, apic)?);
        }
    }
    Ok(report)
}

/// Hundredths of an exit per event of `program`.
fn exits_per_event(program: Program, apic: Apic) -> Result<u64> {
    let processors = Processors { count: several::PROCESSORS, apic };
    let account = |events| {
        let what = format!("Craton: {events} times {}", program.figure(apic));
        let text = run(processors, program.cpus, &program.command_line(events), &what)?;
        BootStats::parse(&text, TESTKIT).with_context(|| excerpt(&text))
    };
    let [few, many] = exits::RUNS.map(account);
    let runs = [few?, many?];
    for (reason, hundredths) in exits::by_reason(&runs).iter() {
        progress::note(format_args!("{}.{:02} {reason}", hundredths / 100, hundredths % 100));
    }
    exits::per_event([runs[0].exits, runs[1].exits])
}

/// Boots Linux to `/init`, powers it off, and reads the hypervisor's account.
pub(super) fn boot_linux() -> Result<BootStats> {
    let mut archive = guests::pack(None)?;
    exec::add(&mut archive, &Marks::new(), "poweroff -f")?;
    let text = boot("bench-linux", ONE, &archive, LINUX, "Craton: booting Linux in Bochs (minutes)")?;
    BootStats::parse(&text, LINUX).with_context(|| excerpt(&text))
}

/// Runs the test guest with `vcpus` virtual processors to its end.
fn run(processors: Processors, vcpus: u32, command_line: &str, what: &str) -> Result<String> {
    let mut archive = Archive::default();
    archive.add("testkit", guests::ours("testkit")?);
    archive.add(CONFIGURATION, configuration(vcpus, command_line).into());
    boot("bench-craton", processors, &archive, TESTKIT, what)
}

/// Boots `archive` until virtual machine `vm` has stopped.
fn boot(name: &str, processors: Processors, archive: &Archive, vm: &str, what: &str) -> Result<String> {
    let directory = paths::created(paths::build()?.join("bench").join(name))?;
    let images = image::build_unannounced(&archive.to_tar()?, &directory)?;
    let end = format!("vm {vm}: stats: ");
    let emulation = Emulation {
        name,
        disk: &images.bios,
        memory_mib: MEMORY_MIB,
        unknown_msrs: UnknownMsrs::Fault,
        unmodelled: Unmodelled::End,
        patience: PATIENCE,
    };
    progress::timed(what, || emulation.run_on(processors, |text| has_ended(text, &end)))
}

/// Whether `text` has `mark`, or a sign that it will not come.
fn has_ended(text: &str, mark: &str) -> bool {
    const GIVING_UP: [&str; 2] = ["cannot start", "craton: halted"];
    text.contains(mark) || GIVING_UP.iter().any(|sign| text.contains(sign))
}

/// The end of what the machine said.
fn excerpt(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    format!("the run on Craton ended with:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
}
