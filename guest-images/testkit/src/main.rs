//! Bare-metal test guests in one image: `test=NAME` on the command line chooses the program.
//!
//! Started by PVH (QEMU, KVM, Craton), Multiboot, or Multiboot2 (GRUB, for a run without a hypervisor). A program that ends by itself
//! prints `testkit: NAME: ok` or `testkit: NAME: FAIL reason` on the first serial port and powers the machine off; one
//! that is meant not to come back prints `testkit: NAME: go` first. `bench` prints `bench: OPERATION INSTRUCTIONS` lines
//! and `bench: done`. The programs are listed in `programs::ALL`; `test=all` runs every one that ends by itself, and
//! several names with commas between them run one after the other.
//!
//! `test=suite` runs the suite instead, whose checks each have a verdict: see `suite`.
//!
//! `tell=boot` says first how the image was booted, and with what. `apic=xapic` leaves the local APIC in xAPIC mode; the other words of the command line are in `options`.
#![no_std]
#![no_main]

mod acpi;
mod apic;
mod chipset;
mod console;
mod fw_cfg;
mod ipi;
mod loader;
mod machine;
mod options;
mod power;
mod programs;
mod smp;
mod suite;

use apic::Mode;
use console::report;
use loader::Loader;
use machine::{percpu, trap};
use programs::{Ending, Program};

/// Called by the boot code, in long mode, with interrupts off.
pub(crate) fn start(info: u64, magic: u64) -> ! {
    percpu::install(0);
    console::init();
    trap::install();
    chipset::mask_8259();
    apic::start();
    let loader = Loader::from_registers(info, magic);
    let line = loader.command_line();
    options::read(&line);
    smp::discover(loader.rsdp());
    if line.value_of("tell") == Some("boot") {
        let (protocol, modules, string) = loader.modules();
        report!("testkit: {:?} processors by fw_cfg", fw_cfg::cpus());
        report!(
            "testkit: booted by {protocol} with \"{}\", {modules} modules: \"{}\"",
            line.text(),
            string.text()
        );
    }
    let newest = match line.value_of("apic") {
        Some("xapic") => Mode::XApic,
        Some(_) | None => Mode::X2Apic,
    };
    match line.value_of("test") {
        Some("all") => {
            run(newest, |program| program.ending == Ending::Itself);
            report!("testkit: all: done");
        }
        Some("suite") => suite::run(&line, loader.rsdp(), newest),
        Some(names) => {
            for name in names.split(',').filter(|name| programs::named(name).is_none()) {
                report!("testkit: {name}: FAIL no such program");
            }
            run(newest, |program| names.split(',').any(|name| name == program.name));
        }
        None => {
            report!("testkit: FAIL no test=NAME on the command line; there are:");
            for program in programs::ALL {
                report!("testkit:   {}", program.name);
            }
        }
    }
    power::off()
}

/// Runs the programs that `is_wanted`, in their order: those for the xAPIC mode first, because there is no way back to it.
fn run(newest: Mode, is_wanted: impl Fn(&Program) -> bool) {
    let wanted = || programs::ALL.iter().filter(|program| is_wanted(program));
    for program in wanted().filter(|program| program.wants_xapic) {
        program.run();
    }
    if newest == Mode::X2Apic && apic::has_x2apic() {
        apic::choose_mode(newest);
        apic::start();
    }
    for program in wanted().filter(|program| !program.wants_xapic) {
        program.run();
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    if machine::guard::is_active() {
        report!("fail panic: {}", info.message());
        machine::guard::leave_panicking();
    }
    report!("testkit: FAIL {}", info.message());
    power::off()
}
