//! The local APIC's modes: what each has for itself, and the ways between them.
//!
//! Source: SDM Vol. 3A, "Extended XAPIC (x2APIC)", "x2APIC State Transitions"; "Relocating the Local APIC Registers".

use super::{Check, Checked, Group, Phase, check, fault_free, gp, interrupt_flag, value};
use crate::apic::{self, MASKED};
use crate::ipi::{self, Destination, Kind};
use crate::machine::cpu::{Mmio, cpuid};
use crate::machine::msr::TestMsr;
use crate::machine::trap::interrupts;
use crate::programs::expect;

pub(super) const GROUP_XAPIC: Group = Group::new(XAPIC).resting(rest_xapic);
pub(super) const GROUP_X2APIC: Group = Group::new(X2APIC).in_phase(Phase::X2Apic);
pub(super) const GROUP_LAST: Group = Group::new(LAST).in_phase(Phase::Last);

const XAPIC: &[Check] = &[
    check("apic-base.boot-processor-and-enabled", base_at_start),
    check("apic-base.reserved-low-bits-gp", || refuses_base(|base| base | 1)),
    check("apic-base.reserved-bit-9-gp", || refuses_base(|base| base | 1 << 9)),
    check("apic-base.reserved-high-bits-gp", || refuses_base(|base| base | 1 << 62)),
    check("apic-base.above-physical-width-gp", || refuses_base(|base| base | 1 << width())),
    check("apic-base.xapic-to-extended-without-enable-gp", || {
        refuses_base(|base| base & !ENABLED | EXTENDED)
    }),
    check("apic-base.relocation", relocation),
    check("apic-base.relocation-leaves-old-page", relocation_old_page),
    check("xapic.x2apic-msr-read-gp", || gp(TestMsr::x2apic(0x20).read().map(drop))),
    check("xapic.x2apic-msr-write-gp", || gp(TestMsr::x2apic(0x80).write(0))),
    check("xapic.x2apic-self-ipi-gp", || gp(TestMsr::x2apic(0x3f0).write(0x52))),
    check("xapic.ldr-keeps-upper-byte", ldr),
    check("xapic.dfr-keeps-model-only", dfr),
    check("xapic.logical-flat-matches", || logical(0xffff_ffff, 0x04, 0x0c, 1)),
    check("xapic.logical-flat-misses", || logical(0xffff_ffff, 0x04, 0x0b, 0)),
    check("xapic.logical-flat-all", || logical(0xffff_ffff, 0x04, 0xff, 1)),
    check("xapic.logical-cluster-matches", || logical(0x0fff_ffff, 0x21, 0x23, 1)),
    check("xapic.logical-cluster-other-cluster", || logical(0x0fff_ffff, 0x21, 0x33, 0)),
    check("xapic.logical-cluster-other-member", || logical(0x0fff_ffff, 0x21, 0x2e, 0)),
    check("xapic.logical-cluster-all", || logical(0x0fff_ffff, 0x21, 0xff, 1)),
    check("xapic.logical-zero-destination", || logical(0xffff_ffff, 0, 0xff00_0000u32.count_ones(), 0)),
    check("xapic.lowest-priority-to-self", lowest_priority),
    check("xapic.esr-illegal-register", illegal_register),
    check("xapic.id-reads-in-upper-byte", id_upper),
    check("xapic.icr-high-reads-back", icr_high),
    check("xapic.unused-bytes-of-a-register", unused_bytes),
    check("xapic.eoi-of-any-value", eoi_any),
    value("xapic.reserved-offset-reads", || Ok(u64::from(apic::read(0x3f0)))),
];

