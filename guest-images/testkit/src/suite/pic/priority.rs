//! What is in service, how it ends, and who comes first: EOI, rotation, special mask.

use super::{
    COMMAND, EOI, POLLED, initialize, irr, isr, lower_0, lower_4, mask, poll, raise_0, raise_4, take,
};
use crate::machine::cpu::out8;
use crate::programs::expect;
use crate::suite::Checked;

pub(super) fn blocks_lower() -> Checked {
    mask(0x11);
    raise_0();
    expect("first", take(), POLLED)?;
    raise_4();
    expect("requested", irr() & 0x10, 0x10u8)?;
    expect("blocked", take() & POLLED, 0u8)?;
    out8(COMMAND, EOI);
    Ok(expect("let through", take(), POLLED | 4)?)
}

pub(super) fn blocks_same() -> Checked {
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

pub(super) fn nonspecific_eoi() -> Checked {
    nest()?;
    out8(COMMAND, EOI);
    expect("the higher ended", isr(), 0x10u8)?;
    out8(COMMAND, EOI);
    Ok(expect("the lower ended", isr(), 0u8)?)
}

pub(super) fn specific_eoi() -> Checked {
    nest()?;
    out8(COMMAND, 0x60 | 4);
    Ok(expect("the lower ended", isr(), 1u8)?)
}

pub(super) fn specific_eoi_other() -> Checked {
    nest()?;
    out8(COMMAND, 0x60 | 6);
    Ok(expect("both stay", isr(), 0x11u8)?)
}

pub(super) fn auto_eoi() -> Checked {
    initialize(3);
    mask(1);
    raise_0();
    expect("taken", take(), POLLED)?;
    expect("nothing in service", isr(), 0u8)?;
    lower_0();
    raise_0();
    Ok(expect("taken again without EOI", take(), POLLED)?)
}

pub(super) fn rotate_eoi() -> Checked {
    mask(0x11);
    raise_0();
    expect("first", take(), POLLED)?;
    out8(COMMAND, 0xa0);
    lower_0();
    raise_0();
    raise_4();
    Ok(expect("line 0 is now the lowest", take(), POLLED | 4)?)
}

pub(super) fn rotate_specific() -> Checked {
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

pub(super) fn set_priority() -> Checked {
    mask(0x11);
    out8(COMMAND, 0xc0 | 3);
    raise_0();
    raise_4();
    expect("line 4 is the highest", take(), POLLED | 4)?;
    expect("line 0 is blocked", take() & POLLED, 0u8)?;
    out8(COMMAND, 0xc0 | 7);
    Ok(expect("line 0 is the highest again", take(), POLLED)?)
}

pub(super) fn set_priority_survives() -> Checked {
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

pub(super) fn icw1_resets_priority() -> Checked {
    out8(COMMAND, 0xc0 | 3);
    initialize(1);
    mask(0x11);
    raise_0();
    raise_4();
    Ok(expect("line 0 is the highest", take(), POLLED)?)
}

pub(super) fn rotate_auto() -> Checked {
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

pub(super) fn rotate_auto_cleared() -> Checked {
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

pub(super) fn special_mask() -> Checked {
    mask(0x11);
    raise_0();
    expect("first", take(), POLLED)?;
    raise_4();
    expect("blocked", take() & POLLED, 0u8)?;
    out8(COMMAND, 0x68);
    mask(0x10);
    Ok(expect("let through", take(), POLLED | 4)?)
}

pub(super) fn special_mask_cleared() -> Checked {
    mask(0x11);
    raise_0();
    expect("first", take(), POLLED)?;
    out8(COMMAND, 0x68);
    mask(0x10);
    out8(COMMAND, 0x48);
    raise_4();
    Ok(expect("blocked", take() & POLLED, 0u8)?)
}

pub(super) fn special_mask_eoi() -> Checked {
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

pub(super) fn isr_survives_mask() -> Checked {
    mask(1);
    raise_0();
    expect("taken", take(), POLLED)?;
    mask(0);
    Ok(expect("in service", isr(), 1u8)?)
}

pub(super) fn eoi_nothing() -> Checked {
    out8(COMMAND, EOI);
    out8(COMMAND, 0x60 | 3);
    expect("nothing in service", isr(), 0u8)?;
    mask(1);
    raise_0();
    Ok(expect("taken", take(), POLLED)?)
}
