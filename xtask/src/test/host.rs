//! The tests that run on this computer: `cargo test`, with its results counted.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::Total;
use crate::{paths, progress};

/// Runs the host tests whose names contain `filter`.
pub(super) fn run(filter: &str) -> Result<Total> {
    progress::step("host tests");
    let mut child = Command::new("cargo")
        .current_dir(paths::root())
        .args(["test", "--no-fail-fast", "--", filter])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo's output")?;
    let mut total = Total::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        if let Some(result) = parse_result(&line) {
            total += result;
        }
        if is_shown(&line) {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    // A test that does not compile, or a process that dies, has no line of its own.
    if !status.success() && total.failed == 0 {
        println!("cargo test failed ({status})");
        total.failed = 1;
    }
    Ok(total)
}

/// Lines of passing and empty tests are left out.
fn is_shown(line: &str) -> bool {
    let quiet = line.is_empty()
        || line.ends_with("... ok")
        || line.ends_with("... ignored")
        || line.starts_with("running ")
        || line.starts_with("test result: ok. 0 passed");
    !quiet
}

/// Reads a line like `test result: ok. 12 passed; 0 failed; …`.
fn parse_result(line: &str) -> Option<Total> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |word: &str| {
        counts
            .split("; ")
            .find_map(|part| part.trim().strip_suffix(word))
            .and_then(|number| number.trim().parse().ok())
    };
    Some(Total { passed: count("passed")?, failed: count("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_cargos_lines() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(parse_result(line), Some(Total { passed: 12, failed: 3 }));
        assert_eq!(parse_result("test a::b ... ok"), None);
    }

    #[test]
    fn failures_are_shown_and_passes_are_not() {
        assert!(is_shown("test a ... FAILED") && is_shown("thread 'a' panicked at b.rs:1:2:"));
        assert!(!is_shown("test a ... ok") && !is_shown("running 3 tests"));
    }
}
