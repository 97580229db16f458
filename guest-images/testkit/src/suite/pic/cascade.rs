//! The second chip behind the first.

use super::{
    COMMAND, EOI, POLL, POLLED, READ_ISR, SLAVE_COMMAND, SLAVE_DATA, irr, isr, mask, poll, raise_0, raise_4,
    raise_8, register, take,
};
use crate::machine::cpu::{in8, out8};
use crate::programs::expect;
use crate::suite::Checked;

pub(super) fn cascade_request() -> Checked {
    mask(4);
    out8(SLAVE_DATA, 0xfe);
    raise_8()?;
    Ok(expect("the master's line 2", irr() & 4, 4u8)?)
}

pub(super) fn cascade_poll() -> Checked {
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

pub(super) fn cascade_take() -> Checked {
    take_8()
}

pub(super) fn cascade_eoi() -> Checked {
    take_8()?;
    out8(COMMAND, EOI);
    expect("master's ISR", isr(), 0u8)?;
    expect("slave's ISR", register(SLAVE_COMMAND, READ_ISR), 1u8)?;
    out8(SLAVE_COMMAND, EOI);
    Ok(expect("slave's ISR", register(SLAVE_COMMAND, READ_ISR), 0u8)?)
}

pub(super) fn cascade_blocks() -> Checked {
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
