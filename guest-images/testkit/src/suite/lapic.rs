//! The local APIC's registers and interrupts, the same checks in xAPIC and in x2APIC mode.
//!
//! Source: SDM Vol. 3A, "Advanced Programmable Interrupt Controller (APIC)".

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use super::{Check, Checked, Group, Phase, Stop, check, value};
use crate::apic::{self, ICR_LOW, MASKED, TimerMode};
use crate::ipi::{self, Destination, Kind, SelfInterrupt};
use crate::machine::control;
use crate::machine::cpu::{cpuid, disable_interrupts, enable_interrupts, set_task_priority};
use crate::machine::trap::{self, FLUSH_VECTOR, interrupts};
use crate::programs::expect;

macro_rules! in_both_modes {
    ($($kind:ident $name:literal = $body:expr;)+) => {
        const XAPIC: &[Check] = &[$($kind(concat!("xapic.", $name), $body)),+];
        const X2APIC: &[Check] = &[$($kind(concat!("x2apic.", $name), $body)),+];
    };
}

pub(super) const GROUP_XAPIC: Group = Group::new(XAPIC);
pub(super) const GROUP_X2APIC: Group = Group::new(X2APIC).in_phase(Phase::X2Apic);

in_both_modes! {
    value "version" = || Ok(u64::from(apic::version() & 0xff00_ffff));
    check "at-least-six-lvt-entries" = lvt_entries;
    check "id-is-cpuid-leaf-1" = id;
    check "tpr-reads-back" = tpr_reads_back;
    check "cr8-is-tpr" = cr8_is_tpr;
    check "tpr-is-cr8" = tpr_is_cr8;
    check "ppr-follows-tpr" = ppr_tpr;
    check "ppr-in-service" = ppr_in_service;
    check "ppr-is-tpr-when-higher" = ppr_higher;
    check "irr-while-flag-is-clear" = irr_pending;
    check "irr-cleared-when-taken" = irr_cleared;
    check "isr-in-handler" = isr_in_handler;
    check "isr-cleared-by-eoi" = isr_cleared;
    check "tmr-clear-for-edge" = tmr_clear;
    check "eoi-without-service-does-nothing" = eoi_nothing;
    check "higher-class-nests" = higher_nests;
    check "same-class-waits" = same_class_waits;
    check "priority-order-of-pending" = priority_order;
    check "tpr-holds-back-own-class" = tpr_holds_own;
    check "tpr-lets-higher-class-through" = tpr_lets_higher;
    check "tpr-sub-class-does-not-matter" = tpr_subclass;
    check "self-ipi-by-shorthand" = || arrives(Destination::Myself);
    check "self-ipi-by-all" = || arrives(Destination::All);
    check "self-ipi-by-id" = || arrives(Destination::Physical(apic::id()));
    check "self-ipi-by-broadcast" = || arrives(Destination::Broadcast);
    check "others-shorthand-is-not-self" = not_self;
    check "ipi-to-nobody" = to_nobody;
    check "two-of-one-vector-are-one" = two_are_one;
    check "nmi-by-ipi" = nmi;
    check "nmi-ignores-vector-and-tpr" = nmi_ignores;
    check "icr-reads-back" = icr_reads_back;
    check "icr-is-idle" = icr_idle;
    check "esr-needs-a-write" = esr_needs_write;
    check "esr-send-illegal-vector" = esr_illegal;
    check "esr-illegal-vector-is-not-sent" = illegal_not_sent;
    check "esr-second-write-clears" = esr_clears;
    check "error-interrupt" = error_interrupt;
    check "svr-reads-back" = svr_reads_back;
    check "lvt-timer-reads-back" = || lvt(0x320, 0x3_00ff);
    check "lvt-thermal-reads-back" = || lvt(0x330, 0x1_04ff);
    check "lvt-performance-reads-back" = || lvt(0x340, 0x1_04ff);
    check "lvt-lint0-reads-back" = || lvt(0x350, 0x1_a7ff);
    check "lvt-lint1-reads-back" = || lvt(0x360, 0x1_a7ff);
    check "lvt-error-reads-back" = || lvt(0x370, 0x1_00ff);
    check "software-disable-masks-lvt" = disable_masks;
    check "lvt-stays-masked-while-disabled" = stays_masked;
    check "enable-leaves-lvt-masked" = enable_leaves;
    check "disabled-refuses-fixed" = disabled_refuses;
    check "disabled-takes-nmi" = disabled_nmi;
    check "disable-keeps-pending" = disable_keeps;
    check "spurious-vector-reads-back" = spurious_vector;
    check "lint0-extint-idle-is-quiet" = extint_idle;
    check "read-only-registers-are-stable" = read_only;
    check "current-count-zero-at-rest" = count_at_rest;
    check "divide-reads-back" = divide_reads_back;
    check "remote-read-and-arbitration-harmless" = harmless;
}

