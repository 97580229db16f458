//! Which machine to take: QEMU with KVM where VT-x is really there, else Bochs.
//!
//! A `/dev/kvm` alone says nothing: it can belong to a machine whose processors do not show VT-x.

use std::path::Path;

use anyhow::{Result, bail};

use super::Kind;
use crate::process::find_program;

/// What the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Wish {
    /// QEMU with KVM where VT-x is really there, else Bochs.
    Auto,
    /// QEMU with KVM.
    Kvm,
    /// Bochs.
    Bochs,
}

/// What this computer offers to QEMU with KVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// `/proc/cpuinfo` shows `vmx`.
    pub(crate) vmx: bool,
    /// `/dev/kvm` exists and this user may open it.
    pub(crate) kvm: DeviceState,
    /// `kvm_intel` passes VT-x on to its guests.
    pub(crate) nesting: bool,
    /// The program `qemu-system-x86_64` is there.
    pub(crate) qemu: bool,
}

/// State of `/dev/kvm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceState {
    /// It does not exist.
    Absent,
    /// It exists, but this user may not open it for reading and writing.
    Forbidden,
    /// It can be opened.
    Usable,
}

impl Host {
    /// Looks at this computer.
    pub(crate) fn detect() -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let nested = std::fs::read_to_string("/sys/module/kvm_intel/parameters/nested").unwrap_or_default();
        let device = Path::new("/dev/kvm");
        let kvm = if !device.exists() {
            DeviceState::Absent
        } else if std::fs::OpenOptions::new().read(true).write(true).open(device).is_ok() {
            DeviceState::Usable
        } else {
            DeviceState::Forbidden
        };
        Host {
            vmx: shows_vmx(&cpuinfo),
            kvm,
            nesting: matches!(nested.trim(), "1" | "Y"),
            qemu: find_program("qemu-system-x86_64").is_some(),
        }
    }

    /// What keeps QEMU with KVM from running Craton here, one phrase each. A missing QEMU is no obstacle: the set-up
    /// adds it.
    pub(crate) fn obstacles(self) -> Vec<&'static str> {
        let mut found = Vec::new();
        if !self.vmx {
            found.push(
                "/proc/cpuinfo shows no `vmx`: the processor has no VT-x, or it is off or not passed on",
            );
        }
        match self.kvm {
            DeviceState::Absent => found.push("there is no /dev/kvm: load the module `kvm_intel`"),
            DeviceState::Forbidden => {
                found.push("/dev/kvm cannot be opened: add this user to the group `kvm`");
            }
            DeviceState::Usable => {}
        }
        // Without VT-x the module is not loaded, and its parameter says nothing more.
        if self.vmx && !self.nesting {
            found
                .push("nested virtualization is off: set `options kvm_intel nested=1` and reload the module");
        }
        found
    }
}

/// Whether the `flags` of `/proc/cpuinfo` contain the word `vmx`.
fn shows_vmx(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| line.split_whitespace().any(|flag| flag == "vmx"))
}

/// Picks the machine and says why.
pub(crate) fn choose(wish: Wish, host: Host) -> Result<(Kind, String)> {
    match wish {
        Wish::Bochs => Ok((Kind::Bochs, "asked for".into())),
        Wish::Kvm => require_kvm(host).map(|()| (Kind::Kvm, "asked for".into())),
        Wish::Auto => match host.obstacles().first() {
            None => Ok((Kind::Kvm, "VT-x, /dev/kvm and nesting are there".into())),
            Some(reason) => Ok((Kind::Bochs, (*reason).into())),
        },
    }
}

/// Fails with what is missing, if QEMU with KVM cannot run Craton here.
pub(crate) fn require_kvm(host: Host) -> Result<()> {
    let obstacles = host.obstacles();
    if obstacles.is_empty() {
        return Ok(());
    }
    let mut message = String::from("QEMU with nested KVM cannot run Craton on this computer:");
    for obstacle in obstacles {
        message.push_str("\n  - ");
        message.push_str(obstacle);
    }
    message.push_str(
        "\nUse `--machine bochs` instead: `cargo xtask run --machine bochs`. It emulates VT-x anywhere.",
    );
    bail!(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Host = Host { vmx: true, kvm: DeviceState::Usable, nesting: true, qemu: true };

    #[test]
    fn vmx_must_be_a_word_of_the_flags() {
        assert!(shows_vmx("flags\t\t: fpu vmx sse\n"));
        assert!(!shows_vmx("flags\t\t: fpu vmxish\nvmx flags\t: vnmi\nmodel name\t: vmx\n"));
    }

    #[test]
    fn auto_takes_kvm_only_where_everything_is_there() {
        assert_eq!(choose(Wish::Auto, GOOD).expect("chosen").0, Kind::Kvm);
        for host in [
            Host { vmx: false, ..GOOD },
            Host { kvm: DeviceState::Absent, ..GOOD },
            Host { kvm: DeviceState::Forbidden, ..GOOD },
            Host { nesting: false, ..GOOD },
        ] {
            let (kind, reason) = choose(Wish::Auto, host).expect("chosen");
            assert_eq!(kind, Kind::Bochs);
            assert!(!reason.is_empty());
        }
    }

    #[test]
    fn refusal_names_everything_missing_and_the_way_out() {
        let host = Host { vmx: false, kvm: DeviceState::Absent, ..GOOD };
        let message = choose(Wish::Kvm, host).expect_err("refused").to_string();
        assert!(
            message.contains("`vmx`") && message.contains("/dev/kvm") && message.contains("--machine bochs")
        );
        let off = require_kvm(Host { nesting: false, ..GOOD }).expect_err("refused").to_string();
        assert!(off.contains("nested=1") && !off.contains("/dev/kvm"));
    }
}
