//! Video memory: the legacy one, and a linear framebuffer.

/// Where the legacy memory begins and ends.
const LEGACY: core::ops::Range<usize> = 0xa_0000..0xc_0000;
/// Where a framebuffer may be: below the interrupt controllers, where no RAM is.
const FRAMEBUFFERS: core::ops::Range<usize> = 0xc000_0000..0xfe00_0000;

fn checked(address: usize, bytes: usize) -> *mut u8 {
    let inside = |range: &core::ops::Range<usize>| range.start <= address && address + bytes <= range.end;
    assert!(inside(&LEGACY) || inside(&FRAMEBUFFERS), "not video memory");
    core::ptr::with_exposed_provenance_mut(address)
}

/// Writes a byte.
pub(crate) fn write_u8(address: usize, value: u8) {
    // SAFETY: mapped, and no Rust object is there.
    unsafe { core::ptr::write_volatile(checked(address, 1), value) }
}

/// Reads a byte.
pub(crate) fn read_u8(address: usize) -> u8 {
    // SAFETY: as above; any value is a valid u8.
    unsafe { core::ptr::read_volatile(checked(address, 1)) }
}

/// Writes a double word, at a multiple of 4.
pub(crate) fn write_u32(address: usize, value: u32) {
    assert!(address.is_multiple_of(4), "not aligned");
    // SAFETY: mapped, aligned, and no Rust object is there.
    unsafe { core::ptr::write_volatile(checked(address, 4).cast(), value) }
}

/// Reads a double word, at a multiple of 4.
pub(crate) fn read_u32(address: usize) -> u32 {
    assert!(address.is_multiple_of(4), "not aligned");
    // SAFETY: as above; any value is a valid u32.
    unsafe { core::ptr::read_volatile(checked(address, 4).cast()) }
}
