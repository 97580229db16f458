//! The two 8259 interrupt controllers, through their registers alone: requests come from the 8254 (line 0) and the serial
//! port (line 4), which a program raises and lowers at will, and from the clock (line 8).
//!
//! Source: Intel "8259A Programmable Interrupt Controller"; for the edge/level registers, "82371AB (PIIX4)", "ELCR1".

use super::{Check, Checked, Group, check, clock, rest};
use crate::apic;
use crate::machine::cpu::{disable_interrupts, enable_interrupts, in8, out8};
use crate::machine::trap::interrupts;
use crate::programs::expect;

pub(super) const GROUP: Group = Group::new(CHECKS).resting(|| {
    rest::interrupt_sources();
    rest::pic();
    for (port, byte) in [(SLAVE_COMMAND, 0x11), (SLAVE_DATA, VECTORS + 8), (SLAVE_DATA, 2), (SLAVE_DATA, 1)] {
        out8(port, byte);
    }
    out8(SLAVE_DATA, 0xff);
    initialize(1);
    mask(0);
});

const CHECKS: &[Check] = &[
    check("pic.imr-reads-back", imr_reads_back),
    check("pic.icw1-clears-imr", icw1_clears_imr),
    check("pic.icw-sequence-then-imr", icw_sequence),
    check("pic.single-mode-skips-icw3", single_mode),
    check("pic.no-icw4-skips-icw4", no_icw4),
    check("pic.read-register-defaults-to-irr", default_read),
    check("pic.read-register-choice-is-kept", read_choice_kept),
    check("pic.icw1-resets-read-choice", icw1_resets_read),
    check("pic.edge-latches-request", edge_latches),
    check("pic.edge-request-needs-line-until-acknowledged", request_falls_with_line),
    check("pic.masked-request-shows-in-irr", masked_shows),
    check("pic.poll-acknowledges", poll_acknowledges),
    check("pic.poll-without-request", poll_nothing),
    check("pic.poll-is-for-one-read", poll_once),
    check("pic.poll-respects-mask", poll_masked),
    check("pic.poll-highest-first", poll_highest),
    check("pic.in-service-blocks-lower", blocks_lower),
    check("pic.in-service-blocks-same", blocks_same),
    check("pic.nonspecific-eoi-ends-highest", nonspecific_eoi),
    check("pic.specific-eoi-ends-that-one", specific_eoi),
    check("pic.specific-eoi-of-another-does-nothing", specific_eoi_other),
    check("pic.edge-needs-new-edge", needs_new_edge),
    check("pic.elcr-level-asks-again", level_again),
    check("pic.elcr-level-request-follows-line", level_follows),
    check("pic.elcr-reads-back", elcr_reads_back),
    check("pic.elcr-fixed-lines-stay-edge", elcr_fixed),
    check("pic.icw1-level-bit-is-ignored-or-kept", icw1_level),
    check("pic.auto-eoi", auto_eoi),
    check("pic.rotate-on-nonspecific-eoi", rotate_eoi),
    check("pic.rotate-on-specific-eoi", rotate_specific),
    check("pic.set-priority", set_priority),
    check("pic.set-priority-survives-eoi", set_priority_survives),
    check("pic.icw1-resets-priority", icw1_resets_priority),
    check("pic.rotate-in-auto-eoi", rotate_auto),
    check("pic.rotate-in-auto-eoi-cleared", rotate_auto_cleared),
    check("pic.special-mask-lets-lower-through", special_mask),
    check("pic.special-mask-cleared", special_mask_cleared),
    check("pic.special-mask-nonspecific-eoi-skips-masked", special_mask_eoi),
    check("pic.cascade-request-reaches-master", cascade_request),
    check("pic.cascade-poll-both", cascade_poll),
    check("pic.cascade-acknowledges-both", cascade_take),
    check("pic.cascade-needs-both-eoi", cascade_eoi),
    check("pic.cascade-in-service-blocks-slave", cascade_blocks),
    check("pic.imr-change-does-not-lose-edge", mask_keeps_edge),
    check("pic.icw1-clears-edge-latch", icw1_clears_edge),
    check("pic.icw1-clears-isr", icw1_clears_isr),
    check("pic.spurious-request-is-line-7", spurious),
    check("pic.spurious-leaves-nothing-in-service", spurious_isr),
    check("pic.vector-base-of-icw2", vector_base),
    check("pic.icw2-low-bits-are-ignored", vector_low_bits),
    check("pic.lint0-masked-holds-back", lint0_masked),
    check("pic.in-service-survives-mask", isr_survives_mask),
    check("pic.eoi-without-service-does-nothing", eoi_nothing),
    check("pic.initialization-waits-for-all-words", initialization_waits),
];

