//! Bare-metal test guests in one image: `test=NAME` on the command line chooses the program.
//!
//! Started by PVH (QEMU, KVM, Craton) or Multiboot2 (GRUB, for a run without a hypervisor). A program that ends by itself
//! prints `testkit: NAME: ok` or `testkit: NAME: FAIL reason` on the first serial port and powers the machine off; one
//! that is meant not to come back prints `testkit: NAME: go` first. `bench` prints `bench: OPERATION INSTRUCTIONS` lines
//! and `bench: done`. The programs are listed in `programs::ALL`; `test=all` runs every one that ends by itself.
#![no_std]
#![no_main]

mod apic;
mod console;
mod machine;
mod power;
mod programs;

use console::report;
use machine::{boot, trap};
use programs::Ending;

/// Called by the boot code, in long mode, with interrupts off.
pub(crate) fn start(info: u64, magic: u64) -> ! {
    console::init();
    trap::install();
    apic::init();
    let line = boot::command_line(info, magic);
    match line.value_of("test") {
        Some("all") => {
            for program in programs::ALL.iter().filter(|program| program.ending == Ending::Itself) {
                program.run();
            }
            report!("testkit: all: done");
        }
        Some(name) => match programs::ALL.iter().find(|program| program.name == name) {
            Some(program) => program.run(),
            None => report!("testkit: {name}: FAIL no such program"),
        },
        None => {
            report!("testkit: FAIL no test=NAME on the command line; there are:");
            for program in programs::ALL {
                report!("testkit:   {}", program.name);
            }
        }
    }
    power::off()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    report!("testkit: FAIL {}", info.message());
    power::off()
}
