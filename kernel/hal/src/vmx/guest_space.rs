//! A guest's physical address space: RAM blocks and the EPT tables that map exactly these.
//!
//! The only way to make host memory reachable for a guest is to give a [`FrameBlock`] away to this type, so no
//! safe code can map anything else.
//!
//! A second set of tables maps the same RAM, and the APIC-access page where a local APIC's registers are after reset (SDM
//! Vol. 3C, "Virtualizing Memory-Mapped APIC Accesses"). vCPUs use it while their accesses there are virtualized, and only
//! then: for all others there is no memory, as each vCPU can move its own local APIC or switch it off.

use crate::memory::ept_tables::EptTables;
use crate::memory::frames::Order;
use crate::memory::{FrameBlock, OutOfFrames};
use crate::shootdown::AllCpus;
use arch::{Gpa, Hpa};
use memory::{ExpectedWord, GuestMemory, MapError, MemoryMap, OutsideRam};
use paging::shootdown::FreedBehind;
use paging::{Attributes, Ept, Features, MemoryType, OutOfTables, Permissions, Statistics};
use vmx::{ApicMode, DEFAULT_PAGE};

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
    apic: Option<ApicSpace>,
    ram: MemoryMap<FrameBlock>,
}

/// The space as a vCPU has it whose accesses to the local APIC's page are virtualized.
#[derive(Debug)]
struct ApicSpace {
    ept: Ept<EptTables>,
    /// The APIC-access page. The processor takes its address for a sign; nothing reads or writes what it holds.
    page: FrameBlock,
}

impl ApicSpace {
    fn new(features: Features) -> Result<Self, OutOfTables> {
        let page = FrameBlock::zeroed(Order::SMALL).map_err(|OutOfFrames { .. }| OutOfTables)?;
        let mut ept = Ept::new(EptTables::new(), features)?;
        // Not executable: instruction fetches are not virtualized.
        let attributes =
            Attributes { permissions: Permissions::ReadWrite, memory_type: MemoryType::WriteBack };
        ept.map(DEFAULT_PAGE, page.hpa(), page.size_bytes(), attributes).map_err(|_| OutOfTables)?;
        Ok(Self { ept, page })
    }
}

/// Whether vCPUs can have accesses to the local APIC's page virtualized.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ApicPage {
    /// They cannot.
    Absent,
    /// They can.
    Present,
}

impl GuestSpace {
    /// A space without RAM; `features` are what EPT can do on this machine.
    ///
    /// # Errors
    /// [`OutOfTables`] when there are no frames for the first tables.
    pub fn new(features: Features, apic: ApicPage) -> Result<Self, OutOfTables> {
        let apic = match apic {
            ApicPage::Absent => None,
            ApicPage::Present => Some(ApicSpace::new(features)?),
        };
        let parts = Parts { ept: Ept::new(EptTables::new(), features)?, apic, ram: MemoryMap::new() };
        Ok(Self { parts: FreedBehind::new(AllCpus, parts) })
    }

    /// Makes `block` RAM at `base`, write-back, with all rights.
    ///
    /// # Errors
    /// [`AddRamError`]; the block is freed then and the space unchanged.
    pub fn add_ram(&mut self, base: Gpa, block: FrameBlock) -> Result<(), AddRamError> {
        let (hpa, bytes): (Hpa, u64) = (block.hpa(), block.size_bytes());
        if base <= DEFAULT_PAGE && DEFAULT_PAGE - base < bytes {
            return Err(AddRamError::Place(MapError::Overlaps(DEFAULT_PAGE)));
        }
        self.parts.ram.add(base, block).map_err(AddRamError::Place)?;
        let attributes =
            Attributes { permissions: Permissions::ReadWriteExecute, memory_type: MemoryType::WriteBack };
        // The map has accepted the extent as disjoint, so tables are the only thing that can be missing; what was
        // mapped before they ran out points to a block that stays in the map.
        if let Some(apic) = &mut self.parts.apic {
            apic.ept.map(base, hpa, bytes, attributes).map_err(|_| AddRamError::OutOfTables)?;
        }
        self.parts.ept.map(base, hpa, bytes, attributes).map_err(|_| AddRamError::OutOfTables)
    }

    /// RAM in bytes.
    pub fn size(&self) -> u64 {
        self.parts.ram.size()
    }

    /// Leaves by size, without the APIC-access page, and tables of both sets.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = self.parts.ept.statistics();
        if let Some(apic) = &self.parts.apic {
            let Statistics { tables, retired_tables, .. } = apic.ept.statistics();
            statistics.tables += tables;
            statistics.retired_tables += retired_tables;
        }
        statistics
    }

    /// The EPT pointer of a vCPU whose interrupts are delivered in `mode`.
    pub(super) fn eptp(&self, mode: ApicMode) -> u64 {
        let ept = match (mode, &self.parts.apic) {
            (ApicMode::Page, Some(apic)) => &apic.ept,
            (ApicMode::Software | ApicMode::Virtual | ApicMode::Page, _) => &self.parts.ept,
        };
        ept.root_pointer().0
    }

    /// Where the APIC-access page is, if there is one.
    pub(super) fn apic_access_page(&self) -> Option<Hpa> {
        self.parts.apic.as_ref().map(|apic| apic.page.hpa())
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