const COMMAND: u16 = 0x20;
const DATA: u16 = 0x21;
const SLAVE_COMMAND: u16 = 0xa0;
const SLAVE_DATA: u16 = 0xa1;
const READ_IRR: u8 = 0x0a;
const READ_ISR: u8 = 0x0b;
const POLL: u8 = 0x0c;
const EOI: u8 = 0x20;
/// What a poll answers besides the line: there was one.
const POLLED: u8 = 0x80;

/// Reads IRR or ISR of the chip at `command`.
fn register(command: u16, which: u8) -> u8 {
    out8(command, which);
    in8(command)
}

fn irr() -> u8 {
    register(COMMAND, READ_IRR)
}

fn isr() -> u8 {
    register(COMMAND, READ_ISR)
}

/// The answer of a poll: [`POLLED`] and the line, which is in service from now on.
fn poll() -> u8 {
    out8(COMMAND, POLL);
    in8(COMMAND)
}

/// First vector of the lines while a check runs: handlers of these leave the chips alone.
const VECTORS: u8 = 0x80;

/// Lets an interrupt of the chips into the processor, if there is one: [`POLLED`] and the line.
fn take() -> u8 {
    let counts = || core::array::from_fn::<u64, 16, _>(|line| interrupts(VECTORS + line.to_le_bytes()[0]));
    let before = counts();
    apic::write(apic::LVT_LINT0, EXTINT);
    enable_interrupts();
    disable_interrupts();
    apic::write(apic::LVT_LINT0, apic::MASKED);
    let line = counts().iter().zip(before).position(|(now, before)| *now != before);
    line.map_or(0, |line| POLLED | line.to_le_bytes()[0])
}

/// Local vector table: as the 8259 says.
const EXTINT: u32 = 7 << 8;

fn mask(lines: u8) {
    out8(DATA, !lines);
}

/// Initializes the master with its last word.
fn initialize(last: u8) {
    for (port, byte) in [(COMMAND, 0x11), (DATA, VECTORS), (DATA, 4), (DATA, last)] {
        out8(port, byte);
    }
}

/// Raises line 0: the output of the 8254's first channel is high as soon as it is in mode 2.
fn raise_0() {
    out8(0x43, 0x34);
}

/// Lowers line 0: in mode 0 the output is low until a count has ended.
fn lower_0() {
    out8(0x43, 0x30);
}

/// Raises line 4: the serial port's transmitter is empty and says so.
fn raise_4() {
    out8(0x3fc, 0x0b);
    out8(0x3f9, 2);
}

fn lower_4() {
    out8(0x3f9, 0);
}

/// Raises line 8 (the slave's 0) by the clock's periodic interrupt, and waits for it.
fn raise_8() -> Checked {
    for (index, byte) in [(0x0a, 0x23), (0x0b, 0x42)] {
        out8(0x70, index);
        out8(0x71, byte);
    }
    out8(0x70, 0x0d);
    let came = clock::until(20_000, || register(SLAVE_COMMAND, READ_IRR) & 1 == 1);
    Ok(expect("the clock's line", u64::from(came), 1u64)?)
}

fn imr_reads_back() -> Checked {
    for byte in [0, 0x55, 0xaa, 0xff, 1, 0x80] {
        out8(DATA, byte);
        out8(SLAVE_DATA, !byte);
        expect("master", in8(DATA), byte)?;
        expect("slave", in8(SLAVE_DATA), !byte)?;
    }
    Ok(())
}

