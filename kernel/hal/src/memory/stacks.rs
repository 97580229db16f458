//! Kernel stacks: each with unmapped pages on both sides, so that an overflow is a fault and not corruption.

use core::sync::atomic::{AtomicU64, Ordering};

use arch::PAGE_SIZE;

use super::block::OutOfFrames;
use super::layout::{STACK_STRIDE, STACKS_BASE, STACKS_END};
use super::tables;

static NEXT: AtomicU64 = AtomicU64::new(STACKS_BASE);

/// A stack that lives for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stack {
    /// The lowest mapped address.
    pub bottom: u64,
    /// One past the highest: where the stack pointer starts.
    pub top: u64,
}

/// Maps a new stack of `bytes`, a multiple of the page size below the stride of stacks.
///
/// # Errors
/// [`OutOfFrames`] when memory is short. The part that was mapped is lost.
///
/// # Panics
/// When the region for stacks is full or `bytes` is too large.
pub fn allocate(bytes: u64) -> Result<Stack, OutOfFrames> {
    assert!(bytes.is_multiple_of(PAGE_SIZE) && bytes < STACK_STRIDE - PAGE_SIZE, "a stack fits its slot");
    let slot = NEXT.fetch_add(STACK_STRIDE, Ordering::Relaxed);
    assert!(slot + STACK_STRIDE <= STACKS_END, "there is room for another stack");
    let bottom = slot + PAGE_SIZE;
    for address in (bottom..bottom + bytes).step_by(0x1000) {
        tables::map_data_page(address)?;
    }
    Ok(Stack { bottom, top: bottom + bytes })
}

/// Whether `address` is on some stack: backtraces read nothing else.
pub fn contains(address: u64) -> bool {
    (STACKS_BASE..NEXT.load(Ordering::Relaxed)).contains(&address) && tables::is_mapped(address) == Some(true)
}

/// Whether `address` is in the guard page below some stack.
pub fn is_guard(address: u64) -> bool {
    (STACKS_BASE..NEXT.load(Ordering::Relaxed)).contains(&address)
        && tables::is_mapped(address) == Some(false)
}
