//! The kernel's own page tables. No page is writable and executable.
//!
//! SDM Vol. 3A, "Paging"; "Page Attribute Table (PAT)".

use alloc::vec::Vec;

use arch::{GIB, Hpa, MIB, Msr, PAGE_SIZE};
use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use core::sync::atomic::{AtomicU64, Ordering};
use spin::Mutex;
use x86_64::structures::paging::mapper::{MapToError, TranslateResult};
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame, Size1GiB,
    Size2MiB, Size4KiB, Translate,
};
use x86_64::{PhysAddr, VirtAddr};

use super::block::OutOfFrames;
use super::direct_map;
use super::frames::{self, Order};
use super::layout::{DEVICES_BASE, DEVICES_END, DIRECT_MAP_BASE, DIRECT_MAP_SIZE};
use crate::{cpu, image, msr};

static TABLES: Mutex<Option<OffsetPageTable<'static>>> = Mutex::new(None);
static NEXT_DEVICE: AtomicU64 = AtomicU64::new(DEVICES_BASE);

/// Our page-attribute table: as after reset, but entry 1 (PWT alone) is write-combining instead of write-through.
const PAT: u64 = 0x0007_0406_0007_0106;

/// How the CPU may cache device memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caching {
    /// Each access goes to the device, in order.
    Uncached,
    /// Writes may be gathered: for frame buffers.
    WriteCombining,
}

impl Caching {
    const fn flags(self) -> PageTableFlags {
        match self {
            Self::Uncached => PageTableFlags::WRITE_THROUGH.union(PageTableFlags::NO_CACHE),
            Self::WriteCombining => PageTableFlags::WRITE_THROUGH,
        }
    }
}

/// Rights of plain data.
const DATA: PageTableFlags =
    PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE).union(PageTableFlags::NO_EXECUTE);
/// Rights of the intermediate tables.
const PARENT: PageTableFlags = PageTableFlags::PRESENT.union(PageTableFlags::WRITABLE);

struct TableFrames;

// SAFETY: `frames::take` never hands out a frame twice.
unsafe impl FrameAllocator<Size4KiB> for TableFrames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let hpa = frames::take(Order::SMALL)?;
        Some(PhysFrame::containing_address(PhysAddr::new(hpa.get())))
    }
}

/// A view of the page tables at `root`.
///
/// # Safety
/// The tables must be valid, mapped in the direct map, and not be changed through another view.
unsafe fn view(root: Hpa) -> OffsetPageTable<'static> {
    let table: *mut PageTable = direct_map::pointer(root);
    // SAFETY: the caller vouches for the table.
    let table = unsafe { &mut *table };
    // SAFETY: the direct map covers all memory that tables are in.
    unsafe { OffsetPageTable::new(table, VirtAddr::new(DIRECT_MAP_BASE)) }
}

fn map<S: PageSize + core::fmt::Debug>(
    tables: &mut OffsetPageTable<'static>,
    address: u64,
    hpa: u64,
    flags: PageTableFlags,
) -> Result<(), MapToError<S>>
where
    OffsetPageTable<'static>: Mapper<S>,
{
    let page = Page::<S>::from_start_address(VirtAddr::new(address)).expect("pages are aligned");
    let frame = PhysFrame::<S>::from_start_address(PhysAddr::new(hpa)).expect("frames are aligned");
    // SAFETY: this module alone decides what is mapped where: the image once, memory in the direct map without
    // execute rights, and new stacks and device windows where nothing was.
    let flush = unsafe { tables.map_to_with_table_flags(page, frame, flags, PARENT, &mut TableFrames) }?;
    // The page was not present before, and absent pages are not cached.
    flush.ignore();
    Ok(())
}

/// The ranges of physical memory that the direct map covers, rounded to 2 MiB, sorted, disjoint.
fn direct_map_ranges(regions: &[MemoryRegion]) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = regions
        .iter()
        // What is reserved above 4 GiB are windows of devices; below, firmware keeps tables in such places.
        .filter(|region| {
            region.end <= 4 * GIB
                || matches!(region.kind, MemoryRegionKind::Usable | MemoryRegionKind::Bootloader)
                || matches!(
                    region.kind,
                    MemoryRegionKind::UnknownBios(3 | 4) | MemoryRegionKind::UnknownUefi(9 | 10)
                )
        })
        .filter(|region| region.start < region.end && region.end <= DIRECT_MAP_SIZE)
        .map(|region| (region.start & !(2 * MIB - 1), region.end.next_multiple_of(2 * MIB)))
        .chain([(0, 2 * MIB)])
        .collect();
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (start, end) in ranges {
        match merged.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => merged.push((start, end)),
        }
    }
    merged
}

fn map_memory(tables: &mut OffsetPageTable<'static>, regions: &[MemoryRegion]) {
    // CPUID.80000001H:EDX[26]: 1-GiB pages.
    let has_1g = cpu::cpuid(0x8000_0001, 0).edx & (1 << 26) != 0;
    for (start, end) in direct_map_ranges(regions) {
        let mut hpa = start;
        while hpa < end {
            let address = DIRECT_MAP_BASE + hpa;
            if has_1g && hpa.is_multiple_of(GIB) && end - hpa >= GIB {
                map::<Size1GiB>(tables, address, hpa, DATA).expect("the direct map's region is empty");
                hpa += GIB;
            } else {
                map::<Size2MiB>(tables, address, hpa, DATA).expect("the direct map's region is empty");
                hpa += 2 * MIB;
            }
        }
    }
}

