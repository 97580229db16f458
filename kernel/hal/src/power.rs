//! Turning the machine off and starting it again.
//!
//! ACPI specification, "Hardware-Reduced and Fixed Hardware: Sleeping States"; Intel I/O controller hub data sheets,
//! "Reset Control Register".

use arch::{Hpa, Port};
use spin::Once;

use crate::acpi::{Place, Power, Register};
use crate::memory::tables::{self, Caching};
use crate::{cpu, port, smp};

static POWER: Once<Power> = Once::new();

/// Remembers what the firmware says about power.
pub(crate) fn keep(power: Power) {
    POWER.call_once(|| power);
}

const SLEEP_ENABLE: u16 = 1 << 13;
const SLEEP_TYPE_SHIFT: u16 = 10;
const SCI_ENABLE: u16 = 1;
/// How often a register is read while the machine changes its state.
const TRIES: u32 = 1_000_000;

fn out8(target: Port, value: u8) {
    // SAFETY: the machine is about to stop: nothing that runs later can be harmed.
    unsafe { port::write_u8(target, value) };
}

fn out16(target: Port, value: u16) {
    // SAFETY: as above.
    unsafe { port::write_u16(target, value) };
}

fn in16(source: Port) -> u16 {
    // SAFETY: as above.
    unsafe { port::read_u16(source) }
}

fn wait(mut done: impl FnMut() -> bool) {
    for _ in 0..TRIES {
        if done() {
            return;
        }
        core::hint::spin_loop();
    }
}

/// Halts all other CPUs and turns the machine off; when that fails, halts.
pub fn power_off() -> ! {
    smp::stop_others();
    if let Some(power) = POWER.get()
        && let Some(sleep) = &power.soft_off
    {
        if let Some((command_port, value)) = power.acpi_enable
            && in16(sleep.pm1a_control) & SCI_ENABLE == 0
        {
            out8(command_port, value);
            wait(|| in16(sleep.pm1a_control) & SCI_ENABLE != 0);
        }
        out16(sleep.pm1a_control, u16::from(sleep.type_a) << SLEEP_TYPE_SHIFT | SLEEP_ENABLE);
        if let Some(pm1b_control) = sleep.pm1b_control {
            out16(pm1b_control, u16::from(sleep.type_b) << SLEEP_TYPE_SHIFT | SLEEP_ENABLE);
        }
        wait(|| false);
    }
    // Emulators' own ways: Bochs, then QEMU's two chipsets.
    for byte in b"Shutdown" {
        out8(Port(0x8900), *byte);
    }
    out16(Port(0x604), SLEEP_ENABLE);
    out16(Port(0xb004), SLEEP_ENABLE);
    cpu::halt_forever()
}

/// Halts all other CPUs and starts the machine again; when that fails, halts.
pub fn reboot() -> ! {
    smp::stop_others();
    if let Some(Power { reset: Some((register, value)), .. }) = POWER.get() {
        write_register(*register, *value);
        wait(|| false);
    }
    // The reset control register of PCI chipsets: full reset.
    out8(Port(0xcf9), 0x02);
    out8(Port(0xcf9), 0x0e);
    wait(|| false);
    // The keyboard controller's pulse on the reset line.
    out8(Port(0x64), 0xfe);
    wait(|| false);
    cpu::halt_forever()
}

fn write_register(register: Register, value: u8) {
    match register.place {
        Place::Port => {
            if let Ok(target) = u16::try_from(register.address) {
                out8(Port(target), value);
            }
        }
        Place::Memory => {
            if let Some(target) = tables::map_device(Hpa::new(register.address), 1, Caching::Uncached) {
                // SAFETY: the firmware says that this register resets the machine.
                unsafe { target.write_volatile(value) };
            }
        }
    }
}
