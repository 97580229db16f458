//! The hypervisor's own end: what a panic and a full stack leave on the serial line and on the screen.
//!
//! Most of it happens before the processor is checked for VT-x, so that a machine without it will do.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Case;
use super::harness::{self, Lab, SHORT, Setup, archive};
use crate::machine::{Firmware, Kind, Size};

pub(super) const CASES: &[Case] = &[
    Case { name: "kernel::panic_is_symbolized", run: |lab| panic(lab, "panic-bios", Firmware::Bios) },
    Case {
        name: "kernel::panic_is_symbolized_under_uefi",
        run: |lab| panic(lab, "panic-uefi", Firmware::Uefi),
    },
    Case { name: "kernel::stack_overflow_is_caught", run: stack_overflow },
    Case { name: "kernel::panic_stops_all_cores", run: panic_on_another_core },
];

/// The file of the boot archive that makes the hypervisor panic.
const REQUEST: &str = "panic-test";

/// What the report of a panic holds, in this order.
struct Report {
    /// The file in the boot archive that asks for it.
    request: &'static str,
    /// What it says.
    signs: &'static [&'static str],
}

const PANIC: Report = Report {
    request: "panic",
    signs: &[
        "kernel/src/panic_test.rs:",
        ": the boot archive asks for a panic",
        "\nRSP 0x",
        " RBP 0x",
        "\nCR2 0x",
        " CR3 0x",
        "\nbacktrace:",
        " core::panicking::panic_fmt + 0x",
        " kernel::panic_test::run_if_asked + 0x",
        "\nlast events of ",
        " boot ",
    ],
};

const STACK_OVERFLOW: Report = Report {
    request: "stack-overflow",
    signs: &[
        "#PF page fault: stack overflow at 0x",
        ", the guard page holds 0x",
        "\nRIP 0x",
        " RSP 0x",
        "\nRAX 0x",
        "\nR13 0x",
        "\nCR2 0x",
        "\nbacktrace:",
        " kernel::panic_test::overflow + 0x",
        " times more",
        "\nlast events of ",
        " exception ",
    ],
};

fn panic(lab: &Lab, name: &str, firmware: Firmware) -> Result<()> {
    ends(name, Setup { kind: Kind::Tcg, firmware, ..lab.usual() }, &PANIC)
}

fn stack_overflow(lab: &Lab) -> Result<()> {
    ends("stack-overflow", Setup { kind: Kind::Tcg, ..lab.usual() }, &STACK_OVERFLOW)
}

/// One core panics while a guest runs on another: the report is complete, and nothing comes behind it.
fn panic_on_another_core(lab: &Lab) -> Result<()> {
    let configuration = "[[vm]]\nname = \"chatter\"\nmemory_mib = 16\nkernel = \"testkit\"\nboot = \"pvh\"\n\
                         cmdline = \"test=chatter\"\ncores = [0]\nconsole = true\n";
    let mut archive = archive(configuration, &["testkit"])?;
    archive.add(REQUEST, "other-core".into());
    let usual = lab.usual();
    let setup = Setup { size: Size { cpus: 2, ..usual.size }, ..usual };
    harness::boot("panic-other-core", setup, &archive.to_tar()?, |machine| {
        let serial = &mut machine.serial;
        serial.wait_for("chatter chatter", SHORT)?;
        for sign in [
            "craton: panic at kernel/src/panic_test.rs:",
            ": the boot archive asks for a panic on another core",
            "on core 1",
            "backtrace:",
            " kernel::panic_test::run_if_asked_here + 0x",
            "last events of ",
            "craton: halted",
        ] {
            serial.wait_for(sign, SHORT)?;
        }
        std::thread::sleep(Duration::from_secs(2));
        let text = serial.text();
        let (_, behind) = text.rsplit_once("craton: halted").context("it was seen")?;
        ensure!(behind.trim().is_empty(), "something runs on: {behind}");
        Ok(())
    })
}

fn ends(name: &str, setup: Setup, report: &Report) -> Result<()> {
    // The guest is never looked at.
    let mut archive = archive("[[vm]]\nname = \"none\"\nmemory_mib = 16\nkernel = \"none\"\n", &[])?;
    archive.add(REQUEST, report.request.into());
    harness::boot(name, setup, &archive.to_tar()?, |machine| {
        machine.serial.wait_for("craton: panic at ", SHORT)?;
        let text = machine.serial.wait_for("craton: halted", SHORT)?.replace('\r', "");
        let mut rest = text.as_str();
        for sign in report.signs {
            let (_, behind) =
                rest.split_once(sign).with_context(|| format!("no {sign:?} in its place in:\n{text}"))?;
            rest = behind;
        }
        let lines: Vec<&str> = text.lines().collect();
        harness::screen_shows(machine, &lines)
    })
}
