//! The PC's other interrupt controllers and its timer: I/O APIC, the two 8259, the 8254.
//!
//! Source: Intel "82093AA I/O Advanced Programmable Interrupt Controller", "8259A Programmable Interrupt Controller",
//! "8254 Programmable Interval Timer".

use crate::apic::{self, LVT_LINT0, MASKED};
use crate::machine::cpu::{Mmio, in8, out8};
use crate::machine::trap::interrupts;

/// First of the 16 vectors of the two 8259.
pub(crate) const PIC_VECTORS: u8 = 0x30;
/// The 8254 through pin 0 of the I/O APIC.
pub(crate) const PIT_PIN0_VECTOR: u8 = 0x60;
/// The 8254 through pin 2 of the I/O APIC.
pub(crate) const PIT_PIN2_VECTOR: u8 = 0x62;
/// Delivery mode of a local vector table entry: as the 8259 says.
const EXTINT: u32 = 7 << 8;

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
        ioapic_write(0x11 + 2 * pin, apic::id() << 24);
        ioapic_write(0x10 + 2 * pin, low);
    }
}

/// Routes line 0 of the 8259 to this CPU as an external interrupt, or masks it.
pub(crate) fn route_pit_through_8259(route: Route) {
    match route {
        Route::Deliver => {
            apic::write(LVT_LINT0, EXTINT);
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
            apic::write(LVT_LINT0, MASKED);
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

/// Masks all lines of both 8259.
pub(crate) fn mask_8259() {
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
}

/// Writes an I/O APIC register through its index and data window.
pub(crate) fn ioapic_write(index: u32, value: u32) {
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
