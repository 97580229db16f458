//! The guest's physical memory: where its RAM is, what the firmware tables and boot structures take of it, and the
//! map of it that the kernel is given.
//!
//! ACPI Specification, "System Address Map Interfaces", for the kinds of memory.

use crate::LoadError;
use alloc::vec::Vec;
use arch::platform_layout::{ECAM_BASE, ECAM_BYTES, LOW_RAM_END};
use arch::{GIB, Gpa, KIB, MIB, PAGE_SIZE};

/// A PC's interrupt vectors and BIOS data area.
pub(crate) const BIOS_DATA: Gpa = Gpa::new(0);
/// Their length, in bytes.
pub(crate) const BIOS_DATA_BYTES: u64 = PAGE_SIZE;
/// Descriptor table of the 64-bit entry state.
pub(crate) const GDT: Gpa = Gpa::new(0x1000);
/// Top of a small stack, in case a kernel uses one before it has its own.
pub(crate) const STACK_TOP: Gpa = Gpa::new(0x7000);
/// `boot_params` of the Linux protocol, one page.
pub(crate) const BOOT_PARAMS: Gpa = Gpa::new(0x7000);
/// Start info, memory map and module list of PVH with the modules' texts.
pub(crate) const PVH_START_INFO: Gpa = Gpa::new(0x8000);
/// Room for them, in bytes: the page tables behind are the Linux protocol's.
pub(crate) const PVH_INFORMATION_ROOM: u64 = 96 * KIB;
/// Identity-mapping page tables, six pages.
pub(crate) const PAGE_TABLES: Gpa = Gpa::new(0x9000);
/// The command line, with its end mark.
pub(crate) const COMMAND_LINE: Gpa = Gpa::new(0x2_0000);
/// Room for the command line, in bytes.
pub(crate) const COMMAND_LINE_ROOM: u64 = 64 * KIB;

/// End of the RAM that a kernel may use freely below 1 MiB: the video memory of a PC begins here.
pub(crate) const CONVENTIONAL_END: Gpa = Gpa::new(640 * KIB);
/// ACPI tables, the RSDP first, where the ACPI specification wants it searched for.
pub(crate) const ACPI_TABLES: Gpa = Gpa::new(0xe_0000);
/// Room for the ACPI tables, in bytes.
pub(crate) const ACPI_ROOM: u64 = 64 * KIB;
/// The SMBIOS entry point and structures.
pub(crate) const SMBIOS_TABLES: Gpa = Gpa::new(0xf_0000);
/// Room for them, in bytes.
pub(crate) const SMBIOS_ROOM: u64 = 32 * KIB;
/// The MultiProcessor Specification's floating pointer and table, where it wants the pointer searched for.
pub(crate) const MP_TABLE: Gpa = Gpa::new(0xf_8000);
/// Room for them, in bytes.
pub(crate) const MP_TABLE_ROOM: u64 = 28 * KIB;
/// Code that real-mode interrupts lead to, in the last page below 1 MiB.
pub(crate) const BIOS_SERVICES: Gpa = Gpa::new(0xf_f000);
/// Where images may be loaded from: everything below belongs to boot structures and firmware.
pub(crate) const HIGH_MEMORY: Gpa = Gpa::new(MIB);

/// Where the RAM continues that did not fit below the hole.
const ABOVE_HOLE: Gpa = Gpa::new(4 * GIB);
/// The least RAM that any guest can be loaded into, in bytes.
const LEAST_MEMORY: u64 = 2 * MIB;
/// The most RAM a guest can have, in bytes: what 46-bit guest-physical addresses reach, less the hole.
const MOST_MEMORY: u64 = (1 << 46) - 4 * GIB;

/// What a range of addresses holds, with the numbers of the ACPI specification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum MemoryKind {
    /// RAM for the kernel's use.
    Usable = 1,
    /// Not for the kernel's use.
    Reserved = 2,
}

/// A range of guest-physical addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryRange {
    /// The first address.
    pub start: Gpa,
    /// The length in bytes, never 0.
    pub bytes: u64,
    /// What is there.
    pub kind: MemoryKind,
}

/// How a guest's RAM lies in its physical address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryLayout {
    low_bytes: u64,
    high_bytes: u64,
}

impl MemoryLayout {
    /// The layout of `memory_bytes` of RAM.
    ///
    /// # Errors
    /// [`LoadError::MemoryTooSmall`] and [`LoadError::MemoryNotUsable`] for sizes that no guest can have.
    pub fn new(memory_bytes: u64) -> Result<Self, LoadError> {
        if memory_bytes < LEAST_MEMORY {
            return Err(LoadError::MemoryTooSmall { memory: memory_bytes, least: LEAST_MEMORY });
        }
        if !memory_bytes.is_multiple_of(PAGE_SIZE) || memory_bytes > MOST_MEMORY {
            return Err(LoadError::MemoryNotUsable { memory: memory_bytes, most: MOST_MEMORY });
        }
        let low_bytes = memory_bytes.min(LOW_RAM_END.get());
        Ok(Self { low_bytes, high_bytes: memory_bytes - low_bytes })
    }