fn icw1_clears_imr() -> Checked {
    out8(DATA, 0xff);
    initialize(1);
    Ok(expect("mask behind initialization", in8(DATA), 0u8)?)
}

fn icw_sequence() -> Checked {
    initialize(1);
    out8(DATA, 0x5a);
    expect("the fifth word is the mask", in8(DATA), 0x5au8)?;
    out8(DATA, 0xa5);
    Ok(expect("and the sixth", in8(DATA), 0xa5u8)?)
}

fn single_mode() -> Checked {
    for (port, byte) in [(COMMAND, 0x13), (DATA, VECTORS), (DATA, 1), (DATA, 0x3c)] {
        out8(port, byte);
    }
    Ok(expect("mask behind three words", in8(DATA), 0x3cu8)?)
}

fn no_icw4() -> Checked {
    for (port, byte) in [(COMMAND, 0x10), (DATA, VECTORS), (DATA, 4), (DATA, 0x3c)] {
        out8(port, byte);
    }
    Ok(expect("mask behind three words", in8(DATA), 0x3cu8)?)
}

fn default_read() -> Checked {
    initialize(1);
    mask(0);
    raise_0();
    Ok(expect("IRR is read", in8(COMMAND), 1u8)?)
}

fn read_choice_kept() -> Checked {
    mask(1);
    raise_0();
    expect("taken", take(), POLLED)?;
    out8(COMMAND, READ_ISR);
    expect("ISR", in8(COMMAND), 1u8)?;
    expect("ISR again", in8(COMMAND), 1u8)?;
    out8(COMMAND, EOI);
    expect("ISR behind EOI", in8(COMMAND), 0u8)?;
    raise_4();
    out8(COMMAND, READ_IRR);
    expect("IRR", in8(COMMAND) & 0x10, 0x10u8)?;
    Ok(expect("IRR again", in8(COMMAND) & 0x10, 0x10u8)?)
}

fn icw1_resets_read() -> Checked {
    out8(COMMAND, READ_ISR);
    initialize(1);
    mask(0);
    raise_0();
    Ok(expect("IRR is read", in8(COMMAND), 1u8)?)
}

fn edge_latches() -> Checked {
    mask(1);
    expect("before", irr() & 1, 0u8)?;
    raise_0();
    Ok(expect("behind the edge", irr() & 1, 1u8)?)
}

fn request_falls_with_line() -> Checked {
    mask(0);
    raise_0();
    expect("high", irr() & 1, 1u8)?;
    lower_0();
    Ok(expect("low again", irr() & 1, 0u8)?)
}

fn masked_shows() -> Checked {
    mask(0);
    raise_0();
    raise_4();
    Ok(expect("both", irr() & 0x11, 0x11u8)?)
}

fn poll_acknowledges() -> Checked {
    mask(1);
    raise_0();
    expect("poll", poll(), POLLED)?;
    expect("in service", isr(), 1u8)?;
    Ok(expect("no longer requested", irr() & 1, 0u8)?)
}

fn poll_nothing() -> Checked {
    mask(1);
    expect("poll", poll() & POLLED, 0u8)?;
    Ok(expect("in service", isr(), 0u8)?)
}

fn poll_once() -> Checked {
    mask(1);
    raise_0();
    out8(COMMAND, READ_ISR);
    out8(COMMAND, POLL);
    expect("poll", in8(COMMAND), POLLED)?;
    Ok(expect("ISR as chosen before", in8(COMMAND), 1u8)?)
}

fn poll_masked() -> Checked {
    mask(0);
    raise_0();
    Ok(expect("poll", poll() & POLLED, 0u8)?)
}

fn poll_highest() -> Checked {
    mask(0x11);
    raise_4();
    raise_0();
    expect("first", poll(), POLLED)?;
    out8(COMMAND, EOI);
    Ok(expect("second", poll(), POLLED | 4)?)
}

fn blocks_lower() -> Checked {
    mask(0x11);
    raise_0();
    expect("first", take(), POLLED)?;
    raise_4();
    expect("requested", irr() & 0x10, 0x10u8)?;
    expect("blocked", take() & POLLED, 0u8)?;
    out8(COMMAND, EOI);
    Ok(expect("let through", take(), POLLED | 4)?)
}

