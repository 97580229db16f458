//! `cargo xtask fuzz`: builds the fuzzer and lets it run.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::{paths, progress};

/// Plays inputs on the devices and parsers, and looks for ones that they do not survive.
///
/// An input that fails is made smaller and stored, and the command that replays it is shown.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// What to fuzz; everything in turn if nothing is named.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long, all targets together.
    #[arg(long, default_value_t = 60, value_name = "N")]
    seconds: u64,
    /// Where the search begins; the same seed searches the same way.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Plays this input on the one target that is named.
    #[arg(long, value_name = "FILE")]
    replay: Option<PathBuf>,
    /// Lists the targets.
    #[arg(long)]
    list: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    progress::step("building the fuzzer");
    let status = Command::new("cargo")
        .args(["run", "--quiet", "--package", "fuzz", "--manifest-path"])
        .arg(paths::root().join("Cargo.toml"))
        .arg("--")
        .args(passed_on(arguments, &paths::build()?.join("fuzz")))
        .status()
        .context("cargo run")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The fuzzer's own arguments.
fn passed_on(arguments: &Arguments, failures: &Path) -> Vec<std::ffi::OsString> {
    let mut passed: Vec<std::ffi::OsString> = arguments.targets.iter().map(Into::into).collect();
    passed.extend(["--seconds".into(), arguments.seconds.to_string().into()]);
    passed.extend(["--seed".into(), arguments.seed.to_string().into()]);
    passed.extend(["--failures".into(), failures.into()]);
    if let Some(file) = &arguments.replay {
        passed.extend(["--replay".into(), file.into()]);
    }
    if arguments.list {
        passed.push("--list".into());
    }
    passed
}
