//! What an entry means, apart from how a CPU encodes it.

use crate::level::{LeafSize, Level};
use arch::Hpa;
use bitflags::bitflags;

/// What a guest may do with a page. Combinations that some CPU refuses as a misconfiguration (write without
/// read, execute alone) cannot be said.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Permissions {
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and execute.
    ReadExecute,
    /// Read, write and execute.
    ReadWriteExecute,
}

impl Permissions {
    /// Whether writes are allowed.
    #[inline]
    pub const fn writable(self) -> bool {
        match self {
            Self::ReadWrite | Self::ReadWriteExecute => true,
            Self::Read | Self::ReadExecute => false,
        }
    }

    /// Whether instruction fetches are allowed.
    #[inline]
    pub const fn executable(self) -> bool {
        match self {
            Self::ReadExecute | Self::ReadWriteExecute => true,
            Self::Read | Self::ReadWrite => false,
        }
    }

    /// Whether `self` allows everything that `other` allows.
    #[inline]
    pub const fn covers(self, other: Self) -> bool {
        (self.writable() || !other.writable()) && (self.executable() || !other.executable())
    }
}

/// The memory type of a page (SDM Vol. 3A, "Memory Cache Control").
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum MemoryType {
    /// UC.
    Uncacheable,
    /// WC.
    WriteCombining,
    /// WT.
    WriteThrough,
    /// WP.
    WriteProtected,
    /// WB: what RAM is.
    WriteBack,
}

/// What the owner of a mapping decides about it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Attributes {
    /// What the guest may do.
    pub permissions: Permissions,
    /// How the page is cached.
    pub memory_type: MemoryType,
}

bitflags! {
    /// What the CPU noted about a leaf. Always empty without [`Features::ACCESSED_DIRTY`].
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct Usage: u8 {
        /// The page was read, written or executed.
        const ACCESSED = 1 << 0;
        /// The page was written.
        const DIRTY = 1 << 1;
    }
}

bitflags! {
    /// What the CPU's walker can do and the engine may use.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct Features: u8 {
        /// Leaves of 2 MiB.
        const LEAVES_2M = 1 << 0;
        /// Leaves of 1 GiB.
        const LEAVES_1G = 1 << 1;
        /// Accessed and dirty flags. Each costs the guest's first touch a table write: leave it out unless
        /// somebody harvests.
        const ACCESSED_DIRTY = 1 << 2;
    }
}

impl Features {
    /// Whether leaves of `size` may be used.
    #[inline]
    pub(crate) const fn allow(self, size: LeafSize) -> bool {
        match size {
            LeafSize::Size4K => true,
            LeafSize::Size2M => self.contains(Self::LEAVES_2M),
            LeafSize::Size1G => self.contains(Self::LEAVES_1G),
        }
    }
}

/// What goes into the control structure to name the tables: the EPTP.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(transparent)]
pub struct RootPointer(pub u64);

/// A leaf entry, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeafEntry {
    /// The first byte of the page.
    pub hpa: Hpa,
    /// What the owner decided.
    pub attributes: Attributes,
    /// What the CPU noted.
    pub usage: Usage,
}

/// An entry, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Nothing is mapped here. All zeros, and every entry with its low eleven bits clear, decodes to this.
    Empty,
    /// A table of the next level.
    Table(Hpa),
    /// A page.
    Leaf(LeafEntry),
}

/// How a CPU encodes entries.
pub trait EntryFormat {
    /// The entry that points to `table` and restricts nothing.
    fn table(table: Hpa) -> u64;

    /// The entry that maps `leaf` with `size`. Its address is a multiple of `size`.
    fn leaf(size: LeafSize, leaf: LeafEntry) -> u64;

    /// What `raw`, read at `level` from a table that this format encoded, means.
    fn decode(level: Level, raw: u64) -> Entry;

    /// The bits of a leaf in which the CPU notes `usage`.
    fn usage_bits(usage: Usage) -> u64;

    /// What names the tables below `root` to the CPU.
    fn root_pointer(root: Hpa, features: Features) -> RootPointer;
}
