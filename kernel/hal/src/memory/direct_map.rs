//! The direct map: physical memory at a constant distance, in the boot loader's page tables and in ours.

use core::ptr;

use arch::{Hpa, PAGE_SIZE};

use super::layout::{DIRECT_MAP_BASE, DIRECT_MAP_SIZE};
use super::tables;

/// The virtual address of `hpa` in the direct map.
#[inline]
pub const fn address(hpa: Hpa) -> u64 {
    DIRECT_MAP_BASE.wrapping_add(hpa.get())
}

/// A pointer to physical memory. Dereferencing it is what needs care.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "addresses have 64 bits here, as usize has")]
pub const fn pointer<T>(hpa: Hpa) -> *mut T {
    ptr::with_exposed_provenance_mut(address(hpa) as usize)
}

/// The physical address behind a virtual address in the direct map.
pub fn physical(address: u64) -> Option<Hpa> {
    let offset = address.checked_sub(DIRECT_MAP_BASE)?;
    (offset < DIRECT_MAP_SIZE).then_some(Hpa::new(offset))
}

/// The `length` bytes at `hpa`, when all of them are mapped in the kernel's tables.
///
/// # Safety
/// Nobody may write them any more: firmware tables and the boot archive.
pub unsafe fn bytes(hpa: Hpa, length: u64) -> Option<&'static [u8]> {
    let end = hpa.checked_add(length)?;
    if end.get() > DIRECT_MAP_SIZE {
        return None;
    }
    let pages = hpa.align_down(PAGE_SIZE).get()..end.get();
    if !pages.step_by(0x1000).all(|page| tables::translate(address(Hpa::new(page))).is_some()) {
        return None;
    }
    // SAFETY: mapped, and the caller says that nobody writes there.
    Some(unsafe { core::slice::from_raw_parts(pointer(hpa), usize::try_from(length).ok()?) })
}
