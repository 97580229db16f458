//! What of the host is in use: to be compared before and after machines come and go.

use core::fmt;

/// Figures of one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HostUse {
    frames: u64,
    heap: hal::memory::heap::Counters,
    vpids: u32,
    table_pages: u64,
}

impl HostUse {
    /// What is in use now; the machines that run have `table_pages` tables of the second level together.
    pub(crate) fn now(table_pages: u64) -> Self {
        let frames = hal::memory::frames::counters();
        Self {
            frames: (frames.total_bytes - frames.free_bytes) / arch::PAGE_SIZE,
            heap: hal::memory::heap::counters(),
            vpids: hal::vmx::vpids_in_use(),
            table_pages,
        }
    }
}

impl fmt::Display for HostUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, heap, vpids, table_pages } = self;
        let hal::memory::heap::Counters { allocations, bytes } = heap;
        write!(
            f,
            "frames={frames} heap_bytes={bytes} heap_allocations={allocations} vpids={vpids} ept_pages={table_pages}"
        )
    }
}
