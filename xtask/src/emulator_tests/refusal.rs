//! On a machine that cannot run it the hypervisor says which feature is missing, by BIOS and by UEFI: on the serial
//! line and, where the emulator has one, on the screen.

use anyhow::{Result, bail};

use super::Case;
use super::harness::{self, Lab, SHORT, Setup, archive};
use crate::machine::{Firmware, Kind, Processor};

pub(super) const CASES: &[Case] = &[
    Case { name: "refusal::no_vtx_under_bios", run: |lab| without_vtx(lab, "refusal-bios", Firmware::Bios) },
    Case { name: "refusal::no_vtx_under_uefi", run: |lab| without_vtx(lab, "refusal-uefi", Firmware::Uefi) },
    Case {
        name: "refusal::first_generation_of_vtx",
        run: |lab| incomplete(lab, "refusal-first", Processor::FirstGeneration, "the VMX preemption timer"),
    },
    Case {
        name: "refusal::no_unrestricted_guest",
        run: |lab| {
            incomplete(lab, "refusal-unrestricted", Processor::WithoutUnrestrictedGuest, "unrestricted guest")
        },
    },
];

fn without_vtx(lab: &Lab, name: &str, firmware: Firmware) -> Result<()> {
    refuses(name, Setup { kind: Kind::Tcg, firmware, ..lab.usual() }, "no VT-x (CPUID.1:ECX[5] is 0)")
}

/// Only Bochs can model such processors, wherever the other tests run.
fn incomplete(lab: &Lab, name: &str, processor: Processor, feature: &str) -> Result<()> {
    refuses(name, Setup { kind: Kind::Bochs, processor, ..lab.usual() }, feature)
}

fn refuses(name: &str, setup: Setup, reason: &str) -> Result<()> {
    // The guest is never looked at.
    let archive = archive("[[vm]]\nname = \"none\"\nmemory_mib = 16\nkernel = \"none\"\n", &[])?;
    harness::boot(name, setup, &archive.to_tar()?, |machine| {
        machine.serial.wait_for("craton: cannot start: ", SHORT)?;
        let line = machine.serial.wait_for("\n", SHORT)?;
        if !line.contains(reason) {
            bail!("the refusal does not say \"{reason}\": {line}");
        }
        match setup.kind {
            // It runs without a display.
            Kind::Bochs => Ok(()),
            Kind::Kvm | Kind::Tcg => {
                let whole = format!("craton: cannot start: {}", line.trim_end());
                harness::screen_shows(machine, &[&whole, "craton: halted"])
            }
        }
    })
}
