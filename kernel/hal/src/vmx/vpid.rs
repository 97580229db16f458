//! Virtual-processor identifiers: handed out once at a time, never 0 (which is the host's).
//!
//! CPUs tag cached translations with them, and may hold those of an identifier long after it was given back. So it is
//! handed out again only behind a flush on all CPUs; one flush, whoever asked for it, serves all that were given back
//! before it.

use core::sync::atomic::{AtomicU32, Ordering};

use paging::shootdown::Flushed;
use spin::Mutex;

use crate::shootdown;

const COUNT: usize = 4096;
const WORDS: usize = COUNT / 64;

static POOL: Mutex<Pool> = Mutex::new(Pool::new());
/// Identifiers that vCPUs have.
static IN_USE: AtomicU32 = AtomicU32::new(0);

/// Which identifiers there are to have.
#[derive(Debug)]
struct Pool {
    /// Not to be handed out: somebody has them, or CPUs may hold translations under them.
    busy: [u64; WORDS],
    /// Of these, the ones that were given back and no flush is under way for.
    retired: [u64; WORDS],
}

impl Pool {
    const fn new() -> Self {
        let mut busy = [0; WORDS];
        busy[0] = 1;
        Self { busy, retired: [0; WORDS] }
    }

    /// Takes the lowest free identifier.
    fn take(&mut self) -> Option<u16> {
        let (index, word) = self.busy.iter_mut().enumerate().find(|(_, word)| **word != u64::MAX)?;
        let bit = word.trailing_ones();
        *word |= 1 << bit;
        u16::try_from(index * 64 + bit as usize).ok()
    }

    /// Takes an identifier back.
    fn retire(&mut self, number: u16) {
        self.retired[usize::from(number) / 64] |= 1 << (number % 64);
    }

    /// Those that were taken back so far: for a flush that is about to be asked for.
    fn take_retired(&mut self) -> [u64; WORDS] {
        core::mem::replace(&mut self.retired, [0; WORDS])
    }

    /// The flush for `numbers` is over.
    fn free(&mut self, numbers: &[u64; WORDS]) {
        for (busy, flushed) in self.busy.iter_mut().zip(numbers) {
            *busy &= !flushed;
        }
    }
}

/// An identifier, given back when dropped.
#[derive(Debug)]
pub(super) struct Vpid(u16);

impl Vpid {
    /// Takes the lowest free identifier. No CPU holds translations under it.
    pub(super) fn take() -> Option<Self> {
        let number = POOL.lock().take().or_else(|| {
            shootdown::flush_everywhere();
            POOL.lock().take()
        })?;
        IN_USE.fetch_add(1, Ordering::Relaxed);
        Some(Self(number))
    }

    pub(super) const fn number(&self) -> u16 {
        self.0
    }
}

impl Drop for Vpid {
    fn drop(&mut self) {
        POOL.lock().retire(self.0);
        IN_USE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many identifiers vCPUs have.
pub fn vpids_in_use() -> u32 {
    IN_USE.load(Ordering::Relaxed)
}

/// Identifiers that were given back before a flush of all CPUs was asked for.
#[derive(Debug)]
pub(crate) struct RetiredVpids([u64; WORDS]);

impl RetiredVpids {
    /// Those that were given back and that no other flush is under way for.
    pub(crate) fn take() -> Self {
        Self(POOL.lock().take_retired())
    }

    /// Lets them be handed out again. The request that is over was made after [`Self::take`].
    pub(crate) fn free(&self, _flushed: &Flushed) {
        POOL.lock().free(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_never_handed_out_and_no_number_twice() {
        let mut pool = Pool::new();
        let all: Vec<u16> = core::iter::from_fn(|| pool.take()).collect();
        assert_eq!((all.len(), all[0]), (COUNT - 1, 1));
        assert!(all.is_sorted());
    }

    #[test]
    fn a_number_that_was_given_back_waits_for_a_flush() {
        let mut pool = Pool::new();
        let first = pool.take().expect("one is free");
        pool.retire(first);
        assert_ne!(pool.take(), Some(first));
        let retired = pool.take_retired();
        assert_eq!(pool.take(), Some(first + 2), "the flush is not over");
        pool.free(&retired);
        assert_eq!(pool.take(), Some(first));
    }

    #[test]
    fn a_flush_frees_nothing_that_was_given_back_during_it() {
        let mut pool = Pool::new();
        let (first, second) = (pool.take().expect("one is free"), pool.take().expect("one is free"));
        pool.retire(first);
        let retired = pool.take_retired();
        pool.retire(second);
        // Another flush that begins now serves the second alone.
        let later = pool.take_retired();
        pool.free(&retired);
        assert_eq!(pool.take(), Some(first));
        pool.retire(first);
        pool.free(&later);
        assert_eq!(pool.take(), Some(second));
        assert_ne!(pool.take(), Some(first), "it was given back again after both flushes began");
    }
}
