//! Our bare-metal guests: what the machine that a guest sees does at its edges.

use anyhow::Result;

use super::Case;
use super::harness::{Lab, SHORT, Setup, archive, boot};
use crate::machine::Size;

macro_rules! cases {
    ($($name:literal)*) => {
        &[
            $(Case { name: concat!("testkit::", $name), run: |lab| passes(lab.usual(), $name) },)*
            Case { name: "testkit::exceptions-under-timer_on_two_cpus", run: on_two_cpus },
        ]
    };
}

pub(super) const CASES: &[Case] = cases! {
    "exceptions" "exceptions-under-timer" "fault-details" "xsetbv" "control-registers" "cpuid" "timer" "pit" "nmi-self" "self-ipi"
    "task-priority" "sti-blocking" "unknown-msr" "unknown-port" "unknown-mmio" "vmx-instructions"
};

/// Processors beside the guest's change when its exits come.
fn on_two_cpus(lab: &Lab) -> Result<()> {
    let usual = lab.usual();
    passes(Setup { size: Size { cpus: 2, ..usual.size }, ..usual }, "exceptions-under-timer")
}

fn passes(setup: Setup, program: &str) -> Result<()> {
    let configuration = format!(
        "[[vm]]\nname = \"testkit\"\nmemory_mib = 16\nkernel = \"testkit\"\nboot = \"pvh\"\n\
         cmdline = \"test={program}\"\nconsole = true\n"
    );
    let archive = archive(&configuration, &["testkit"])?.to_tar()?;
    boot(&format!("testkit-{program}"), setup, &archive, |machine| {
        let ok = format!("testkit: {program}: ok");
        let (index, text) = machine.serial.wait_for_any(&[&ok, "FAIL", "stopped: "], SHORT)?;
        anyhow::ensure!(index == 0, "{program}: {text}{}", machine.serial.wait_for("\n", SHORT)?);
        Ok(())
    })
}
