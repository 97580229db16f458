//! An owned block of physical memory, as guest RAM, as a VMCS or as a bitmap.

use core::arch::asm;
use core::fmt;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use arch::Hpa;

use super::direct_map;
use super::frames::{self, Order};

/// No block of the wanted size is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfFrames {
    /// The size that was asked for, in bytes.
    pub bytes: u64,
}

impl fmt::Display for OutOfFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no free block of {} KiB", self.bytes / 1024)
    }
}

/// A block of frames, owned: it goes back to the allocator when dropped.
///
/// Copies in and out may race with a guest or a device that writes the same bytes: they are single instructions of
/// the CPU on raw pointers, never references, and a value of 1, 2, 4 or 8 bytes at an aligned offset is copied whole.
pub struct FrameBlock {
    hpa: Hpa,
    order: Order,
    /// Kept beside the order, as every access is checked against it.
    size_bytes: u64,
}

impl FrameBlock {
    /// A block whose contents are what was left there: for memory that is written before it is read.
    ///
    /// # Errors
    /// [`OutOfFrames`] when no block of this order is free.
    pub fn uninitialized(order: Order) -> Result<Self, OutOfFrames> {
        frames::take(order)
            .map(|hpa| Self { hpa, order, size_bytes: order.bytes() })
            .ok_or(OutOfFrames { bytes: order.bytes() })
    }

    /// A block of zeros.
    ///
    /// # Errors
    /// [`OutOfFrames`] when no block of this order is free.
    pub fn zeroed(order: Order) -> Result<Self, OutOfFrames> {
        let block = Self::uninitialized(order)?;
        block.clear();
        Ok(block)
    }

    /// Where the block is in physical memory.
    #[inline]
    pub fn hpa(&self) -> Hpa {
        self.hpa
    }

    /// The block's order.
    #[inline]
    pub fn order(&self) -> Order {
        self.order
    }

    /// The block's size in bytes.
    #[inline]
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The block's first byte in the direct map. What is read and written through it may race.
    #[inline]
    pub fn pointer(&self) -> *mut u8 {
        direct_map::pointer(self.hpa)
    }

