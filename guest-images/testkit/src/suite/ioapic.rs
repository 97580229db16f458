//! The I/O APIC: its registers, and interrupts of the 8254 (pins 0 or 2) and the serial port (pin 4), whose lines a program
//! raises and lowers at will.
//!
//! Source: Intel "82093AA I/O Advanced Programmable Interrupt Controller (IOAPIC)".

use super::{Check, Checked, Group, check, interrupt_flag, rest, value};
use crate::apic::{self, MASKED};
use crate::chipset::{ioapic_read, ioapic_write};
use crate::machine::cpu::{Mmio, in8, out8};
use crate::machine::trap::{self, FLUSH_VECTOR, interrupts};
use crate::programs::expect;

pub(super) const GROUP: Group = Group::new(CHECKS).resting(|| {
    rest::interrupt_sources();
    rest::ioapic();
    rest::pic();
});

const CHECKS: &[Check] = &[
    value("ioapic.entries", || Ok(u64::from(ioapic_read(1) >> 16 & 0xff))),
    check("ioapic.version", || Ok(expect("at least 0x11", u64::from(ioapic_read(1) & 0xff >= 0x11), 1u64)?)),
    check("ioapic.version-read-only", || unchanged(1)),
    check("ioapic.arbitration-read-only", || unchanged(2)),
    check("ioapic.id-bits", id_bits),
    check("ioapic.index-reads-back", index),
    check("ioapic.index-keeps-eight-bits", index_bits),
    check("ioapic.entry-low-read-write-bits", entry_low),
    check("ioapic.entry-high-read-write-bits", entry_high),
    check("ioapic.entry-delivery-status-read-only", || entry_read_only(1 << 12)),
    check("ioapic.entry-remote-irr-read-only", || entry_read_only(1 << 14)),
    check("ioapic.every-entry-keeps", every_entry),
    check("ioapic.edge-delivers", edge_delivers),
    check("ioapic.edge-delivers-once", edge_once),
    check("ioapic.edge-again-on-next-edge", edge_again),
    check("ioapic.masked-does-not-deliver", masked),
    check("ioapic.edge-while-masked-is-lost", edge_masked_lost),
    check("ioapic.level-sets-remote-irr", level_remote_irr),
    check("ioapic.eoi-clears-remote-irr", eoi_clears),
    check("ioapic.level-delivers-again-while-asserted", level_again),
    check("ioapic.level-while-masked-delivers-on-unmask", level_unmask),
    check("ioapic.level-sets-tmr", level_tmr),
    check("ioapic.level-gone-is-not-delivered-again", level_gone),
    check("ioapic.remote-irr-holds-back", remote_irr_holds),
    check("ioapic.edge-clears-remote-irr", edge_clears_remote_irr),
    check("ioapic.active-low-inverts", active_low),
    check("ioapic.to-nobody", to_nobody),
    check("ioapic.logical-destination", logical),
    check("ioapic.lowest-priority", lowest),
    check("ioapic.nmi", nmi),
    check("ioapic.extint", extint),
    check("ioapic.extint-masked-is-not-delivered", extint_masked),
    check("ioapic.extint-again-after-the-8259-is-told", extint_again),
    check("ioapic.illegal-vector-is-not-delivered", illegal),
    check("ioapic.vector-change-takes-effect", vector_change),
    check("ioapic.data-window-repeats-reads", || {
        Mmio::IoApic.write(0, 1);
        let first = Mmio::IoApic.read(0x10);
        Ok(expect("version", Mmio::IoApic.read(0x10), first)?)
    }),
    value("ioapic.register-behind-the-last", || Ok(u64::from(ioapic_read(0x10 + 2 * 24)))),
    value("ioapic.register-3", || Ok(u64::from(ioapic_read(3)))),
    value("ioapic.reset-of-low-entry-is-masked", || Ok(u64::from(ioapic_read(0x10 + 2 * 23) & MASKED))),
];

/// The serial port's pin.
const PIN: u32 = 4;
const LEVEL: u32 = 1 << 15;
const LOW_ACTIVE: u32 = 1 << 13;
const REMOTE_IRR: u32 = 1 << 14;
const VECTOR: u8 = 0x6a;

fn raise() {
    out8(0x3fc, 0x0b);
    out8(0x3f9, 2);
}

fn lower() {
    out8(0x3f9, 0);
}

fn low() -> u32 {
    ioapic_read(0x10 + 2 * PIN)
}

/// Programs the pin: to this processor.
fn route(low: u32) {
    ioapic_write(0x11 + 2 * PIN, apic::id() << 24);
    ioapic_write(0x10 + 2 * PIN, low);
}

/// How often `vector` is taken by `action` and behind it.
fn taken(vector: u8, action: impl FnOnce()) -> u64 {
    let before = interrupts(vector);
    action();
    interrupt_flag();
    interrupts(vector) - before
}

fn unchanged(register: u32) -> Checked {
    let before = ioapic_read(register);
    ioapic_write(register, !before);
    Ok(expect("register", ioapic_read(register), before)?)
}

