//! Our bare-metal guests on machines of other kinds than the usual one: what their processors see at their edges, and
//! guests with several processors on hosts with fewer, as many, and more ways to deliver an interrupt.
//!
//! On the usual machine, `hostile::programs_side_by_side` runs them all.

use std::time::Duration;

use anyhow::Result;

use super::Case;
use super::harness::{Lab, SHORT, Setup, archive, boot};
use crate::machine::{Complaints, Kind, Processor, Size};

pub(super) const CASES: &[Case] = &[
    Case { name: "testkit::exceptions-under-timer_on_two_cpus", run: timer_on_two_cpus },
    Case {
        name: "testkit::four_vcpus_on_one_core",
        run: |lab| several(lab, "four-on-one", 1, Processor::Complete),
    },
    Case {
        name: "testkit::four_vcpus_on_two_cores",
        run: |lab| several(lab, "four-on-two", 2, Processor::Complete),
    },
    Case {
        name: "testkit::four_vcpus_on_four_cores",
        run: |lab| several(lab, "four-on-four", 4, Processor::Complete),
    },
    Case {
        name: "testkit::four_vcpus_without_virtual_interrupts",
        run: |lab| several(lab, "four-software", 2, Processor::WithoutVirtualInterrupts),
    },
    Case {
        name: "testkit::four_vcpus_without_posted_interrupts",
        run: |lab| several(lab, "four-unposted", 2, Processor::WithoutPostedInterrupts),
    },
    Case { name: "testkit::four_vcpus_on_a_host_without_x2apic", run: without_x2apic },
    Case { name: "testkit::a_guest_ends_its_machine_with_a_status", run: debug_exit },
    Case { name: "testkit::emulate_diff", run: |lab| emulated_instructions(lab, "emulate-diff", 10_000) },
    Case {
        name: "testkit::emulate_diff_in_all_modes",
        run: |lab| emulated_instructions(lab, "emulate-modes", 10_000),
    },
    Case { name: "testkit::sixty_four_vcpus_on_two_cores", run: sixty_four },
];

/// Programs about several processors. With `native::verdicts_agree` they pass without a hypervisor, too.
pub(super) const SEVERAL: [&str; 10] = [
    "smp-start-xapic",
    "ipi-modes-xapic",
    "ipi-details",
    "smp-start",
    "ipi-modes",
    "startup-details",
    "smp-tsc",
    "smp-tlb",
    "smp-hlt",
    "cpuid-topology",
];
/// Rounds of sleep and wake-up.
pub(super) const ROUNDS: &str = "rounds=10000";

/// Processors beside the guest's change when its exits come.
fn timer_on_two_cpus(lab: &Lab) -> Result<()> {
    let name = "exceptions-under-timer";
    passes(on(lab, 2, Processor::Complete), name, 1, &[name])
}

/// A guest with four processors on a host with `cpus`.
fn several(lab: &Lab, name: &str, cpus: u32, processor: Processor) -> Result<()> {
    passes(on(lab, cpus, processor), name, 4, &SEVERAL)
}

/// The host's cores start, call each other and post interrupts by the registers in memory.
fn without_x2apic(lab: &Lab) -> Result<()> {
    // Only Bochs can model it, wherever the other tests run.
    let setup = Setup { kind: Kind::Bochs, ..on(lab, 2, Processor::WithoutX2Apic) };
    passes(setup, "four-xapic", 4, &SEVERAL)
}

/// As many as there can be.
fn sixty_four(lab: &Lab) -> Result<()> {
    passes(on(lab, 2, Processor::Complete), "sixty-four", 64, &["smp-start", "cpuid-topology"])
}

/// What a guest writes to the debug exit, twice and one more, is the status that its end is told with.
fn debug_exit(lab: &Lab) -> Result<()> {
    let configuration = "[[vm]]\nname = \"testkit\"\nmemory_mib = 16\nkernel = \"testkit\"\nboot = \"pvh\"\n\
         cmdline = \"test=debug-exit\"\nconsole = true\ndebug_exit = true\n";
    let archive = archive(configuration, &["testkit"])?.to_tar()?;
    boot("testkit-debug-exit", lab.usual(), &archive, |machine| {
        machine.serial.wait_for("vm testkit: stopped: the guest ended with status 43", SHORT)?;
        Ok(())
    })
}

/// Random instructions that the processor executes, and the same ones emulated: `count` of them. The environment gives a
/// long run its own number and seed, and other words of the program's command line, such as `mode=`.
fn emulated_instructions(lab: &Lab, program: &str, count: u64) -> Result<()> {
    const LONGEST: Duration = Duration::from_secs(6 * 3600);
    let asked = |name: &str| std::env::var(name).unwrap_or_default();
    let (words, patience) = match (asked("CRATON_DIFF_COUNT"), asked("CRATON_DIFF_WORDS")) {
        (none, words) if none.is_empty() => (format!("count={count} {words}"), SHORT),
        (count, words) => (format!("count={count} {words}"), LONGEST),
    };
    let configuration = format!(
        "[[vm]]\nname = \"testkit\"\nmemory_mib = 32\nkernel = \"testkit\"\nboot = \"pvh\"\n\
         cmdline = \"test={program} {words}\"\nconsole = true\ntest_devices = true\n"
    );
    let archive = archive(&configuration, &["testkit"])?.to_tar()?;
    boot(&format!("testkit-{program}"), lab.usual(), &archive, |machine| {
        let verdicts =
            ["on memory and a device, 0 differ", "FAIL", "stopped: ", "memory alone", "nothing was tried"];
        let (index, text) = machine.serial.wait_for_any(&verdicts, patience)?;
        if patience == LONGEST {
            text.lines().filter(|line| line.contains("emulate-")).for_each(|line| println!("{line}"));
        }
        anyhow::ensure!(index == 0, "{program}: {text}{}", machine.serial.wait_for("\n", SHORT)?);
        Ok(())
    })
}

fn on(lab: &Lab, cpus: u32, processor: Processor) -> Setup {
    let usual = lab.usual();
    Setup { size: Size { cpus, ..usual.size }, processor, complaints: Complaints::Dropped, ..usual }
}

/// One guest runs `programs`, and each passes.
fn passes(setup: Setup, name: &str, vcpus: u32, programs: &[&str]) -> Result<()> {
    let configuration = format!(
        "[[vm]]\nname = \"testkit\"\nmemory_mib = 16\nvcpus = {vcpus}\nkernel = \"testkit\"\nboot = \"pvh\"\n\
         cmdline = \"test={} {ROUNDS}\"\nconsole = true\n",
        programs.join(",")
    );
    let archive = archive(&configuration, &["testkit"])?.to_tar()?;
    boot(&format!("testkit-{name}"), setup, &archive, |machine| {
        if setup.processor == Processor::WithoutX2Apic {
            machine.serial.wait_for(", xAPIC, timer", SHORT)?;
        }
        for program in programs {
            let ok = format!("testkit: {program}: ok");
            let (index, text) = machine.serial.wait_for_any(&[&ok, "FAIL", "stopped: "], SHORT)?;
            anyhow::ensure!(index == 0, "{program}: {text}{}", machine.serial.wait_for("\n", SHORT)?);
        }
        Ok(())
    })
}
