//! What the caller says of an entity: plain data.

use crate::mask::CoreMask;
use core::fmt;

/// Entity numbers are below this.
pub const MAX_ENTITIES: usize = 4096;

/// The number of something that can run: a vCPU. Chosen by the caller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct EntityId(pub u32);

/// The number of a core of the host, from zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct CoreId(pub u32);

/// An entity's share of busy cores, relative to the weights of the others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Weight(u32);

/// The part of one core that an entity gets at most, in percent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Cap(u32);

/// How an entity is treated beside its share.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Class {
    /// Waits its turn.
    #[default]
    Normal,
    /// Has the core almost at once when it wakes, as long as it has not had its share.
    Latency,
    /// Has a core of its own, and no ticks there, if one can be had. See [`crate::Exclusivity`].
    Exclusive,
}

/// All that the scheduler is told of an entity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Spec {
    /// Its share.
    pub weight: Weight,
    /// What it gets at most even when cores are free.
    pub cap: Option<Cap>,
    /// Where it may run. Cores that the host has not are ignored.
    pub cores: CoreMask,
    /// How it is treated.
    pub class: Class,
}

/// Why an entity was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddError {
    /// There is one of this number.
    Taken(EntityId),
    /// The number is [`MAX_ENTITIES`] or more.
    TooLarge(EntityId),
    /// The host has none of the cores where it may run.
    NoCore(EntityId),
    /// The scheduler's tables cannot grow.
    NoMemory,
}

/// Why an entity was not changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetError {
    /// There is none of this number.
    Unknown(EntityId),
    /// The host has none of the cores where it may run.
    NoCore(EntityId),
}

/// Why an entity was not removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RemoveError {
    /// There is none of this number.
    Unknown(EntityId),
    /// It runs on this core: block it first.
    Running(CoreId),
}

impl EntityId {
    #[inline]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl CoreId {
    #[inline]
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl Weight {
    /// The weight of entities for which nobody chose another.
    pub const DEFAULT: Self = Self(100);

    /// A weight from 1 to 10,000.
    pub const fn new(weight: u32) -> Option<Self> {
        if weight >= 1 && weight <= 10_000 { Some(Self(weight)) } else { None }
    }

    /// The weight as a number.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Cap {
    /// A cap from 1 to 100 percent.
    pub const fn new(percent: u32) -> Option<Self> {
        if percent >= 1 && percent <= 100 { Some(Self(percent)) } else { None }
    }

    /// The cap in percent of a core.
    pub const fn percent(self) -> u32 {
        self.0
    }
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken(id) => write!(f, "vCPU number {} is taken", id.0),
            Self::TooLarge(id) => write!(f, "vCPU number {} is not below {MAX_ENTITIES}", id.0),
            Self::NoCore(id) => write!(f, "the host has none of the cores of vCPU number {}", id.0),
            Self::NoMemory => f.write_str("no memory for the scheduler's tables"),
        }
    }
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(id) => write!(f, "there is no vCPU number {}", id.0),
            Self::NoCore(id) => write!(f, "the host has none of the cores of vCPU number {}", id.0),
        }
    }
}

impl fmt::Display for RemoveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(id) => write!(f, "there is no vCPU number {}", id.0),
            Self::Running(core) => write!(f, "it runs on core {}", core.0),
        }
    }
}

impl core::error::Error for AddError {}
impl core::error::Error for SetError {}
impl core::error::Error for RemoveError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!((Weight::new(0), Weight::new(10_001)), (None, None));
        assert_eq!((Cap::new(0), Cap::new(101)), (None, None));
        assert_eq!(Weight::new(10_000).map(Weight::get), Some(10_000));
        assert_eq!(Cap::new(100).map(Cap::percent), Some(100));
    }
}
