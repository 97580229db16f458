//! Linux by other ways through the PC than its usual one: interrupt controllers that it is told to leave alone, tables that it
//! is told not to read, clocks that it would not choose, nodes that few machines have. Several guests in one boot.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};

use super::Case;
use super::harness::{LONG, Lab, SHORT, archive};
use super::hostile::{ESCAPE, PROMPT, enter_monitor, order};
use super::linux;
use crate::guests::exec::{self, Marks};
use crate::machine::Serial;

pub(super) const CASES: &[Case] = &[
    Case { name: "variants::interrupts_by_other_controllers", run: controllers },
    Case { name: "variants::clocks_of_the_pc", run: clocks },
    Case { name: "variants::nodes_of_processors_and_memory", run: nodes },
];

/// A guest that goes another way.
struct Variant {
    name: &'static str,
    /// What its definition has besides a name, memory and images.
    keys: &'static str,
    /// What its command line has besides the console.
    words: &'static str,
    /// The processors that it finds.
    processors: usize,
    /// What its report must have.
    shows: &'static [&'static str],
    /// What its report must not have.
    lacks: &'static [&'static str],
    /// Warnings that its command line asks for, on any computer.
    remarks: &'static [&'static str],
}

/// The usual way, to differ from.
const USUAL: Variant =
    Variant { name: "usual", keys: "", words: "", processors: 1, shows: &[], lacks: &[], remarks: &[] };

/// Said where no table of processors has been read.
const NOT_LISTED: &str = "weird, boot CPU (#0) not listed by the BIOS";
/// Said where an access to the HPET takes some ten microseconds, as it does at the pace of the emulator's clock.
const SLOW_HPET: &str = "CE: hpet increased min_delta_ns";
/// Debian's cloud kernel does not know the MP table, which the others read then.
const NO_MP_TABLE: &str = "MPS support code is not built-in";

/// Ways to be interrupted: `XT-PIC` is what Linux calls the 8259 pair.
const CONTROLLERS: [Variant; 4] = [
    Variant { name: "noapic", words: "noapic", shows: &["XT-PIC"], lacks: &["IO-APIC"], ..USUAL },
    Variant {
        name: "nolapic",
        words: "nolapic",
        shows: &["XT-PIC"],
        lacks: &["IO-APIC"],
        remarks: &[NOT_LISTED, SLOW_HPET],
        ..USUAL
    },
    Variant {
        name: "no-acpi",
        keys: "vcpus = 2\n",
        words: "acpi=off",
        shows: &["XT-PIC"],
        lacks: &["IO-APIC", "acpi\n"],
        remarks: &[NOT_LISTED, NO_MP_TABLE],
        ..USUAL
    },
    Variant {
        name: "xapic",
        keys: "vcpus = 2\n",
        words: "nox2apic pci=nomsi",
        processors: 2,
        shows: &["IO-APIC", "==x2apic 0\n"],
        lacks: &["XT-PIC"],
        ..USUAL
    },
];

/// Clocks that Linux takes when it is told to, and has used for a second.
const CLOCKS: [Variant; 2] = [
    Variant {
        name: "hpet",
        words: "hpet=force clocksource=hpet no-kvmclock",
        shows: &["==clock hpet\n"],
        ..USUAL
    },
    Variant {
        name: "pm-timer",
        words: "clocksource=acpi_pm no-kvmclock",
        shows: &["==clock acpi_pm\n"],
        ..USUAL
    },
];

/// A guest that is told of nodes: four processors and 128 MiB in two.
const NODES: [Variant; 1] = [Variant {
    name: "nodes",
    keys: "vcpus = 4\nnuma_nodes = 2\n",
    processors: 4,
    shows: &[
        "SRAT: PXM 0 -> APIC 0x01 -> Node 0",
        "SRAT: PXM 1 -> APIC 0x02 -> Node 1",
        "SRAT: Node 1 PXM 1 [mem 0x04000000-0x07ffffff]",
        "==node0 0-1 10 20",
        "==node1 2-3 20 10",
    ],
    ..USUAL
}];

/// What each guest does. Interrupts of timer and serial port are counted before and after a second.
const REPORT: &str = "counts() { awk '/^ *0:/ || /LOC:/ { t += $2 + $3 } /ttyS0/ { s += $2 + $3 } \
     END { print \"==counts\", t, s }' /proc/interrupts; }; \
     cat /proc/cmdline; counts; \
     echo ==clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource); \
     echo ==x2apic $(grep -c x2apic /proc/cpuinfo); echo ==processors $(nproc); \
     dmesg | grep SRAT; for node in /sys/devices/system/node/node*; do \
     echo ==${node##*/} $(cat $node/cpulist $node/distance); done; \
     sleep 1; head -n 12 /proc/interrupts; counts; \
     echo ==complaints; dmesg -r | grep -E '^<[0-4]>|WARNING|BUG|Oops|Call Trace|Firmware|MSR|Unable|unstable|spurious'; \
     echo ==end";

