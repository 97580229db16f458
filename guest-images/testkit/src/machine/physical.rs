//! Physical memory that others wrote: loaders' structures and firmware tables.

/// Reads a byte. `address` is physical, below 4 GiB and not 0.
pub(crate) fn read_u8(address: u64) -> u8 {
    let at = usize::try_from(address).ok().filter(|at| (1..1 << 32).contains(at)).expect("mapped memory");
    // SAFETY: the first 4 GiB are mapped, any value is a valid u8, and what loaders left is nobody's Rust object.
    unsafe { core::ptr::read_volatile(core::ptr::with_exposed_provenance(at)) }
}

/// Reads a little-endian word, aligned or not.
pub(crate) fn read_u16(address: u64) -> u16 {
    u16::from_le_bytes(core::array::from_fn(|i| read_u8(address + i as u64)))
}

/// Reads a little-endian double word, aligned or not.
pub(crate) fn read_u32(address: u64) -> u32 {
    u32::from_le_bytes(core::array::from_fn(|i| read_u8(address + i as u64)))
}

/// Reads a little-endian quad word, aligned or not.
pub(crate) fn read_u64(address: u64) -> u64 {
    u64::from_le_bytes(core::array::from_fn(|i| read_u8(address + i as u64)))
}
