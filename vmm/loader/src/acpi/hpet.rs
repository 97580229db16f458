//! The table of the high-precision event timer.
//!
//! IA-PC HPET Specification 1.0a, "The ACPI 2.0 HPET Description Table (HPET)".

use super::sdt;
use acpi_tables::sdt::Sdt;
use arch::platform_layout as pc;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{Immutable, IntoBytes, Unaligned};

const REVISION: u8 = 1;
/// The address is one of memory.
const MEMORY: u8 = 0;
/// Of a page that nothing else is in.
const PAGE_OF_4K: u8 = 1;

#[derive(IntoBytes, Immutable, Unaligned)]
#[repr(C)]
struct Body {
    block_id: U32,
    address_space: u8,
    bit_width: u8,
    bit_offset: u8,
    reserved: u8,
    address: U64,
    number: u8,
    minimum_tick: U16,
    protection: u8,
}

const _: () = assert!(size_of::<Body>() == 20);

/// The table.
pub(crate) fn table() -> Sdt {
    let body = Body {
        block_id: pc::HPET_ID.into(),
        address_space: MEMORY,
        bit_width: 64,
        bit_offset: 0,
        reserved: 0,
        address: pc::HPET_BASE.get().into(),
        number: 0,
        minimum_tick: pc::HPET_MINIMUM_TICK.into(),
        protection: PAGE_OF_4K,
    };
    let mut table = sdt(*b"HPET", REVISION);
    table.append_slice(body.as_bytes());
    table
}
