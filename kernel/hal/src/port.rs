//! Port I/O. A device behind a port may be told to write memory, so writing is unsafe.

use core::arch::asm;

use arch::Port;

/// Reads a byte from `port`.
///
/// # Safety
/// The read must have no effect on a device that another owner relies on.
#[inline]
pub unsafe fn read_u8(port: Port) -> u8 {
    let value: u8;
    // SAFETY: the caller vouches for the effect on the device.
    unsafe {
        asm!("in al, dx", in("dx") port.0, out("al") value, options(nomem, nostack, preserves_flags));
    };
    value
}

/// Reads a 16-bit word from `port`.
///
/// # Safety
/// As for [`read_u8`].
#[inline]
pub unsafe fn read_u16(port: Port) -> u16 {
    let value: u16;
    // SAFETY: the caller vouches for the effect on the device.
    unsafe {
        asm!("in ax, dx", in("dx") port.0, out("ax") value, options(nomem, nostack, preserves_flags));
    };
    value
}

/// Reads a 32-bit word from `port`.
///
/// # Safety
/// As for [`read_u8`].
#[inline]
pub unsafe fn read_u32(port: Port) -> u32 {
    let value: u32;
    // SAFETY: the caller vouches for the effect on the device.
    unsafe {
        asm!("in eax, dx", in("dx") port.0, out("eax") value, options(nomem, nostack, preserves_flags));
    };
    value
}

/// Writes a byte to `port`.
///
/// # Safety
/// The device behind the port must not violate memory safety because of it.
#[inline]
pub unsafe fn write_u8(port: Port, value: u8) {
    // SAFETY: the caller vouches for the effect on the device.
    unsafe {
        asm!("out dx, al", in("dx") port.0, in("al") value, options(nomem, nostack, preserves_flags));
    };
}

/// Writes a 16-bit word to `port`.
///
/// # Safety
/// As for [`write_u8`].
#[inline]
pub unsafe fn write_u16(port: Port, value: u16) {
    // SAFETY: the caller vouches for the effect on the device.
    unsafe {
        asm!("out dx, ax", in("dx") port.0, in("ax") value, options(nomem, nostack, preserves_flags));
    };
}

/// Writes a 32-bit word to `port`.
///
/// # Safety
/// As for [`write_u8`].
#[inline]
pub unsafe fn write_u32(port: Port, value: u32) {
    // SAFETY: the caller vouches for the effect on the device.
    unsafe {
        asm!("out dx, eax", in("dx") port.0, in("eax") value, options(nomem, nostack, preserves_flags));
    };
}
