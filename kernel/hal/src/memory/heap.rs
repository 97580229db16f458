//! The kernel's heap: `talc` over blocks of frames in the direct map. It grows when it is full and never shrinks.

use core::alloc::Layout;

use arch::MIB;
use spin::Mutex;
use talc::DefaultBinning;
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;
use talc::sync::TalcLock;

use super::direct_map;
use super::frames::{self, Order};

/// The least memory the heap takes at once, in bytes.
const STEP_BYTES: u64 = 16 * MIB;
/// Below this the heap gives up.
const SMALLEST_STEP_BYTES: u64 = MIB;
/// What the allocator needs of a block for itself, at most, in bytes.
const OVERHEAD_BYTES: u64 = 16 * 1024;

/// Hands frames to the heap.
#[derive(Debug)]
struct Frames;

// SAFETY: `acquire` claims memory that belongs to the heap alone, or reports that there is none.
unsafe impl Source for Frames {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let needed = (layout.size() as u64).checked_add(layout.align() as u64).ok_or(())?;
        let needed = needed.checked_add(OVERHEAD_BYTES).ok_or(())?;
        let mut wanted = needed.max(STEP_BYTES);
        loop {
            let order = Order::for_bytes(wanted).ok_or(())?;
            if let Some(hpa) = frames::take(order) {
                let size = usize::try_from(order.bytes()).map_err(|_| ())?;
                // SAFETY: the frames were just taken, are mapped, and are never given back.
                let claimed = unsafe { talc.claim(direct_map::pointer(hpa), size) };
                return claimed.map(|_| ()).ok_or(());
            }
            // Memory is short or in pieces: be content with less.
            wanted /= 2;
            if wanted < needed.max(SMALLEST_STEP_BYTES) {
                return Err(());
            }
        }
    }
}

#[global_allocator]
static HEAP: TalcLock<Mutex<()>, Frames, DefaultBinning> = TalcLock::new(Frames);

/// What of the heap is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Allocations that live.
    pub allocations: usize,
    /// Bytes that were asked for in them.
    pub bytes: usize,
}

/// What of the heap is in use now.
pub fn counters() -> Counters {
    let heap = HEAP.lock();
    let counters = heap.counters();
    Counters { allocations: counters.allocation_count, bytes: counters.allocated_bytes }
}
