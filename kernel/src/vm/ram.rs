//! Guest memory: taken in the largest blocks that fit, so that EPT maps it with the largest leaves; zeroed in small steps,
//! so that whoever else uses the core does not wait for it.

use super::paced::STRETCH_US;
use alloc::sync::Arc;
use arch::platform_layout::{LEGACY_VIDEO, LEGACY_VIDEO_END};
use arch::{GIB, Gpa};
use hal::memory::FrameBlock;
use hal::memory::frames::Order;
use hal::vmx::{AddRamError, GuestSpace};
use loader::MemoryRange;
use memory::Block;

/// The host has not enough memory in blocks of any size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OutOfMemory;

/// What is zeroed at once, in bytes.
const PIECE_BYTES: usize = 4096;
/// How much it zeroes between two looks at the clock, in bytes.
const STRETCH_BYTES: u64 = 64 * 1024;

static ZEROS: [u8; PIECE_BYTES] = [0; PIECE_BYTES];

/// The largest block that may begin at `at` and has no more than `rest` bytes.
fn largest(at: Gpa, rest: u64) -> Order {
    Order::all()
        .rev()
        .find(|order| order.bytes() <= rest.min(GIB) && at.is_aligned(order.bytes()))
        .unwrap_or(Order::SMALL)
}

/// What a range of addresses becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Use {
    /// RAM.
    Ram,
    /// RAM beneath windows.
    SwitchedRam,
    /// Read-only memory behind windows.
    Rom,
    /// Video memory, wherever the guest puts it.
    Video,
}

/// `ranges` less the legacy video memory, which is the screen's.
pub(crate) fn without_legacy_video(ranges: &[MemoryRange]) -> alloc::vec::Vec<MemoryRange> {
    let mut pieces = alloc::vec::Vec::with_capacity(ranges.len() + 1);
    for range in ranges {
        let end = range.start + range.bytes;
        for (first, end) in [(range.start, end.min(LEGACY_VIDEO)), (range.start.max(LEGACY_VIDEO_END), end)] {
            if first < end {
                pieces.push(MemoryRange { start: first, bytes: end - first, ..*range });
            }
        }
    }
    pieces
}

/// A block on its way to be a guest's.
#[derive(Debug)]
struct Unfinished {
    at: Gpa,
    becomes: Use,
    block: FrameBlock,
    zeroed: u64,
}

/// An address space that is being given its memory.
#[derive(Debug)]
pub(crate) struct Filling {
    space: GuestSpace,
    /// What is left to be filled, the next last. Bounds are page-aligned.
    ranges: alloc::vec::Vec<(MemoryRange, Use)>,
    block: Option<Unfinished>,
    /// Bytes of video memory, a power of two, until they are there.
    video_bytes: u64,
}

/// How far it is.
#[derive(Debug)]
pub(crate) enum Progress {
    /// More is to do.
    Going(Filling),
    /// All ranges have their memory.
    Done(GuestSpace),
}

impl Filling {
    /// Will give `ranges` memory of `space`, zeroed, and `video_bytes` of video memory.
    pub(crate) fn new(space: GuestSpace, ranges: &[(MemoryRange, Use)], video_bytes: u64) -> Self {
        Self { space, ranges: ranges.iter().rev().copied().collect(), block: None, video_bytes }
    }

    /// Bytes that are still to be taken from the host.
    pub(crate) fn missing_bytes(&self) -> u64 {
        self.ranges.iter().map(|(range, _)| range.bytes).sum::<u64>() + self.video_bytes
    }

    /// Takes and zeroes the next piece, for as long as guests wait for such work.
    ///
    /// # Errors
    /// [`OutOfMemory`]; what was taken is given back.
    pub(crate) fn step(mut self) -> Result<Progress, OutOfMemory> {
        let mut unfinished = match self.block.take() {
            Some(block) => block,
            None => match self.take_block()? {
                Some(block) => block,
                None => return Ok(Progress::Done(self.space)),
            },
        };
        let size = unfinished.block.size_bytes();
        let end = hal::time::now() + hal::time::ticks(STRETCH_US);
        while unfinished.zeroed < size && hal::time::now() < end {
            let stretch = size.min(unfinished.zeroed + STRETCH_BYTES);
            while unfinished.zeroed < stretch {
                unfinished.block.copy_in(unfinished.zeroed, &ZEROS);
                unfinished.zeroed += arch::PAGE_SIZE;
            }
        }
        if unfinished.zeroed < size {
            self.block = Some(unfinished);
            return Ok(Progress::Going(self));
        }
        let Unfinished { at, becomes, block, .. } = unfinished;
        let added = match becomes {
            Use::Ram => self.space.add_ram(at, block),
            Use::SwitchedRam => self.space.add_switched_ram(at, block).map_err(AddRamError::Place),
            Use::Rom => self.space.add_rom(at, block).map_err(AddRamError::Place),
            Use::Video => {
                self.space.set_video_memory(Arc::new(block));
                Ok(())
            }
        };
        match added {
            Ok(()) => Ok(Progress::Going(self)),
            Err(AddRamError::OutOfTables) => Err(OutOfMemory),
            Err(AddRamError::Place(error)) => panic!("guest memory ranges are disjoint: {error:?}"),
        }
    }

    /// The next block: as large as fits, or, where the host's memory is in pieces, the largest smaller one.
    fn take_block(&mut self) -> Result<Option<Unfinished>, OutOfMemory> {
        let Some((range, becomes)) = self.ranges.last_mut() else { return self.take_video_block() };
        let wanted = largest(range.start, range.bytes);
        let block = Order::all()
            .rev()
            .filter(|order| *order <= wanted)
            .find_map(|order| FrameBlock::uninitialized(order).ok())
            .ok_or(OutOfMemory)?;
        let (at, becomes) = (range.start, *becomes);
        range.start = at + block.size_bytes();
        range.bytes -= block.size_bytes();
        if range.bytes == 0 {
            self.ranges.pop();
        }
        Ok(Some(Unfinished { at, becomes, block, zeroed: 0 }))
    }

    /// The block of video memory: in one piece, as a device sees it.
    fn take_video_block(&mut self) -> Result<Option<Unfinished>, OutOfMemory> {
        let bytes = core::mem::take(&mut self.video_bytes);
        if bytes == 0 {
            return Ok(None);
        }
        let order = Order::all().find(|order| order.bytes() == bytes).ok_or(OutOfMemory)?;
        let block = FrameBlock::uninitialized(order).map_err(|_| OutOfMemory)?;
        Ok(Some(Unfinished { at: Gpa::new(0), becomes: Use::Video, block, zeroed: 0 }))
    }
}

const _: () = assert!(PIECE_BYTES as u64 == arch::PAGE_SIZE);
