//! `cargo xtask bench`: what virtualization costs here, and what it costs on KVM.
//!
//! Everything runs in Bochs. With one processor its time stamp counter ticks once per instruction: the figures are counts,
//! and the same on every computer. With two, `several` says how ticks become instructions.

mod boot_stats;
mod craton;
pub(crate) mod emulation;
mod exits;
mod figures;
pub(crate) mod grub_disk;
mod kvm;
mod report;
mod several;
mod shares;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::{paths, progress};
use craton::Extent;
use report::Report;
use shares::Shares;

/// Measures instructions per exit, interrupts between processors, switches and shares with our bare-metal test guest, and
/// the exits of a Linux boot, in Bochs.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Measure the same guest on another hypervisor, too.
    #[arg(long, value_enum)]
    vs: Option<Other>,
    /// Also write the figures to FILE.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure everything twice and fail unless both runs give the same figures.
    #[arg(long)]
    twice: bool,
    /// Leave out the boot of Linux.
    #[arg(long)]
    no_boot: bool,
    /// Leave out what takes two processors or two virtual ones.
    #[arg(long)]
    one_processor: bool,
    /// Leave out Craton: only measure the other hypervisor.
    #[arg(long, requires = "vs")]
    only_other: bool,
}

/// A hypervisor to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Other {
    /// Linux KVM, from Debian's kernel package.
    Kvm,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let extent = if arguments.one_processor { Extent::One } else { Extent::Two };
    let mut unsteady = Vec::new();
    let kvm = match arguments.vs {
        Some(Other::Kvm) => Some(measure_kvm(arguments.twice, &mut unsteady)?),
        None => None,
    };
    let (mut ours, mut shares, mut boot) = (None, None, None);
    if !arguments.only_other {
        let mut report = craton::measure(extent)?;
        if arguments.twice {
            unsteady.extend(report.differences(&craton::measure(extent)?));
        }
        if extent == Extent::Two {
            let measured = shares::measure()?;
            report.one.extend(measured.costs());
            shares = Some(measured);
        }
        if !arguments.no_boot {
            boot = Some(craton::boot_linux()?);
        }
        ours = Some(report);
    }

    match (&ours, &kvm) {
        (Some(ours), kvm) => print!("{}", ours.tables(kvm.as_ref())),
        (None, Some(kvm)) => print!("{}", kvm.tables_alone("KVM")),
        (None, None) => {}
    }
    if let Some(shares) = &shares {
        print!("\n{}", shares.table());
    }
    if let Some(boot) = &boot {
        print!("\nLinux from entry to power-off in /init: {}", boot.table());
    }
    let missed = ours.iter().flat_map(Report::missed).chain(shares.iter().flat_map(Shares::missed));
    for line in missed {
        println!("above what should be reached now: {line}");
    }
    for line in ours.iter().flat_map(|ours| figures::dearer(&ours.one)) {
        println!("dearer than in first light: {line}");
    }
    if let Some(path) = &arguments.json {
        let document = json!({
            "machine": "Bochs, corei7_skylake_x, 1 and 2 processors; corei7_ivy_bridge_3770k for Craton without APICv",
            "craton": ours.as_ref().map(Report::to_json),
            "kvm": kvm.as_ref().map(Report::to_json),
            "targets": figures::targets_json(),
            "shares": shares.as_ref().map(Shares::to_json),
            "linux_boot": boot.as_ref().map(boot_stats::BootStats::to_json),
        });
        paths::write_whole(&std::path::absolute(path)?, format!("{document:#}\n").as_bytes())?;
    }
    for line in &unsteady {
        println!("two runs differ: {line}");
    }
    if arguments.twice && unsteady.is_empty() {
        println!("both runs gave the same figures");
    }
    Ok(if unsteady.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// KVM's figures: the remembered ones of exactly this kernel, runner, guest and emulator, unless two runs are asked for.
fn measure_kvm(twice: bool, unsteady: &mut Vec<String>) -> Result<Report> {
    let machine = kvm::prepare()?;
    let remembered = machine.remembered();
    if !twice && let Some(report) = remembered {
        progress::note(
            "KVM: figures of an earlier run with the same kernel, runner and guest (--twice measures again)",
        );
        return Ok(report);
    }
    let first = machine.measure()?;
    if twice {
        let second = match remembered {
            Some(report) => report,
            None => machine.measure()?,
        };
        unsteady.extend(first.differences(&second));
    }
    Ok(first)
}
