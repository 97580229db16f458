//! Our bare-metal guests: what the machine that a guest sees does at its edges.

use anyhow::Result;

use super::Case;
use super::harness::{Lab, SHORT, archive};

macro_rules! cases {
    ($($name:literal)*) => {
        &[$(Case { name: concat!("testkit::", $name), run: |lab| passes(lab, $name) },)*]
    };
}

pub(super) const CASES: &[Case] = cases! {
    "exceptions" "fault-details" "xsetbv" "control-registers" "cpuid" "timer" "pit" "nmi-self" "self-ipi"
    "task-priority" "sti-blocking" "unknown-msr" "unknown-port" "unknown-mmio" "vmx-instructions"
};

fn passes(lab: &Lab, program: &str) -> Result<()> {
    let configuration = format!(
        "[[vm]]\nname = \"testkit\"\nmemory_mib = 16\nkernel = \"testkit\"\nboot = \"pvh\"\n\
         cmdline = \"test={program}\"\nconsole = true\n"
    );
    let archive = archive(&configuration, &["testkit"])?;
    lab.boot(&format!("testkit-{program}"), &archive, |machine| {
        let ok = format!("testkit: {program}: ok");
        let (index, text) = machine.serial.wait_for_any(&[&ok, "FAIL", "stopped: "], SHORT)?;
        anyhow::ensure!(index == 0, "{program}: {text}{}", machine.serial.wait_for("\n", SHORT)?);
        Ok(())
    })
}
