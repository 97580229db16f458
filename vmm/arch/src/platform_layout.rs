//! Where the parts of the virtual PC are: the port and memory addresses and interrupt numbers on which the device
//! models and the firmware tables that describe them to a guest must agree. Nothing but wiring.
//!
//! ACPI Specification, "ACPI Hardware Specification", for the meaning of the power-management blocks; the legacy
//! numbers are those of the IBM PC/AT.

use crate::{Gpa, Port};

/// First port of the power-management register blocks.
pub const PM_BASE: Port = Port(0x600);
/// Port of the SMI control and enable register, 4 bytes.
pub const SMI_ENABLE: Port = Port(0x630);
/// PM1a event block: status at +0, enable at +2.
pub const PM1A_EVENT: Port = PM_BASE;
/// Length of the PM1a event block, in bytes.
pub const PM1A_EVENT_BYTES: u8 = 4;
/// PM1a control block.
pub const PM1A_CONTROL: Port = Port(0x604);
/// Length of the PM1a control block, in bytes.
pub const PM1A_CONTROL_BYTES: u8 = 2;
/// PM timer block.
pub const PM_TIMER: Port = Port(0x608);
/// Length of the PM timer block, in bytes.
pub const PM_TIMER_BYTES: u8 = 4;
/// Frequency of the PM timer, in Hz.
pub const PM_TIMER_HZ: u64 = 3_579_545;
/// Whether the PM timer counts in 32 bits (FADT flag TMR_VAL_EXT) rather than 24.
pub const PM_TIMER_IS_32_BIT: bool = true;
/// SLP_TYP value in PM1 control that means S5, for the `\_S5` package.
pub const SLEEP_TYPE_S5: u8 = 5;
/// Port of the reset register (FADT RESET_REG, one byte).
pub const RESET_REGISTER: Port = Port(0xcf9);
/// Value that resets the machine when written to [`RESET_REGISTER`].
pub const RESET_VALUE: u8 = 0x06;

/// General-purpose event block 0: status at +0, enable at +2.
pub const GPE0: Port = Port(0x60c);
/// Length of general-purpose event block 0, in bytes: 16 events.
pub const GPE0_BYTES: u8 = 4;
/// Port of the SMI command register (FADT SMI_CMD); the status byte that goes with it follows.
pub const SMI_COMMAND: Port = Port(0xb2);
/// Value that turns ACPI mode on when written to [`SMI_COMMAND`] (FADT ACPI_ENABLE).
pub const ACPI_ENABLE: u8 = 0xf1;
/// Value that turns ACPI mode off when written to [`SMI_COMMAND`] (FADT ACPI_DISABLE).
pub const ACPI_DISABLE: u8 = 0xf0;

/// ISA interrupt of the ACPI system control interrupt: level-triggered, active high on its IOAPIC pin.
pub const SCI_IRQ: u8 = 9;
/// ISA interrupt of the interval timer.
pub const TIMER_IRQ: u8 = 0;
/// IOAPIC pin (and global system interrupt) to which ISA interrupt 0 is connected.
pub const TIMER_GSI: u8 = 2;
/// ISA interrupt of the serial port.
pub const COM1_IRQ: u8 = 4;
/// ISA interrupt of the real-time clock.
pub const RTC_IRQ: u8 = 8;

/// ISA interrupt of the keyboard.
pub const KEYBOARD_IRQ: u8 = 1;
/// ISA interrupt of the keyboard controller's second port.
pub const AUXILIARY_IRQ: u8 = 12;

/// First port of the serial port.
pub const COM1: Port = Port(0x3f8);
/// First port of the primary 8259.
pub const PIC_PRIMARY: Port = Port(0x20);
/// First port of the secondary 8259.
pub const PIC_SECONDARY: Port = Port(0xa0);
/// First of the two edge/level control registers.
pub const ELCR: Port = Port(0x4d0);
/// First port of the 8254.
pub const PIT: Port = Port(0x40);
/// System control port B: timer 2 gate and output.
pub const SYSTEM_CONTROL_B: Port = Port(0x61);
/// Index port of the CMOS memory; the data port follows.
pub const CMOS: Port = Port(0x70);
/// CMOS index of the century, in the clock's number format (FADT CENTURY).
pub const CMOS_CENTURY: u8 = 0x32;
/// Index port of the second bank of CMOS memory; its data port follows.
pub const CMOS_SECOND_BANK: Port = Port(0x72);
/// Data port of the keyboard controller.
pub const KEYBOARD_DATA: Port = Port(0x60);
/// Status and command port of the keyboard controller.
pub const KEYBOARD_COMMAND: Port = Port(0x64);
/// Diagnostic port: firmware shows its progress there, and operating systems write it to wait a microsecond.
pub const DIAGNOSTIC: Port = Port(0x80);
/// Debug console: takes text, reads its own number.
pub const DEBUG_CONSOLE: Port = Port(0xe9);
/// Debug console of firmware: the same at another port.
pub const FIRMWARE_DEBUG_CONSOLE: Port = Port(0x402);
/// First port of the device that ends the machine, where a guest's definition asks for it.
pub const DEBUG_EXIT: Port = Port(0xf4);
/// Ports of the device that ends the machine.
pub const DEBUG_EXIT_PORTS: u16 = 4;
/// System control port A: A20 gate and fast reset.
pub const SYSTEM_CONTROL_A: Port = Port(0x92);
/// Address port of PCI configuration mechanism #1; the data port is at +4.
pub const PCI_CONFIG: Port = Port(0xcf8);

