//! Making all CPUs forget what they cached of guests' translations, before memory or an identifier is reused.
//!
//! SDM Vol. 3C, "Caching Translation Information". The protocol is `paging::shootdown`; here are the instructions that
//! flush and the interrupts that make others flush. A CPU takes part from the time that it enters VMX root operation.
//!
//! The kernel's own translations need no shootdown: what it maps it never unmaps.

use paging::shootdown::{Barrier, Flushed, Shootdown};

use crate::percpu::{self, MAX_CPUS};
use crate::vmx::{self, Invalidations};
use crate::{smp, time};

static PROTOCOL: Shootdown<MAX_CPUS> = Shootdown::new();

/// A CPU that has not flushed after this many microseconds is interrupted again.
const AGAIN_US: u64 = 100_000;

/// All CPUs that can run guests, as a barrier that memory is freed behind.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllCpus;

impl Barrier for AllCpus {
    fn pass(&self) {
        flush_everywhere();
    }
}

fn own() -> usize {
    percpu::current().index as usize
}

/// Drops all translations of guests that this CPU holds.
fn flush_here() {
    if let Some(kinds) = vmx::invalidations() {
        // SAFETY: only CPUs in VMX root operation take part in the protocol, and they have these.
        unsafe { kinds.everything() };
    }
}

/// Lets requests wait for this CPU, which has just entered VMX root operation.
///
/// # Safety
/// This CPU is in VMX root operation and has the instructions of `kinds`.
pub(crate) unsafe fn join(kinds: Invalidations) {
    // SAFETY: the caller's promise.
    PROTOCOL.join(own(), || unsafe { kinds.everything() });
}

/// Flushes if another CPU asked for it. To be called in every CPU's loop, and while it waits for another one: whoever
/// asked waits until it is.
#[inline]
pub fn serve() {
    PROTOCOL.serve(own(), flush_here);
}

/// Returns when no CPU holds a translation of a guest, by EPT or by virtual-processor identifier, that was made before
/// the call. Serves others meanwhile.
///
/// The caller must hold no lock that a CPU spins for without calling [`serve`].
pub fn flush_everywhere() -> Flushed {
    let retired = vmx::RetiredVpids::take();
    let mut again = time::now() + time::ticks(AGAIN_US);
    let flushed = PROTOCOL.flush_everywhere(own(), flush_here, notify, || {
        core::hint::spin_loop();
        if time::now() >= again {
            again = time::now() + time::ticks(AGAIN_US);
            // Harmless for those that have flushed meanwhile.
            percpu::cpus()
                .filter(|cpu| PROTOCOL.is_online(cpu.index as usize))
                .for_each(|cpu| smp::kick(cpu.index));
        }
    });
    retired.free(&flushed);
    flushed
}

fn notify(core: usize) {
    if let Ok(index) = u32::try_from(core) {
        smp::kick(index);
    }
}

/// How often all CPUs were made to flush.
pub fn count() -> u64 {
    PROTOCOL.requests()
}
