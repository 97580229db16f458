//! Memory for second-level page tables.

use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicU64, Ordering};

use arch::Hpa;
use paging::TableMemory;

use super::block::FrameBlock;
use super::direct_map;
use super::frames::Order;

/// Entries in a table.
const ENTRIES: usize = 512;

/// The tables of one guest's address space. They go back to the frame allocator when this is dropped: by then no
/// CPU may use them.
#[derive(Debug, Default)]
pub struct EptTables {
    tables: BTreeMap<Hpa, FrameBlock>,
}

impl EptTables {
    /// No tables.
    pub const fn new() -> Self {
        Self { tables: BTreeMap::new() }
    }

    /// How many tables there are.
    pub fn count(&self) -> usize {
        self.tables.len()
    }

    /// The entry at `index` of one of our tables; panics for any other address.
    #[inline]
    fn entry(&self, table: Hpa, index: usize) -> &AtomicU64 {
        assert!(
            index < ENTRIES && self.tables.contains_key(&table),
            "no entry {index} of a table at {table}"
        );
        let first: *mut u64 = direct_map::pointer(table);
        // SAFETY: `index` is inside the table.
        let entry = unsafe { first.add(index) };
        // SAFETY: the table is ours, aligned and mapped; CPUs that walk it access entries atomically.
        unsafe { AtomicU64::from_ptr(entry) }
    }
}

impl TableMemory for EptTables {
    fn allocate(&mut self) -> Option<Hpa> {
        let block = FrameBlock::zeroed(Order::SMALL).ok()?;
        let table = block.hpa();
        self.tables.insert(table, block);
        Some(table)
    }

    fn free(&mut self, table: Hpa) {
        self.tables.remove(&table);
    }

    #[inline]
    fn read(&self, table: Hpa, index: usize) -> u64 {
        self.entry(table, index).load(Ordering::Relaxed)
    }

    #[inline]
    fn write(&mut self, table: Hpa, index: usize, entry: u64) {
        self.entry(table, index).store(entry, Ordering::Release);
    }

    fn exchange(&mut self, table: Hpa, index: usize, entry: u64) -> u64 {
        self.entry(table, index).swap(entry, Ordering::AcqRel)
    }

    fn clear_bits(&mut self, table: Hpa, index: usize, bits: u64) -> u64 {
        self.entry(table, index).fetch_and(!bits, Ordering::AcqRel)
    }

    fn frees_all(&self) -> bool {
        true
    }
}
