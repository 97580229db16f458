//! Hosts with several processors, and guests with several.

use anyhow::{Context, Result, ensure};

use super::Case;
use super::harness::{LONG, Lab, SHORT, Setup, archive, boot, exec};
use super::linux;
use crate::image::archive::Archive;
use crate::machine::{Processor, Size};
use crate::{guests, paths};

pub(super) const CASES: &[Case] = &[
    Case { name: "smp::every_core_of_the_host_runs", run: every_core },
    Case { name: "smp::core_that_does_not_start_is_left_out", run: absent_core },
    Case { name: "smp::linux_with_two_vcpus", run: two_vcpus },
    Case { name: "smp::linux_with_more_vcpus_than_cores", run: four_vcpus },
    Case { name: "smp::linux_without_virtual_interrupts", run: without_virtual_interrupts },
    Case { name: "smp::linux_without_posted_interrupts", run: without_posted_interrupts },
    Case { name: "smp::many_guests_get_their_shares", run: many },
];

/// Ctrl-].
const ESCAPE: &[u8] = &[0x1d];
const PROMPT: &str = "craton> ";

/// What a guest with several processors is asked on top of [`linux::REPORT`], which comes last: hot-unplug and replug of
/// each processor but the first, then what it knows of the hypervisor.
const QUESTIONS: &str = "set -e; cpus=$(nproc); n=1; while [ $n -lt $cpus ]; do \
    echo 0 > /sys/devices/system/cpu/cpu$n/online; \
    [ $(nproc) = $((cpus - 1)) ]; \
    echo 1 > /sys/devices/system/cpu/cpu$n/online; \
    [ $(nproc) = $cpus ]; \
    n=$((n + 1)); done; \
    n=0; while [ $n -lt $cpus ]; do taskset -p $((1 << n)) $$ > /dev/null; \
    [ $(awk '{ print $39 }' /proc/self/stat) -ge 0 ]; n=$((n + 1)); done; set +e; ";
/// What a guest with more processors than cores is asked as well: its processors, all at work, see that others take their
/// time, and Linux counts it.
const STOLEN: &str = "set -e; for n in 1 2 3 4; do \
    (n=0; while [ $n -lt 10000 ]; do n=$((n + 1)); done) & done; wait; \
    [ $(awk '/^cpu / { print $9 }' /proc/stat) -gt 0 ]; set +e; ";
/// The same on the kernel's log.
const KNOWN: [&str; 3] =
    ["kvm-clock: Using msrs", "kvm-guest: setup PV IPIs", "KVM setup pv remote TLB flush"];

fn on(lab: &Lab, cpus: u32, processor: Processor) -> Setup {
    let usual = lab.usual();
    Setup { size: Size { cpus, ..usual.size }, processor, ..usual }
}

fn linux_with(vcpus: usize) -> Result<Archive> {
    let configuration = format!(
        "[[vm]]\nname = \"linux\"\nmemory_mib = 256\nvcpus = {vcpus}\nkernel = \"vmlinuz\"\n\
         initramfs = \"initramfs.cpio\"\ncmdline = \"console=ttyS0\"\nconsole = true\n"
    );
    archive(&configuration, &["vmlinuz", "initramfs.cpio"])
}

/// Boots Linux with `vcpus` on `setup`, unplugs and replugs its processors, and looks at what it says.
fn linux_on(lab: &Lab, name: &str, setup: Setup, vcpus: usize) -> Result<()> {
    let is_crowded = usize::try_from(setup.size.cpus).is_ok_and(|cpus| vcpus > cpus);
    let stolen = if is_crowded { STOLEN } else { "" };
    let command = format!("{QUESTIONS}{stolen}{}", linux::REPORT);
    let report = exec(name, setup, linux_with(vcpus)?, &command)?;
    linux::check(lab, &report, vcpus)?;
    for known in KNOWN {
        ensure!(report.contains(known), "the guest's log has no \"{known}\":\n{report}");
    }
    Ok(())
}

fn two_vcpus(lab: &Lab) -> Result<()> {
    linux_on(lab, "linux-2-on-2", on(lab, 2, Processor::Complete), 2)
}

fn four_vcpus(lab: &Lab) -> Result<()> {
    linux_on(lab, "linux-4-on-1", on(lab, 1, Processor::Complete), 4)
}

fn without_virtual_interrupts(lab: &Lab) -> Result<()> {
    linux_on(lab, "linux-software-apic", on(lab, 2, Processor::WithoutVirtualInterrupts), 4)
}

fn without_posted_interrupts(lab: &Lab) -> Result<()> {
    linux_on(lab, "linux-no-posted", on(lab, 2, Processor::WithoutPostedInterrupts), 2)
}