/// Selector port of the firmware configuration device; the data port follows, the DMA register is at +4.
pub const FW_CFG: Port = Port(0x510);
/// Length of its ports.
pub const FW_CFG_BYTES: u8 = 12;

/// First address of the legacy video memory, which is RAM in machines without a screen.
pub const LEGACY_VIDEO: Gpa = Gpa::new(0xa_0000);
/// End of the legacy video memory.
pub const LEGACY_VIDEO_END: Gpa = Gpa::new(0xc_0000);
/// First address of the IOAPIC's register window.
pub const IOAPIC_BASE: Gpa = Gpa::new(0xfec0_0000);
/// Length of the IOAPIC's register window, in bytes.
pub const IOAPIC_BYTES: u64 = 0x1000;
/// APIC ID in the IOAPIC's ID register after reset, and its ID in the MADT.
pub const IOAPIC_ID: u8 = 0;
/// Number of IOAPIC inputs; global system interrupts 0 to this less one.
pub const IOAPIC_PINS: u8 = 24;
/// First address of the HPET's registers.
pub const HPET_BASE: Gpa = Gpa::new(0xfed0_0000);
/// Length of the HPET's registers, in bytes.
pub const HPET_BYTES: u64 = 0x400;
/// Comparators of the HPET.
pub const HPET_TIMERS: u8 = 3;
/// Low half of the HPET's capabilities register: what the ACPI HPET table calls the event timer block's ID. Vendor
/// 8086h, legacy replacement, a 64-bit counter, three timers, revision 1.
pub const HPET_ID: u32 = 0x8086_a201;
/// Period of the HPET's main counter, in femtoseconds: 100 MHz.
pub const HPET_PERIOD_FS: u32 = 10_000_000;
/// The shortest period for which the HPET's periodic mode loses nothing, in its ticks (ACPI HPET table, "Main Counter
/// Minimum Clock Tick in Periodic Mode").
pub const HPET_MINIMUM_TICK: u16 = 5_000;
/// The first port that functions on the PCI bus may decode; those below are the legacy devices'.
pub const PCI_PORTS: Port = Port(0x1000);
/// Number of PCI interrupt lines, PIRQA to PIRQH.
pub const PIRQS: u8 = 8;
/// IOAPIC pin (and global system interrupt) of the first of them; the others follow.
pub const PIRQ_GSI: u8 = 16;
/// The PCI interrupt line (0 for PIRQA) that pin `pin` (0 for INTA#) of device `device` on bus 0 is wired to. Pins of
/// devices 0 to 24 are on lines E to H, in turn, so that devices spread over them; those of the others, which are the
/// chipset's, on A to D.
pub const fn pirq_of(device: u8, pin: u8) -> u8 {
    const LAST_IN_TURN: u8 = 24;
    if device <= LAST_IN_TURN { 4 + ((device + pin) & 3) } else { pin & 3 }
}
/// Where the memory-mapped configuration space of PCI is after reset; the host bridge can move it.
pub const ECAM_BASE: Gpa = Gpa::new(0xb000_0000);
/// Its length, in bytes: 256 buses.
pub const ECAM_BYTES: u64 = 256 << 20;
/// Where RAM stops at the latest below 4 GiB; the rest up to 4 GiB is for devices.
pub const LOW_RAM_END: Gpa = ECAM_BASE;
/// First address of the window below 4 GiB for the base addresses of PCI functions.
pub const PCI_WINDOW: Gpa = Gpa::new(0xc000_0000);
/// End of that window.
pub const PCI_WINDOW_END: Gpa = Gpa::new(0xfec0_0000);
/// First address of the scratch device, in machines that have test devices.
pub const SCRATCH_BASE: Gpa = Gpa::new(0xfef0_0000);
/// Length of the scratch device, in bytes.
pub const SCRATCH_BYTES: u64 = 0x4000;
/// First address of every local APIC's register window.
pub const LOCAL_APIC_BASE: Gpa = Gpa::new(0xfee0_0000);
/// Where firmware ends: the reset vector is just below.
pub const FIRMWARE_END: Gpa = Gpa::new(1 << 32);
/// What of the addresses below [`FIRMWARE_END`] is firmware's, image and variables together, in bytes.
pub const MOST_FIRMWARE_BYTES: u64 = 16 << 20;
/// The least length of a firmware image, in bytes: the segment in which a processor in real mode goes on.
pub const LEAST_FIRMWARE_BYTES: u64 = 64 << 10;
/// Where the copy of firmware's end that is seen below 1 MiB ends.
pub const SHADOW_END: Gpa = Gpa::new(1 << 20);
/// Its length, in bytes.
pub const SHADOW_BYTES: u64 = 128 << 10;
/// First address of the memory that can be switched between RAM and read-only memory, up to [`SHADOW_END`].
pub const SWITCHED_BASE: Gpa = Gpa::new(0xc_0000);
/// First address of a PC's screen, up to [`SWITCHED_BASE`].
pub const SCREEN_BASE: Gpa = Gpa::new(0xa_0000);