fn blocks_same() -> Checked {
    mask(1);
    raise_0();
    expect("first", take(), POLLED)?;
    lower_0();
    raise_0();
    expect("requested", irr() & 1, 1u8)?;
    expect("blocked", take() & POLLED, 0u8)?;
    out8(COMMAND, EOI);
    Ok(expect("let through", take(), POLLED)?)
}

/// Line 4 is in service, and within it line 0.
fn nest() -> Checked {
    mask(0x11);
    raise_4();
    expect("lower", take(), POLLED | 4)?;
    raise_0();
    expect("higher", take(), POLLED)?;
    Ok(expect("both in service", isr(), 0x11u8)?)
}

fn nonspecific_eoi() -> Checked {
    nest()?;
    out8(COMMAND, EOI);
    expect("the higher ended", isr(), 0x10u8)?;
    out8(COMMAND, EOI);
    Ok(expect("the lower ended", isr(), 0u8)?)
}

fn specific_eoi() -> Checked {
    nest()?;
    out8(COMMAND, 0x60 | 4);
    Ok(expect("the lower ended", isr(), 1u8)?)
}

fn specific_eoi_other() -> Checked {
    nest()?;
    out8(COMMAND, 0x60 | 6);
    Ok(expect("both stay", isr(), 0x11u8)?)
}

fn needs_new_edge() -> Checked {
    mask(1);
    raise_0();
    expect("first", take(), POLLED)?;
    out8(COMMAND, EOI);
    expect("no second while it stays high", take() & POLLED, 0u8)?;
    lower_0();
    raise_0();
    Ok(expect("second edge", take(), POLLED)?)
}

fn level_again() -> Checked {
    out8(0x4d0, 0x10);
    mask(0x10);
    raise_4();
    expect("first", take(), POLLED | 4)?;
    out8(COMMAND, EOI);
    expect("again while it stays high", take(), POLLED | 4)?;
    lower_4();
    out8(COMMAND, EOI);
    Ok(expect("no more", take() & POLLED, 0u8)?)
}

fn level_follows() -> Checked {
    out8(0x4d0, 0x10);
    mask(0);
    raise_4();
    expect("high", irr() & 0x10, 0x10u8)?;
    lower_4();
    Ok(expect("low", irr() & 0x10, 0u8)?)
}

fn elcr_reads_back() -> Checked {
    for (first, second) in [(0xf8, 0xde), (0x50, 0x02), (0xa8, 0xdc), (0, 0)] {
        out8(0x4d0, first);
        out8(0x4d1, second);
        expect("first", in8(0x4d0), first)?;
        expect("second", in8(0x4d1), second)?;
    }
    Ok(())
}

fn elcr_fixed() -> Checked {
    out8(0x4d0, 0xff);
    out8(0x4d1, 0xff);
    expect("lines 0, 1, 2", in8(0x4d0) & 7, 0u8)?;
    Ok(expect("lines 8, 13", in8(0x4d1) & 0x21, 0u8)?)
}

/// A PC's chips take the trigger mode from the ELCR, so the level bit of the first word leaves line 0 edge-triggered.
fn icw1_level() -> Checked {
    for (port, byte) in [(COMMAND, 0x19), (DATA, VECTORS), (DATA, 4), (DATA, 1)] {
        out8(port, byte);
    }
    mask(1);
    raise_0();
    expect("first", take(), POLLED)?;
    out8(COMMAND, EOI);
    Ok(expect("no second while it stays high", take() & POLLED, 0u8)?)
}

fn auto_eoi() -> Checked {
    initialize(3);
    mask(1);
    raise_0();
    expect("taken", take(), POLLED)?;
    expect("nothing in service", isr(), 0u8)?;
    lower_0();
    raise_0();
    Ok(expect("taken again without EOI", take(), POLLED)?)
}

fn rotate_eoi() -> Checked {
    mask(0x11);
    raise_0();
    expect("first", take(), POLLED)?;
    out8(COMMAND, 0xa0);
    lower_0();
    raise_0();
    raise_4();
    Ok(expect("line 0 is now the lowest", take(), POLLED | 4)?)
}

