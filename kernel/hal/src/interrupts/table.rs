//! The interrupt descriptor table: all 256 vectors, one table for all CPUs.
//!
//! SDM Vol. 3A, "64-Bit Mode IDT".

use alloc::boxed::Box;

use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::structures::DescriptorTablePointer;

use super::stubs::{self, STUB_STRIDE};
use crate::percpu::Ist;

/// A gate: two words as the CPU reads them.
type Gate = [u64; 2];

/// The table's limit: its last byte's offset.
const LIMIT: u16 = 256 * 16 - 1;
const _: () = assert!(size_of::<[Gate; 256]>() == LIMIT as usize + 1);

static TABLE: Once<&'static [Gate; 256]> = Once::new();

/// The stack that the CPU switches to at `vector`, if it does.
const fn stack(vector: u64) -> Option<Ist> {
    match vector {
        2 => Some(Ist::Nmi),
        8 => Some(Ist::DoubleFault),
        14 => Some(Ist::PageFault),
        18 => Some(Ist::MachineCheck),
        _ => None,
    }
}

/// A present interrupt gate of ring 0 to `handler`; `ist` is 0 for none, or the slot's number from 1.
const fn gate(handler: u64, code: u16, ist: u8) -> Gate {
    const PRESENT_INTERRUPT_GATE: u64 = 0x8e00 << 32;
    [
        (handler & 0xffff)
            | (code as u64) << 16
            | (ist as u64) << 32
            | PRESENT_INTERRUPT_GATE
            | (handler >> 16 & 0xffff) << 48,
        handler >> 32,
    ]
}

/// The table's address; `code` is the selector of every CPU's code segment.
pub(crate) fn table_base(code: u16) -> u64 {
    let table = TABLE.call_once(|| {
        let first = stubs::stubs as *const () as usize as u64;
        let mut gates = Box::new([[0; 2]; 256]);
        for (vector, slot) in (0..).zip(gates.iter_mut()) {
            let ist = stack(vector).map_or(0, |ist| ist as u8 + 1);
            *slot = gate(first + vector * STUB_STRIDE, code, ist);
        }
        Box::leak(gates)
    });
    (&raw const **table).addr() as u64
}

/// Loads the table on this CPU, whose code segment is `code`.
pub(crate) fn load_table(code: u16) {
    let base = VirtAddr::new(table_base(code));
    // SAFETY: the table lives for ever and every gate leads to a stub.
    unsafe { lidt(&DescriptorTablePointer { limit: LIMIT, base }) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_spreads_the_handler_over_its_fields() {
        // SDM Vol. 3A, "64-Bit IDT Gate Descriptors".
        let [low, high] = gate(0x1122_3344_5566_7788, 0x08, 3);
        assert_eq!(low, 0x5566_8e03_0008_7788);
        assert_eq!(high, 0x1122_3344);
    }
}
