//! `cargo xtask bench`: what virtualization costs here, and what it costs on KVM.
//!
//! Everything runs in Bochs on one processor, whose time stamp counter ticks once per instruction: the figures are counts,
//! and the same on every computer.

mod boot_stats;
mod craton;
pub(crate) mod emulation;
mod figures;
pub(crate) mod grub_disk;
mod kvm;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::{paths, progress};
use figures::Figures;

/// Measures instructions per exit with our bare-metal test guest, and exits of a Linux boot, in Bochs.
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
    let mut unsteady = Vec::new();
    let kvm = match arguments.vs {
        Some(Other::Kvm) => Some(measure_kvm(arguments.twice, &mut unsteady)?),
        None => None,
    };
    let ours = if arguments.only_other {
        None
    } else {
        let first = craton::measure()?;
        if arguments.twice {
            unsteady.extend(first.differences(&craton::measure()?));
        }
        Some(first)
    };
    let boot = if arguments.only_other || arguments.no_boot { None } else { Some(craton::boot_linux()?) };

    match (&ours, &kvm) {
        (Some(ours), kvm) => print!("{}", figures::table(ours, kvm.as_ref())),
        (None, Some(kvm)) => print!("{}", kvm_alone(kvm)),
        (None, None) => {}
    }
    if let Some(boot) = &boot {
        print!("\nLinux from entry to power-off in /init: {}", boot.table());
    }
    for line in ours.iter().flat_map(figures::missed) {
        println!("above what should be reached now: {line}");
    }
    if let Some(path) = &arguments.json {
        let document = json!({
            "unit": "instructions",
            "machine": "Bochs, corei7_skylake_x, 1 processor",
            "craton": ours.as_ref().map(Figures::to_json),
            "kvm": kvm.as_ref().map(Figures::to_json),
            "targets": figures::targets_json(),
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
fn measure_kvm(twice: bool, unsteady: &mut Vec<String>) -> Result<Figures> {
    let machine = kvm::prepare()?;
    let remembered = machine.remembered();
    if !twice && let Some(figures) = remembered {
        progress::note(
            "KVM: figures of an earlier run with the same kernel, runner and guest (--twice measures again)",
        );
        return Ok(figures);
    }
    let first = machine.measure()?;
    if twice {
        let second = match remembered {
            Some(figures) => figures,
            None => machine.measure()?,
        };
        unsteady.extend(first.differences(&second));
    }
    Ok(first)
}

fn kvm_alone(kvm: &Figures) -> String {
    let mut text = format!("{:<26}{:>9}\n", "instructions per", "KVM");
    for (operation, instructions) in kvm.iter() {
        text.push_str(&format!("{operation:<26}{instructions:>9}\n"));
    }
    text
}
