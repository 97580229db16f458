//! The machine at rest: what every check finds and what it is brought back to behind it.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use crate::apic;
use crate::chipset::{self, ioapic_read, ioapic_write};
use crate::machine::control::{self, Baseline};
use crate::machine::cpu::{disable_interrupts, enable_interrupts, in8, out8};
use crate::machine::pages;

/// The edge/level control registers as the firmware left them.
static ELCR: [AtomicU8; 2] = [const { AtomicU8::new(0) }; 2];
static CR0: AtomicU64 = AtomicU64::new(0);
static CR4: AtomicU64 = AtomicU64::new(0);

/// Takes down what [`all`] brings back.
pub(super) fn remember() {
    for (index, cell) in (0x4d0..).zip(&ELCR) {
        cell.store(in8(index), Relaxed);
    }
    let Baseline { cr0, cr4 } = control::baseline();
    CR0.store(cr0, Relaxed);
    CR4.store(cr4, Relaxed);
    pages::reset();
    interrupt_sources();
    pic();
    ioapic();
}

/// Processor and local APIC.
pub(super) fn all() {
    control::restore(&Baseline { cr0: CR0.load(Relaxed), cr4: CR4.load(Relaxed) });
    apic::quiet();
    drain();
}

/// Takes every interrupt that waits, and ends every one that is in service.
fn drain() {
    for _ in 0..256 {
        let in_service = (0..8u16).any(|word| apic::read(0x100 + word * 16) != 0);
        let requested = (0..8u16).any(|word| apic::read(0x200 + word * 16) != 0);
        if !in_service && !requested {
            return;
        }
        if in_service {
            apic::end_of_interrupt();
        }
        if requested {
            enable_interrupts();
            disable_interrupts();
        }
    }
}

/// The devices that raise interrupts of the 8259 and the I/O APIC: the 8254's first channel low, the serial port and
/// the clock silent.
pub(super) fn interrupt_sources() {
    out8(0x43, 0x30);
    out8(0x3f9, 0);
    out8(0x3fc, 3);
    for (index, value) in [(0x0b, 0x02), (0x0a, 0x26)] {
        out8(0x70, index);
        out8(0x71, value);
    }
    out8(0x70, 0x0c);
    in8(0x71);
    out8(0x70, 0x0d);
}

/// Both 8259 as the programs leave them, all lines masked.
pub(super) fn pic() {
    for (port, value) in [
        (0x20, 0x11),
        (0x21, chipset::PIC_VECTORS),
        (0x21, 4),
        (0x21, 1),
        (0xa0, 0x11),
        (0xa1, chipset::PIC_VECTORS + 8),
        (0xa1, 2),
        (0xa1, 1),
    ] {
        out8(port, value);
    }
    chipset::mask_8259();
    for (port, cell) in (0x4d0..).zip(&ELCR) {
        out8(port, cell.load(Relaxed));
    }
}

/// All pins of the I/O APIC masked.
pub(super) fn ioapic() {
    let pins = (ioapic_read(1) >> 16 & 0xff) + 1;
    for pin in 0..pins.min(120) {
        ioapic_write(0x10 + 2 * pin, apic::MASKED);
        ioapic_write(0x11 + 2 * pin, 0);
    }
}
