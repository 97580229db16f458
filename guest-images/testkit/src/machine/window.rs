//! One virtual page that shows either of two frames of memory, to see whether CPUs forget translations when told to.
//!
//! Source: SDM Vol. 3A, "Invalidation of TLBs and Paging-Structure Caches", "Propagation of Paging-Structure Changes to
//! Multiple Processors".

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// The page: in the 2 MiB below the page that `provoke` changes.
const ADDRESS: usize = 0xbfc0_0000;
/// Its entry in the page directories, 2 MiB each.
const DIRECTORY_ENTRY: usize = ADDRESS >> 21;
const PRESENT_WRITABLE: u64 = 0b11;

/// A page of memory, as a table or as data.
#[repr(C, align(4096))]
pub(crate) struct Frame([AtomicU64; 512]);

impl Frame {
    const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }

    /// The first word: what the window shows.
    pub(crate) fn word(&self) -> &AtomicU64 {
        &self.0[0]
    }

    fn address(&self) -> u64 {
        (&raw const *self).expose_provenance() as u64
    }
}

static TABLE: Frame = Frame::new();

/// The frames that the window can show.
pub(crate) static FRAMES: [Frame; 2] = [const { Frame::new() }; 2];

unsafe extern "C" {
    /// The page directory entries of the first 4 GiB, built at boot.
    static boot_pd: [AtomicU64; 2048];
}

/// Puts the window in place, showing the first frame. For the whole run: other uses of these 2 MiB end.
pub(crate) fn open() {
    show(0);
    // SAFETY: the table exists for the whole run and is only touched by atomic operations.
    let directory = unsafe { &boot_pd };
    directory[DIRECTORY_ENTRY].store(TABLE.address() | PRESENT_WRITABLE, SeqCst);
    forget();
}

/// Has the window show frame `number`, 0 or 1. Every CPU goes on seeing the other one until it [`forget`]s.
pub(crate) fn show(number: usize) {
    TABLE.0[0].store(FRAMES[number].address() | PRESENT_WRITABLE, SeqCst);
}

/// Drops this CPU's translation of the window.
pub(crate) fn forget() {
    // SAFETY: INVLPG only drops a cached translation.
    unsafe {
        asm!("invlpg [{}]", in(reg) ADDRESS, options(nostack, preserves_flags));
    }
}

/// The first word that the window shows this CPU.
pub(crate) fn look() -> u64 {
    let word: *const AtomicU64 = core::ptr::with_exposed_provenance(ADDRESS);
    // SAFETY: `open` mapped the page, and either frame is a static of atomic words.
    unsafe { &*word }.load(SeqCst)
}
