//! What is counted, as plain data.

use arch::Tsc;

/// How many buckets a [`Histogram`] has.
pub const DELAY_BUCKETS: usize = 40;

/// How often a time was how long. Bucket `i` counts times from 2^i to below 2^(i+1) ticks, the first those below 2, the
/// last all longer ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Histogram {
    /// By the logarithm of the time.
    pub buckets: [u64; DELAY_BUCKETS],
    /// The longest time.
    pub worst: Tsc,
}

/// What became of an entity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Times {
    /// Ticks that it ran.
    pub ran: Tsc,
    /// Ticks that it waited for a core while it wanted one, up to its last turn: steal time.
    pub waited: Tsc,
    /// Ticks that it was held by its cap, up to its last turn.
    pub held: Tsc,
    /// How often it ran on another core than before.
    pub migrations: u64,
    /// From wake-up, or from when its cap let it go, to the first turn.
    pub wake_delay: Histogram,
}

/// What became of a core.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CoreTimes {
    /// How often another entity got the core than the one before.
    pub switches: u64,
    /// Entities taken from other cores' queues because this one was idle.
    pub pulls: u64,
    /// Entities given to other cores.
    pub pushes: u64,
    /// Ticks that it idled, up to the end of the last idle time.
    pub idle: Tsc,
    /// Since when it idles, if it does.
    pub idle_since: Option<Tsc>,
}

impl Histogram {
    /// Counts a time.
    #[inline]
    pub const fn record(&mut self, time: Tsc) {
        let bucket = (time.0 | 1).ilog2() as usize;
        let last = DELAY_BUCKETS - 1;
        self.buckets[if bucket < last { bucket } else { last }] += 1;
        if time.0 > self.worst.0 {
            self.worst = time;
        }
    }

    /// How many times were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The longest time that a bucket counts.
    pub const fn limit(bucket: usize) -> Tsc {
        if bucket + 1 < DELAY_BUCKETS { Tsc((2 << bucket) - 1) } else { Tsc::NEVER }
    }

    /// A time that `permille` of a thousand times did not exceed: the end of a bucket, or the worst. Zero if none was
    /// counted.
    pub fn quantile(&self, permille: u64) -> Tsc {
        let wanted = self.count() * permille.min(1000) / 1000;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Self::limit(bucket).min(self.worst);
            }
        }
        self.worst
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; DELAY_BUCKETS], worst: Tsc(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_buckets_by_their_logarithm() {
        let mut histogram = Histogram::default();
        for time in [0, 1, 2, 3, 4, 1000, u64::MAX] {
            histogram.record(Tsc(time));
        }
        assert_eq!(histogram.buckets[..3], [2, 2, 1]);
        assert_eq!((histogram.buckets[9], histogram.buckets[DELAY_BUCKETS - 1]), (1, 1));
        assert_eq!((histogram.count(), histogram.worst), (7, Tsc::NEVER));
        assert_eq!((Histogram::limit(0), Histogram::limit(9)), (Tsc(1), Tsc(1023)));
    }

    #[test]
    fn quantiles_are_upper_limits() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(500), Tsc(0));
        for _ in 0..99 {
            histogram.record(Tsc(100));
        }
        histogram.record(Tsc(5000));
        assert_eq!(histogram.quantile(500), Tsc(127));
        assert_eq!(histogram.quantile(990), Tsc(127));
        assert_eq!(histogram.quantile(1000), Tsc(5000));
    }
}
