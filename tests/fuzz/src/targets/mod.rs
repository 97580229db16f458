//! What is fuzzed. One file a target, or a few that are alike.

mod acpi_pm;
mod config;
mod emulate;
mod firmware;
mod flash;
mod fw_cfg;
mod hpet;
mod i8042;
mod ioapic;
mod lapic;
mod loader;
mod machine;
mod pc;
mod pci;
mod pic;
mod pit;
mod reset_control;
mod rtc;
mod uart;
mod vga;

use crate::{Bytes, Seen, subject};

/// Something that any bytes must not break.
#[derive(Debug)]
pub struct Target {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// Plays an input. Panics if something does not hold.
    pub run: fn(Bytes<'_>, &mut Seen),
}

/// All targets.
pub static ALL: &[Target] = &[
    Target { name: "acpi-pm", about: "ACPI fixed hardware", run: subject::play::<acpi_pm::Subject> },
    Target { name: "config", about: "craton.toml", run: config::text },
    Target { name: "archive", about: "the boot archive and the configuration in it", run: config::archive },
    Target { name: "emulate", about: "instruction emulation", run: emulate::run },
    Target { name: "firmware", about: "firmware images", run: firmware::image },
    Target { name: "flash", about: "flash chip", run: subject::play::<flash::Subject> },
    Target { name: "flat", about: "flat images", run: loader::flat },
    Target { name: "fw-cfg", about: "firmware configuration device", run: subject::play::<fw_cfg::Subject> },
    Target { name: "hpet", about: "high-precision event timer", run: subject::play::<hpet::Subject> },
    Target { name: "i8042", about: "keyboard controller and keyboard", run: subject::play::<i8042::Subject> },
    Target { name: "ioapic", about: "I/O APIC", run: subject::play::<ioapic::Subject> },
    Target { name: "lapic", about: "local APIC", run: subject::play::<lapic::Subject> },
    Target { name: "loader", about: "kernel images: bzImage and ELF with PVH", run: loader::image },
    Target {
        name: "machine",
        about: "a whole virtual machine and its guest, operator and host",
        run: machine::run,
    },
    Target {
        name: "multiboot",
        about: "kernel images: Multiboot 1 and 2, with modules",
        run: loader::multiboot,
    },
    Target { name: "pc", about: "all devices together, wired", run: subject::play::<pc::Subject> },
    Target {
        name: "pci",
        about: "PCI: configuration, base addresses, interrupts",
        run: subject::play::<pci::Subject>,
    },
    Target { name: "pic", about: "pair of 8259s", run: subject::play::<pic::Subject> },
    Target { name: "pit", about: "interval timer", run: subject::play::<pit::Subject> },
    Target { name: "reset-control", about: "reset ports", run: subject::play::<reset_control::Subject> },
    Target { name: "rtc", about: "real-time clock and CMOS memory", run: subject::play::<rtc::Subject> },
    Target { name: "uart", about: "serial port", run: subject::play::<uart::Subject> },
    Target { name: "vga", about: "video adapter and its pictures", run: subject::play::<vga::Subject> },
];

/// The target with `name`.
pub fn find(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|target| target.name == name)
}
