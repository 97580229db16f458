//! Building for the bare machine: the kernel and our own test guests.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::{paths, progress, setup};

/// Builds the hypervisor and returns its ELF file.
pub(crate) fn build() -> Result<PathBuf> {
    build_package("kernel")
}

/// Builds `package` of this workspace for the bare machine, in release mode, and returns its ELF file. Asked again in
/// the same run of this command, it does nothing more.
pub(crate) fn build_package(package: &str) -> Result<PathBuf> {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = built.get(package) {
        return Ok(path.clone());
    }
    let path = compile(package)?;
    built.insert(package.to_owned(), path.clone());
    Ok(path)
}

fn compile(package: &str) -> Result<PathBuf> {
    let core = setup::rust::ensure_target()?;
    progress::step(format_args!("building {package}"));
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(paths::root())
        .args(["build", "--quiet", "--release", "--package", package])
        .args(["--target", setup::rust::TARGET, "--message-format=json-render-diagnostics"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    core.apply(&mut cargo);
    let output = cargo.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("building {package} failed");
    }
    executable(&String::from_utf8_lossy(&output.stdout), package)
        .with_context(|| format!("cargo built no program from {package}"))
}

/// Finds the program that cargo's messages (one JSON object a line) report for `package`.
fn executable(messages: &str, package: &str) -> Option<PathBuf> {
    messages.lines().rev().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_ours = message.pointer("/target/name")?.as_str()? == package;
        let path = message.get("executable")?.as_str()?;
        is_ours.then(|| PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use super::executable;

    #[test]
    fn program_is_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"bus"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"kernel"},"executable":"/t/kernel"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "kernel"), Some("/t/kernel".into()));
        assert_eq!(executable(messages, "bus"), None);
    }
}
