//! Requests: edges, levels and their register, polls, what is masked, what is gone when it is acknowledged.

use super::{
    COMMAND, DATA, EOI, POLL, POLLED, READ_ISR, VECTORS, irr, isr, lower_0, lower_4, mask, poll, raise_0,
    raise_4, take,
};
use crate::machine::cpu::{disable_interrupts, enable_interrupts, in8, out8};
use crate::machine::trap::interrupts;
use crate::programs::expect;
use crate::suite::Checked;

pub(super) fn edge_latches() -> Checked {
    mask(1);
    expect("before", irr() & 1, 0u8)?;
    raise_0();
    Ok(expect("behind the edge", irr() & 1, 1u8)?)
}

pub(super) fn request_falls_with_line() -> Checked {
    mask(0);
    raise_0();
    expect("high", irr() & 1, 1u8)?;
    lower_0();
    Ok(expect("low again", irr() & 1, 0u8)?)
}

pub(super) fn masked_shows() -> Checked {
    mask(0);
    raise_0();
    raise_4();
    Ok(expect("both", irr() & 0x11, 0x11u8)?)
}

pub(super) fn poll_acknowledges() -> Checked {
    mask(1);
    raise_0();
    expect("poll", poll(), POLLED)?;
    expect("in service", isr(), 1u8)?;
    Ok(expect("no longer requested", irr() & 1, 0u8)?)
}

pub(super) fn poll_nothing() -> Checked {
    mask(1);
    expect("poll", poll() & POLLED, 0u8)?;
    Ok(expect("in service", isr(), 0u8)?)
}

pub(super) fn poll_once() -> Checked {
    mask(1);
    raise_0();
    out8(COMMAND, READ_ISR);
    out8(COMMAND, POLL);
    expect("poll", in8(COMMAND), POLLED)?;
    Ok(expect("ISR as chosen before", in8(COMMAND), 1u8)?)
}

pub(super) fn poll_masked() -> Checked {
    mask(0);
    raise_0();
    Ok(expect("poll", poll() & POLLED, 0u8)?)
}

pub(super) fn poll_highest() -> Checked {
    mask(0x11);
    raise_4();
    raise_0();
    expect("first", poll(), POLLED)?;
    out8(COMMAND, EOI);
    Ok(expect("second", poll(), POLLED | 4)?)
}

pub(super) fn needs_new_edge() -> Checked {
    mask(1);
    raise_0();
    expect("first", take(), POLLED)?;
    out8(COMMAND, EOI);
    expect("no second while it stays high", take() & POLLED, 0u8)?;
    lower_0();
    raise_0();
    Ok(expect("second edge", take(), POLLED)?)
}

pub(super) fn level_again() -> Checked {
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

pub(super) fn level_follows() -> Checked {
    out8(0x4d0, 0x10);
    mask(0);
    raise_4();
    expect("high", irr() & 0x10, 0x10u8)?;
    lower_4();
    Ok(expect("low", irr() & 0x10, 0u8)?)
}

pub(super) fn elcr_reads_back() -> Checked {
    for (first, second) in [(0xf8, 0xde), (0x50, 0x02), (0xa8, 0xdc), (0, 0)] {
        out8(0x4d0, first);
        out8(0x4d1, second);
        expect("first", in8(0x4d0), first)?;
        expect("second", in8(0x4d1), second)?;
    }
    Ok(())
}

pub(super) fn elcr_fixed() -> Checked {
    out8(0x4d0, 0xff);
    out8(0x4d1, 0xff);
    expect("lines 0, 1, 2", in8(0x4d0) & 7, 0u8)?;
    Ok(expect("lines 8, 13", in8(0x4d1) & 0x21, 0u8)?)
}

/// A PC's chips take the trigger mode from the ELCR, so the level bit of the first word leaves line 0 edge-triggered.
pub(super) fn icw1_level() -> Checked {
    for (port, byte) in [(COMMAND, 0x19), (DATA, VECTORS), (DATA, 4), (DATA, 1)] {
        out8(port, byte);
    }
    mask(1);
    raise_0();
    expect("first", take(), POLLED)?;
    out8(COMMAND, EOI);
    Ok(expect("no second while it stays high", take() & POLLED, 0u8)?)
}

pub(super) fn mask_keeps_edge() -> Checked {
    mask(0);
    raise_0();
    mask(1);
    Ok(expect("taken", take(), POLLED)?)
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

pub(super) fn spurious() -> Checked {
    spurious_taken()
}

pub(super) fn spurious_isr() -> Checked {
    spurious_taken()?;
    Ok(expect("nothing in service", isr(), 0u8)?)
}

pub(super) fn lint0_masked() -> Checked {
    mask(1);
    raise_0();
    let before = interrupts(VECTORS);
    enable_interrupts();
    disable_interrupts();
    expect("held back", interrupts(VECTORS), before)?;
    Ok(expect("still requested", irr() & 1, 1u8)?)
}