/// Every x2APIC register whose write or read is refused.
const X2APIC: &[Check] = &[
    check("x2apic.base-msr-says-extended", || {
        Ok(expect("bits", base()? & (ENABLED | EXTENDED), ENABLED | EXTENDED)?)
    }),
    check("x2apic.illegal-switch-to-xapic-gp", || refuses_base(|base| base & !EXTENDED)),
    check("x2apic.illegal-switch-without-enable-gp", || refuses_base(|base| base & !ENABLED)),
    check("x2apic.same-mode-again-is-fine", || fault_free(TestMsr::APIC_BASE.write(base()?))),
    check("x2apic.id-is-leaf-b", || Ok(expect("identifier", apic::id(), cpuid(0xb, 0).edx)?)),
    check("x2apic.ldr-from-id", || {
        let id = apic::id();
        Ok(expect("logical destination", apic::logical_destination(), (id >> 4) << 16 | 1 << (id & 0xf))?)
    }),
    check("x2apic.id-write-gp", || gp(TestMsr::x2apic(0x20).write(0))),
    check("x2apic.version-write-gp", || gp(TestMsr::x2apic(0x30).write(0))),
    check("x2apic.ppr-write-gp", || gp(TestMsr::x2apic(0xa0).write(0))),
    check("x2apic.ldr-write-gp", || gp(TestMsr::x2apic(0xd0).write(0))),
    check("x2apic.isr-write-gp", || gp(TestMsr::x2apic(0x100).write(0))),
    check("x2apic.tmr-write-gp", || gp(TestMsr::x2apic(0x180).write(0))),
    check("x2apic.irr-write-gp", || gp(TestMsr::x2apic(0x200).write(0))),
    check("x2apic.current-count-write-gp", || gp(TestMsr::x2apic(0x390).write(0))),
    check("x2apic.dfr-read-gp", || gp(TestMsr::x2apic(0xe0).read().map(drop))),
    check("x2apic.dfr-write-gp", || gp(TestMsr::x2apic(0xe0).write(0xffff_ffff))),
    check("x2apic.arbitration-read-gp", || gp(TestMsr::x2apic(0x90).read().map(drop))),
    check("x2apic.remote-read-gp", || gp(TestMsr::x2apic(0xc0).read().map(drop))),
    check("x2apic.icr-high-read-gp", || gp(TestMsr::x2apic(0x310).read().map(drop))),
    check("x2apic.icr-high-write-gp", || gp(TestMsr::x2apic(0x310).write(0))),
    check("x2apic.eoi-read-gp", || gp(TestMsr::x2apic(0xb0).read().map(drop))),
    check("x2apic.eoi-of-nonzero-gp", || gp(TestMsr::x2apic(0xb0).write(1))),
    check("x2apic.self-ipi-read-gp", || gp(TestMsr::x2apic(0x3f0).read().map(drop))),
    check("x2apic.self-ipi-arrives", || {
        let before = interrupts(0x52);
        ipi::send_by_self_register(0x52);
        interrupt_flag();
        Ok(expect("taken", interrupts(0x52), before + 1)?)
    }),
    check("x2apic.self-ipi-reserved-bits-gp", || gp(TestMsr::x2apic(0x3f0).write(0x152))),
    check("x2apic.esr-of-nonzero-gp", || gp(TestMsr::x2apic(0x280).write(1))),
    check("x2apic.tpr-reserved-bits-gp", || gp(TestMsr::x2apic(0x80).write(0x100))),
    check("x2apic.tpr-upper-half-gp", || gp(TestMsr::x2apic(0x80).write(1 << 32))),
    check("x2apic.svr-reserved-bits-gp", || gp(TestMsr::x2apic(0xf0).write(0x1_01ff))),
    check("x2apic.divide-reserved-bits-gp", || gp(TestMsr::x2apic(0x3e0).write(0x10))),
    check("x2apic.divide-bit-2-gp", || gp(TestMsr::x2apic(0x3e0).write(0x4))),
    check("x2apic.initial-count-upper-half-gp", || gp(TestMsr::x2apic(0x380).write(1 << 32))),
    check("x2apic.lvt-timer-reserved-bits-gp", || gp(TestMsr::x2apic(0x320).write(1 << 20 | 0x1_0041))),
    check("x2apic.lvt-lint0-reserved-bits-gp", || gp(TestMsr::x2apic(0x350).write(1 << 17 | 0x1_0041))),
    check("x2apic.lvt-error-reserved-bits-gp", || gp(TestMsr::x2apic(0x370).write(0x1_0741))),
    check("x2apic.icr-reserved-bits-gp", || gp(TestMsr::x2apic(0x300).write(1 << 20 | 0x4_4052))),
    check("x2apic.icr-reserved-bit-13-gp", || gp(TestMsr::x2apic(0x300).write(1 << 13 | 0x4_4052))),
    check("x2apic.unused-register-read-gp", || gp(TestMsr::x2apic(0x40).read().map(drop))),
    check("x2apic.unused-register-write-gp", || gp(TestMsr::x2apic(0x3a0).write(0))),
    check("x2apic.past-the-end-gp", || gp(TestMsr::x2apic(0x400).read().map(drop))),
    check("x2apic.page-is-not-answered", page_not_answered),
    check("x2apic.icr-destination-reads-back", || {
        fault_free(TestMsr::x2apic(0x300).write(0x1234_0000_0004_4052))?;
        Ok(expect("command", TestMsr::x2apic(0x300).read().unwrap_or(0), 0x1234_0000_0004_4052u64)?)
    }),
    check("x2apic.logical-to-self", || logical_x2(|ldr| ldr, 1)),
    check("x2apic.logical-other-cluster", || logical_x2(|ldr| ldr + 0x1_0000, 0)),
    check("x2apic.logical-other-member", || logical_x2(|ldr| ldr & !0xffff | !ldr & 0xfff0, 0)),
    check("x2apic.logical-all", || logical_x2(|_| u32::MAX, 1)),
    check("x2apic.physical-upper-bits-matter", || {
        let before = interrupts(0x52);
        ipi::send(Destination::Physical(apic::id() | 0x100), Kind::Fixed(0x52));
        interrupt_flag();
        Ok(expect("taken", interrupts(0x52), before)?)
    }),
];

