//! A guest's physical address space: RAM blocks and the EPT tables that map exactly these.
//!
//! The only way to make host memory reachable for a guest is to give a [`FrameBlock`] away to this type, so no
//! safe code can map anything else.

use crate::memory::FrameBlock;
use crate::memory::ept_tables::EptTables;
use crate::shootdown::AllCpus;
use arch::{Gpa, Hpa};
use memory::{ExpectedWord, GuestMemory, MapError, MemoryMap, OutsideRam};
use paging::shootdown::FreedBehind;
use paging::{Attributes, Ept, Features, MemoryType, OutOfTables, Permissions, Statistics};

/// Why RAM was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddRamError {
    /// The place is taken or impossible.
    Place(MapError),
    /// No frames for tables.
    OutOfTables,
}

/// Guest-physical memory. When it is dropped, no vCPU can be loaded that uses it, but CPUs may still have cached what
/// it translates to: tables and RAM are freed when none has.
#[derive(Debug)]
pub struct GuestSpace {
    parts: FreedBehind<AllCpus, Parts>,
}

#[derive(Debug)]
struct Parts {
    // Dropped first: no table may point to a block that is free.
    ept: Ept<EptTables>,
    ram: MemoryMap<FrameBlock>,
}

impl GuestSpace {
    /// A space without RAM; `features` are what EPT can do on this machine.
    ///
    /// # Errors
    /// [`OutOfTables`] when there is no frame for the root table.
    pub fn new(features: Features) -> Result<Self, OutOfTables> {
        let parts = Parts { ept: Ept::new(EptTables::new(), features)?, ram: MemoryMap::new() };
        Ok(Self { parts: FreedBehind::new(AllCpus, parts) })
    }

    /// Makes `block` RAM at `base`, write-back, with all rights.
    ///
    /// # Errors
    /// [`AddRamError`]; the block is freed then and the space unchanged.
    pub fn add_ram(&mut self, base: Gpa, block: FrameBlock) -> Result<(), AddRamError> {
        let (hpa, bytes): (Hpa, u64) = (block.hpa(), block.size_bytes());
        self.parts.ram.add(base, block).map_err(AddRamError::Place)?;
        let attributes =
            Attributes { permissions: Permissions::ReadWriteExecute, memory_type: MemoryType::WriteBack };
        // The map has accepted the extent as disjoint, so tables are the only thing that can be missing; what was
        // mapped before they ran out points to a block that stays in the map.
        self.parts.ept.map(base, hpa, bytes, attributes).map_err(|_| AddRamError::OutOfTables)
    }

    /// RAM in bytes.
    pub fn size(&self) -> u64 {
        self.parts.ram.size()
    }

    /// Leaves by size, and tables.
    pub fn statistics(&self) -> Statistics {
        self.parts.ept.statistics()
    }

    /// The EPT pointer.
    pub(super) fn eptp(&self) -> u64 {
        self.parts.ept.root_pointer().0
    }
}

impl GuestMemory for GuestSpace {
    #[inline]
    fn read_u32(&self, gpa: Gpa) -> Result<u32, OutsideRam> {
        self.parts.ram.read_u32(gpa)
    }

    #[inline]
    fn read_u64(&self, gpa: Gpa) -> Result<u64, OutsideRam> {
        self.parts.ram.read_u64(gpa)
    }

    #[inline]
    fn holds(&self, words: &[ExpectedWord]) -> bool {
        self.parts.ram.holds(words)
    }

    fn read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), OutsideRam> {
        self.parts.ram.read(gpa, into)
    }

    fn write(&self, gpa: Gpa, from: &[u8]) -> Result<(), OutsideRam> {
        self.parts.ram.write(gpa, from)
    }

    #[inline]
    fn swap_u8(&self, gpa: Gpa, value: u8) -> Result<u8, OutsideRam> {
        self.parts.ram.swap_u8(gpa, value)
    }

    fn compare_exchange_u32(&self, gpa: Gpa, current: u32, new: u32) -> Result<bool, OutsideRam> {
        self.parts.ram.compare_exchange_u32(gpa, current, new)
    }

    fn compare_exchange_u64(&self, gpa: Gpa, current: u64, new: u64) -> Result<bool, OutsideRam> {
        self.parts.ram.compare_exchange_u64(gpa, current, new)
    }
}
