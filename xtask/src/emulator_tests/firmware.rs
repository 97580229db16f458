//! Guests that are started by firmware.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Case;
use super::harness::{LONG, Lab, SHORT, archive};
use super::hostile::{ESCAPE, PROMPT, order};
use crate::machine::Serial;

pub(super) const CASES: &[Case] = &[
    Case { name: "firmware::seabios_finds_no_bootable_device", run: seabios },
    Case { name: "firmware::ovmf_to_the_shell", run: ovmf },
    Case { name: "firmware::a_hundred_resets_leave_nothing", run: resets },
];

/// How long OVMF may take to its shell, or to its end and back there.
const OVMF: Duration = Duration::from_secs(600);
/// What may come and go on the host's heap, in bytes.
const HEAP_NOISE: u64 = 8192;
/// How often a machine is reset in the middle of its firmware.
const RESETS: usize = 100;

/// Leaves the console that is shown.
fn enter_monitor(serial: &mut Serial) -> Result<()> {
    serial.send(ESCAPE)?;
    serial.wait_for(PROMPT, SHORT)?;
    Ok(())
}

// One processor each: SeaBIOS's first one holds a lock in all but two instructions of the loop in which it waits for the
// others. Emulators that count instructions let them have the lock at the same point of the loop every time, or never.
/// SeaBIOS: what it says to whoever debugs it, then to whoever sits before the serial line.
fn seabios(lab: &Lab) -> Result<()> {
    let machines = [("debugged", "debug_console = true"), ("plain", "autostart = false")];
    let text: Vec<String> = machines
        .iter()
        .map(|(name, more)| {
            format!("[[vm]]\nname = \"{name}\"\nmemory_mib = 32\nfirmware = \"seabios\"\n{more}\n")
        })
        .collect();
    lab.boot("seabios", &archive(&text.join("\n"), &["seabios"])?, |machine| {
        let serial = &mut machine.serial;
        for sign in [
            "Running on KVM",
            "Found QEMU fw_cfg",
            "Relocating init from",
            "Moving pm_base to 0x600",
            "PCIe: using q35 mmconfig at 0xb0000000",
            "Found 1 cpu(s) max supported 1 cpu(s)",
            "ACPI: parse DSDT at",
            "All threads complete.",
            "e820 map has",
            "00000000fffc0000 - 0000000100000000 = 2 RESERVED",
            "enter handle_18",
        ] {
            serial.wait_for(sign, LONG).with_context(|| format!("SeaBIOS does not say \"{sign}\""))?;
        }
        enter_monitor(serial)?;
        order(serial, "vm start plain")?;
        serial.wait_for(PROMPT, SHORT)?;
        order(serial, "vm console plain")?;
        for sign in ["SeaBIOS (version ", "Booting from Hard Disk", "No bootable device."] {
            serial.wait_for(sign, LONG).with_context(|| format!("SeaBIOS does not say \"{sign}\""))?;
        }
        Ok(())
    })
}

/// OVMF to its shell, in which a variable is set that is there after a reset.
fn ovmf(lab: &Lab) -> Result<()> {
    const SET: &[u8] = b"setvar craton -guid 6a1c2b8e-3f54-4f27-9d0b-5ad0c1a7e001 -bs -rt -nv =0x5a17\r";
    const SHOW: &[u8] = b"setvar craton -guid 6a1c2b8e-3f54-4f27-9d0b-5ad0c1a7e001\r";
    let configuration = "[[vm]]\nname = \"ovmf\"\nmemory_mib = 128\nfirmware = \"ovmf\"\n\
                         firmware_vars = \"ovmf-vars\"\n";
    lab.boot("ovmf", &archive(configuration, &["ovmf", "ovmf-vars"])?, |machine| {
        let serial = &mut machine.serial;
        serial.wait_for("UEFI Interactive Shell", OVMF)?;
        serial.wait_for("Shell> ", OVMF)?;
        serial.send(SET)?;
        serial.wait_for("Shell> ", SHORT)?;
        serial.send(b"reset\r")?;
        serial.wait_for("UEFI Interactive Shell", OVMF).context("after a reset")?;
        serial.wait_for("Shell> ", OVMF)?;
        serial.send(SHOW)?;
        // The bytes of the number, the low one first.
        serial.wait_for("17 5A", SHORT).context("the variable that was set before the reset")?;
        Ok(())
    })
}

/// Resets in the middle of the firmware: nothing of the host is lost.
fn resets(lab: &Lab) -> Result<()> {
    let configuration = "[[vm]]\nname = \"silent\"\nmemory_mib = 8\nkernel = \"testkit\"\nautostart = false\n\
                         console = true\n\n[[vm]]\nname = \"bios\"\nmemory_mib = 16\nfirmware = \"seabios\"\n\
                         firmware_vars = \"ovmf-vars\"\nautostart = false\n";
    let archive = archive(configuration, &["testkit", "seabios", "ovmf-vars"])?;
    lab.boot("firmware-resets", &archive, |machine| {
        let serial = &mut machine.serial;
        serial.wait_for("console of silent", SHORT)?;
        enter_monitor(serial)?;
        // The host keeps the last lines of its log and of the monitor: these fill them.
        let before = cycle(serial, "one", RESETS)?;
        let after = cycle(serial, "two", RESETS)?;
        let told = || format!("in use before {RESETS} resets: {before:?}, and after: {after:?}");
        for counted in ["frames", "vpids", "ept_pages"] {
            ensure!(figure(&before, counted)? == figure(&after, counted)?, "{}", told());
        }
        // Lines of a log are not all alike, but what a machine had and kept would be there a hundred times.
        ensure!(
            figure(&before, "heap_bytes")?.abs_diff(figure(&after, "heap_bytes")?) < HEAP_NOISE,
            "{}",
            told()
        );
        ensure!(
            figure(&before, "heap_allocations")?.abs_diff(figure(&after, "heap_allocations")?)
                < RESETS as u64,
            "{}",
            told()
        );
        Ok(())
    })
}

/// The figure called `name` among `figures`.
fn figure(figures: &str, name: &str) -> Result<u64> {
    let value = figures.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let value = value.with_context(|| format!("no {name} among {figures}"))?;
    value.parse().with_context(|| format!("{name}={value}"))
}

/// Creates the machine `name`, starts it, resets it `resets` times and destroys it. Returns what is in use on the host then.
fn cycle(serial: &mut Serial, name: &str, resets: usize) -> Result<String> {
    order(serial, &format!("vm create {name} bios"))?;
    serial.wait_for(PROMPT, SHORT)?;
    order(serial, &format!("vm start {name}"))?;
    let started = format!("vm {name}: starts with");
    serial.wait_for(&started, SHORT)?;
    for reset in 0..resets {
        order(serial, &format!("vm reset {name}"))?;
        serial.wait_for(&started, SHORT).with_context(|| format!("reset {reset} of {name}"))?;
    }
    order(serial, &format!("vm destroy {name}"))?;
    serial.wait_for(&format!("vm {name}: destroyed; in use on the host: "), SHORT)?;
    let figures = serial.wait_for("\n", SHORT)?;
    Ok(figures.trim().to_owned())
}
