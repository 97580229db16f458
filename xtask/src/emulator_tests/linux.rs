//! Debian's kernel, unmodified, as a guest.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use super::Case;
use super::harness::{LONG, Lab, SHORT, Setup, archive, boot, default_guests};
use crate::image::archive::Archive;
use crate::machine::{Firmware, Kind};

pub(super) const CASES: &[Case] = &[
    Case { name: "linux::boot_protocol", run: boot_protocol },
    Case { name: "linux::pvh", run: pvh },
    Case { name: "linux::under_uefi", run: under_uefi },
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

pub(super) const REPORT: &str = "uname -a; echo ==interrupts; cat /proc/interrupts; echo ==cpu; cat /proc/cpuinfo; \
                      echo ==date; date +%s; echo ==dmesg; dmesg -r";

/// The sections of [`REPORT`] are right for a guest with `vcpus`.
pub(super) fn check(lab: &Lab, report: &str, vcpus: usize) -> Result<()> {
    ensure!(report.starts_with("Linux guest 6."), "uname: {report}");
    let section = |name: &str| {
        let (_, rest) = report.split_once(&format!("=={name}\n")).with_context(|| format!("no {name}"))?;
        Ok::<&str, anyhow::Error>(rest.split("\n==").next().unwrap_or(rest))
    };
    let interrupts = section("interrupts")?;
    ensure!(interrupts.contains("ttyS0") && interrupts.contains("LOC:"), "interrupts:\n{interrupts}");
    check_processors(lab, section("cpu")?, vcpus)?;
    let guest: u64 = section("date")?.trim().parse().context("date")?;
    let host = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    // Emulated time runs faster than ours while nothing waits, and slower while it does.
    ensure!(guest.abs_diff(host) < 600, "date: {guest} in the guest, {host} here");
    let dmesg = section("dmesg")?;
    let complaints: Vec<&str> = dmesg.lines().filter(|line| is_complaint(line)).collect();
    ensure!(complaints.is_empty(), "dmesg complains:\n{}", complaints.join("\n"));
    if lab.kind() == Kind::Bochs {
        // One tick an instruction, a hundred million a second.
        let frequency =
            tsc_mhz(dmesg).with_context(|| format!("no TSC frequency:\n{}", about(dmesg, "tsc")))?;
        ensure!((frequency - 100.0).abs() < 0.5, "dmesg: the TSC runs at {frequency} MHz, not at 100");
    }
    Ok(())
}

/// Whether a raw line of the kernel's log says that something is wrong.
pub(super) fn is_complaint(line: &str) -> bool {
    !line.contains(OF_THE_PROCESSOR)
        && (level(line).is_none_or(|level| level <= WARNING)
            || COMPLAINTS.iter().any(|complaint| line.contains(complaint)))
}

/// The number of warnings among the kernel's log levels; what is worse has a smaller one.
const WARNING: u32 = 4;

/// The level of a raw line of the kernel's log, like `<6>[    0.1] text`. The numbers from 8 on name the program that
/// wrote the line, too.
fn level(line: &str) -> Option<u32> {
    let (number, _) = line.strip_prefix('<')?.split_once('>')?;
    number.parse::<u32>().ok().map(|number| number % 8)
}

/// Flags of the processor that stand for something we model.
const FLAGS: [&str; 6] =
    ["x2apic", "tsc_deadline_timer", "constant_tsc", "nonstop_tsc", "tsc_known_freq", "hypervisor"];

/// What `/proc/cpuinfo` says of the processors agrees with itself and with the machine.
fn check_processors(lab: &Lab, cpuinfo: &str, vcpus: usize) -> Result<()> {
    let processors: Vec<&str> = cpuinfo.split("processor\t").skip(1).collect();
    ensure!(processors.len() == vcpus, "not {vcpus} processors:\n{cpuinfo}");
    let ids = processors.iter().enumerate();
    ids.into_iter().try_for_each(|(id, processor)| check_processor(lab, processor, id, vcpus))
}

fn check_processor(lab: &Lab, cpuinfo: &str, id: usize, vcpus: usize) -> Result<()> {
    let (id, vcpus) = (id.to_string(), vcpus.to_string());
    let value = |name: &str| {
        cpuinfo
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(key, value)| (key.trim() == name).then_some(value.trim()))
            .with_context(|| format!("cpuinfo has no `{name}`:\n{cpuinfo}"))
    };
    for (name, expected) in [
        ("vendor_id", "GenuineIntel"),
        ("siblings", vcpus.as_str()),
        ("cpu cores", &vcpus),
        ("physical id", "0"),
        ("core id", &id),
        ("apicid", &id),
        ("initial apicid", &id),
    ] {
        ensure!(value(name)? == expected, "cpuinfo: {name} is {}, not {expected}", value(name)?);
    }
    let flags: Vec<&str> = value("flags")?.split(' ').collect();
    for flag in FLAGS {
        ensure!(flags.contains(&flag), "cpuinfo: no flag {flag} among {flags:?}");
    }
    ensure!(!flags.contains(&"vmx"), "cpuinfo: the guest has no VT-x, yet shows `vmx`");
    let mhz: f64 = value("cpu MHz")?.parse().context("cpu MHz")?;
    let bogomips: f64 = value("bogomips")?.parse().context("bogomips")?;
    // Both are computed from the TSC's frequency.
    ensure!((bogomips / mhz - 2.0).abs() < 0.02, "cpuinfo: {mhz} MHz, but {bogomips} bogomips");
    if lab.kind() == Kind::Bochs {
        ensure!((mhz - 100.0).abs() < 0.5, "cpuinfo: {mhz} MHz, not 100");
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
    check(lab, &report, 1)
}

fn pvh(lab: &Lab) -> Result<()> {
    let configuration = "[[vm]]\nname = \"linux\"\nmemory_mib = 256\nkernel = \"vmlinux\"\nboot = \"pvh\"\n\
                         initramfs = \"initramfs.cpio\"\ncmdline = \"console=ttyS0\"\nconsole = true\n";
    let report = lab.exec("pvh", archive(configuration, &["vmlinux", "initramfs.cpio"])?, REPORT)?;
    check(lab, &report, 1)
}

/// The UEFI image all the way to a shell, on firmware that has no ACPI tables for this machine.
fn under_uefi(lab: &Lab) -> Result<()> {
    let setup = Setup { firmware: Firmware::Uefi, ..lab.usual() };
    boot("uefi", setup, &guests()?.to_tar()?, |machine| {
        let serial = &mut machine.serial;
        serial.wait_for(PROMPT, LONG)?;
        serial.send(b"echo $((6 * 7))\r")?;
        serial.wait_for("\n42\r\n", SHORT)?;
        Ok(())
    })
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
        // A cursor key is one key, not the characters behind its escape.
        serial.send(b"echo line 4\x1b[D2\r")?;
        serial.wait_for("\nline 24\r\n", SHORT)?;
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

#[cfg(test)]
mod tests {
    use super::{level, tsc_mhz};

    #[test]
    fn level_is_read_with_and_without_a_facility() {
        assert_eq!(level("<3>[    0.7] RETBleed: x"), Some(3));
        assert_eq!(level("<12>[    0.7] from /init"), Some(4));
        assert_eq!(level("[    0.7] cooked"), None);
    }

    #[test]
    fn last_measured_frequency_counts() {
        let log = "tsc: Detected 99.0 MHz processor\ntsc: Detected 100.001 MHz TSC\n";
        assert_eq!(tsc_mhz(log), Some(100.001));
    }
}