fn rotate_specific() -> Checked {
    mask(0x11);
    raise_0();
    expect("first", take(), POLLED)?;
    out8(COMMAND, 0xe0);
    expect("ended", isr(), 0u8)?;
    lower_0();
    raise_0();
    raise_4();
    Ok(expect("line 0 is now the lowest", take(), POLLED | 4)?)
}

fn set_priority() -> Checked {
    mask(0x11);
    out8(COMMAND, 0xc0 | 3);
    raise_0();
    raise_4();
    expect("line 4 is the highest", take(), POLLED | 4)?;
    expect("line 0 is blocked", take() & POLLED, 0u8)?;
    out8(COMMAND, 0xc0 | 7);
    Ok(expect("line 0 is the highest again", take(), POLLED)?)
}

fn set_priority_survives() -> Checked {
    mask(0x11);
    out8(COMMAND, 0xc0 | 3);
    raise_4();
    expect("line 4", take(), POLLED | 4)?;
    out8(COMMAND, EOI);
    lower_4();
    raise_4();
    raise_0();
    Ok(expect("line 4 again", take(), POLLED | 4)?)
}

fn icw1_resets_priority() -> Checked {
    out8(COMMAND, 0xc0 | 3);
    initialize(1);
    mask(0x11);
    raise_0();
    raise_4();
    Ok(expect("line 0 is the highest", take(), POLLED)?)
}

fn rotate_auto() -> Checked {
    initialize(3);
    out8(COMMAND, 0x80);
    mask(0x11);
    raise_0();
    expect("first", poll(), POLLED)?;
    lower_0();
    raise_0();
    raise_4();
    Ok(expect("line 0 is now the lowest", poll(), POLLED | 4)?)
}

fn rotate_auto_cleared() -> Checked {
    initialize(3);
    out8(COMMAND, 0x80);
    out8(COMMAND, 0);
    mask(0x11);
    raise_0();
    expect("first", poll(), POLLED)?;
    lower_0();
    raise_0();
    raise_4();
    Ok(expect("line 0 is still the highest", poll(), POLLED)?)
}

fn special_mask() -> Checked {
    mask(0x11);
    raise_0();
    expect("first", take(), POLLED)?;
    raise_4();
    expect("blocked", take() & POLLED, 0u8)?;
    out8(COMMAND, 0x68);
    mask(0x10);
    Ok(expect("let through", take(), POLLED | 4)?)
}

fn special_mask_cleared() -> Checked {
    mask(0x11);
    raise_0();
    expect("first", take(), POLLED)?;
    out8(COMMAND, 0x68);
    mask(0x10);
    out8(COMMAND, 0x48);
    raise_4();
    Ok(expect("blocked", take() & POLLED, 0u8)?)
}

fn special_mask_eoi() -> Checked {
    mask(0x11);
    raise_0();
    expect("first", take(), POLLED)?;
    out8(COMMAND, 0x68);
    mask(0x10);
    raise_4();
    expect("second", take(), POLLED | 4)?;
    out8(COMMAND, EOI);
    Ok(expect("the one that is not masked ended", isr(), 1u8)?)
}

fn cascade_request() -> Checked {
    mask(4);
    out8(SLAVE_DATA, 0xfe);
    raise_8()?;
    Ok(expect("the master's line 2", irr() & 4, 4u8)?)
}

fn cascade_poll() -> Checked {
    mask(4);
    out8(SLAVE_DATA, 0xfe);
    raise_8()?;
    expect("master", poll(), POLLED | 2)?;
    out8(SLAVE_COMMAND, POLL);
    expect("slave", in8(SLAVE_COMMAND), POLLED)?;
    expect("master's ISR", isr(), 4u8)?;
    Ok(expect("slave's ISR", register(SLAVE_COMMAND, READ_ISR), 1u8)?)
}

/// Line 8 is in service on both chips.
fn take_8() -> Checked {
    mask(4);
    out8(SLAVE_DATA, 0xfe);
    raise_8()?;
    expect("taken", take(), POLLED | 8)?;
    expect("master's ISR", isr(), 4u8)?;
    Ok(expect("slave's ISR", register(SLAVE_COMMAND, READ_ISR), 1u8)?)
}

