//! Guest RAM: taken in the largest blocks that fit, so that EPT maps it with the largest leaves.

use arch::{GIB, Gpa};
use hal::memory::FrameBlock;
use hal::memory::frames::Order;
use hal::vmx::{AddRamError, GuestSpace};
use loader::MemoryRange;

/// The host has not enough memory in blocks of any size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OutOfMemory;

/// The largest block that may begin at `at` and has no more than `rest` bytes.
fn largest(at: Gpa, rest: u64) -> Order {
    Order::all()
        .rev()
        .find(|order| order.bytes() <= rest.min(GIB) && at.is_aligned(order.bytes()))
        .unwrap_or(Order::SMALL)
}

/// Gives `space` zeroed RAM at `ranges`, whose bounds are page-aligned.
pub(crate) fn populate(space: &mut GuestSpace, ranges: &[MemoryRange]) -> Result<(), OutOfMemory> {
    for range in ranges {
        let (mut at, mut rest) = (range.start, range.bytes);
        while rest > 0 {
            let block = take(largest(at, rest)).ok_or(OutOfMemory)?;
            let bytes = block.size_bytes();
            match space.add_ram(at, block) {
                Ok(()) => {}
                Err(AddRamError::OutOfTables) => return Err(OutOfMemory),
                Err(AddRamError::Place(error)) => panic!("guest RAM ranges are disjoint: {error:?}"),
            }
            at = at + bytes;
            rest -= bytes;
        }
    }
    Ok(())
}

/// A zeroed block of `wanted` size or, where memory is in pieces, the largest smaller one.
fn take(wanted: Order) -> Option<FrameBlock> {
    Order::all().rev().filter(|order| *order <= wanted).find_map(|order| FrameBlock::zeroed(order).ok())
}