fn map_image(tables: &mut OffsetPageTable<'static>, old: &OffsetPageTable<'static>) {
    for segment in image::segments() {
        let flags = match segment.rights {
            image::Rights::Execute => PageTableFlags::PRESENT,
            image::Rights::Read => PageTableFlags::PRESENT.union(PageTableFlags::NO_EXECUTE),
            image::Rights::Write => DATA,
        };
        for address in (segment.start..segment.end).step_by(0x1000) {
            let hpa = old.translate_addr(VirtAddr::new(address)).expect("the loader mapped the whole image");
            map::<Size4KiB>(tables, address, hpa.as_u64(), flags).expect("the image's region is empty");
        }
    }
}

/// Builds the kernel's page tables from the boot loader's, which stay active; returns where they are.
///
/// # Safety
/// The active tables are the boot loader's, with its direct map where ours is, and `regions` is its memory map.
pub(crate) unsafe fn build(regions: &[MemoryRegion]) -> Hpa {
    // SAFETY: the caller says whose tables are active; they are only read.
    let old = unsafe { view(cpu::cr3()) };
    let root = frames::take(Order::SMALL).expect("memory for the kernel's page tables");
    let table: *mut PageTable = direct_map::pointer(root);
    // SAFETY: the frame was just taken.
    unsafe { table.write(PageTable::new()) };
    // SAFETY: the table is new, empty and only viewed here.
    let mut tables = unsafe { view(root) };
    map_image(&mut tables, &old);
    map_memory(&mut tables, regions);
    *TABLES.lock() = Some(tables);
    root
}

/// The physical address that the boot loader's tables give for `address`.
///
/// # Safety
/// As for [`build`].
pub(crate) unsafe fn loader_translate(address: u64) -> Option<Hpa> {
    // SAFETY: the caller says whose tables are active; they are only read.
    let old = unsafe { view(cpu::cr3()) };
    old.translate_addr(VirtAddr::new(address)).map(|hpa| Hpa::new(hpa.as_u64()))
}

/// Sets this CPU's page-attribute table.
///
/// # Safety
/// No page with the PWT bit may have been used on this CPU yet.
pub(crate) unsafe fn set_pat() {
    // SAFETY: the value is valid, and the caller says that no cached page changes its type.
    unsafe { msr::write(Msr::PAT, PAT) };
}

/// Maps a new page of data at `address`; its contents are what was left there.
///
/// # Errors
/// [`OutOfFrames`] when memory for the page or for a table is missing.
///
/// # Panics
/// When something is mapped there.
pub(crate) fn map_data_page(address: u64) -> Result<(), OutOfFrames> {
    let missing = OutOfFrames { bytes: PAGE_SIZE };
    let frame = frames::take(Order::SMALL).ok_or(missing)?;
    let mut tables = TABLES.lock();
    let tables = tables.as_mut().expect("the kernel's tables were built");
    match map::<Size4KiB>(tables, address, frame.get(), DATA) {
        Ok(()) => Ok(()),
        Err(MapToError::FrameAllocationFailed) => {
            // SAFETY: it was just taken and has been mapped nowhere.
            unsafe { frames::give(frame, Order::SMALL) };
            Err(missing)
        }
        Err(error) => panic!("the page at {address:#x} is free: {error:?}"),
    }
}

/// The upper half of the kernel's top-level page table: all that the kernel has mapped.
pub(crate) fn upper_half() -> [u64; 256] {
    let tables = TABLES.lock();
    let tables = tables.as_ref().expect("the kernel's tables were built");
    let entries = tables.level_4_table();
    core::array::from_fn(|index| {
        let entry = &entries[256 + index];
        entry.addr().as_u64() | entry.flags().bits()
    })
}

/// Maps `length` bytes of device memory at `hpa` and returns where. Mappings last for ever. `None` when the range
/// is empty, the region for devices is full or memory is short.
pub fn map_device(hpa: Hpa, length: u64, caching: Caching) -> Option<*mut u8> {
    let start = hpa.align_down(PAGE_SIZE);
    let end = hpa.checked_add(length)?.get().checked_next_multiple_of(PAGE_SIZE)?;
    let bytes = end.checked_sub(start.get()).filter(|bytes| *bytes > 0)?;
    let window = NEXT_DEVICE
        .try_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            next.checked_add(bytes).filter(|end| *end <= DEVICES_END)
        })
        .ok()?;
    let mut tables = TABLES.lock();
    let tables = tables.as_mut()?;
    for offset in (0..bytes).step_by(0x1000) {
        let flags = DATA.union(caching.flags());
        map::<Size4KiB>(tables, window + offset, start.get() + offset, flags).ok()?;
    }
    let address = usize::try_from(window + (hpa - start)).ok()?;
    Some(core::ptr::with_exposed_provenance_mut(address))
}

/// The physical address behind `address` in the kernel's tables; `None` where nothing is mapped.
pub fn translate(address: u64) -> Option<Hpa> {
    let address = VirtAddr::try_new(address).ok()?;
    match TABLES.lock().as_ref()?.translate(address) {
        TranslateResult::Mapped { frame, offset, .. } => {
            Some(Hpa::new(frame.start_address().as_u64() + offset))
        }
        TranslateResult::NotMapped | TranslateResult::InvalidFrameAddress(_) => None,
    }
}

/// Whether something is mapped at `address`; `None` while the tables are being changed. For the panic path.
pub(crate) fn is_mapped(address: u64) -> Option<bool> {
    let Ok(address) = VirtAddr::try_new(address) else { return Some(false) };
    Some(TABLES.try_lock()?.as_ref()?.translate_addr(address).is_some())
}
