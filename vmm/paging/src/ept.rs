//! The entries of Intel's extended page tables.
//!
//! SDM Vol. 3C, "EPT Translation Mechanism", "EPT Misconfigurations", "Extended-Page-Table Pointer (EPTP)".

use crate::format::{
    Attributes, Entry, EntryFormat, Features, LeafEntry, MemoryType, Permissions, RootPointer, Usage,
};
use crate::level::{LeafSize, Level};
use arch::Hpa;

const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const EXECUTE: u64 = 1 << 2;
const MEMORY_TYPE_SHIFT: u32 = 3;
/// The EPT memory type alone counts, whatever the guest's PAT says: host and guest then never see one frame
/// with two types.
const IGNORE_PAT: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const ACCESSED: u64 = 1 << 8;
const DIRTY: u64 = 1 << 9;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// EPTP: page-walk length minus one, in bits 5:3.
const WALK_LENGTH_4: u64 = 3 << 3;
/// EPTP: enable accessed and dirty flags.
const ENABLE_ACCESSED_DIRTY: u64 = 1 << 6;

/// The EPT entry format.
#[derive(Clone, Copy, Debug)]
pub enum EptFormat {}

impl EptFormat {
    /// The features that IA32_VMX_EPT_VPID_CAP reports (SDM Vol. 3D, "VPID and EPT Capabilities").
    pub const fn features(ept_vpid_capability: u64) -> Features {
        let mut features = Features::empty();
        if ept_vpid_capability & (1 << 16) != 0 {
            features = features.union(Features::LEAVES_2M);
        }
        if ept_vpid_capability & (1 << 17) != 0 {
            features = features.union(Features::LEAVES_1G);
        }
        if ept_vpid_capability & (1 << 21) != 0 {
            features = features.union(Features::ACCESSED_DIRTY);
        }
        features
    }

    /// Whether IA32_VMX_EPT_VPID_CAP reports what every EPT of ours needs: a walk of four levels and tables
    /// in write-back memory.
    pub const fn is_supported(ept_vpid_capability: u64) -> bool {
        const WALK_4_AND_WRITE_BACK: u64 = 1 << 6 | 1 << 14;
        ept_vpid_capability & WALK_4_AND_WRITE_BACK == WALK_4_AND_WRITE_BACK
    }
}

impl EntryFormat for EptFormat {
    fn table(table: Hpa) -> u64 {
        table.get() | READ | WRITE | EXECUTE
    }

    fn leaf(size: LeafSize, leaf: LeafEntry) -> u64 {
        let large = match size {
            LeafSize::Size4K => 0,
            LeafSize::Size2M | LeafSize::Size1G => LARGE,
        };
        leaf.hpa.get()
            | permission_bits(leaf.attributes.permissions)
            | memory_type_bits(leaf.attributes.memory_type) << MEMORY_TYPE_SHIFT
            | IGNORE_PAT
            | large
            | Self::usage_bits(leaf.usage)
    }

    fn decode(level: Level, raw: u64) -> Entry {
        let Some(permissions) = permissions(raw) else { return Entry::Empty };
        let is_leaf = match level {
            Level::Root => false,
            Level::Directories | Level::Directory => raw & LARGE != 0,
            Level::Pages => true,
        };
        let hpa = Hpa::new(raw & ADDRESS);
        if !is_leaf {
            return Entry::Table(hpa);
        }
        let mut usage = Usage::empty();
        usage.set(Usage::ACCESSED, raw & ACCESSED != 0);
        usage.set(Usage::DIRTY, raw & DIRTY != 0);
        Entry::Leaf(LeafEntry {
            hpa,
            attributes: Attributes { permissions, memory_type: memory_type(raw) },
            usage,
        })
    }

    fn usage_bits(usage: Usage) -> u64 {
        let accessed = if usage.contains(Usage::ACCESSED) { ACCESSED } else { 0 };
        let dirty = if usage.contains(Usage::DIRTY) { DIRTY } else { 0 };
        accessed | dirty
    }

    fn root_pointer(root: Hpa, features: Features) -> RootPointer {
        let usage = if features.contains(Features::ACCESSED_DIRTY) { ENABLE_ACCESSED_DIRTY } else { 0 };
        RootPointer(root.get() | memory_type_bits(MemoryType::WriteBack) | WALK_LENGTH_4 | usage)
    }
}

