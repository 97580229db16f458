//! `cargo xtask qemu`: `run` and `test` on QEMU with nested KVM.

use std::process::ExitCode;

use anyhow::Result;

use crate::machine::{Host, Kind, Wish, require_kvm};
use crate::{emulator_tests, run};

/// Runs or tests on QEMU with nested KVM.
#[derive(clap::Args, Clone, Debug)]
#[group(id = "qemu-arguments")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    run: run::Arguments,
}

#[derive(clap::Subcommand, Clone, Debug)]
enum Action {
    /// Boots and connects the terminal to the guest's console (the default).
    Run(Box<run::Arguments>),
    /// Runs the emulator tests.
    Test {
        /// Only tests whose name contains this.
        filter: Option<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// Names what this computer lacks, and the way without it.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    require_kvm(Host::detect())?;
    match &arguments.action {
        None => run::run_on(Kind::Kvm, &with_kvm(&arguments.run)),
        Some(Action::Run(run)) => run::run_on(Kind::Kvm, &with_kvm(run)),
        Some(Action::Test { filter }) => {
            let total = emulator_tests::run(Kind::Kvm, filter.as_deref().unwrap_or_default())?;
            Ok(total.report())
        }
    }
}

fn with_kvm(arguments: &run::Arguments) -> run::Arguments {
    run::Arguments { machine: Wish::Kvm, ..arguments.clone() }
}