/// A vector that handlers just count; others of higher and lower class.
const VECTOR: u8 = 0x52;
const SAME_CLASS: u8 = 0x5a;
const HIGHER: u8 = 0x72;
const TPR: u16 = 0x80;
const PPR: u16 = 0xa0;
const SVR: u16 = 0xf0;
const ISR: u16 = 0x100;
const TMR: u16 = 0x180;
const IRR: u16 = 0x200;
const ESR: u16 = 0x280;
const LVT_ERROR: u16 = 0x370;
const LVTS: [u16; 6] = [0x320, 0x330, 0x340, 0x350, 0x360, 0x370];

/// The bit of `vector` in the 256 bits that begin at `register`.
fn bit(register: u16, vector: u8) -> u32 {
    apic::read(register + u16::from(vector / 32) * 16) >> (vector % 32) & 1
}

fn send(vector: u8) {
    ipi::send_to_self(SelfInterrupt::Fixed(vector));
}

/// Interrupts on for an instruction.
fn let_in() {
    enable_interrupts();
    disable_interrupts();
}

fn lvt_entries() -> Checked {
    Ok(expect("entries", u64::from(apic::version() >> 16 & 0xff >= 5), 1u64)?)
}

fn id() -> Checked {
    Ok(expect("identifier", apic::id() & 0xff, cpuid(1, 0).ebx >> 24)?)
}

fn tpr_reads_back() -> Checked {
    for value in [0xffu32, 0x51, 0x0f, 0xa0, 0] {
        apic::write(TPR, value);
        expect("priority", apic::read(TPR), value)?;
    }
    Ok(())
}

fn cr8_is_tpr() -> Checked {
    for class in [3, 15, 0] {
        set_task_priority(class);
        expect("register", apic::read(TPR), u32::try_from(class << 4).unwrap_or(0))?;
    }
    Ok(())
}

fn tpr_is_cr8() -> Checked {
    for value in [0x73u32, 0xff, 0x0f, 0] {
        apic::write(TPR, value);
        expect("CR8", control::read_cr8(), value >> 4)?;
    }
    Ok(())
}

fn ppr_tpr() -> Checked {
    for value in [0x40u32, 0x4c, 0xff, 0] {
        apic::write(TPR, value);
        expect("processor priority", apic::read(PPR), value)?;
    }
    Ok(())
}

/// What the hook saw: a register's value.
static SEEN: AtomicU32 = AtomicU32::new(0);
static WHERE: AtomicU32 = AtomicU32::new(0);

/// Reads `register` in the handler of [`FLUSH_VECTOR`].
fn in_handler(register: u16, priority: u32) -> u32 {
    WHERE.store(u32::from(register), Relaxed);
    SEEN.store(u32::MAX, Relaxed);
    trap::on_flush(|| {
        let register = u16::try_from(WHERE.load(Relaxed)).unwrap_or(0);
        SEEN.store(apic::read(register), Relaxed);
    });
    apic::write(TPR, priority);
    send(FLUSH_VECTOR);
    let_in();
    apic::write(TPR, 0);
    SEEN.load(Relaxed)
}

