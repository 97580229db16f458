//! Second-level translation: guest-physical to host-physical, in tables that the CPU walks.
//!
//! One engine, [`SecondLevel`], generic over the [`EntryFormat`]; EPT is the first format. The engine owns its
//! tables through [`TableMemory`] and never touches memory itself, so it runs on the host as it runs on metal.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod edit;
mod ept;
mod format;
mod invalidation;
mod level;
mod second_level;
pub mod shootdown;
mod table_list;
#[cfg(test)]
mod tests;

pub use ept::EptFormat;
pub use format::{
    Attributes, Entry, EntryFormat, Features, LeafEntry, MemoryType, Permissions, RootPointer, Usage,
};
pub use invalidation::Invalidation;
pub use level::{LeafSize, Level};
pub use second_level::{EditError, Leaf, MapError, OutOfTables, RangeError, SecondLevel, Statistics};

use arch::Hpa;

/// Extended page tables over the table memory `T`.
pub type Ept<T> = SecondLevel<EptFormat, T>;

/// Where translation tables live: 4 KiB frames of 512 64-bit entries each.
///
/// The engine passes only tables that [`Self::allocate`] gave it and it has not freed, and indices below 512.
pub trait TableMemory {
    /// A zeroed table, or `None` when no frame is left.
    fn allocate(&mut self) -> Option<Hpa>;

    /// Takes a table back. What it holds then is of no meaning.
    fn free(&mut self, table: Hpa);

    /// The entry at `index`. One whole 64-bit load: the CPU may set accessed and dirty flags at any time.
    fn read(&self, table: Hpa, index: usize) -> u64;

    /// Sets the entry at `index`. One whole 64-bit store: the CPU may walk the table at any time.
    fn write(&mut self, table: Hpa, index: usize, entry: u64);

    /// Sets the entry at `index` and returns what it was. Where a running CPU may set accessed and dirty flags
    /// in these tables, an implementation replaces this by one atomic exchange.
    fn exchange(&mut self, table: Hpa, index: usize, entry: u64) -> u64 {
        let old = self.read(table, index);
        self.write(table, index, entry);
        old
    }

    /// Clears `bits` of the entry at `index` and returns what it was. Where a running CPU may set accessed and
    /// dirty flags in these tables, an implementation replaces this by one atomic AND.
    fn clear_bits(&mut self, table: Hpa, index: usize, bits: u64) -> u64 {
        let old = self.read(table, index);
        self.write(table, index, old & !bits);
        old
    }

    /// Whether all tables go back when this is dropped, so that nobody needs to look for each.
    fn frees_all(&self) -> bool {
        false
    }
}

/// Tables may be lent: the engine then works on memory that its owner gets back.
impl<T: TableMemory + ?Sized> TableMemory for &mut T {
    fn allocate(&mut self) -> Option<Hpa> {
        (**self).allocate()
    }

    fn free(&mut self, table: Hpa) {
        (**self).free(table);
    }

    fn read(&self, table: Hpa, index: usize) -> u64 {
        (**self).read(table, index)
    }

    fn write(&mut self, table: Hpa, index: usize, entry: u64) {
        (**self).write(table, index, entry);
    }

    fn exchange(&mut self, table: Hpa, index: usize, entry: u64) -> u64 {
        (**self).exchange(table, index, entry)
    }

    fn clear_bits(&mut self, table: Hpa, index: usize, bits: u64) -> u64 {
        (**self).clear_bits(table, index, bits)
    }
}
