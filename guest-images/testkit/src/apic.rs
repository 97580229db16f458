//! The interrupt controllers: local APIC (x2APIC where the CPU has it), I/O APIC, the two 8259, and the 8254 timer.
//!
//! Source: SDM Vol. 3A, "Advanced Programmable Interrupt Controller (APIC)"; Intel "82093AA I/O Advanced Programmable
//! Interrupt Controller", "8259A Programmable Interrupt Controller", "8254 Programmable Interval Timer".

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::machine::cpu::{Mmio, Msr, cpuid, in8, out8, read_msr, write_msr};
use crate::machine::trap::interrupts;

/// First of the 16 vectors of the two 8259.
pub(crate) const PIC_VECTORS: u8 = 0x30;
/// The local APIC's timer.
pub(crate) const TIMER_VECTOR: u8 = 0x41;
/// Interrupts sent to self.
pub(crate) const IPI_VECTOR: u8 = 0x52;
/// The 8254 through pin 0 of the I/O APIC.
pub(crate) const PIT_PIN0_VECTOR: u8 = 0x60;
/// The 8254 through pin 2 of the I/O APIC.
pub(crate) const PIT_PIN2_VECTOR: u8 = 0x62;
const SPURIOUS_VECTOR: u8 = 0xff;
/// The vector of a non-maskable interrupt.
pub(crate) const NMI_VECTOR: u8 = 2;

const ID: u16 = 0x20;
const VERSION: u16 = 0x30;
const EOI: u16 = 0xb0;
const SPURIOUS: u16 = 0xf0;
const ICR_LOW: u16 = 0x300;
const ICR_HIGH: u16 = 0x310;
const LVT_TIMER: u16 = 0x320;
const LVT_LINT0: u16 = 0x350;
const INITIAL_COUNT: u16 = 0x380;
const CURRENT_COUNT: u16 = 0x390;
const DIVIDE: u16 = 0x3e0;

const MASKED: u32 = 1 << 16;
const EXTINT: u32 = 7 << 8;
const ICR_NMI: u32 = 4 << 8;
const ICR_ASSERT: u32 = 1 << 14;
const APIC_BASE_ENABLED: u64 = 1 << 11;
const APIC_BASE_X2: u64 = 1 << 10;

static X2APIC: AtomicBool = AtomicBool::new(false);

/// How the timer counts. SDM Vol. 3A, "APIC Timer".
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimerMode {
    /// Once, from a count.
    OneShot,
    /// Over and over, from a count.
    Periodic,
    /// Once, at a time stamp.
    Deadline,
}

/// Switches the local APIC on, as x2APIC where CPUID offers it, masks the 8259, and leaves everything else quiet.
pub(crate) fn init() {
    mask_8259();
    let base = read_msr(Msr::ApicBase);
    if cpuid(1, 0).ecx & 1 << 21 != 0 {
        write_msr(Msr::ApicBase, base | APIC_BASE_ENABLED | APIC_BASE_X2);
        X2APIC.store(true, Relaxed);
    } else {
        write_msr(Msr::ApicBase, base | APIC_BASE_ENABLED);
    }
    write(SPURIOUS, 0x100 | u32::from(SPURIOUS_VECTOR));
    write(LVT_TIMER, MASKED);
    write(LVT_LINT0, MASKED);
}

/// Whether the local APIC is driven through MSRs.
pub(crate) fn is_x2apic() -> bool {
    X2APIC.load(Relaxed)
}

/// Whether CPUID offers the TSC-deadline mode.
pub(crate) fn has_deadline() -> bool {
    cpuid(1, 0).ecx & 1 << 24 != 0
}

fn read(register: u16) -> u32 {
    if is_x2apic() {
        crate::machine::cpu::halves(read_msr(Msr::X2Apic(register)))[0]
    } else {
        Mmio::LocalApic.read(register)
    }
}

fn write(register: u16, value: u32) {
    if is_x2apic() {
        write_msr(Msr::X2Apic(register), u64::from(value));
    } else {
        Mmio::LocalApic.write(register, value);
    }
}

/// The local APIC's identifier, as wide as its mode has it.
pub(crate) fn id() -> u32 {
    if is_x2apic() { read(ID) } else { read(ID) >> 24 }
}

/// Version register: version in the low byte, last LVT entry in bits 16 to 23.
pub(crate) fn version() -> u32 {
    read(VERSION)
}

/// Called by the trap handler for each interrupt: ends it where it came from.
pub(crate) fn acknowledge(vector: u8) {
    match vector {
        NMI_VECTOR | SPURIOUS_VECTOR => {}
        0x30..=0x37 => out8(0x20, 0x20),
        0x38..=0x3f => {
            out8(0xa0, 0x20);
            out8(0x20, 0x20);
        }
        _ => write(EOI, 0),
    }
}