fn id_bits() -> Checked {
    let before = ioapic_read(0);
    ioapic_write(0, u32::MAX);
    let seen = ioapic_read(0);
    ioapic_write(0, before);
    expect("four bits", seen, 0x0f00_0000u32)?;
    Ok(expect("as before", ioapic_read(0), before)?)
}

fn index() -> Checked {
    for value in [0x10u32, 0x3f, 1, 0] {
        Mmio::IoApic.write(0, value);
        expect("index", Mmio::IoApic.read(0) & 0xff, value)?;
    }
    Ok(())
}

fn index_bits() -> Checked {
    Mmio::IoApic.write(0, 0xffff_ff01);
    let seen = Mmio::IoApic.read(0);
    Mmio::IoApic.write(0, 0);
    Ok(expect("index", seen, 1u32)?)
}

fn entry_low() -> Checked {
    for value in [0x1_afff, 0x1_0000, 0x1_a5a5 & !0x5000, 0x1_0800] {
        ioapic_write(0x10 + 2 * PIN, value);
        expect("entry", low(), value & !0x5000)?;
    }
    Ok(())
}

fn entry_high() -> Checked {
    for value in [0xff00_0000u32, 0x5a00_0000, 0] {
        ioapic_write(0x11 + 2 * PIN, value | 0xffff);
        expect("destination", ioapic_read(0x11 + 2 * PIN) & 0xff00_0000, value)?;
    }
    Ok(())
}

fn entry_read_only(bit: u32) -> Checked {
    ioapic_write(0x10 + 2 * PIN, MASKED | bit | u32::from(VECTOR));
    Ok(expect("bit", low() & bit, 0u32)?)
}

fn every_entry() -> Checked {
    for pin in 0..24 {
        ioapic_write(0x10 + 2 * pin, MASKED | (0x40 + pin));
    }
    for pin in 0..24 {
        expect("vector", ioapic_read(0x10 + 2 * pin), MASKED | (0x40 + pin))?;
    }
    Ok(())
}

fn edge_delivers() -> Checked {
    route(u32::from(VECTOR));
    Ok(expect("taken", taken(VECTOR, raise), 1u64)?)
}

fn edge_once() -> Checked {
    edge_delivers()?;
    Ok(expect("not again while it is high", taken(VECTOR, || {}), 0u64)?)
}

fn edge_again() -> Checked {
    edge_delivers()?;
    lower();
    Ok(expect("taken", taken(VECTOR, raise), 1u64)?)
}

fn masked() -> Checked {
    route(MASKED | u32::from(VECTOR));
    Ok(expect("taken", taken(VECTOR, raise), 0u64)?)
}

/// "When this bit is 1, the interrupt signal is masked. Edge-sensitive interrupts signaled on a masked interrupt pin are
/// ignored."
fn edge_masked_lost() -> Checked {
    route(MASKED | u32::from(VECTOR));
    raise();
    Ok(expect("taken on unmasking", taken(VECTOR, || route(u32::from(VECTOR))), 0u64)?)
}

/// What the handler of [`FLUSH_VECTOR`], which runs before its EOI, does about the line.
fn level_with(hook: fn()) -> u64 {
    trap::on_flush(hook);
    route(LEVEL | u32::from(FLUSH_VECTOR));
    taken(FLUSH_VECTOR, raise)
}

fn level_remote_irr() -> Checked {
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
    static SEEN: AtomicU32 = AtomicU32::new(0);
    SEEN.store(0, Relaxed);
    let count = level_with(|| {
        SEEN.store(low(), Relaxed);
        lower();
    });
    expect("taken", count, 1u64)?;
    Ok(expect("remote IRR in the handler", SEEN.load(Relaxed) & REMOTE_IRR, REMOTE_IRR)?)
}

fn eoi_clears() -> Checked {
    expect("taken", level_with(lower), 1u64)?;
    Ok(expect("remote IRR behind it", low() & REMOTE_IRR, 0u32)?)
}

fn level_again() -> Checked {
    use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
    static LEFT: AtomicU32 = AtomicU32::new(0);
    LEFT.store(3, Relaxed);
    trap::on_flush(|| {
        if LEFT.fetch_sub(1, Relaxed) == 1 {
            lower();
        }
    });
    let before = interrupts(FLUSH_VECTOR);
    route(LEVEL | u32::from(FLUSH_VECTOR));
    raise();
    for _ in 0..4 {
        interrupt_flag();
    }
    Ok(expect("taken until it is low", interrupts(FLUSH_VECTOR), before + 3)?)
}

fn level_unmask() -> Checked {
    trap::on_flush(lower);
    route(MASKED | LEVEL | u32::from(FLUSH_VECTOR));
    expect("not while it is masked", taken(FLUSH_VECTOR, raise), 0u64)?;
    Ok(expect("taken", taken(FLUSH_VECTOR, || route(LEVEL | u32::from(FLUSH_VECTOR))), 1u64)?)
}

