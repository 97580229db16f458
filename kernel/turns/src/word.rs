//! A shared word: an atomic integer, or in the tests one whose every access is a point where others may come between.

use core::fmt::Debug;
use core::sync::atomic::{AtomicU32, Ordering, fence};

/// One word that several cores use. All accesses are totally ordered as far as [`Word::fence`] stands between them.
pub trait Word: Debug {
    /// A word that holds `value`.
    fn new(value: u32) -> Self;
    /// Reads it; what was written before the write that is seen is seen too.
    fn load(&self) -> u32;
    /// Writes it; who sees this sees what was written before.
    fn store(&self, value: u32);
    /// Replaces `old` by `new`; `false` if it holds something else.
    fn replace(&self, old: u32, new: u32) -> bool;
    /// Adds `amount`, wrapping; returns what it was.
    fn add(&self, amount: u32) -> u32;
    /// What this core wrote before is seen by all before it reads anything after.
    fn fence();
}

impl Word for AtomicU32 {
    #[inline]
    fn new(value: u32) -> Self {
        Self::new(value)
    }

    #[inline]
    fn load(&self) -> u32 {
        self.load(Ordering::Acquire)
    }

    #[inline]
    fn store(&self, value: u32) {
        self.store(value, Ordering::Release);
    }

    #[inline]
    fn replace(&self, old: u32, new: u32) -> bool {
        self.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    #[inline]
    fn add(&self, amount: u32) -> u32 {
        self.fetch_add(amount, Ordering::AcqRel)
    }

    #[inline]
    fn fence() {
        fence(Ordering::SeqCst);
    }
}