fn ppr_in_service() -> Checked {
    Ok(expect("in the handler", in_handler(PPR, 0x20), u32::from(FLUSH_VECTOR & 0xf0))?)
}

fn ppr_higher() -> Checked {
    apic::write(TPR, 0xc5);
    expect("task priority above", apic::read(PPR), 0xc5u32)?;
    Ok(expect(
        "task priority below, with its sub-class",
        in_handler(PPR, 0x95),
        u32::from(FLUSH_VECTOR & 0xf0),
    )?)
}

fn irr_pending() -> Checked {
    expect("before", bit(IRR, VECTOR), 0u32)?;
    send(VECTOR);
    Ok(expect("behind", bit(IRR, VECTOR), 1u32)?)
}

fn irr_cleared() -> Checked {
    send(VECTOR);
    let_in();
    Ok(expect("taken", bit(IRR, VECTOR), 0u32)?)
}

fn isr_in_handler() -> Checked {
    let word = in_handler(ISR + u16::from(FLUSH_VECTOR / 32) * 16, 0);
    Ok(expect("in service", word, 1u32 << (FLUSH_VECTOR % 32))?)
}

fn isr_cleared() -> Checked {
    in_handler(ISR, 0);
    Ok(expect("behind the handler", bit(ISR, FLUSH_VECTOR), 0u32)?)
}

fn tmr_clear() -> Checked {
    send(VECTOR);
    Ok(expect("trigger mode", bit(TMR, VECTOR), 0u32)?)
}

fn eoi_nothing() -> Checked {
    apic::end_of_interrupt();
    send(VECTOR);
    apic::end_of_interrupt();
    expect("still pending", bit(IRR, VECTOR), 1u32)?;
    let before = interrupts(VECTOR);
    let_in();
    Ok(expect("taken", interrupts(VECTOR), before + 1)?)
}

static NESTED: AtomicU64 = AtomicU64::new(0);

/// Sends `vector` in a handler of class 0xa with interrupts on there; how often it was taken inside.
fn nested(vector: fn()) -> u64 {
    NESTED.store(0, Relaxed);
    trap::on_flush(vector);
    send(FLUSH_VECTOR);
    let_in();
    NESTED.load(Relaxed)
}

fn inside(vector: u8) {
    let before = interrupts(vector);
    send(vector);
    let_in();
    NESTED.store(interrupts(vector) - before, Relaxed);
}

fn higher_nests() -> Checked {
    Ok(expect("taken in the handler", nested(|| inside(0xb2)), 1u64)?)
}

fn same_class_waits() -> Checked {
    let before = interrupts(0xa4);
    expect("taken in the handler", nested(|| inside(0xa4)), 0u64)?;
    let_in();
    Ok(expect("taken behind it", interrupts(0xa4), before + 1)?)
}

/// Of several pending, the highest is first: its handler would otherwise find it done.
fn priority_order() -> Checked {
    static COUNTS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
    trap::on_flush(|| {
        for (cell, vector) in COUNTS.iter().zip([VECTOR, 0xc0]) {
            cell.store(interrupts(vector), Relaxed);
        }
    });
    let before = [interrupts(VECTOR), interrupts(0xc0)];
    send(VECTOR);
    send(FLUSH_VECTOR);
    send(0xc0);
    let_in();
    expect("lower ones come later", COUNTS[0].load(Relaxed), before[0])?;
    expect("higher ones come earlier", COUNTS[1].load(Relaxed), before[1] + 1)?;
    let_in();
    Ok(expect("the last one", interrupts(VECTOR), before[0] + 1)?)
}

fn taken_with_priority(priority: u32, vector: u8) -> u64 {
    let before = interrupts(vector);
    apic::write(TPR, priority);
    send(vector);
    let_in();
    interrupts(vector) - before
}

