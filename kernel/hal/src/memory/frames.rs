//! The frame allocator: all free physical memory, in blocks of 4 KiB to 1 GiB.

use arch::{Hpa, MIB, PAGE_SIZE};
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use spin::Mutex;

use super::buddy::{Buddy, Frame};
use super::direct_map;

pub use super::buddy::Order;

static FRAMES: Mutex<Option<Buddy<'static>>> = Mutex::new(None);

/// Memory below this is left to the firmware's data and to the start-up code of other CPUs.
const FIRST_USED: u64 = MIB;

/// How much memory there is, in bytes and blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Bytes managed by the allocator, free or not.
    pub total_bytes: u64,
    /// Bytes that are free.
    pub free_bytes: u64,
    /// Free blocks by order: index 0 is 4 KiB, 9 is 2 MiB, 18 is 1 GiB.
    pub free_blocks: [u32; Order::COUNT],
}

/// The number of the frame at `hpa`. Frames beyond 16 TiB have none.
fn number(hpa: u64) -> Option<u32> {
    u32::try_from(hpa / PAGE_SIZE).ok()
}

/// The usable part of a region as frame numbers: whole frames, above the low memory.
fn usable(region: &MemoryRegion) -> Option<(u32, u32)> {
    if region.kind != MemoryRegionKind::Usable {
        return None;
    }
    let start = number(region.start.max(FIRST_USED).next_multiple_of(PAGE_SIZE))?;
    let end = number(region.end).unwrap_or(u32::MAX);
    (start < end).then_some((start, end))
}

/// Takes all memory that the boot loader reports as usable.
///
/// # Safety
/// The regions must be what the boot loader reported: usable ones are memory that nobody else uses, and it is
/// mapped in the direct map. Must be called once.
pub(crate) unsafe fn init(regions: &[MemoryRegion]) {
    let count = regions.iter().filter_map(usable).map(|(_, end)| end).max().unwrap_or(0);
    let book_bytes = u64::from(count) * size_of::<Frame>() as u64;
    let book_frames = number(book_bytes.next_multiple_of(PAGE_SIZE)).unwrap_or(u32::MAX);
    // The books go to the start of the first region that holds them.
    let home = regions
        .iter()
        .filter_map(usable)
        .find(|(start, end)| end - start > book_frames)
        .map(|(start, _)| start)
        .expect("some region holds the frame allocator's books");
    let books: *mut Frame = direct_map::pointer(Hpa::new(u64::from(home) * PAGE_SIZE));
    for index in 0..count as usize {
        // SAFETY: `index` is inside the books.
        let slot = unsafe { books.add(index) };
        // SAFETY: the slot is mapped memory that nobody else uses.
        unsafe { slot.write(Frame::ABSENT) };
    }
    // SAFETY: the books were written in full above, are never given to anybody else and live for ever.
    let books = unsafe { core::slice::from_raw_parts_mut(books, count as usize) };
    let mut buddy = Buddy::new(books);
    for (start, end) in regions.iter().filter_map(usable) {
        buddy.add(if start == home { start + book_frames } else { start }, end);
    }
    *FRAMES.lock() = Some(buddy);
}

/// Takes a block of `order`; its address is a multiple of its size. The contents are what was left there.
pub fn take(order: Order) -> Option<Hpa> {
    let frame = FRAMES.lock().as_mut()?.take(order)?;
    Some(Hpa::new(u64::from(frame) * PAGE_SIZE))
}

/// Gives a block back.
///
/// # Safety
/// Nobody may use the block any more: no pointer, no page table of a CPU or a guest, no device.
pub unsafe fn give(hpa: Hpa, order: Order) {
    let frame = number(hpa.get()).expect("the block came from `take`");
    FRAMES.lock().as_mut().expect("the block came from `take`").give(frame, order);
}

/// How much memory there is now.
pub fn counters() -> Counters {
    let frames = FRAMES.lock();
    let Some(buddy) = frames.as_ref() else { return Counters::default() };
    let mut free_blocks = [0; Order::COUNT];
    for (slot, order) in free_blocks.iter_mut().zip(Order::all()) {
        *slot = buddy.free_blocks(order);
    }
    Counters { total_bytes: buddy.total() * PAGE_SIZE, free_bytes: buddy.free() * PAGE_SIZE, free_blocks }
}
