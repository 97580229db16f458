//! The test guest and a Linux boot on Craton.

use std::time::Duration;

use anyhow::{Context, Result};

use super::boot_stats::BootStats;
use super::emulation::{Emulation, UnknownMsrs};
use super::figures::Figures;
use crate::guests::exec::{self, Marks};
use crate::image::archive::{Archive, CONFIGURATION};
use crate::{guests, image, paths, progress};

const MEMORY_MIB: u32 = 1024;
const PATIENCE: Duration = Duration::from_secs(900);

/// The measuring guest's configuration.
const TESTKIT: &str = r#"[[vm]]
name = "testkit"
memory_mib = 64
vcpus = 1
kernel = "testkit"
boot = "pvh"
cmdline = "test=bench"
autostart = true
console = true
restart = "never"
"#;

/// Name of the Linux guest in `guest-images/craton.toml`.
const LINUX: &str = "linux";

/// Measures with the test guest.
pub(super) fn measure() -> Result<Figures> {
    let mut archive = Archive::default();
    archive.add("testkit", guests::ours("testkit")?);
    archive.add(CONFIGURATION, TESTKIT.into());
    let text = run("bench-craton", &archive, "Craton: booting with the test guest in Bochs", |text| {
        has_ended(text, "bench: done")
    })?;
    Figures::parse(&text).with_context(|| excerpt(&text))
}

/// Boots Linux to `/init`, powers it off, and reads the hypervisor's account.
pub(super) fn boot_linux() -> Result<BootStats> {
    let mut archive = guests::pack(None)?;
    exec::add(&mut archive, &Marks::new(), "poweroff -f")?;
    let end = format!("vm {LINUX}: stats: ");
    let text = run("bench-linux", &archive, "Craton: booting Linux in Bochs (minutes)", |text| {
        has_ended(text, &end)
    })?;
    BootStats::parse(&text, LINUX).with_context(|| excerpt(&text))
}

fn run(name: &str, archive: &Archive, what: &str, is_enough: impl Fn(&str) -> bool) -> Result<String> {
    let directory = paths::created(paths::build()?.join("bench").join(name))?;
    let images = image::build(&archive.to_tar()?, &directory)?;
    progress::timed(what, || {
        Emulation {
            name,
            disk: &images.bios,
            memory_mib: MEMORY_MIB,
            unknown_msrs: UnknownMsrs::Fault,
            patience: PATIENCE,
        }
        .run(is_enough)
    })
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