fn tpr_holds_own() -> Checked {
    expect("held back", taken_with_priority(0x50, VECTOR), 0u64)?;
    let before = interrupts(VECTOR);
    apic::write(TPR, 0x40);
    let_in();
    Ok(expect("let through", interrupts(VECTOR), before + 1)?)
}

fn tpr_lets_higher() -> Checked {
    Ok(expect("let through", taken_with_priority(0x6f, HIGHER), 1u64)?)
}

fn tpr_subclass() -> Checked {
    expect("below", taken_with_priority(0x4f, VECTOR), 1u64)?;
    Ok(expect("the same", taken_with_priority(0x51, SAME_CLASS), 0u64)?)
}

fn arrives(destination: Destination) -> Checked {
    let before = interrupts(VECTOR);
    ipi::send(destination, Kind::Fixed(VECTOR));
    let_in();
    Ok(expect("taken", interrupts(VECTOR), before + 1)?)
}

fn not_self() -> Checked {
    let before = interrupts(VECTOR);
    ipi::send(Destination::Others, Kind::Fixed(VECTOR));
    let_in();
    Ok(expect("taken", interrupts(VECTOR), before)?)
}

fn to_nobody() -> Checked {
    let before = interrupts(VECTOR);
    ipi::send(Destination::Physical(0x7e), Kind::Fixed(VECTOR));
    let_in();
    Ok(expect("taken", interrupts(VECTOR), before)?)
}

fn two_are_one() -> Checked {
    let before = interrupts(VECTOR);
    send(VECTOR);
    send(VECTOR);
    let_in();
    let_in();
    Ok(expect("taken", interrupts(VECTOR), before + 1)?)
}

/// Waits a moment for an NMI.
fn nmis(send: impl FnOnce()) -> u64 {
    let before = interrupts(apic::NMI_VECTOR);
    send();
    super::clock::until(1000, || interrupts(apic::NMI_VECTOR) != before);
    interrupts(apic::NMI_VECTOR) - before
}

fn nmi() -> Checked {
    Ok(expect("with interrupts off", nmis(|| ipi::send_to_self(SelfInterrupt::Nmi)), 1u64)?)
}

fn nmi_ignores() -> Checked {
    set_task_priority(15);
    Ok(expect(
        "at the highest priority",
        nmis(|| ipi::send(Destination::Physical(apic::id()), Kind::Nmi)),
        1u64,
    )?)
}

fn icr_reads_back() -> Checked {
    ipi::send(Destination::Myself, Kind::Fixed(VECTOR));
    Ok(expect("as written", apic::read(ICR_LOW), 0x4_4000 | u32::from(VECTOR))?)
}

fn icr_idle() -> Checked {
    send(VECTOR);
    Ok(expect("delivery status", apic::read(ICR_LOW) >> 12 & 1, 0u32)?)
}

/// Sends a vector that is refused.
fn send_illegal() {
    ipi::send(Destination::Myself, Kind::Fixed(5));
}

fn errors() -> u32 {
    apic::write(ESR, 0);
    apic::read(ESR)
}

fn esr_needs_write() -> Checked {
    send_illegal();
    Ok(expect("before the write", apic::read(ESR), 0u32)?)
}

fn esr_illegal() -> Checked {
    send_illegal();
    // Sending it is an error, and so may be that it arrives.
    Ok(expect("send illegal vector", errors() & 0x20, 0x20u32)?)
}

fn illegal_not_sent() -> Checked {
    send_illegal();
    Ok(expect("requested", bit(IRR, 5), 0u32)?)
}

fn esr_clears() -> Checked {
    send_illegal();
    errors();
    Ok(expect("nothing new", errors(), 0u32)?)
}

fn error_interrupt() -> Checked {
    apic::write(LVT_ERROR, u32::from(HIGHER));
    let before = interrupts(HIGHER);
    send_illegal();
    let_in();
    Ok(expect("taken", interrupts(HIGHER), before + 1)?)
}

