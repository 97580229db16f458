//! Initialization words, the mask, and what is read: IMR, IRR, ISR.

use super::{
    COMMAND, DATA, EOI, POLLED, READ_IRR, READ_ISR, SLAVE_DATA, VECTORS, initialize, isr, lower_0, mask,
    raise_0, raise_4, take,
};
use crate::machine::cpu::{in8, out8};
use crate::machine::trap::interrupts;
use crate::programs::expect;
use crate::suite::Checked;

pub(super) fn imr_reads_back() -> Checked {
    for byte in [0, 0x55, 0xaa, 0xff, 1, 0x80] {
        out8(DATA, byte);
        out8(SLAVE_DATA, !byte);
        expect("master", in8(DATA), byte)?;
        expect("slave", in8(SLAVE_DATA), !byte)?;
    }
    Ok(())
}

pub(super) fn icw1_clears_imr() -> Checked {
    out8(DATA, 0xff);
    initialize(1);
    Ok(expect("mask behind initialization", in8(DATA), 0u8)?)
}

pub(super) fn icw_sequence() -> Checked {
    initialize(1);
    out8(DATA, 0x5a);
    expect("the fifth word is the mask", in8(DATA), 0x5au8)?;
    out8(DATA, 0xa5);
    Ok(expect("and the sixth", in8(DATA), 0xa5u8)?)
}

pub(super) fn single_mode() -> Checked {
    for (port, byte) in [(COMMAND, 0x13), (DATA, VECTORS), (DATA, 1), (DATA, 0x3c)] {
        out8(port, byte);
    }
    Ok(expect("mask behind three words", in8(DATA), 0x3cu8)?)
}

pub(super) fn no_icw4() -> Checked {
    for (port, byte) in [(COMMAND, 0x10), (DATA, VECTORS), (DATA, 4), (DATA, 0x3c)] {
        out8(port, byte);
    }
    Ok(expect("mask behind three words", in8(DATA), 0x3cu8)?)
}

pub(super) fn default_read() -> Checked {
    initialize(1);
    mask(0);
    raise_0();
    Ok(expect("IRR is read", in8(COMMAND), 1u8)?)
}

pub(super) fn read_choice_kept() -> Checked {
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

pub(super) fn icw1_resets_read() -> Checked {
    out8(COMMAND, READ_ISR);
    initialize(1);
    mask(0);
    raise_0();
    Ok(expect("IRR is read", in8(COMMAND), 1u8)?)
}

pub(super) fn icw1_clears_edge() -> Checked {
    mask(1);
    raise_0();
    initialize(1);
    mask(1);
    Ok(expect("a high line needs a new edge", take() & POLLED, 0u8)?)
}

pub(super) fn icw1_clears_isr() -> Checked {
    mask(1);
    raise_0();
    expect("taken", take(), POLLED)?;
    lower_0();
    initialize(1);
    Ok(expect("nothing in service", isr(), 0u8)?)
}

pub(super) fn vector_base() -> Checked {
    for (port, byte) in [(COMMAND, 0x11), (DATA, VECTORS + 0x10), (DATA, 4), (DATA, 1)] {
        out8(port, byte);
    }
    mask(1);
    raise_0();
    let before = interrupts(VECTORS + 0x10);
    take();
    Ok(expect("of the new vector", interrupts(VECTORS + 0x10), before + 1)?)
}

pub(super) fn vector_low_bits() -> Checked {
    for (port, byte) in [(COMMAND, 0x11), (DATA, VECTORS | 5), (DATA, 4), (DATA, 1)] {
        out8(port, byte);
    }
    mask(1);
    raise_0();
    Ok(expect("line 0", take(), POLLED)?)
}

/// Between the words of an initialization nothing is requested from the processor.
pub(super) fn initialization_waits() -> Checked {
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
