//! Where time went: what the hypervisor counts for each vCPU and each core. Plain data, read by `top` and `stats`.
//!
//! Who counts keeps a counter on the core or in the vCPU that it is about; reading them is the operator's cost.

use crate::control::VmState;
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// What a vCPU has had and waited for since its virtual machine was last started. What it is at now,
/// running or waiting, is in them as far as it has come, or is missing for one turn at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VcpuTimes {
    /// Time on a core, in the guest and in exits on its behalf.
    pub ran: Duration,
    /// Time in which it could have run and others had the cores, or its cap was used up: steal.
    pub waited: Duration,
    /// How often it went from one core to another.
    pub migrations: u64,
    /// Its exits.
    pub exits: u64,
}

impl VcpuTimes {
    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            ran: self.ran.saturating_add(other.ran),
            waited: self.waited.saturating_add(other.waited),
            migrations: self.migrations.saturating_add(other.migrations),
            exits: self.exits.saturating_add(other.exits),
        }
    }
}

/// The times of one virtual machine's vCPUs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmTimes {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub state: VmState,
    /// Its vCPUs' weight.
    pub weight: u32,
    /// By vCPU number, from 0; empty when it does not run.
    pub vcpus: Vec<VcpuTimes>,
}

/// What a core did since it started. The three times together are the time since then; what the core is at now, a
/// long sleep as well, is in them as far as it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CoreShares {
    /// The core's number, from 0.
    pub id: u32,
    /// Time in guests.
    pub guest: Duration,
    /// Time in the hypervisor with something to do: exits, scheduling, interrupts, the operator.
    pub hypervisor: Duration,
    /// Time halted.
    pub idle: Duration,
    /// Times that it went from one vCPU to another.
    pub switches: u64,
    /// vCPUs that it took from another core's queue because its own was empty or short.
    pub pulls: u64,
    /// IPIs that other cores sent it, for it to look at its queue.
    pub kicks: u64,
    /// Host TSC ticks of [`Self::switches`]: taking the one vCPU off the core and putting the other one on.
    pub switch_ticks: u64,
    /// Times that it asked the scheduler what to do next.
    pub decisions: u64,
    /// Host TSC ticks of these decisions.
    pub decision_ticks: u64,
}

/// All times at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// The moment, as time since power-on or reset.
    pub at: Duration,
    /// One entry a virtual machine, in any order.
    pub vms: Vec<VmTimes>,
    /// One entry a core that runs, by number.
    pub cores: Vec<CoreShares>,
}

/// How often wake-ups took how long: from the event that made a halted vCPU runnable to its first instruction on a
/// core.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct WakeDelays {
    /// In rising order of their bounds.
    pub buckets: Vec<DelayBucket>,
    /// The longest.
    pub worst: Duration,
}

impl WakeDelays {
    /// How many wake-ups there were.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, bucket| sum.saturating_add(bucket.count))
    }

    /// Adds those of another vCPU, whose buckets may be others.
    pub(crate) fn add(&mut self, other: &Self) {
        for bucket in &other.buckets {
            match self.buckets.binary_search_by_key(&bucket.below_us, |known| known.below_us) {
                Ok(index) => {
                    let count = &mut self.buckets[index].count;
                    *count = count.saturating_add(bucket.count);
                }
                Err(index) => self.buckets.insert(index, *bucket),
            }
        }
        self.worst = self.worst.max(other.worst);
    }
}

/// The wake-ups between the bucket before and this one's bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DelayBucket {
    /// They took less than this, in microseconds: a power of two, or `u64::MAX` for the bucket that takes the rest.
    pub below_us: u64,
    /// How many.
    pub count: u64,
}

/// One reason in `stats`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExitStats {
    /// The exit reason's name.
    pub reason: Cow<'static, str>,
    /// How often it happened.
    pub count: u64,
    /// Host TSC ticks spent on them, from the exit to the next entry. In Bochs one tick is one instruction.
    pub ticks: u64,
}

/// What `stats` shows of one vCPU since the last start.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VcpuStats {
    /// What it has had and waited for.
    pub times: VcpuTimes,
    /// How long it waited for a core when it woke.
    pub wake_delays: WakeDelays,
    /// One row a reason, in any order.
    pub rows: Vec<ExitStats>,
    /// Host TSC ticks spent in the guest, `None` when that is not measured.
    pub guest_ticks: Option<u64>,
}

/// What `stats` shows of one virtual machine. Sums over the vCPUs are made here, not there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VmStats {
    /// By vCPU number, from 0; empty when it was never started.
    pub vcpus: Vec<VcpuStats>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(buckets: &[(u64, u64)], worst_us: u64) -> WakeDelays {
        let bucket = |&(below_us, count)| DelayBucket { below_us, count };
        WakeDelays { buckets: buckets.iter().map(bucket).collect(), worst: Duration::from_micros(worst_us) }
    }

    #[test]
    fn delays_of_several_vcpus_add_up_bucket_by_bucket() {
        let mut sum = delays(&[(2, 5), (8, 1)], 7);
        sum.add(&delays(&[(1, 2), (2, 3), (u64::MAX, u64::MAX)], 900));
        sum.add(&delays(&[(u64::MAX, 1)], 3));
        assert_eq!(sum, delays(&[(1, 2), (2, 8), (8, 1), (u64::MAX, u64::MAX)], 900));
        assert_eq!(sum.count(), u64::MAX);
    }
}
