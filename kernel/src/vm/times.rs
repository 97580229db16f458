//! The scheduler's figures as the monitor shows them.

use crate::cores::Shared;
use alloc::vec::Vec;
use arch::Tsc;
use core::time::Duration;
use monitor::{DelayBucket, VcpuTimes, WakeDelays};
use sched::{EntityId, Histogram};

/// Ticks of the TSC as a time.
pub(crate) fn duration(ticks: u64) -> Duration {
    let hz = hal::time::tsc_hz().max(1);
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(hz);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// What `id` has had and waited for; exits are not known here.
pub(crate) fn of(shared: &Shared, id: EntityId) -> (VcpuTimes, WakeDelays) {
    let Some(times) = shared.scheduler.times(id) else { return Default::default() };
    let vcpu = VcpuTimes {
        ran: duration(times.ran.0),
        waited: duration(times.waited.0),
        migrations: times.migrations,
        exits: 0,
    };
    (vcpu, wake_delays(&times.wake_delay))
}

/// Buckets in ticks, sorted into powers of two of microseconds.
fn wake_delays(histogram: &Histogram) -> WakeDelays {
    let ticks_per_us = (hal::time::tsc_hz() / 1_000_000).max(1);
    let mut buckets: Vec<DelayBucket> = Vec::new();
    for (index, count) in histogram.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
        let limit = Histogram::limit(index);
        let below_us = if limit == Tsc::NEVER {
            u64::MAX
        } else {
            (limit.0 / ticks_per_us + 1).checked_next_power_of_two().unwrap_or(u64::MAX)
        };
        match buckets.last_mut() {
            Some(last) if last.below_us == below_us => last.count += count,
            _ => buckets.push(DelayBucket { below_us, count: *count }),
        }
    }
    WakeDelays { buckets, worst: duration(histogram.worst.0) }
}