    /// Fills the block with zeros.
    pub fn clear(&self) {
        // SAFETY: the block is mapped memory owned by `self`; the direction flag is clear by the calling convention.
        unsafe {
            asm!(
                "rep stosq",
                inout("rcx") self.size_bytes() / 8 => _,
                inout("rdi") self.pointer() => _,
                in("rax") 0_u64,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Panics unless `length` bytes at `offset` lie inside; their first byte otherwise.
    #[inline]
    fn at(&self, offset: u64, length: usize) -> *mut u8 {
        let inside = offset.checked_add(length as u64).is_some_and(|end| end <= self.size_bytes());
        assert!(inside, "{length} bytes at {offset:#x} leave a block of {:#x}", self.size_bytes());
        direct_map::pointer(self.hpa + offset)
    }
}

/// Copies `length` bytes, by words as far as they go. Overlap and races yield some mixture of old and new bytes.
///
/// # Safety
/// Both ranges must be mapped, `to` writable and not referenced by Rust code other than through the caller's own
/// exclusive reference.
// Out of the way of the words that walks of page tables read.
#[cold]
#[inline(never)]
unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    // SAFETY: the caller vouches for the ranges; the direction flag is clear by the calling convention.
    unsafe {
        asm!(
            "rep movsq",
            "mov rcx, {rest}",
            "rep movsb",
            rest = in(reg) length % 8,
            inout("rcx") length / 8 => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}

impl memory::Block for FrameBlock {
    fn size(&self) -> u64 {
        self.size_bytes()
    }

    #[inline]
    fn copy_out(&self, offset: u64, into: &mut [u8]) {
        let from = self.at(offset, into.len());
        match into.len() {
            // SAFETY: inside the block, aligned, and accessed by whoever else with single instructions.
            1 => into.copy_from_slice(&[unsafe { AtomicU8::from_ptr(from) }.load(Ordering::Acquire)]),
            2 if from.cast::<u16>().is_aligned() => {
                // SAFETY: as above.
                let word = unsafe { AtomicU16::from_ptr(from.cast()) };
                into.copy_from_slice(&word.load(Ordering::Acquire).to_le_bytes());
            }
            4 if from.cast::<u32>().is_aligned() => {
                // SAFETY: as above.
                let word = unsafe { AtomicU32::from_ptr(from.cast()) };
                into.copy_from_slice(&word.load(Ordering::Acquire).to_le_bytes());
            }
            8 if from.cast::<u64>().is_aligned() => {
                // SAFETY: as above.
                let word = unsafe { AtomicU64::from_ptr(from.cast()) };
                into.copy_from_slice(&word.load(Ordering::Acquire).to_le_bytes());
            }
            // SAFETY: `at` checked the source; the destination is the caller's own.
            length => unsafe { copy(from, into.as_mut_ptr(), length) },
        }
    }

    #[inline]
    fn aligned_u64(&self, offset: u64) -> Option<u64> {
        // Blocks are whole pages: an aligned word that begins inside ends inside.
        if !offset.is_multiple_of(8) || offset >= self.size_bytes() {
            return None;
        }
        let word = direct_map::pointer(self.hpa + offset);
        // SAFETY: inside the block, aligned as the block is, and accessed by whoever else with single instructions.
        Some(unsafe { AtomicU64::from_ptr(word) }.load(Ordering::Acquire))
    }

    #[inline]
    fn copy_in(&self, offset: u64, from: &[u8]) {
        let to = self.at(offset, from.len());
        match *from {
            // SAFETY: inside the block, aligned, and accessed by whoever else with single instructions.
            [byte] => unsafe { AtomicU8::from_ptr(to) }.store(byte, Ordering::Release),
            [a, b] if to.cast::<u16>().is_aligned() => {
                // SAFETY: as above.
                let word = unsafe { AtomicU16::from_ptr(to.cast()) };
                word.store(u16::from_le_bytes([a, b]), Ordering::Release);
            }
            [a, b, c, d] if to.cast::<u32>().is_aligned() => {
                // SAFETY: as above.
                let word = unsafe { AtomicU32::from_ptr(to.cast()) };
                word.store(u32::from_le_bytes([a, b, c, d]), Ordering::Release);
            }
            [a, b, c, d, e, f, g, h] if to.cast::<u64>().is_aligned() => {
                // SAFETY: as above.
                let word = unsafe { AtomicU64::from_ptr(to.cast()) };
                word.store(u64::from_le_bytes([a, b, c, d, e, f, g, h]), Ordering::Release);
            }
            // SAFETY: `at` checked the destination; the source is the caller's own.
            _ => unsafe { copy(from.as_ptr(), to, from.len()) },
        }
    }

    #[inline]
    fn swap_u8(&self, offset: u64, value: u8) -> u8 {
        let byte = self.at(offset, 1);
        // SAFETY: inside the block, and accessed by whoever else with single instructions.
        unsafe { AtomicU8::from_ptr(byte) }.swap(value, Ordering::AcqRel)
    }

    fn compare_exchange_u32(&self, offset: u64, current: u32, new: u32) -> bool {
        let word = self.at(offset, 4).cast::<u32>();
        assert!(word.is_aligned(), "{offset:#x} is not aligned");
        // SAFETY: inside the block, aligned, and accessed by whoever else with single instructions.
        let word = unsafe { AtomicU32::from_ptr(word) };
        word.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn compare_exchange_u64(&self, offset: u64, current: u64, new: u64) -> bool {
        let word = self.at(offset, 8).cast::<u64>();
        assert!(word.is_aligned(), "{offset:#x} is not aligned");
        // SAFETY: as above.
        let word = unsafe { AtomicU64::from_ptr(word) };
        word.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

impl fmt::Debug for FrameBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameBlock({}, {} KiB)", self.hpa, self.size_bytes() / 1024)
    }
}

impl Drop for FrameBlock {
    fn drop(&mut self) {
        // SAFETY: whoever put the block's address into a table or a device has taken it out before dropping the
        // owner: that is the contract of holding a `FrameBlock` beside the table.
        unsafe { frames::give(self.hpa, self.order) };
    }
}