/// Hosts of several sizes use all their cores, each for a guest of its own.
fn every_core(lab: &Lab) -> Result<()> {
    for cpus in [1, 2, 4, 8] {
        let mut configuration = String::from(
            "[[vm]]\nname = \"silent\"\nmemory_mib = 16\nkernel = \"testkit\"\nautostart = false\nconsole = true\n",
        );
        for core in 0..cpus {
            configuration.push_str(&format!(
                "[[vm]]\nname = \"on-{core}\"\nmemory_mib = 16\nkernel = \"testkit\"\nboot = \"pvh\"\n\
                 cmdline = \"test=timer\"\ncores = [{core}]\nrestart = \"never\"\n"
            ));
        }
        let tar = archive(&configuration, &["testkit"])?.to_tar()?;
        boot(&format!("cores-{cpus}"), on(lab, cpus, Processor::Complete), &tar, |machine| {
            let ends: Vec<String> =
                (0..cpus).map(|core| format!("vm on-{core}: stopped: the guest powered off")).collect();
            let ends: Vec<&str> = ends.iter().map(String::as_str).collect();
            machine.serial.wait_for_all(&ends, SHORT)?;
            Ok(())
        })
        .with_context(|| format!("{cpus} CPUs"))?;
    }
    Ok(())
}

/// A processor that the firmware names and that never answers is reported; those behind it run, and whoever asks for its
/// core is told which there are.
fn absent_core(lab: &Lab) -> Result<()> {
    let machine = |name: &str, core: u32| {
        format!(
            "[[vm]]\nname = \"{name}\"\nmemory_mib = 16\nkernel = \"testkit\"\nboot = \"pvh\"\n\
             cmdline = \"test=timer\"\ncores = [{core}]\nrestart = \"never\"\n"
        )
    };
    let configuration = [machine("first", 0), machine("second", 1), machine("nowhere", 2)].concat();
    let mut archive = archive(&configuration, &["testkit"])?;
    archive.add("absent-cpu", b"9".to_vec());
    boot("absent-core", on(lab, 2, Processor::Complete), &archive.to_tar()?, |machine| {
        let expected = [
            "the CPU with APIC ID 9 is left out: it does not answer",
            "cores: 2 of 3 run guests",
            "vm \"nowhere\": field `cores`: ",
            "vm first: stopped: the guest powered off",
            "vm second: stopped: the guest powered off",
        ];
        machine.serial.wait_for_all(&expected, SHORT)?;
        Ok(())
    })
}

/// The configuration that the README names: everybody gets what it asked for.
fn many(lab: &Lab) -> Result<()> {
    let archive = guests::pack(Some(&paths::root().join("guest-images/many.toml")))?.to_tar()?;
    boot("many", on(lab, 2, Processor::Complete), &archive, |machine| {
        let serial = &mut machine.serial;
        serial.wait_for("guest:/# ", LONG)?;
        serial.send(ESCAPE)?;
        serial.wait_for(PROMPT, SHORT)?;
        // The other two are still booting, and not always busy.
        let mut wrong = String::new();
        for _ in 0..ATTEMPTS {
            serial.send(b"top 3 1\r")?;
            serial.wait_for("top: first figures in", SHORT)?;
            serial.wait_for("CORE", LONG)?;
            let table = serial.wait_for(PROMPT, LONG)?;
            let table = format!("{}{table}", last_table(&serial.text()));
            match check_shares(&table) {
                Ok(()) => return Ok(()),
                Err(error) => wrong = format!("{error:#}\n{table}"),
            }
        }
        anyhow::bail!("{wrong}")
    })
}

/// How often the shares are looked at before they must be right.
const ATTEMPTS: usize = 15;

/// What follows the last time that `top` was called.
fn last_table(text: &str) -> &str {
    text.rsplit("top: first figures in").next().unwrap_or(text)
}

/// Everybody has the share that many.toml says.
fn check_shares(table: &str) -> Result<()> {
    for (name, wanted) in [
        ("web/0", 45.0),
        ("web/1", 45.0),
        ("batch", 22.5),
        ("spin-a", 45.0),
        ("spin-b", 22.5),
        ("spin-c", 20.0),
    ] {
        let share = share_of(table, name)?;
        ensure!((share - wanted).abs() < 1.5, "{name} has {share} %, not {wanted} %");
    }
    Ok(())
}

/// The first share in percent in a row of `top`.
pub(super) fn share_of(table: &str, name: &str) -> Result<f64> {
    let row = table
        .lines()
        .rev()
        .find_map(|line| line.trim_start().strip_prefix(name).filter(|rest| rest.starts_with(' ')))
        .with_context(|| format!("no row of {name}:\n{table}"))?;
    let share = row.split_once('%').and_then(|(before, _)| before.split_whitespace().last()?.parse().ok());
    share.with_context(|| format!("no share in the row of {name}: {row}"))
}

#[cfg(test)]
mod tests {
    use super::share_of;

    #[test]
    fn the_share_is_the_first_percentage_of_the_last_row() {
        let table = "NAME STATE WEIGHT SHARE\nspin-a running 200 1.0 % 2\n\nspin-a  running  200  44.9 %  1.2\nspin-ab x 3 %\n";
        assert!((share_of(table, "spin-a").unwrap() - 44.9).abs() < 0.001);
        assert!(share_of(table, "none").is_err());
    }
}
