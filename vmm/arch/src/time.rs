//! The two units of time: ticks of the host's TSC, and nanoseconds of a virtual machine's life.

use core::ops::{Add, Sub};

/// A value of, or a distance on, the host's time-stamp counter, in ticks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Tsc(pub u64);

/// A point in, or a stretch of, a virtual machine's time, in nanoseconds since it was created.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(transparent)]
pub struct Nanos(pub u64);

macro_rules! arithmetic {
    ($name:ident) => {
        impl $name {
            /// Later than any time that comes.
            pub const NEVER: Self = Self(u64::MAX);

            /// `self - other`, zero when `other` is later.
            #[inline]
            pub const fn since(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl Add for $name {
            type Output = Self;
            /// Saturates at [`Self::NEVER`].
            #[inline]
            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }

        impl Sub for $name {
            type Output = Self;
            /// Saturates at zero.
            #[inline]
            fn sub(self, other: Self) -> Self {
                self.since(other)
            }
        }
    };
}

arithmetic!(Tsc);
arithmetic!(Nanos);
