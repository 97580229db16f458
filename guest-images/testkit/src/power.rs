//! Switching the machine off.
//!
//! Craton's machine has its ACPI power-management block at 0x600 (ACPI Specification, "PM1 Control Registers"); QEMU's PC
//! has it at the same place after its firmware ran, with another sleep type.

use crate::console;
use crate::machine::cpu::{out16, triple_fault};

/// PM1a control register.
const PM1A_CONTROL: u16 = 0x604;
/// SLP_EN with sleep type 5, S5 in Craton's DSDT.
const SOFT_OFF: u16 = 1 << 13 | 5 << 10;
/// SLP_EN with sleep type 0, S5 of QEMU's PC.
const QEMU_SOFT_OFF: u16 = 1 << 13;

/// Powers off by ACPI; where nothing happens, ends the machine by a triple fault.
pub(crate) fn off() -> ! {
    console::flush();
    out16(PM1A_CONTROL, SOFT_OFF);
    out16(PM1A_CONTROL, QEMU_SOFT_OFF);
    triple_fault()
}