fn svr_reads_back() -> Checked {
    for value in [0x1ffu32, 0x1ef, 0x1f0] {
        apic::write(SVR, value);
        expect("register", apic::read(SVR), value)?;
    }
    Ok(())
}

/// Writes all that is defined in an entry, masked, and reads it back.
fn lvt(register: u16, bits: u32) -> Checked {
    for value in [bits | MASKED, MASKED, MASKED | bits & 0xff] {
        apic::write(register, value);
        expect("entry", apic::read(register) & !0x5000, value)?;
    }
    Ok(())
}

fn unmask_all() {
    for register in LVTS {
        // The performance counter and thermal entries as fixed ones, of which none comes.
        apic::write(register, u32::from(HIGHER));
    }
}

fn disable() {
    apic::write(SVR, 0xff);
}

fn enable() {
    apic::write(SVR, 0x1ff);
}

fn all_masked(what: &'static str) -> Checked {
    for register in LVTS {
        expect(what, apic::read(register) & MASKED, MASKED)?;
    }
    Ok(())
}

fn disable_masks() -> Checked {
    unmask_all();
    for register in LVTS {
        expect("not masked before", apic::read(register) & MASKED, 0u32)?;
    }
    disable();
    all_masked("masked while disabled")
}

fn stays_masked() -> Checked {
    disable();
    unmask_all();
    all_masked("masked while disabled")
}

fn enable_leaves() -> Checked {
    unmask_all();
    disable();
    enable();
    all_masked("masked behind it")
}

fn disabled_refuses() -> Checked {
    disable();
    send(VECTOR);
    expect("not requested", bit(IRR, VECTOR), 0u32)?;
    enable();
    let before = interrupts(VECTOR);
    let_in();
    Ok(expect("not taken", interrupts(VECTOR), before)?)
}

fn disabled_nmi() -> Checked {
    disable();
    let count = nmis(|| ipi::send_to_self(SelfInterrupt::Nmi));
    enable();
    Ok(expect("taken", count, 1u64)?)
}

fn disable_keeps() -> Checked {
    send(VECTOR);
    disable();
    expect("still requested", bit(IRR, VECTOR), 1u32)?;
    enable();
    let before = interrupts(VECTOR);
    let_in();
    Ok(expect("taken behind it", interrupts(VECTOR), before + 1)?)
}

fn spurious_vector() -> Checked {
    apic::write(SVR, 0x1ff);
    Ok(expect("vector", apic::read(SVR) & 0xff, 0xffu32)?)
}

fn extint_idle() -> Checked {
    apic::write(apic::LVT_LINT0, 7 << 8);
    let_in();
    Ok(expect("entry", apic::read(apic::LVT_LINT0) & 0x700, 0x700u32)?)
}

fn read_only() -> Checked {
    if apic::is_x2apic() {
        return Err(Stop::Skipped("a write is an exception in x2APIC mode"));
    }
    for register in [0x30, PPR, ISR, IRR, TMR, 0x390] {
        let before = apic::read(register);
        apic::write(register, !before);
        expect("register", apic::read(register), before)?;
    }
    Ok(())
}

fn count_at_rest() -> Checked {
    apic::set_timer(TimerMode::OneShot);
    apic::arm_count(0);
    Ok(expect("current count", apic::current_count(), 0u32)?)
}

fn divide_reads_back() -> Checked {
    for value in [0b0000u32, 0b0001, 0b0010, 0b0011, 0b1000, 0b1001, 0b1010, 0b1011] {
        apic::write(0x3e0, value);
        expect("register", apic::read(0x3e0), value)?;
    }
    Ok(())
}

/// Registers of old models read as something, without an exception.
fn harmless() -> Checked {
    if apic::is_x2apic() {
        return Err(Stop::Skipped("no such registers in x2APIC mode"));
    }
    apic::read(0x90);
    apic::read(0xc0);
    Ok(())
}
