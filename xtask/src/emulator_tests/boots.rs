//! The ways to boot a guest: our test image by each of them that it knows, flat programs, Linux by its 32-bit entry point,
//! and kernels of others.

use std::fmt::Write;

use anyhow::{Result, ensure};

use super::Case;
use super::harness::{LONG, Lab, SHORT, archive};
use super::hostile::{ESCAPE, PROMPT, enter_monitor, order};
use super::linux::{REPORT, check};
use crate::guests;
use crate::image::archive::Archive;

pub(super) const CASES: &[Case] = &[
    Case { name: "boots::every_way", run: every_way },
    Case { name: "boots::linux_by_its_32_bit_entry", run: linux_32 },
    Case { name: "boots::gnu_mach", run: gnu_mach },
    Case { name: "boots::xen", run: xen },
    Case { name: "boots::xen_starts_its_dom0", run: xen_dom0 },
];

/// Ways to boot that our test image knows, and the name it has there.
const PROTOCOLS: [&str; 3] = ["multiboot", "multiboot2", "pvh"];

/// What each of two programs, one for real mode at 0x7c00, one for 32-bit protected mode at 1 MiB, writes to COM1 before it
/// writes to port 0xF4.
const FLAT_TEXT: &[u8] = b"flat: here I am\r\n\0";
/// `mov $text, %si; mov $0x3f8, %dx; 1: lodsb; test %al, %al; jz 2f; out %al, %dx; jmp 1b; 2: mov $0x10, %al;
/// out %al, $0xf4; 3: hlt; jmp 3b`, and the text behind.
const REAL_MODE: [u8; 21] = [
    0xbe, 0x15, 0x7c, 0xba, 0xf8, 0x03, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb, 0xf8, 0xb0, 0x10, 0xe6,
    0xf4, 0xf4, 0xeb, 0xfd,
];
/// The same with 32-bit operands, and 0x11.
const PROTECTED_MODE: [u8; 25] = [
    0xbe, 0x19, 0x00, 0x10, 0x00, 0xba, 0xf8, 0x03, 0x00, 0x00, 0xac, 0x84, 0xc0, 0x74, 0x03, 0xee, 0xeb,
    0xf8, 0xb0, 0x11, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd,
];

/// A configuration with a machine for each way, and the files that they need.
fn every_way_archive() -> Result<Archive> {
    let mut text = String::from(
        "[[vm]]\nname = \"silent\"\nmemory_mib = 16\nkernel = \"testkit\"\nautostart = false\nconsole = true\n\n",
    );
    for boot in PROTOCOLS {
        writeln!(
            text,
            "[[vm]]\nname = \"{boot}\"\nmemory_mib = 16\nvcpus = 3\nkernel = \"testkit\"\nboot = \"{boot}\"\n\
             modules = [\"env.txt for {boot}\", \"testkit\"]\ncmdline = \"tell=boot test=debug-exit\"\n\
             debug_exit = true\n"
        )?;
    }
    for (name, place) in [("real", ""), ("protected", "load_address = 0x100000\n")] {
        writeln!(
            text,
            "[[vm]]\nname = \"{name}\"\nmemory_mib = 16\nkernel = \"{name}.bin\"\nboot = \"flat\"\n{place}\
             debug_exit = true\n"
        )?;
    }
    // All that is wrong with it is that it wants a screen.
    writeln!(text, "[[vm]]\nname = \"wants-screen\"\nkernel = \"screen.bin\"\nboot = \"multiboot\"\n")?;
    let mut archive = archive(&text, &["testkit"])?;
    archive.add("env.txt", b"A=1\n".to_vec());
    archive.add("real.bin", [&REAL_MODE, FLAT_TEXT].concat());
    archive.add("protected.bin", [&PROTECTED_MODE, FLAT_TEXT].concat());
    let header = [0x1bad_b002, 4, 0_u32.wrapping_sub(0x1bad_b002 + 4)];
    archive.add("screen.bin", header.iter().flat_map(|word| word.to_le_bytes()).collect());
    Ok(archive)
}

/// Each machine ends with the status that its program chose, and its console shows what that was told.
fn every_way(lab: &Lab) -> Result<()> {
    lab.boot("boots-every-way", &every_way_archive()?, |machine| {
        let serial = &mut machine.serial;
        let ends: Vec<String> = PROTOCOLS
            .map(|boot| (boot, 43))
            .into_iter()
            .chain([("real", 33), ("protected", 35)])
            .map(|(name, status)| format!("vm {name}: stopped: the guest ended with status {status}"))
            .chain(["`screen.bin` cannot be booted: its multiboot header requires a screen".to_owned()])
            .collect();
        let ends: Vec<&str> = ends.iter().map(String::as_str).collect();
        let text = serial.wait_for_all(&ends, SHORT)?;
        ensure!(!text.contains("panic"), "the hypervisor panicked:\n{text}");
        enter_monitor(serial)?;
        for boot in PROTOCOLS {
            // By convention the kernel's name is the first word by Multiboot.
            let name = if boot == "pvh" { "" } else { "testkit " };
            let told = format!(
                "booted by {boot} with \"{name}tell=boot test=debug-exit\", 2 modules: \"env.txt for {boot}\""
            );
            order(serial, &format!("console {boot}"))?;
            serial.wait_for("testkit: Some(3) processors by fw_cfg", SHORT)?;
            serial.wait_for(&told, SHORT)?;
            serial.send(ESCAPE)?;
            serial.wait_for(PROMPT, SHORT)?;
        }
        for name in ["real", "protected"] {
            order(serial, &format!("console {name}"))?;
            serial.wait_for("flat: here I am", SHORT)?;
            serial.send(ESCAPE)?;
            serial.wait_for(PROMPT, SHORT)?;
        }
        Ok(())
    })
}

/// To a shell, as by the 64-bit entry point.
fn linux_32(lab: &Lab) -> Result<()> {
    let report = lab.exec("boots-linux32", guests::named::pack("linux32-entry")?, REPORT)?;
    check(lab, &report, 1)
}

/// To where it wants a bootstrap task, which is its last word without modules.
fn gnu_mach(lab: &Lab) -> Result<()> {
    says(lab, "gnu-mach", &["GNU Mach 1.8", "RTC time is ", "No bootstrap code loaded with the kernel!"])
}

/// To where it wants the kernel of its first guest.
fn xen(lab: &Lab) -> Result<()> {
    says(
        lab,
        "xen",
        &["Xen version 4.17", "Bootloader: Craton", "load base address: ", "dom0 kernel not specified"],
    )
}

/// To where it has started its other processor and enters its first guest.
fn xen_dom0(lab: &Lab) -> Result<()> {
    says(lab, "xen-dom0", &["Brought up 2 CPUs", "Dom0 kernel: 64-bit", "about to get started..."])
}

/// The guest `name` of ours says each of `signs`, in this order.
fn says(lab: &Lab, name: &str, signs: &[&str]) -> Result<()> {
    lab.boot(&format!("boots-{name}"), &guests::named::pack(name)?, |machine| {
        for sign in signs {
            let (index, text) = machine.serial.wait_for_any(&[sign, " stopped: ", "craton: panic"], LONG)?;
            ensure!(
                index == 0,
                "{name} does not say \"{sign}\": {text}{}",
                machine.serial.wait_for("\n", SHORT)?
            );
        }
        Ok(())
    })
}
