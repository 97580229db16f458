//! A guest's physical address space: its memory and the EPT tables that map exactly that.
//!
//! The only way to make host memory reachable for a guest is to give a [`FrameBlock`] away to this type, so no
//! safe code can map anything else.
//!
//! A second set of tables maps the same, and the APIC-access page where a local APIC's registers are after reset (SDM
//! Vol. 3C, "Virtualizing Memory-Mapped APIC Accesses"). vCPUs use it while their accesses there are virtualized, and only
//! then: for all others there is no memory, as each vCPU can move its own local APIC or switch it off.
//!
//! RAM is mapped once and for good. What is behind windows ([`memory::Switched`]) is mapped as they show it: tables are
//! edited under a lock of this space alone, all CPUs flush what they cached, and only then the vCPU that asked goes on.
//! Tables that an edit empties are kept until a flush that no other edit overtook.

use crate::memory::ept_tables::EptTables;
use crate::memory::frames::Order;
use crate::memory::{FrameBlock, OutOfFrames};
use crate::shootdown::{self, AllCpus};
use alloc::sync::Arc;
use arch::{Gpa, Hpa};
use core::sync::atomic::{AtomicU64, Ordering};
use memory::{
    Arrangement, ExpectedWord, GuestMap, GuestMemory, HasRom, MapError, MemoryMap, NotArranged, OutsideRam,
    Source, VIDEO_WINDOWS, VideoWindow, Window,
};
use paging::shootdown::FreedBehind;
use paging::{
    Attributes, EditError, Ept, Features, Invalidation, MemoryType, OutOfTables, Permissions, Statistics,
};
use spin::Mutex;
use vmx::{ApicMode, DEFAULT_PAGE};

/// Why memory was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddRamError {
    /// The place is taken or impossible.
    Place(MapError),
    /// No frames for tables.
    OutOfTables,
}

/// Guest-physical memory. When it is dropped, no vCPU can be loaded that uses it, but CPUs may still have cached what
/// it translates to: tables and memory are freed when none has.
#[derive(Debug)]
pub struct GuestSpace {
    parts: FreedBehind<AllCpus, Parts>,
    /// The EPT pointers, constant for the tables' life: the second is that of the set with the APIC-access page.
    eptp: u64,
    apic_eptp: Option<u64>,
    /// The arrangement that all CPUs have seen.
    seen: AtomicU64,
}

#[derive(Debug)]
struct Parts {
    // Dropped first: no table may point to a block that is free.
    tables: Mutex<Tables>,
    map: GuestMap<FrameBlock>,
    /// The APIC-access page. The processor takes its address for a sign; nothing reads or writes what it holds.
    apic_page: Option<FrameBlock>,
    /// What a device also reads and writes, and the guest where windows show it.
    video: Option<Arc<FrameBlock>>,
}

/// Nobody waits for other CPUs with these locked.
#[derive(Debug)]
struct Tables {
    ept: Ept<EptTables>,
    /// Those of vCPUs whose accesses to the local APIC's page are virtualized.
    apic: Option<Ept<EptTables>>,
    /// The arrangement that they are for.
    generation: u64,
    /// Where video memory is mapped.
    video: [Option<VideoWindow>; VIDEO_WINDOWS],
}

impl Tables {
    /// Both sets.
    fn sets(&mut self) -> impl Iterator<Item = &mut Ept<EptTables>> {
        core::iter::once(&mut self.ept).chain(&mut self.apic)
    }