/// In this order, each from where the one before it left the local APIC.
const LAST: &[Check] = &[
    check("apic-mode.1-extended-to-disabled", || {
        fault_free(TestMsr::APIC_BASE.write(base()? & !(ENABLED | EXTENDED)))?;
        Ok(expect("bits", base()? & (ENABLED | EXTENDED), 0u64)?)
    }),
    check("apic-mode.2-disabled-hides-cpuid-bit", || Ok(expect("leaf 1", cpuid(1, 0).edx >> 9 & 1, 0u32)?)),
    check("apic-mode.3-disabled-to-extended-gp", || refuses_base(|base| base | ENABLED | EXTENDED)),
    check("apic-mode.4-disabled-x2apic-msr-gp", || gp(TestMsr::x2apic(0x20).read().map(drop))),
    check("apic-mode.5-disabled-to-xapic", || {
        fault_free(TestMsr::APIC_BASE.write(base()? | ENABLED))?;
        expect("bits", base()? & (ENABLED | EXTENDED), ENABLED)?;
        Ok(expect("leaf 1", cpuid(1, 0).edx >> 9 & 1, 1u32)?)
    }),
    check("apic-mode.6-reset-spurious-register", || {
        Ok(expect("register", Mmio::LocalApic.read(0xf0), 0xffu32)?)
    }),
    check("apic-mode.7-reset-lvt-masked", || {
        for register in [0x320, 0x330, 0x340, 0x350, 0x360, 0x370] {
            expect("entry", Mmio::LocalApic.read(register), MASKED)?;
        }
        Ok(())
    }),
    check("apic-mode.8-reset-destinations", || {
        expect("logical destination", Mmio::LocalApic.read(0xd0), 0u32)?;
        Ok(expect("format", Mmio::LocalApic.read(0xe0), u32::MAX)?)
    }),
    check("apic-mode.9-reset-counts-and-priority", || {
        for register in [0x80, 0x280, 0x300, 0x310, 0x380, 0x390, 0x3e0] {
            expect("register", Mmio::LocalApic.read(register), 0u32)?;
        }
        Ok(())
    }),
];

const ENABLED: u64 = 1 << 11;
const EXTENDED: u64 = 1 << 10;
const BOOT_PROCESSOR: u64 = 1 << 8;
const HOME: u64 = 0xfee0_0000;

fn rest_xapic() {
    TestMsr::APIC_BASE.write(HOME | ENABLED | BOOT_PROCESSOR).ok();
    Mmio::LocalApic.write(0xd0, 0);
    Mmio::LocalApic.write(0xe0, u32::MAX);
}

/// Bits of a physical address.
fn width() -> u32 {
    cpuid(0x8000_0008, 0).eax & 0xff
}

fn base() -> Checked<u64> {
    Ok(TestMsr::APIC_BASE.read().unwrap_or(u64::MAX))
}

