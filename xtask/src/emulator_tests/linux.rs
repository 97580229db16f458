//! Debian's kernel, unmodified, as a guest.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use super::Case;
use super::harness::{LONG, Lab, SHORT, archive, default_guests};
use crate::image::archive::Archive;
use crate::machine::Kind;

pub(super) const CASES: &[Case] = &[
    Case { name: "linux::boot_protocol", run: boot_protocol },
    Case { name: "linux::pvh", run: pvh },
    Case { name: "linux::shell", run: shell },
    Case { name: "linux::poweroff_leaves_the_host", run: poweroff },
    Case { name: "linux::reboot_starts_again", run: reboot },
];

/// What a healthy guest's log does not contain.
const COMPLAINTS: [&str; 13] = [
    "WARNING:",
    "BUG:",
    "Oops",
    "Call Trace",
    "Firmware Bug",
    "Firmware Warn",
    "unchecked MSR access",
    "Unable to",
    "TSC unstable",
    "Marking clocksource",
    "spurious",
    "not functional",
    "ACPI Error",
];

/// Said on this processor model without a hypervisor, too: Bochs' Skylake has no IBRS.
const OF_THE_PROCESSOR: &str = "RETBleed: WARNING: Spectre v2 mitigation leaves CPU vulnerable";

const REPORT: &str = "uname -a; echo ==interrupts; cat /proc/interrupts; echo ==cpu; cat /proc/cpuinfo; \
                      echo ==date; date +%s; echo ==dmesg; dmesg";

/// The sections of [`REPORT`] are right.
fn check(lab: &Lab, report: &str) -> Result<()> {
    ensure!(report.starts_with("Linux guest 6."), "uname: {report}");
    let section = |name: &str| {
        let (_, rest) = report.split_once(&format!("=={name}\n")).with_context(|| format!("no {name}"))?;
        Ok::<&str, anyhow::Error>(rest.split("\n==").next().unwrap_or(rest))
    };
    let interrupts = section("interrupts")?;
    ensure!(interrupts.contains("ttyS0") && interrupts.contains("LOC:"), "interrupts:\n{interrupts}");
    ensure!(section("cpu")?.contains("GenuineIntel"), "cpuinfo:\n{}", section("cpu")?);
    let guest: u64 = section("date")?.trim().parse().context("date")?;
    let host = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    // Emulated time runs faster than ours while nothing waits, and slower while it does.
    ensure!(guest.abs_diff(host) < 600, "date: {guest} in the guest, {host} here");
    let dmesg = section("dmesg")?;
    let complaints: Vec<&str> = dmesg
        .lines()
        .filter(|line| !line.contains(OF_THE_PROCESSOR))
        .filter(|line| COMPLAINTS.iter().any(|complaint| line.contains(complaint)))
        .collect();
    ensure!(complaints.is_empty(), "dmesg complains:\n{}", complaints.join("\n"));
    if lab.kind() == Kind::Bochs {
        // One tick an instruction, a hundred million a second.
        let frequency =
            tsc_mhz(dmesg).with_context(|| format!("no TSC frequency:\n{}", about(dmesg, "tsc")))?;
        ensure!((frequency - 100.0).abs() < 0.5, "dmesg: the TSC runs at {frequency} MHz, not at 100");
    }
    Ok(())
}

/// Reads a line like `tsc: Detected 99.999 MHz TSC`; the last one is the most exact.
fn tsc_mhz(dmesg: &str) -> Option<f64> {
    let (_, rest) = dmesg.rsplit_once("tsc: Detected ")?;
    rest.split(' ').next()?.parse().ok()
}

fn about(text: &str, word: &str) -> String {
    text.lines().filter(|line| line.contains(word)).collect::<Vec<_>>().join("\n")
}

fn boot_protocol(lab: &Lab) -> Result<()> {
    let report = lab.exec("linux", default_guests()?, REPORT)?;
    check(lab, &report)
}

fn pvh(lab: &Lab) -> Result<()> {
    let configuration = "[[vm]]\nname = \"linux\"\nmemory_mib = 256\nkernel = \"vmlinux\"\nboot = \"pvh\"\n\
                         initramfs = \"initramfs.cpio\"\ncmdline = \"console=ttyS0\"\nconsole = true\n";
    let report = lab.exec("pvh", archive(configuration, &["vmlinux", "initramfs.cpio"])?, REPORT)?;
    check(lab, &report)
}

fn guests() -> Result<Archive> {
    default_guests()
}

const PROMPT: &str = "guest:/# ";

fn shell(lab: &Lab) -> Result<()> {
    lab.boot("shell", &guests()?, |machine| {
        let serial = &mut machine.serial;
        serial.wait_for(PROMPT, LONG)?;
        serial.send(b"echo $((6 * 7))\r")?;
        // Behind the echo of what was typed.
        serial.wait_for("\n42\r\n", SHORT)?;
        serial.wait_for(PROMPT, SHORT)?;
        serial.send(b"sleep 1000\r")?;
        serial.wait_for("sleep 1000\r\n", SHORT)?;
        serial.send(b"\x03")?;
        serial.wait_for(PROMPT, SHORT)?;
        serial.send(b"sleep 1000 &\r")?;
        serial.wait_for(PROMPT, SHORT)?;
        serial.send(b"jobs\r")?;
        let jobs = serial.wait_for(PROMPT, SHORT)?;
        if !jobs.contains("Running") {
            bail!("no job control: {jobs}");
        }
        Ok(())
    })
}

fn poweroff(lab: &Lab) -> Result<()> {
    lab.boot("poweroff", &guests()?, |machine| {
        let serial = &mut machine.serial;
        serial.wait_for(PROMPT, LONG)?;
        serial.send(b"poweroff\r")?;
        serial.wait_for("linux stopped: ", SHORT)?;
        serial.send(b"vm list\r")?;
        serial.wait_for("stopped", SHORT)?;
        serial.send(b"vm start linux\r")?;
        serial.send(b"vm console linux\r")?;
        serial.wait_for("craton-guest: init reached", LONG)?;
        Ok(())
    })
}

fn reboot(lab: &Lab) -> Result<()> {
    lab.boot("reboot", &guests()?, |machine| {
        let serial = &mut machine.serial;
        serial.wait_for(PROMPT, LONG)?;
        serial.send(b"reboot\r")?;
        serial.wait_for("Linux version", LONG)?;
        serial.wait_for(PROMPT, LONG)?;
        Ok(())
    })
}
