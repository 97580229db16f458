//! Time stamp counters of several CPUs: no CPU reads an earlier time than another one has already written down.
//!
//! Source: SDM Vol. 3B, "Time-Stamp Counter", "Invariant TSC".

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

use super::{Verdict, expect};
use crate::machine::cpu::{rdtsc, rdtsc_ordered};
use crate::machine::percpu;
use crate::smp;

/// How long CPUs compare, in TSC ticks: several turns where they have to take turns.
const DURATION: u64 = 1_500_000;

/// The latest time that anybody saw.
static LATEST: AtomicU64 = AtomicU64::new(0);
/// When the comparison ends.
static END: AtomicU64 = AtomicU64::new(0);

/// Reads the time over and over, never before the latest.
fn compare() -> Verdict {
    let mut worst = 0;
    while rdtsc() < END.load(Relaxed) {
        let latest = LATEST.load(SeqCst);
        let now = rdtsc_ordered();
        worst = worst.max(latest.saturating_sub(now));
        LATEST.fetch_max(now, SeqCst);
    }
    expect("ticks that time went backwards between CPUs", worst, 0u64)
}

/// The first CPU with each other one, each with the next one, then all together.
pub(crate) fn smp_tsc() -> Verdict {
    smp::start_others()?;
    for cpu in smp::others() {
        prepare();
        smp::give(cpu, compare);
        let here = compare();
        smp::join(cpu).and(here)?;
    }
    for index in 2..smp::count() {
        prepare();
        let pair = [percpu::of(index - 1), percpu::of(index)];
        for cpu in pair {
            smp::give(cpu, compare);
        }
        for cpu in pair {
            smp::join(cpu)?;
        }
    }
    prepare();
    smp::all_at_once(compare, compare)
}

fn prepare() {
    LATEST.store(0, Relaxed);
    END.store(rdtsc() + DURATION, Relaxed);
}