fn cascade_take() -> Checked {
    take_8()
}

fn cascade_eoi() -> Checked {
    take_8()?;
    out8(COMMAND, EOI);
    expect("master's ISR", isr(), 0u8)?;
    expect("slave's ISR", register(SLAVE_COMMAND, READ_ISR), 1u8)?;
    out8(SLAVE_COMMAND, EOI);
    Ok(expect("slave's ISR", register(SLAVE_COMMAND, READ_ISR), 0u8)?)
}

fn cascade_blocks() -> Checked {
    take_8()?;
    mask(0x15);
    raise_4();
    expect("line 4 is below line 2", take(), 0u8)?;
    raise_0();
    expect("line 0 is above", take(), POLLED)?;
    out8(COMMAND, EOI);
    out8(COMMAND, EOI);
    Ok(expect("line 4", take(), POLLED | 4)?)
}

fn mask_keeps_edge() -> Checked {
    mask(0);
    raise_0();
    mask(1);
    Ok(expect("taken", take(), POLLED)?)
}

fn icw1_clears_edge() -> Checked {
    mask(1);
    raise_0();
    initialize(1);
    mask(1);
    Ok(expect("a high line needs a new edge", take() & POLLED, 0u8)?)
}

fn icw1_clears_isr() -> Checked {
    mask(1);
    raise_0();
    expect("taken", take(), POLLED)?;
    lower_0();
    initialize(1);
    Ok(expect("nothing in service", isr(), 0u8)?)
}

/// A request that is gone when it is acknowledged is line 7, which is not in service.
fn spurious_taken() -> Checked {
    mask(0x11);
    raise_4();
    // Seen by nobody: the line falls before the interrupt flag lets it in.
    lower_4();
    let taken = take();
    Ok(expect("nothing, or line 7", u64::from(taken == 0 || taken == (POLLED | 7)), 1u64)?)
}

fn spurious() -> Checked {
    spurious_taken()
}

fn spurious_isr() -> Checked {
    spurious_taken()?;
    Ok(expect("nothing in service", isr(), 0u8)?)
}

fn vector_base() -> Checked {
    for (port, byte) in [(COMMAND, 0x11), (DATA, VECTORS + 0x10), (DATA, 4), (DATA, 1)] {
        out8(port, byte);
    }
    mask(1);
    raise_0();
    let before = interrupts(VECTORS + 0x10);
    take();
    Ok(expect("of the new vector", interrupts(VECTORS + 0x10), before + 1)?)
}

fn vector_low_bits() -> Checked {
    for (port, byte) in [(COMMAND, 0x11), (DATA, VECTORS | 5), (DATA, 4), (DATA, 1)] {
        out8(port, byte);
    }
    mask(1);
    raise_0();
    Ok(expect("line 0", take(), POLLED)?)
}

fn lint0_masked() -> Checked {
    mask(1);
    raise_0();
    let before = interrupts(VECTORS);
    enable_interrupts();
    disable_interrupts();
    expect("held back", interrupts(VECTORS), before)?;
    Ok(expect("still requested", irr() & 1, 1u8)?)
}

fn isr_survives_mask() -> Checked {
    mask(1);
    raise_0();
    expect("taken", take(), POLLED)?;
    mask(0);
    Ok(expect("in service", isr(), 1u8)?)
}

fn eoi_nothing() -> Checked {
    out8(COMMAND, EOI);
    out8(COMMAND, 0x60 | 3);
    expect("nothing in service", isr(), 0u8)?;
    mask(1);
    raise_0();
    Ok(expect("taken", take(), POLLED)?)
}

/// Between the words of an initialization nothing is requested from the processor.
fn initialization_waits() -> Checked {
    mask(1);
    for (port, byte) in [(COMMAND, 0x11), (DATA, VECTORS)] {
        out8(port, byte);
    }
    out8(DATA, 4);
    out8(DATA, 1);
    expect("the mask is clear", in8(DATA), 0u8)?;
    mask(1);
    raise_0();
    Ok(expect("taken", take(), POLLED)?)
}