/// A write of the base register is #GP and leaves it as it is.
fn refuses_base(change: fn(u64) -> u64) -> Checked {
    let before = base()?;
    let result = TestMsr::APIC_BASE.write(change(before));
    let after = base()?;
    gp(result)?;
    Ok(expect("register", after, before)?)
}

fn base_at_start() -> Checked {
    Ok(expect("register", base()?, HOME | ENABLED | BOOT_PROCESSOR)?)
}

fn relocation() -> Checked {
    let there = Mmio::Nothing.base() as u64;
    let version = apic::version();
    fault_free(TestMsr::APIC_BASE.write(there | ENABLED | BOOT_PROCESSOR))?;
    expect("register", base()?, there | ENABLED | BOOT_PROCESSOR)?;
    let found = Mmio::Nothing.read(0x30);
    Mmio::Nothing.write(0x80, 0x20);
    let priority = Mmio::Nothing.read(0x80);
    Mmio::Nothing.write(0x80, 0);
    fault_free(TestMsr::APIC_BASE.write(HOME | ENABLED | BOOT_PROCESSOR))?;
    expect("version register there", found, version)?;
    expect("priority register there", priority, 0x20u32)?;
    Ok(expect("version register back", apic::version(), version)?)
}

fn relocation_old_page() -> Checked {
    let there = Mmio::Nothing.base() as u64;
    fault_free(TestMsr::APIC_BASE.write(there | ENABLED | BOOT_PROCESSOR))?;
    let found = Mmio::LocalApic.read(0x30);
    fault_free(TestMsr::APIC_BASE.write(HOME | ENABLED | BOOT_PROCESSOR))?;
    Ok(expect("nothing answers", found, u32::MAX)?)
}

fn ldr() -> Checked {
    apic::write(0xd0, 0x5aff_ffff);
    Ok(expect("register", apic::read(0xd0), 0x5a00_0000u32)?)
}

fn dfr() -> Checked {
    apic::write(0xe0, 0);
    expect("cluster", apic::read(0xe0), 0x0fff_ffffu32)?;
    apic::write(0xe0, 0xf000_0000);
    Ok(expect("flat", apic::read(0xe0), 0xffff_ffffu32)?)
}

/// With this model and logical destination, a message to `address` arrives so often.
fn logical(model: u32, mine: u8, address: u32, times: u64) -> Checked {
    apic::write(0xe0, model);
    apic::write(0xd0, u32::from(mine) << 24);
    let before = interrupts(0x52);
    ipi::send(Destination::Logical(address), Kind::Fixed(0x52));
    interrupt_flag();
    Ok(expect("taken", interrupts(0x52), before + times)?)
}

fn logical_x2(address: fn(u32) -> u32, times: u64) -> Checked {
    let before = interrupts(0x52);
    ipi::send(Destination::Logical(address(apic::logical_destination())), Kind::Fixed(0x52));
    interrupt_flag();
    Ok(expect("taken", interrupts(0x52), before + times)?)
}

fn lowest_priority() -> Checked {
    apic::write(0xd0, 0x0100_0000);
    let before = interrupts(0x52);
    ipi::send(Destination::Logical(1), Kind::LowestPriority(0x52));
    interrupt_flag();
    Ok(expect("taken", interrupts(0x52), before + 1)?)
}

fn illegal_register() -> Checked {
    apic::write(0x280, 0);
    apic::read(0x40);
    apic::write(0x280, 0);
    Ok(expect("illegal register address", apic::read(0x280) & 0x80, 0x80u32)?)
}

fn id_upper() -> Checked {
    Ok(expect("register", apic::read(0x20), apic::id() << 24)?)
}

fn icr_high() -> Checked {
    apic::write(apic::ICR_HIGH, 0x5a00_0000);
    Ok(expect("register", apic::read(apic::ICR_HIGH), 0x5a00_0000u32)?)
}

/// Registers are 16 bytes apart, and the four between count alone.
fn unused_bytes() -> Checked {
    let before = apic::read(0x80);
    apic::write(0x84, 0xff);
    Ok(expect("the priority next to it", apic::read(0x80), before)?)
}

fn eoi_any() -> Checked {
    apic::write(0xb0, 0xffff_ffff);
    Ok(())
}

/// In x2APIC mode nobody answers at the page.
fn page_not_answered() -> Checked {
    Ok(expect("version register", u64::from(Mmio::LocalApic.read(0x30) != apic::version()), 1u64)?)
}