/// Programs the timer's mode; nothing is armed yet.
pub(crate) fn set_timer(mode: TimerMode) {
    let mode_bits = match mode {
        TimerMode::OneShot => 0,
        TimerMode::Periodic => 1 << 17,
        TimerMode::Deadline => 2 << 17,
    };
    write(DIVIDE, 0b1011); // divide by 1
    write(LVT_TIMER, mode_bits | u32::from(TIMER_VECTOR));
}

/// Masks and disarms the timer.
pub(crate) fn stop_timer() {
    write(INITIAL_COUNT, 0);
    write(LVT_TIMER, MASKED | u32::from(TIMER_VECTOR));
}

/// Starts a count in the one-shot and periodic modes; 0 stops.
pub(crate) fn arm_count(count: u32) {
    write(INITIAL_COUNT, count);
}

/// The running count.
pub(crate) fn current_count() -> u32 {
    read(CURRENT_COUNT)
}

/// Arms the deadline mode; 0 disarms.
pub(crate) fn arm_deadline(tsc: u64) {
    write_msr(Msr::TscDeadline, tsc);
}

/// How an interrupt is sent to the CPU that sends it.
#[derive(Clone, Copy)]
pub(crate) enum SelfInterrupt {
    /// By vector.
    Fixed(u8),
    /// Non-maskable.
    Nmi,
}

/// Sends an interrupt to this CPU through the interrupt command register.
pub(crate) fn send_to_self(kind: SelfInterrupt) {
    let low = ICR_ASSERT
        | match kind {
            SelfInterrupt::Fixed(vector) => u32::from(vector),
            SelfInterrupt::Nmi => ICR_NMI,
        };
    if is_x2apic() {
        write_msr(Msr::X2Apic(ICR_LOW), u64::from(id()) << 32 | u64::from(low));
    } else {
        write(ICR_HIGH, id() << 24);
        write(ICR_LOW, low);
    }
}

/// Interrupts of the 8254 that came through either pin of the I/O APIC that machines use for it.
pub(crate) fn pit_interrupts() -> u64 {
    interrupts(PIT_PIN0_VECTOR) + interrupts(PIT_PIN2_VECTOR)
}

/// Routes pins 0 and 2 of the I/O APIC to this CPU, edge-triggered, or masks them.
pub(crate) fn route_pit_through_ioapic(route: Route) {
    for (pin, vector) in [(0, PIT_PIN0_VECTOR), (2, PIT_PIN2_VECTOR)] {
        let low = match route {
            Route::Deliver => u32::from(vector),
            Route::Mask => MASKED,
        };
        ioapic_write(0x11 + 2 * pin, id() << 24);
        ioapic_write(0x10 + 2 * pin, low);
    }
}

/// Routes line 0 of the 8259 to this CPU as an external interrupt, or masks it.
pub(crate) fn route_pit_through_8259(route: Route) {
    match route {
        Route::Deliver => {
            write(LVT_LINT0, EXTINT);
            for (port, value) in [
                (0x20, 0x11),
                (0x21, PIC_VECTORS),
                (0x21, 4),
                (0x21, 1),
                (0xa0, 0x11),
                (0xa1, PIC_VECTORS + 8),
                (0xa1, 2),
                (0xa1, 1),
                (0xa1, 0xff),
                (0x21, 0xfe),
            ] {
                out8(port, value);
            }
        }
        Route::Mask => {
            mask_8259();
            write(LVT_LINT0, MASKED);
        }
    }
}

/// Whether an interrupt line is let through.
#[derive(Clone, Copy)]
pub(crate) enum Route {
    /// Delivered.
    Deliver,
    /// Masked.
    Mask,
}

fn mask_8259() {
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
}

/// Writes an I/O APIC register through its index and data window.
fn ioapic_write(index: u32, value: u32) {
    Mmio::IoApic.write(0, index);
    Mmio::IoApic.write(0x10, value);
}

/// Reads an I/O APIC register through its index and data window.
pub(crate) fn ioapic_read(index: u32) -> u32 {
    Mmio::IoApic.write(0, index);
    Mmio::IoApic.read(0x10)
}

/// Channel 0 of the 8254 as a rate generator: an interrupt every `divisor` periods of 1.193182 MHz.
pub(crate) fn start_pit(divisor: u16) {
    let [low, high] = divisor.to_le_bytes();
    out8(0x43, 0x34);
    out8(0x40, low);
    out8(0x40, high);
}

/// The 8254's running count in channel 0.
pub(crate) fn pit_count() -> u16 {
    out8(0x43, 0);
    u16::from_le_bytes([in8(0x40), in8(0x40)])
}
