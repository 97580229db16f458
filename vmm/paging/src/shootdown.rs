//! Shootdown: making every core forget the translations that it may have cached, before what they led to is used for
//! something else.
//!
//! SDM Vol. 3C, "Guidelines for Use of the INVEPT Instruction": INVEPT and INVVPID work on the core that executes them
//! alone. Whoever weakened an entry therefore numbers a request ([`Shootdown::ask`]) and waits until each core that
//! can enter guests has flushed for that number or a later one ([`Shootdown::serve`]). There is one counter of
//! requests, and one word a core that says up to which of them it has flushed, so a flush serves all requests that were
//! made before it, whoever made them.
//!
//! A core that waits serves others meanwhile, so requests that cross cannot wait for each other. A core that is
//! offline, that is, cannot hold translations, counts as having flushed for ever.
//!
//! What flushes and what interrupts a core is the caller's; here is only who has to wait for whom.

use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

#[cfg(test)]
mod tests;

/// In a core's word: it holds no translations and gets none.
const OFFLINE: u64 = u64::MAX;

/// The number up to which one core has flushed, in a cache line of its own: each is written by one core and polled by
/// others.
#[derive(Debug)]
#[repr(align(64))]
struct Done(AtomicU64);

/// Who has flushed up to where, for up to `CORES` cores.
#[derive(Debug)]
pub struct Shootdown<const CORES: usize> {
    /// The number of the last request.
    asked: AtomicU64,
    /// One past the last core that ever joined: those behind it need not be looked at.
    cores: AtomicUsize,
    done: [Done; CORES],
}

/// A flush that was asked for: it is over when [`Shootdown::is_over`] says so.
#[must_use = "what was unmapped may be reused only when the request is over"]
#[derive(PartialEq, Eq, Debug)]
pub struct Request {
    number: u64,
    /// Cores below this have flushed: that is not looked at again.
    next: usize,
    /// Cores from here on were offline.
    cores: usize,
}

/// Proof that a request is over: no core holds a translation that was made before it was asked for.
#[derive(PartialEq, Eq, Debug)]
pub struct Flushed {
    number: u64,
}

impl Flushed {
    /// The request's number: they count up from 1.
    pub const fn number(&self) -> u64 {
        self.number
    }
}

impl<const CORES: usize> Shootdown<CORES> {
    /// All cores offline.
    pub const fn new() -> Self {
        Self {
            asked: AtomicU64::new(0),
            cores: AtomicUsize::new(0),
            done: [const { Done(AtomicU64::new(OFFLINE)) }; CORES],
        }
    }

    /// Counts `core` in: from now on requests wait for it. It must not be able to make translations before. `flush`
    /// drops whatever this core holds from earlier.
    ///
    /// A request that still found the core offline was asked for before the core's word changed, so what it unmapped
    /// was unmapped by then, and the flush that follows leaves nothing of it.
    pub fn join(&self, core: usize, flush: impl FnOnce()) {
        let Some(Done(done)) = self.done.get(core) else { return };
        self.cores.fetch_max(core + 1, Ordering::SeqCst);
        done.store(self.asked.load(Ordering::SeqCst), Ordering::SeqCst);
        let number = self.asked.load(Ordering::SeqCst);
        flush();
        done.store(number, Ordering::Release);
    }

    /// Counts `core` out: it makes no translations any more, and `flush` drops those that it has.
    pub fn leave(&self, core: usize, flush: impl FnOnce()) {
        let Some(Done(done)) = self.done.get(core) else { return };
        flush();
        done.store(OFFLINE, Ordering::SeqCst);
    }

    /// Whether requests wait for `core`.
    pub fn is_online(&self, core: usize) -> bool {
        self.done.get(core).is_some_and(|Done(done)| done.load(Ordering::Relaxed) != OFFLINE)
    }

    /// How many requests were ever made.
    pub fn requests(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Asks all cores to flush. What must not be translated any more was unmapped before.
    pub fn ask(&self) -> Request {
        // Sequentially consistent with `join`: either this request sees the core online, or the core's flush at
        // joining comes after this.
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        Request { number, next: 0, cores: self.cores.load(Ordering::SeqCst) }
    }

    /// Flushes on `core`, which is the one that this runs on, if a request came since it flushed last; says whether
    /// it did. A core that is offline has nothing to flush.
    #[inline]
    pub fn serve(&self, core: usize, flush: impl FnOnce()) -> bool {
        let Some(Done(done)) = self.done.get(core) else { return false };
        // The number is read before the flush: a request that comes during it is served by the next.
        let number = self.asked.load(Ordering::Acquire);
        if done.load(Ordering::Relaxed) >= number {
            return false;
        }
        flush();
        done.store(number, Ordering::Release);
        true
    }

    /// Whether `request` still waits for `core`.
    pub fn waits_for(&self, request: &Request, core: usize) -> bool {
        self.done.get(core).is_some_and(|Done(done)| done.load(Ordering::SeqCst) < request.number)
    }

    /// Whether `request` waits for nobody any more.
    ///
    /// # Errors
    /// The request, when it does.
    pub fn is_over(&self, mut request: Request) -> Result<Flushed, Request> {
        // A core that has flushed for the request has done so for good: one that joins later has nothing of before.
        while request.next < request.cores {
            if self.waits_for(&request, request.next) {
                return Err(request);
            }
            request.next += 1;
        }
        Ok(Flushed { number: request.number })
    }

    /// Has every core flush and returns when all have. Runs on `own`; `flush` drops the translations of the core that
    /// calls it; `notify` makes the core with the given number call [`Self::serve`] soon; `wait` is called over and
    /// over while others are slow.
    ///
    /// The caller must hold no lock that a core may spin for without serving.
    pub fn flush_everywhere(
        &self,
        own: usize,
        flush: impl Fn(),
        notify: impl Fn(usize),
        mut wait: impl FnMut(),
    ) -> Flushed {
        let mut request = self.ask();
        self.serve(own, &flush);
        for core in (0..request.cores).filter(|core| *core != own) {
            if self.waits_for(&request, core) {
                notify(core);
            }
        }
        loop {
            match self.is_over(request) {
                Ok(flushed) => return flushed,
                Err(again) => request = again,
            }
            // Others may have asked meanwhile, and wait for this core.
            self.serve(own, &flush);
            wait();
        }
    }
}

impl<const CORES: usize> Default for Shootdown<CORES> {
    fn default() -> Self {
        Self::new()
    }
}

/// Something that makes all cores forget their translations.
pub trait Barrier {
    /// Returns when no core holds a translation that was made before the call.
    fn pass(&self);
}

/// Holds what translations lead to, tables and memory, and frees it only when no core holds any of them.
///
/// Nobody can make new translations to the value by the time that it is dropped.
#[derive(Debug)]
pub struct FreedBehind<B: Barrier, T> {
    barrier: B,
    // Dropped after the body of `drop`, which passes the barrier.
    value: T,
}

impl<B: Barrier, T> FreedBehind<B, T> {
    /// Keeps `value` for freeing behind `barrier`.
    pub const fn new(barrier: B, value: T) -> Self {
        Self { barrier, value }
    }
}

impl<B: Barrier, T> Deref for FreedBehind<B, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<B: Barrier, T> DerefMut for FreedBehind<B, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<B: Barrier, T> Drop for FreedBehind<B, T> {
    fn drop(&mut self) {
        self.barrier.pass();
    }
}