    /// The ranges of RAM, in order. The first begins at 0 and includes the PC's video and firmware areas, as RAM:
    /// a kernel that searches them for tables then does so without leaving the guest.
    pub fn ram(&self) -> Vec<MemoryRange> {
        let mut ranges = Vec::with_capacity(2);
        let mut add = |start, bytes| {
            if bytes > 0 {
                ranges.push(MemoryRange { start, bytes, kind: MemoryKind::Usable });
            }
        };
        add(Gpa::new(0), self.low_bytes);
        add(ABOVE_HOLE, self.high_bytes);
        ranges
    }

    /// [`Self::ram`] of a machine that is started by firmware: the PC's video and firmware areas are none of it.
    pub fn ram_around_firmware(&self) -> Vec<MemoryRange> {
        let mut ranges = self.ram();
        let low = MemoryRange { start: Gpa::new(0), bytes: CONVENTIONAL_END.get(), kind: MemoryKind::Usable };
        if let Some(first) = ranges.first_mut() {
            first.start = HIGH_MEMORY;
            first.bytes -= HIGH_MEMORY.get();
        }
        ranges.insert(0, low);
        ranges
    }

    /// The map that the kernel is given.
    pub fn firmware_map(&self) -> Vec<MemoryRange> {
        let mut ranges = Vec::with_capacity(5);
        let mut add = |start: Gpa, end: u64, kind| {
            if let Some(bytes) = end.checked_sub(start.get())
                && bytes > 0
            {
                ranges.push(MemoryRange { start, bytes, kind });
            }
        };
        add(Gpa::new(0), CONVENTIONAL_END.get(), MemoryKind::Usable);
        add(CONVENTIONAL_END, HIGH_MEMORY.get(), MemoryKind::Reserved);
        add(HIGH_MEMORY, self.low_bytes, MemoryKind::Usable);
        // Configuration space of PCI is used only where the map says that nothing else is put there.
        add(ECAM_BASE, ECAM_BASE.get() + ECAM_BYTES, MemoryKind::Reserved);
        add(ABOVE_HOLE, ABOVE_HOLE.get() + self.high_bytes, MemoryKind::Usable);
        ranges
    }

    /// The end of the RAM below 4 GiB.
    pub fn low_end(&self) -> Gpa {
        Gpa::new(self.low_bytes)
    }

    /// The window for base addresses of PCI functions above all RAM: its first and last address. It is below 64 GiB,
    /// which every processor's addresses reach, unless the RAM is not.
    pub fn high_pci_window(&self) -> (Gpa, Gpa) {
        const WINDOW: Gpa = Gpa::new(32 * GIB);
        const WINDOW_BYTES: u64 = 32 * GIB;
        let ram_end = ABOVE_HOLE.get() + self.high_bytes;
        let first = WINDOW.get().max(ram_end.next_multiple_of(GIB));
        (Gpa::new(first), Gpa::new(first + (WINDOW_BYTES - 1)))
    }

    /// All RAM, in bytes.
    pub fn total_bytes(&self) -> u64 {
        self.low_bytes + self.high_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_does_not_fit_below_the_devices_continues_at_4_gib() {
        let layout = MemoryLayout::new(5 * GIB).expect("a fair size");
        let ram: Vec<_> = layout.ram().iter().map(|range| (range.start.get(), range.bytes)).collect();
        assert_eq!(ram, [(0, 11 * GIB / 4), (4 * GIB, 9 * GIB / 4)]);
        let map = layout.firmware_map();
        assert_eq!(map.len(), 5);
        assert_eq!(map[4], MemoryRange { start: ABOVE_HOLE, bytes: 9 * GIB / 4, kind: MemoryKind::Usable });
    }

    #[test]
    fn the_high_window_for_pci_is_above_all_ram() {
        let window = |bytes| MemoryLayout::new(bytes).expect("a fair size").high_pci_window();
        assert_eq!(window(64 * MIB), (Gpa::new(32 * GIB), Gpa::new(64 * GIB - 1)));
        assert_eq!(window(100 * GIB).0, Gpa::new(102 * GIB));
    }

    #[test]
    fn the_map_reserves_the_firmware_area_and_ends_with_the_ram() {
        let map = MemoryLayout::new(64 * MIB).expect("a fair size").firmware_map();
        let kinds: Vec<_> = map.iter().map(|range| (range.start.get(), range.bytes, range.kind)).collect();
        assert_eq!(
            kinds,
            [
                (0, 0xa_0000, MemoryKind::Usable),
                (0xa_0000, 0x6_0000, MemoryKind::Reserved),
                (0x10_0000, 63 * MIB, MemoryKind::Usable),
                (0xb000_0000, 256 * MIB, MemoryKind::Reserved),
            ]
        );
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        assert!(matches!(MemoryLayout::new(0), Err(LoadError::MemoryTooSmall { memory: 0, .. })));
        assert!(matches!(MemoryLayout::new(MIB), Err(LoadError::MemoryTooSmall { .. })));
        assert!(matches!(MemoryLayout::new(64 * MIB + 1), Err(LoadError::MemoryNotUsable { .. })));
        assert!(matches!(MemoryLayout::new(!0xfff), Err(LoadError::MemoryNotUsable { .. })));
    }
}
