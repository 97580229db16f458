//! The two 8259 interrupt controllers, through their registers alone: requests come from the 8254 (line 0) and the serial
//! port (line 4), which a program raises and lowers at will, and from the clock (line 8).
//!
//! Source: Intel "8259A Programmable Interrupt Controller"; for the edge/level registers, "82371AB (PIIX4)", "ELCR1".

mod cascade;
mod initialization;
mod priority;
mod requests;

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
    check("pic.imr-reads-back", initialization::imr_reads_back),
    check("pic.icw1-clears-imr", initialization::icw1_clears_imr),
    check("pic.icw-sequence-then-imr", initialization::icw_sequence),
    check("pic.single-mode-skips-icw3", initialization::single_mode),
    check("pic.no-icw4-skips-icw4", initialization::no_icw4),
    check("pic.read-register-defaults-to-irr", initialization::default_read),
    check("pic.read-register-choice-is-kept", initialization::read_choice_kept),
    check("pic.icw1-resets-read-choice", initialization::icw1_resets_read),
    check("pic.edge-latches-request", requests::edge_latches),
    check("pic.edge-request-needs-line-until-acknowledged", requests::request_falls_with_line),
    check("pic.masked-request-shows-in-irr", requests::masked_shows),
    check("pic.poll-acknowledges", requests::poll_acknowledges),
    check("pic.poll-without-request", requests::poll_nothing),
    check("pic.poll-is-for-one-read", requests::poll_once),
    check("pic.poll-respects-mask", requests::poll_masked),
    check("pic.poll-highest-first", requests::poll_highest),
    check("pic.in-service-blocks-lower", priority::blocks_lower),
    check("pic.in-service-blocks-same", priority::blocks_same),
    check("pic.nonspecific-eoi-ends-highest", priority::nonspecific_eoi),
    check("pic.specific-eoi-ends-that-one", priority::specific_eoi),
    check("pic.specific-eoi-of-another-does-nothing", priority::specific_eoi_other),
    check("pic.edge-needs-new-edge", requests::needs_new_edge),
    check("pic.elcr-level-asks-again", requests::level_again),
    check("pic.elcr-level-request-follows-line", requests::level_follows),
    check("pic.elcr-reads-back", requests::elcr_reads_back),
    check("pic.elcr-fixed-lines-stay-edge", requests::elcr_fixed),
    check("pic.icw1-level-bit-is-ignored-or-kept", requests::icw1_level),
    check("pic.auto-eoi", priority::auto_eoi),
    check("pic.rotate-on-nonspecific-eoi", priority::rotate_eoi),
    check("pic.rotate-on-specific-eoi", priority::rotate_specific),
    check("pic.set-priority", priority::set_priority),
    check("pic.set-priority-survives-eoi", priority::set_priority_survives),
    check("pic.icw1-resets-priority", priority::icw1_resets_priority),
    check("pic.rotate-in-auto-eoi", priority::rotate_auto),
    check("pic.rotate-in-auto-eoi-cleared", priority::rotate_auto_cleared),
    check("pic.special-mask-lets-lower-through", priority::special_mask),
    check("pic.special-mask-cleared", priority::special_mask_cleared),
    check("pic.special-mask-nonspecific-eoi-skips-masked", priority::special_mask_eoi),
    check("pic.cascade-request-reaches-master", cascade::cascade_request),
    check("pic.cascade-poll-both", cascade::cascade_poll),
    check("pic.cascade-acknowledges-both", cascade::cascade_take),
    check("pic.cascade-needs-both-eoi", cascade::cascade_eoi),
    check("pic.cascade-in-service-blocks-slave", cascade::cascade_blocks),
    check("pic.imr-change-does-not-lose-edge", requests::mask_keeps_edge),
    check("pic.icw1-clears-edge-latch", initialization::icw1_clears_edge),
    check("pic.icw1-clears-isr", initialization::icw1_clears_isr),
    check("pic.spurious-request-is-line-7", requests::spurious),
    check("pic.spurious-leaves-nothing-in-service", requests::spurious_isr),
    check("pic.vector-base-of-icw2", initialization::vector_base),
    check("pic.icw2-low-bits-are-ignored", initialization::vector_low_bits),
    check("pic.lint0-masked-holds-back", requests::lint0_masked),
    check("pic.in-service-survives-mask", priority::isr_survives_mask),
    check("pic.eoi-without-service-does-nothing", priority::eoi_nothing),
    check("pic.initialization-waits-for-all-words", initialization::initialization_waits),
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
