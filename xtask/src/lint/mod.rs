//! `cargo xtask lint`: what the compiler does not check by itself, one line a check.

mod dependencies;
mod sources;

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::capture;
use crate::setup::rust::{self, TARGET};
use crate::{paths, setup};

/// Packages that are built for the bare machine only.
const BARE_PACKAGES: [&str; 3] = ["kernel", "hal", "testkit"];
/// Workspaces of their own, which the root's commands do not reach.
const OTHER_WORKSPACES: [&str; 2] = ["tests/bench/kvm-runner", "xtask/disk-image"];

/// Checks formatting, clippy (warnings are errors), the direction of dependencies, and that unsafe code stays in its place.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Only the checks that read the sources: dependencies and unsafe code.
    #[arg(long)]
    fast: bool,
}

/// A check's name and what it does.
type Check = (&'static str, fn() -> Result<()>);

const SOURCE_CHECKS: [Check; 3] = [
    ("dependency direction", dependencies::check),
    ("unsafe only in the hal and the test guest's machine module", sources::check_unsafe),
    ("#![forbid(unsafe_code)] and no_std in every crate under vmm/", sources::check_crate_attributes),
];

const TOOL_CHECKS: [Check; 5] = [
    ("rustfmt", formatting),
    ("clippy: host crates", clippy_host),
    ("clippy: kernel, hal, testkit", clippy_bare),
    ("rustfmt: separate workspaces", formatting_of_others),
    ("clippy: kvm-runner", clippy_runner),
];

/// Runs the command.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let tools: &[Check] = if arguments.fast {
        &[]
    } else {
        setup::rust::ensure_lint_parts()?;
        &TOOL_CHECKS
    };
    let mut failed = 0;
    for (name, check) in SOURCE_CHECKS.iter().chain(tools) {
        match check() {
            Ok(()) => println!("lint: {name}: ok"),
            Err(error) => {
                failed += 1;
                println!("lint: {name}: FAILED\n{error:#}");
            }
        }
    }
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    println!("lint: {failed} checks failed");
    Ok(ExitCode::FAILURE)
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(paths::root()).args(arguments);
    command
}

/// Runs a command whose diagnostics the user wants to see; they go to standard error.
fn visibly(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("see the messages above");
    }
    Ok(())
}

fn formatting() -> Result<()> {
    capture(&mut cargo(&["fmt", "--all", "--check"])).context("run `cargo fmt --all`").map(drop)
}

fn formatting_of_others() -> Result<()> {
    for folder in OTHER_WORKSPACES {
        let mut command = cargo(&["fmt", "--all", "--check"]);
        command.current_dir(paths::root().join(folder));
        capture(&mut command).with_context(|| format!("run `cargo fmt` in {folder}"))?;
    }
    Ok(())
}

fn clippy_host() -> Result<()> {
    visibly(&mut cargo(&["clippy", "--quiet", "--all-targets", "--", "--deny", "warnings"]))
}

fn clippy_bare() -> Result<()> {
    let core = setup::rust::ensure_target()?;
    let mut command = cargo(&["clippy", "--quiet", "--target", TARGET]);
    for package in BARE_PACKAGES {
        command.args(["--package", package]);
    }
    command.args(["--", "--deny", "warnings"]);
    rust::CoreLibrary::apply(core, &mut command);
    visibly(&mut command)
}

fn clippy_runner() -> Result<()> {
    let target = paths::build()?.join("kvm-runner");
    let mut command =
        cargo(&["clippy", "--quiet", "--locked", "--target", "x86_64-unknown-linux-gnu", "--target-dir"]);
    command
        .arg(target)
        .args(["--", "--deny", "warnings"])
        .current_dir(paths::root().join("tests/bench/kvm-runner"))
        .env_remove("CARGO_TARGET_DIR");
    visibly(&mut command)
}