fn controllers(lab: &Lab) -> Result<()> {
    side_by_side(lab, "variants-controllers", &CONTROLLERS, |_| Ok(()))
}

fn clocks(lab: &Lab) -> Result<()> {
    side_by_side(lab, "variants-clocks", &CLOCKS, |_| Ok(()))
}

fn nodes(lab: &Lab) -> Result<()> {
    side_by_side(lab, "variants-nodes", &NODES, |serial| {
        order(serial, "vm create more nodes numa_nodes=5")?;
        serial
            .wait_for("field `numa_nodes`: 5 nodes want a virtual processor each, and vcpus is 4", SHORT)?;
        Ok(())
    })
}

/// Boots all `variants` at once, and checks what they say once they have ended; then goes on in the monitor by `further`.
fn side_by_side(
    lab: &Lab,
    name: &str,
    variants: &[Variant],
    further: impl FnOnce(&mut Serial) -> Result<()>,
) -> Result<()> {
    let mut configuration = String::from(
        "[[vm]]\nname = \"silent\"\nmemory_mib = 16\nkernel = \"testkit\"\nautostart = false\nconsole = true\n\
         initramfs = \"initramfs.cpio\"\n\n",
    );
    for Variant { name, keys, words, .. } in variants {
        // Writing to a string cannot fail.
        let _infallible = writeln!(
            configuration,
            "[[vm]]\nname = \"{name}\"\nmemory_mib = 128\n{keys}kernel = \"vmlinuz\"\n\
             initramfs = \"exec.cpio\"\ncmdline = \"console=ttyS0 quiet {words}\"\nrestart = \"never\"\n"
        );
    }
    let mut archive = archive(&configuration, &["testkit", "vmlinuz", "initramfs.cpio"])?;
    exec::add(&mut archive, &Marks::new(), REPORT)?;
    lab.boot(name, &archive, |machine| {
        let ends: Vec<String> =
            variants.iter().map(|variant| format!("vm {}: stopped: ", variant.name)).collect();
        let ends: Vec<&str> = ends.iter().map(String::as_str).collect();
        machine.serial.wait_for_all(&ends, LONG)?;
        enter_monitor(&mut machine.serial)?;
        let mut failures = Vec::new();
        for variant in variants {
            let report = report_of(&mut machine.serial, variant.name)?;
            if let Err(error) = variant.check(&report) {
                failures.push(format!("{}: {error:#}\n{report}", variant.name));
            }
        }
        ensure!(failures.is_empty(), "{}", failures.join("\n"));
        further(&mut machine.serial)
    })
}

/// What the machine `name` printed last, shown on its console.
fn report_of(serial: &mut Serial, name: &str) -> Result<String> {
    order(serial, &format!("vm console {name}"))?;
    serial.wait_for("craton-exec-begin ", SHORT)?;
    let report = serial.wait_for("craton-exec-end ", SHORT)?;
    serial.wait_for("\n", SHORT)?;
    serial.send(ESCAPE)?;
    serial.wait_for(PROMPT, SHORT)?;
    Ok(report)
}

impl Variant {
    fn check(&self, report: &str) -> Result<()> {
        ensure!(report.contains(self.words), "another command line");
        for text in self.shows {
            ensure!(report.contains(text), "no {text}");
        }
        for text in self.lacks {
            ensure!(!report.contains(text), "there is {text}");
        }
        ensure!(
            report.contains(&format!("==processors {}\n", self.processors)),
            "not {} processors",
            self.processors
        );
        let counts: Vec<(u64, u64)> = report.lines().filter_map(counts).collect();
        let &[(ticks_before, bytes_before), (ticks, bytes)] = counts.as_slice() else {
            anyhow::bail!("counts of interrupts: {counts:?}");
        };
        ensure!(ticks > ticks_before, "the timer does not tick");
        ensure!(bytes > bytes_before, "the serial port does not interrupt");
        let complaints = section(report, "==complaints\n", "==end").context("the report is cut short")?;
        let is_expected = |line: &str| self.remarks.iter().any(|remark| line.contains(remark));
        let complaints: Vec<&str> =
            complaints.lines().filter(|line| linux::is_complaint(line) && !is_expected(line)).collect();
        ensure!(complaints.is_empty(), "dmesg complains:\n{}", complaints.join("\n"));
        Ok(())
    }
}

/// What stands between two marks.
fn section<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    Some(rest.split_once(end)?.0)
}

/// Interrupts of the timer and of the serial port.
fn counts(line: &str) -> Option<(u64, u64)> {
    let (ticks, bytes) = line.strip_prefix("==counts ")?.trim().split_once(' ')?;
    Some((ticks.parse().ok()?, bytes.parse().ok()?))
}