fn level_tmr() -> Checked {
    route(LEVEL | u32::from(VECTOR));
    raise();
    let tmr = apic::read(0x180 + u16::from(VECTOR / 32) * 16) >> (VECTOR % 32) & 1;
    lower();
    interrupt_flag();
    Ok(expect("trigger mode", tmr, 1u32)?)
}

fn level_gone() -> Checked {
    expect("taken", level_with(lower), 1u64)?;
    Ok(expect("not again", taken(FLUSH_VECTOR, || {}), 0u64)?)
}

/// While one is not ended, no other is sent.
fn remote_irr_holds() -> Checked {
    route(LEVEL | u32::from(VECTOR));
    raise();
    lower();
    raise();
    lower();
    expect("one waits", taken(VECTOR, || {}), 1u64)?;
    Ok(expect("and no other", taken(VECTOR, || {}), 0u64)?)
}

/// Switching to edge is how remote IRR is cleared without an EOI.
fn edge_clears_remote_irr() -> Checked {
    route(LEVEL | u32::from(VECTOR));
    raise();
    lower();
    expect("set", low() & REMOTE_IRR, REMOTE_IRR)?;
    route(MASKED | u32::from(VECTOR));
    route(MASKED | LEVEL | u32::from(VECTOR));
    let seen = low() & REMOTE_IRR;
    interrupt_flag();
    Ok(expect("clear", seen, 0u32)?)
}

fn active_low() -> Checked {
    raise();
    route(LOW_ACTIVE | u32::from(VECTOR));
    Ok(expect("taken when it falls", taken(VECTOR, lower), 1u64)?)
}

fn to_nobody() -> Checked {
    ioapic_write(0x11 + 2 * PIN, 0x0e00_0000);
    ioapic_write(0x10 + 2 * PIN, u32::from(VECTOR));
    Ok(expect("taken", taken(VECTOR, raise), 0u64)?)
}

fn logical() -> Checked {
    if !apic::is_x2apic() {
        apic::set_logical_destination(apic::Model::Flat, 0x40);
    }
    ioapic_write(0x11 + 2 * PIN, 0x4000_0000);
    ioapic_write(0x10 + 2 * PIN, 1 << 11 | u32::from(VECTOR));
    Ok(expect("taken", taken(VECTOR, raise), 1u64)?)
}

fn lowest() -> Checked {
    apic::set_logical_destination(apic::Model::Flat, 0x40);
    ioapic_write(0x11 + 2 * PIN, 0x4000_0000);
    ioapic_write(0x10 + 2 * PIN, 1 << 11 | 1 << 8 | u32::from(VECTOR));
    Ok(expect("taken", taken(VECTOR, raise), 1u64)?)
}

fn nmi() -> Checked {
    route(4 << 8 | u32::from(VECTOR));
    let before = interrupts(apic::NMI_VECTOR);
    raise();
    super::clock::until(1000, || interrupts(apic::NMI_VECTOR) != before);
    Ok(expect("NMIs", interrupts(apic::NMI_VECTOR), before + 1)?)
}

/// As the 8259 says: its line 4 is the same one.
fn extint() -> Checked {
    let count = with_extint(0, || taken(EXTERNAL, raise));
    Ok(expect("taken", count, 1u64)?)
}

fn extint_masked() -> Checked {
    let count = with_extint(MASKED, || taken(EXTERNAL, raise));
    Ok(expect("taken", count, 0u64)?)
}

fn extint_again() -> Checked {
    let counts = with_extint(0, || {
        let first = taken(EXTERNAL, raise);
        // Automatic ends are on; the line goes down and up.
        lower();
        [first, taken(EXTERNAL, raise)]
    });
    expect("first", counts[0], 1u64)?;
    Ok(expect("second", counts[1], 1u64)?)
}

/// The vector of the 8259's line 4 in these checks.
const EXTERNAL: u8 = 0x84;

/// Has line 4 of the 8259 asserted by way of pin 0, whose entry has these bits too, while `body` runs.
fn with_extint<R>(bits: u32, body: impl FnOnce() -> R) -> R {
    for (port, byte) in [(0x20, 0x11), (0x21, EXTERNAL - 4), (0x21, 4), (0x21, 3), (0x21, 0xef)] {
        out8(port, byte);
    }
    ioapic_write(0x11, apic::id() << 24);
    ioapic_write(0x10, 7 << 8 | bits);
    let result = body();
    ioapic_write(0x10, MASKED);
    in8(0x21);
    result
}

fn illegal() -> Checked {
    route(5);
    let before = apic::read(0x200);
    raise();
    Ok(expect("requested", apic::read(0x200), before)?)
}

fn vector_change() -> Checked {
    route(u32::from(VECTOR));
    route(u32::from(VECTOR) + 1);
    expect("not the old one", taken(VECTOR, || {}), 0u64)?;
    Ok(expect("the new one", taken(VECTOR + 1, raise), 1u64)?)
}
