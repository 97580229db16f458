//! What simulated vCPUs do, and the random numbers that they do it by.

/// Nanoseconds: the simulated clock ticks once in each.
pub(super) const US: u64 = 1_000;
pub(super) const MS: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000_000_000;

/// Xorshift: good enough for loads, and the same each time.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From 0 to below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Around `mean`, from a tenth of it to nearly twice as much.
    pub(super) fn around(&mut self, mean: u64) -> u64 {
        mean / 10 + self.below(mean * 9 / 5).max(1)
    }
}

/// What a vCPU does with its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Load {
    /// Runs for ever.
    Hog,
    /// Works for so long, then sleeps until the next multiple of the period.
    Periodic { period: u64, work: u64 },
    /// Works and sleeps for random times around these.
    Random { work: u64, sleep: u64 },
    /// Runs for a long time, then sleeps for a long time.
    Burst { work: u64, sleep: u64 },
}

impl Load {
    /// How long it works from now on, before it sleeps.
    pub(super) fn work(self, random: &mut Random) -> u64 {
        match self {
            Self::Hog => u64::MAX,
            Self::Periodic { work, .. } | Self::Burst { work, .. } => work,
            Self::Random { work, .. } => random.around(work),
        }
    }

    /// When it wakes if it falls asleep now.
    pub(super) fn wake_at(self, now: u64, random: &mut Random) -> u64 {
        match self {
            Self::Hog => u64::MAX,
            Self::Periodic { period, .. } => (now / period + 1) * period,
            Self::Random { sleep, .. } => now + random.around(sleep),
            Self::Burst { sleep, .. } => now + sleep,
        }
    }
}
