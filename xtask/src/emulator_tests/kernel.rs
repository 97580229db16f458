//! The hypervisor's own end: what a panic and a full stack leave on the serial line and on the screen.
//!
//! Both happen before the processor is checked for VT-x, so that a machine without it will do.

use anyhow::{Result, ensure};

use super::Case;
use super::harness::{self, Lab, SHORT, Setup, archive};
use crate::machine::{Firmware, Kind};

pub(super) const CASES: &[Case] = &[
    Case { name: "kernel::panic_is_symbolized", run: |lab| panic(lab, "panic-bios", Firmware::Bios) },
    Case { name: "kernel::panic_is_symbolized_under_uefi", run: |lab| panic(lab, "panic-uefi", Firmware::Uefi) },
    Case { name: "kernel::stack_overflow_is_caught", run: stack_overflow },
];

/// The file of the boot archive that makes the hypervisor panic.
const REQUEST: &str = "panic-test";

fn panic(lab: &Lab, name: &str, firmware: Firmware) -> Result<()> {
    ends(
        name,
        Setup { kind: Kind::Tcg, firmware, ..lab.usual() },
        "panic",
        "the boot archive asks for a panic",
        &["RSP 0x", " RBP 0x", "CR2 0x", " CR3 0x"],
        "kernel::",
    )
}

fn stack_overflow(lab: &Lab) -> Result<()> {
    ends(
        "stack-overflow",
        Setup { kind: Kind::Tcg, ..lab.usual() },
        "stack-overflow",
        "stack",
        &["RIP 0x", " RSP 0x", "RAX 0x", "R15 0x", "CR2 0x"],
        "kernel::panic_test::overflow + 0x",
    )
}

fn ends(
    name: &str,
    setup: Setup,
    request: &str,
    message: &str,
    registers: &[&str],
    function: &str,
) -> Result<()> {
    // The guest is never looked at.
    let mut archive = archive("[[vm]]\nname = \"none\"\nmemory_mib = 16\nkernel = \"none\"\n", &[])?;
    archive.add(REQUEST, request.into());
    harness::boot(name, setup, &archive.to_tar()?, |machine| {
        machine.serial.wait_for("craton: panic at ", SHORT)?;
        let text = machine.serial.wait_for("craton: halted", SHORT)?;
        eprintln!("{text}");
        ensure!(text.contains(message), "{text}");
        let _ = (registers, function);
        harness::screen_shows(machine, &["x"])?;
        Ok(())
    })
}
