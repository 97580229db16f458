//! Craton, the hypervisor image: it composes the parts and holds no `unsafe` code.
#![no_std]
#![no_main]

extern crate alloc;

mod absent_cpu_test;
mod boot_archive;
mod clock;
mod cores;
mod cpu_loop;
mod cycle_test;
mod host_use;
mod log;
mod operator;
mod panic;
mod panic_test;
mod screen;
mod terminal_line;
mod vm;
mod vtx_check;

use bootloader_api::BootInfo;
use hal::boot::Machine;

bootloader_api::entry_point!(entry, config = &hal::boot::CONFIG);

/// Where the boot loader enters.
fn entry(info: &'static mut BootInfo) -> ! {
    hal::serial::init();
    log::init();
    ::log::info!("Craton {}", env!("CARGO_PKG_VERSION"));
    hal::boot::start(info, main)
}

/// Called on the boot CPU when the machine is set up.
fn main(mut machine: Machine) -> ! {
    if let Some(screen) = machine.screen.take() {
        log::add_screen(screen::TextConsole::new(screen));
    }
    panic_test::run_if_asked(machine.archive);
    vtx_check::require();
    absent_cpu_test::add_if_asked(&mut machine);
    cpu_loop::run(&machine)
}
