//! Time for checks: the time stamp counter in terms of a known clock, waits with an end, and sleep.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::machine::cpu::{in8, out8, pause, rdtsc};
use crate::smp;

/// Ticks of the time stamp counter in a millisecond.
static TICKS_PER_MS: AtomicU64 = AtomicU64::new(100_000);

/// Measures the counter against channel 2 of the 8254, for 10 ms. Where that channel does not end, nothing is learnt.
pub(super) fn calibrate() {
    const PATIENCE: u64 = 200_000_000;
    const TEN_MS: u16 = 11932;
    let [low, high] = TEN_MS.to_le_bytes();
    out8(0x61, in8(0x61) & 0xfc);
    out8(0x43, 0xb0);
    out8(0x42, low);
    out8(0x42, high);
    out8(0x61, in8(0x61) & 0xfc | 1);
    let start = rdtsc();
    while in8(0x61) & 0x20 == 0 {
        if rdtsc() - start > PATIENCE {
            return;
        }
    }
    TICKS_PER_MS.store(((rdtsc() - start) / 10).max(1000), Relaxed);
    out8(0x61, in8(0x61) & 0xfc);
}

/// So many microseconds in ticks.
pub(super) fn ticks(us: u64) -> u64 {
    TICKS_PER_MS.load(Relaxed) * us / 1000
}

/// Waits until `condition` holds, `us` microseconds at most; whether it holds.
pub(super) fn until(us: u64, mut condition: impl FnMut() -> bool) -> bool {
    let end = rdtsc() + ticks(us);
    loop {
        if condition() {
            return true;
        }
        if rdtsc() > end {
            return condition();
        }
        pause();
    }
}

/// Waits for `us` microseconds, busy.
pub(super) fn wait(us: u64) {
    until(us, || false);
}

/// Sleeps between looks until `condition` holds, `ms` milliseconds at most; whether it holds. Interrupts are let in.
pub(super) fn sleep_until(ms: u64, mut condition: impl FnMut() -> bool) -> bool {
    /// Counts of the local APIC's timer between looks.
    const NAP: u32 = 500_000;
    let end = rdtsc() + ticks(1000) * ms;
    loop {
        if condition() {
            return true;
        }
        if rdtsc() > end {
            return condition();
        }
        smp::nap(NAP);
    }
}
