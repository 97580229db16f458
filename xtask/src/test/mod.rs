//! `cargo xtask test`: the tests on this computer and those in an emulator.

mod host;
mod total;

use std::process::ExitCode;

use anyhow::Result;

use crate::machine::{self, Host, Wish};
use crate::{emulator_tests, progress};
pub(crate) use total::Total;

/// Runs the host tests and the emulator tests. The last line is `N passed, N failed`.
#[derive(clap::Args, Clone, Debug)]
#[group(id = "test-arguments")]
pub(crate) struct Arguments {
    /// Only the host tests.
    #[arg(long, conflicts_with = "emulator")]
    host: bool,
    /// Only the emulator tests.
    #[arg(long)]
    emulator: bool,
    /// What executes the image in the emulator tests.
    #[arg(long, value_enum, default_value = "auto")]
    machine: Wish,
    /// Only tests whose name contains this.
    filter: Option<String>,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let filter = arguments.filter.as_deref().unwrap_or_default();
    let mut total = Total::default();
    if !arguments.emulator {
        total += host::run(filter)?;
    }
    if !arguments.host {
        let (kind, reason) = machine::choose(arguments.machine, Host::detect())?;
        progress::step(format_args!("emulator tests on {} ({reason})", kind.name()));
        total += emulator_tests::run(kind, filter)?;
    }
    Ok(total.report())
}