const fn permission_bits(permissions: Permissions) -> u64 {
    match permissions {
        Permissions::Read => READ,
        Permissions::ReadWrite => READ | WRITE,
        Permissions::ReadExecute => READ | EXECUTE,
        Permissions::ReadWriteExecute => READ | WRITE | EXECUTE,
    }
}

/// The permissions of an entry, `None` when it is not present.
fn permissions(raw: u64) -> Option<Permissions> {
    match raw & (READ | WRITE | EXECUTE) {
        0 => None,
        0b001 => Some(Permissions::Read),
        0b011 => Some(Permissions::ReadWrite),
        0b101 => Some(Permissions::ReadExecute),
        0b111 => Some(Permissions::ReadWriteExecute),
        _ => unreachable!("no entry is written without read permission: {raw:#x}"),
    }
}

const fn memory_type_bits(memory_type: MemoryType) -> u64 {
    match memory_type {
        MemoryType::Uncacheable => 0,
        MemoryType::WriteCombining => 1,
        MemoryType::WriteThrough => 4,
        MemoryType::WriteProtected => 5,
        MemoryType::WriteBack => 6,
    }
}

fn memory_type(raw: u64) -> MemoryType {
    match raw >> MEMORY_TYPE_SHIFT & 7 {
        0 => MemoryType::Uncacheable,
        1 => MemoryType::WriteCombining,
        4 => MemoryType::WriteThrough,
        5 => MemoryType::WriteProtected,
        6 => MemoryType::WriteBack,
        _ => unreachable!("no leaf is written with a reserved memory type: {raw:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAM: Attributes =
        Attributes { permissions: Permissions::ReadWriteExecute, memory_type: MemoryType::WriteBack };

    #[test]
    fn a_leaf_has_the_bits_of_the_manual() {
        let leaf = LeafEntry { hpa: Hpa::new(0x4020_0000), attributes: RAM, usage: Usage::empty() };
        assert_eq!(EptFormat::leaf(LeafSize::Size4K, leaf), 0x4020_0077);
        assert_eq!(EptFormat::leaf(LeafSize::Size2M, leaf), 0x4020_00f7);
        assert_eq!(EptFormat::table(Hpa::new(0x5000)), 0x5007);
    }

    #[test]
    fn every_leaf_decodes_to_what_was_encoded() {
        use {MemoryType as M, Permissions as P};
        for permissions in [P::Read, P::ReadWrite, P::ReadExecute, P::ReadWriteExecute] {
            for memory_type in
                [M::Uncacheable, M::WriteCombining, M::WriteThrough, M::WriteProtected, M::WriteBack]
            {
                for usage in [Usage::empty(), Usage::ACCESSED, Usage::all()] {
                    let attributes = Attributes { permissions, memory_type };
                    let leaf = LeafEntry { hpa: Hpa::new(0x000f_ffff_c000_0000), attributes, usage };
                    for level in [Level::Directories, Level::Directory, Level::Pages] {
                        let size = level.leaf_size().expect("not the root");
                        assert_eq!(EptFormat::decode(level, EptFormat::leaf(size, leaf)), Entry::Leaf(leaf));
                    }
                }
            }
        }
    }

    #[test]
    fn an_entry_with_low_bits_clear_is_empty() {
        assert_eq!(EptFormat::decode(Level::Pages, 0), Entry::Empty);
        assert_eq!(EptFormat::decode(Level::Directory, 0x1234_5800), Entry::Empty);
    }

    #[test]
    fn the_root_pointer_says_four_levels_and_write_back() {
        let root = Hpa::new(0x7000);
        assert_eq!(EptFormat::root_pointer(root, Features::empty()), RootPointer(0x701e));
        assert_eq!(EptFormat::root_pointer(root, Features::ACCESSED_DIRTY), RootPointer(0x705e));
    }

    #[test]
    fn capability_bits_become_features() {
        assert_eq!(EptFormat::features(0), Features::empty());
        assert_eq!(EptFormat::features(1 << 16 | 1 << 21), Features::LEAVES_2M | Features::ACCESSED_DIRTY);
        assert!(EptFormat::is_supported(0x4040));
        assert!(!EptFormat::is_supported(0x0040));
    }
}
