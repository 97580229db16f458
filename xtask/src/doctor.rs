//! `cargo xtask doctor`: what is there, what is missing, and what the other commands would do about it. Changes nothing.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::machine::{self, Host, Wish};
use crate::paths;
use crate::process::{capture, find_program};
use crate::setup::rust::{self, Part, TARGET};
use crate::setup::{Package, bochs, debian};

/// The compiler that everything is built with.
const RUST: &str = "1.95.0";

/// Says what is there, what is missing, and what the other commands would do about it. Changes nothing.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {}

/// How one thing stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// It is there: what exactly.
    There(String),
    /// It is missing, and a command adds it: how.
    WouldAdd(String),
    /// It is missing and not needed: what is lost.
    Optional(String),
    /// It is missing, and the user has to act: how.
    Needs(String),
}

/// One line of the report.
#[derive(Clone, Debug)]
struct Finding {
    what: &'static str,
    state: State,
}

/// Runs the command. Fails when something must be done by hand first.
pub(crate) fn run(_: &Arguments) -> Result<ExitCode> {
    let findings = findings()?;
    print!("{}", report(&findings));
    let host = Host::detect();
    match machine::choose(Wish::Auto, host) {
        Ok((kind, reason)) => println!("\n`run`, `test` would use: {} ({reason})", kind.name()),
        Err(error) => println!("\nno machine to run on: {error:#}"),
    }
    println!("{}", verdict(&findings));
    let is_ready = !findings.iter().any(|finding| matches!(finding.state, State::Needs(_)));
    Ok(if is_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the user has to do.
fn verdict(findings: &[Finding]) -> &'static str {
    let any = |is: fn(&State) -> bool| findings.iter().any(|finding| is(&finding.state));
    if any(|state| matches!(state, State::Needs(_))) {
        "Do first what is marked MISSING."
    } else if any(|state| matches!(state, State::WouldAdd(_))) {
        "Nothing to do by hand: the commands add what is marked \"to add\" when they need it."
    } else {
        "Everything is there."
    }
}

fn report(findings: &[Finding]) -> String {
    findings
        .iter()
        .map(|Finding { what, state }| {
            let (mark, text) = match state {
                State::There(text) => ("ok", text),
                State::WouldAdd(text) => ("to add", text),
                State::Optional(text) => ("optional", text),
                State::Needs(text) => ("MISSING", text),
            };
            format!("{mark:<9}{what:<28}{text}\n")
        })
        .collect()
}

fn findings() -> Result<Vec<Finding>> {
    let mut findings = vec![Finding { what: "Rust", state: compiler() }];
    findings.extend(rust_parts());
    findings.push(Finding { what: "Bochs with VT-x", state: emulator() });
    findings.extend(packages());
    findings.push(Finding {
        what: "Debian's kernel",
        state: debian_package("linux-image-cloud-amd64.resolved")?,
    });
    findings.push(Finding { what: "busybox", state: debian_package("busybox-static")? });
    findings.push(Finding { what: "boot loader tool", state: loader_tool()? });
    findings.push(Finding { what: "QEMU with nested KVM", state: nested_kvm() });
    Ok(findings)
}

fn compiler() -> State {
    let version = capture(Command::new("rustc").arg("--version").current_dir(paths::root()));
    match version {
        Ok(text) if text.contains(RUST) => State::There(text.trim().to_owned()),
        Ok(text) => State::Needs(format!(
            "found {}; {RUST} is needed: `rustup toolchain install {RUST}`",
            text.trim()
        )),
        Err(_) => State::Needs(format!("no working rustc {RUST}: see https://rustup.rs")),
    }
}

fn rust_parts() -> Vec<Finding> {
    let Ok(sysroot) = rust::sysroot() else { return Vec::new() };
    [
        ("target x86_64-unknown-none", Part::Target),
        ("rust-src", Part::Source),
        ("llvm-tools", Part::LlvmTools),
        ("clippy", Part::Clippy),
        ("rustfmt", Part::Rustfmt),
    ]
    .into_iter()
    .map(|(what, part)| {
        let state = if part.is_present(&sysroot) {
            State::There("in the toolchain".into())
        } else if find_program("rustup").is_some() {
            State::WouldAdd(format!("by rustup ({}), else from Debian", part.name()))
        } else {
            State::WouldAdd(format!(
                "from Debian's packages; there is no rustup ({TARGET} is built from source)"
            ))
        };
        Finding { what, state }
    })
    .collect()
}

fn emulator() -> State {
    if let Some(program) = bochs::fast_program() {
        return State::There(format!("3.0, built: {}", program.display()));
    }
    let tools: Vec<&str> = [Package::Gxx, Package::Make, Package::XzUtils]
        .into_iter()
        .filter(|package| !package.is_present())
        .map(Package::name)
        .collect();
    match (tools.is_empty(), Package::Bochs.is_present(), is_root()) {
        (true, _, _) => State::WouldAdd("by building 3.0 once, about 5 minutes".into()),
        (false, _, true) => State::WouldAdd(format!("by installing {} and building 3.0", tools.join(" "))),
        (false, true, false) => State::There("the packaged one, about three times slower".into()),
        (false, false, false) => State::Needs(install_command(&tools)),
    }
}

fn packages() -> Vec<Finding> {
    [
        ("qemu-system-x86_64", Package::QemuSystemX86, "the tests of the refusal without VT-x"),
        ("UEFI firmware (ovmf)", Package::Ovmf, "the UEFI tests"),
        ("GRUB (grub-pc-bin)", Package::GrubPcBin, "`bench --vs kvm`"),
    ]
    .into_iter()
    .map(|(what, package, purpose)| {
        let state = if package.is_present() {
            State::There("installed".into())
        } else if is_root() {
            State::WouldAdd(format!("by apt-get install {}, for {purpose}", package.name()))
        } else {
            State::Optional(format!("needed for {purpose}: {}", install_command(&[package.name()])))
        };
        Finding { what, state }
    })
    .collect()
}

fn debian_package(name: &str) -> Result<State> {
    let path = debian::cached(name)?;
    Ok(if path.exists() {
        State::There("in the cache".into())
    } else if find_program("apt-get").is_some() {
        State::WouldAdd("by downloading the package with apt, without installing it".into())
    } else {
        State::Needs("this computer has no apt to download Debian packages with".into())
    })
}

fn loader_tool() -> Result<State> {
    let directory = paths::cache_location()?.join("disk-image");
    Ok(if has_entries(&directory) {
        State::There("in the cache".into())
    } else {
        State::WouldAdd("by building it once, a few minutes".into())
    })
}

fn has_entries(directory: &Path) -> bool {
    std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some())
}

fn nested_kvm() -> State {
    let obstacles = Host::detect().obstacles();
    if obstacles.is_empty() {
        State::There("VT-x, /dev/kvm and nesting".into())
    } else {
        State::Optional(format!("Bochs is used instead: {}", obstacles.join("; ")))
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn install_command(names: &[&str]) -> String {
    format!("sudo apt-get install --no-install-recommends {}", names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_marks_what_must_be_done_by_hand() {
        let findings = [
            Finding { what: "a", state: State::There("x".into()) },
            Finding { what: "b", state: State::Needs(install_command(&["g++", "make"])) },
        ];
        let text = report(&findings);
        assert!(text.starts_with("ok       a"));
        assert!(text.contains("MISSING  b"));
        assert!(text.contains("sudo apt-get install --no-install-recommends g++ make\n"));
    }

    #[test]
    fn everything_found_has_a_name_of_its_own() {
        let findings = findings().expect("looks around");
        let mut names: Vec<&str> = findings.iter().map(|finding| finding.what).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert!(count >= 10 && names.len() == count);
    }
}