    /// Takes `window` out of the first `sets` sets. The caller flushes.
    fn unmap(&mut self, window: VideoWindow, sets: usize) -> Result<(), NotArranged> {
        for ept in self.sets().take(sets) {
            let _debt: Invalidation = ept.unmap(window.base, window.bytes).map_err(|_| NotArranged)?;
        }
        Ok(())
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

/// The page, and tables that map it alone.
fn apic_tables(features: Features) -> Result<(FrameBlock, Ept<EptTables>), OutOfTables> {
    let page = FrameBlock::zeroed(Order::SMALL).map_err(|OutOfFrames { .. }| OutOfTables)?;
    let mut ept = Ept::new(EptTables::new(), features)?;
    // Not executable: instruction fetches are not virtualized.
    ept.map(DEFAULT_PAGE, page.hpa(), page.size_bytes(), attributes(Permissions::ReadWrite))
        .map_err(|_| OutOfTables)?;
    Ok((page, ept))
}

impl GuestSpace {
    /// A space without memory; `features` are what EPT can do on this machine.
    ///
    /// # Errors
    /// [`OutOfTables`] when there are no frames for the first tables.
    pub fn new(features: Features, apic: ApicPage) -> Result<Self, OutOfTables> {
        let ept: Ept<EptTables> = Ept::new(EptTables::new(), features)?;
        let (apic_page, apic) = match apic {
            ApicPage::Absent => (None, None),
            ApicPage::Present => {
                let (page, ept) = apic_tables(features)?;
                (Some(page), Some(ept))
            }
        };
        let (eptp, apic_eptp) = (ept.root_pointer().0, apic.as_ref().map(|ept| ept.root_pointer().0));
        let tables = Mutex::new(Tables { ept, apic, generation: 0, video: [None; VIDEO_WINDOWS] });
        let parts = Parts { tables, map: GuestMap::new(), apic_page, video: None };
        Ok(Self { parts: FreedBehind::new(AllCpus, parts), eptp, apic_eptp, seen: AtomicU64::new(0) })
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
        self.parts.map.ram.add(base, block).map_err(AddRamError::Place)?;
        // The map has accepted the extent as disjoint, so tables are the only thing that can be missing; what was
        // mapped before they ran out points to a block that stays in the map.
        for ept in self.parts.tables.get_mut().sets() {
            ept.map(base, hpa, bytes, attributes(Permissions::ReadWriteExecute))
                .map_err(|_| AddRamError::OutOfTables)?;
        }
        Ok(())
    }

    /// Makes `block` RAM beneath windows, of which none may cover it yet.
    ///
    /// # Errors
    /// [`MapError`]; the block is freed then and the space unchanged.
    pub fn add_switched_ram(&mut self, base: Gpa, block: FrameBlock) -> Result<(), MapError> {
        self.parts.map.switched.add_ram(base, block)
    }

    /// Makes `block` read-only memory behind windows, `base` being its own address.
    ///
    /// # Errors
    /// [`MapError`]; the block is freed then and the space unchanged.
    pub fn add_rom(&mut self, base: Gpa, block: FrameBlock) -> Result<(), MapError> {
        self.parts.map.switched.add_rom(base, block)
    }

    /// Adds a window, and maps what it shows.
    ///
    /// # Errors
    /// [`AddRamError`].
    pub fn add_window(&mut self, window: Window) -> Result<(), AddRamError> {
        if window.base <= DEFAULT_PAGE && DEFAULT_PAGE - window.base < window.bytes {
            return Err(AddRamError::Place(MapError::Overlaps(DEFAULT_PAGE)));
        }
        let Parts { tables, map, .. } = &mut *self.parts;
        map.switched.add_window(window).map_err(AddRamError::Place)?;
        let target = window.source(window.shown);
        for ept in tables.get_mut().sets() {
            map_window(ept, map, &window, target).map_err(|NotArranged| AddRamError::OutOfTables)?;
        }
        Ok(())
    }

    /// Makes `block` the video memory, which windows show where an [`Arrangement`] says.
    pub fn set_video_memory(&mut self, block: Arc<FrameBlock>) {
        self.parts.video = Some(block);
    }

    /// The video memory.
    pub fn video_memory(&self) -> Option<&Arc<FrameBlock>> {
        self.parts.video.as_ref()
    }

    /// All memory in bytes, what is behind windows included.
    pub fn size(&self) -> u64 {
        let video = self.parts.video.as_ref().map_or(0, |block| block.size_bytes());
        self.parts.map.ram.size() + self.parts.map.switched.size() + video
    }

    /// Leaves by size, without the APIC-access page, and tables of both sets.
    pub fn statistics(&self) -> Statistics {
        let tables = self.parts.tables.lock();
        let mut statistics = tables.ept.statistics();
        if let Some(apic) = &tables.apic {
            let Statistics { tables, retired_tables, .. } = apic.statistics();
            statistics.tables += tables;
            statistics.retired_tables += retired_tables;
        }
        statistics
    }

    /// The EPT pointer of a vCPU whose interrupts are delivered in `mode`.
    pub(super) fn eptp(&self, mode: ApicMode) -> u64 {
        match (mode, self.apic_eptp) {
            (ApicMode::Page, Some(pointer)) => pointer,
            (ApicMode::Software | ApicMode::Virtual | ApicMode::Page, _) => self.eptp,
        }
    }

    /// Where the APIC-access page is, if there is one.
    pub(super) fn apic_access_page(&self) -> Option<Hpa> {
        self.parts.apic_page.as_ref().map(FrameBlock::hpa)
    }

    /// Maps the video memory at `windows` and nowhere else. A window that covers other memory is left to emulation, and
    /// so is one for which there are no tables.
    fn move_video(
        &self,
        tables: &mut Tables,
        windows: &[Option<VideoWindow>; VIDEO_WINDOWS],
    ) -> Result<(), NotArranged> {
        let Some(block) = &self.parts.video else { return Ok(()) };
        for (index, wanted) in windows.iter().enumerate() {
            if tables.video[index] == *wanted {
                continue;
            }
            if let Some(window) = tables.video[index].take() {
                tables.unmap(window, usize::MAX)?;
            }
            let inside = |window: &VideoWindow| {
                window.offset.checked_add(window.bytes).is_some_and(|end| end <= block.size_bytes())
            };
            if let Some(window) = wanted.filter(inside) {
                let attributes = attributes(Permissions::ReadWriteExecute);
                let hpa = block.hpa() + window.offset;
                let mapped =
                    |ept: &mut Ept<EptTables>| ept.map(window.base, hpa, window.bytes, attributes).is_ok();
                let sets = tables.sets().count();
                let done = tables.sets().map(mapped).take_while(|done| *done).count();
                if done == sets {
                    tables.video[index] = Some(window);
                } else {
                    tables.unmap(window, done)?;
                }
            }
        }
        Ok(())
    }

    /// Edits the tables for `arrangement`.
    fn edit(&self, tables: &mut Tables, arrangement: &Arrangement) -> Result<(), NotArranged> {
        self.move_video(tables, &arrangement.video)?;
        let map = &self.parts.map;
        for (index, (window, before)) in map.switched.windows().enumerate() {
            let shown = arrangement.shown.get(index).copied().unwrap_or_default();
            let (old, new) = (window.source(before), window.source(shown));
            map.switched.show(index, shown);
            if old == new {
                continue;
            }
            for ept in tables.sets() {
                // Between the two steps there is nothing: accesses are carried out by emulation, and fetches tried again.
                if old.is_some() {
                    // The caller flushes.
                    let _debt: Invalidation =
                        ept.unmap(window.base, window.bytes).map_err(|error| match error {
                            EditError::OutOfTables | EditError::Range(_) => NotArranged,
                        })?;
                }
                map_window(ept, map, window, new)?;
            }
        }
        Ok(())
    }
}

const fn attributes(permissions: Permissions) -> Attributes {
    Attributes { permissions, memory_type: MemoryType::WriteBack }
}

/// Maps the memory that reads find in `window`, which is not mapped.
fn map_window(
    ept: &mut Ept<EptTables>,
    map: &GuestMap<FrameBlock>,
    window: &Window,
    target: Option<Source>,
) -> Result<(), NotArranged> {
    let Some(source) = target else { return Ok(()) };
    let permissions = match source {
        Source::Ram { writable: true, .. } => Permissions::ReadWriteExecute,
        Source::Ram { writable: false, .. } | Source::Rom { .. } => Permissions::ReadExecute,
    };
    let mut result = Ok(());
    let whole = map.switched.for_each_piece(source, window.bytes, |from, block, offset, bytes| {
        if result.is_ok() {
            result = ept.map(window.base + from, block.hpa() + offset, bytes, attributes(permissions));
        }
    });
    // A window over memory that is not there is a mistake of the builder's: nothing is mapped past it.
    if whole.is_ok() && result.is_ok() { Ok(()) } else { Err(NotArranged) }
}

impl GuestMemory for GuestSpace {
    #[inline]
    fn read_u32(&self, gpa: Gpa) -> Result<u32, OutsideRam> {
        self.parts.map.read_u32(gpa)
    }

    #[inline]
    fn read_u64(&self, gpa: Gpa) -> Result<u64, OutsideRam> {
        self.parts.map.read_u64(gpa)
    }

    #[inline]
    fn holds(&self, words: &[ExpectedWord]) -> bool {
        self.parts.map.holds(words)
    }

    fn arrange(&self, arrangement: &Arrangement) -> Result<(), NotArranged> {
        if self.seen.load(Ordering::Acquire) >= arrangement.generation {
            return Ok(());
        }
        let (generation, result) = {
            let mut tables = self.parts.tables.lock();
            let mut result = Ok(());
            if tables.generation < arrangement.generation {
                tables.generation = arrangement.generation;
                result = self.edit(&mut tables, arrangement);
            }
            (tables.generation, result)
        };
        shootdown::flush_everywhere();
        let mut tables = self.parts.tables.lock();
        if tables.generation == generation {
            // The flush came after all edits.
            tables.sets().for_each(Ept::flushed);
        }
        drop(tables);
        self.seen.fetch_max(generation, Ordering::AcqRel);
        result
    }

    fn read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), OutsideRam> {
        self.parts.map.read(gpa, into)
    }

    fn write(&self, gpa: Gpa, from: &[u8]) -> Result<(), OutsideRam> {
        self.parts.map.write(gpa, from)
    }

    #[inline]
    fn swap_u8(&self, gpa: Gpa, value: u8) -> Result<u8, OutsideRam> {
        self.parts.map.swap_u8(gpa, value)
    }

    fn compare_exchange_u32(&self, gpa: Gpa, current: u32, new: u32) -> Result<bool, OutsideRam> {
        self.parts.map.compare_exchange_u32(gpa, current, new)
    }

    fn compare_exchange_u64(&self, gpa: Gpa, current: u64, new: u64) -> Result<bool, OutsideRam> {
        self.parts.map.compare_exchange_u64(gpa, current, new)
    }
}

impl HasRom for GuestSpace {
    type Rom = MemoryMap<FrameBlock>;

    fn rom(&self) -> &MemoryMap<FrameBlock> {
        self.parts.map.rom()
    }
}
