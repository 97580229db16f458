//! Running other programs: captured, with their output shown only when they fail.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// How many of the last lines of a failed program's output are shown.
const SHOWN_LINES: usize = 40;

/// Runs `command` to its end. Its output is shown only when it fails.
pub(crate) fn run_quietly(command: &mut Command) -> Result<()> {
    capture(command).map(drop)
}

/// Runs `command` and returns its standard output. A failure shows the end of both outputs.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let name = describe(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{name}`"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        // Some programs add where in their own code the error arose, which helps nobody here.
        let stderr = stderr.split("\nStack backtrace:").next().unwrap_or_default();
        let all: Vec<&str> = stdout.lines().chain(stderr.lines()).collect();
        let shown = &all[all.len().saturating_sub(SHOWN_LINES)..];
        bail!("`{name}` failed ({}):\n{}", output.status, shown.join("\n"));
    }
    Ok(stdout)
}

/// Runs `command` with its output going to the terminal. Its standard output is moved to standard error.
pub(crate) fn run_visibly(command: &mut Command) -> Result<()> {
    let name = describe(command);
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot start `{name}`"))?;
    if !status.success() {
        bail!("`{name}` failed ({status})");
    }
    Ok(())
}

/// The full path of program `name` on the search path.
pub(crate) fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        // Debian keeps some tools out of an ordinary user's search path.
        .chain(["/usr/sbin", "/sbin"].map(std::path::PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| is_executable(candidate))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

fn describe(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
