//! Chooses mode, paging and rights: mostly such that an instruction goes through.

use super::Rights;
use crate::machine::arena::{CR4_KEYS, CR4_SMAP, CR4_SMEP, Paging, World};
use crate::machine::trial::{Ring, flag};
use crate::programs::random::Random;

/// The default size of operands and addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Width {
    Sixteen,
    ThirtyTwo,
    SixtyFour,
}

/// Where an instruction runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    pub(super) world: World,
    pub(super) width: Width,
    pub(super) paging: Paging,
}

/// Modes, as they are counted.
pub(super) const MODES: [&str; 7] = [
    "real-address",
    "virtual-8086",
    "16-bit protected",
    "32-bit protected",
    "16-bit compatibility",
    "32-bit compatibility",
    "64-bit",
];
/// Kinds of paging, as they are counted.
pub(super) const PAGINGS: [(Paging, &str); 8] = [
    (Paging::Off, "no paging"),
    (Paging::Legacy, "32-bit paging"),
    (Paging::LegacyExtended, "32-bit paging with PSE"),
    (Paging::LegacyLarge, "4-MiB pages"),
    (Paging::Pae, "PAE paging"),
    (Paging::PaeLarge, "PAE paging, 2-MiB pages"),
    (Paging::FourLevel, "4-level paging"),
    (Paging::FourLevelLarge, "4-level paging, 2-MiB pages"),
];

const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const KEY_SHIFT: u32 = 59;

impl Plan {
    /// Any.
    pub(super) fn any(random: &mut Random) -> Self {
        let ring = if random.below(5) < 2 { Ring::Kernel } else { Ring::User };
        let one_of = |random: &mut Random, choice: &[Paging]| {
            choice[usize::try_from(random.below(choice.len() as u64)).unwrap_or(0)]
        };
        let any = [
            Paging::Legacy,
            Paging::LegacyExtended,
            Paging::LegacyLarge,
            Paging::Pae,
            Paging::Pae,
            Paging::PaeLarge,
            Paging::Off,
        ];
        let long = [Paging::FourLevel, Paging::FourLevel, Paging::FourLevel, Paging::FourLevelLarge];
        let (world, width, paging) = match random.below(7) {
            0 => (World::Real, Width::Sixteen, Paging::Off),
            1 => {
                let paging = one_of(random, &[Paging::Legacy, Paging::LegacyExtended, Paging::Pae]);
                (World::Virtual8086, Width::Sixteen, paging)
            }
            2 => (World::Protected(ring), Width::Sixteen, one_of(random, &any)),
            3 => (World::Protected(ring), Width::ThirtyTwo, one_of(random, &any)),
            4 => (World::Compatible(ring), Width::Sixteen, one_of(random, &long)),
            5 => (World::Compatible(ring), Width::ThirtyTwo, one_of(random, &long)),
            _ => (World::Long(ring), Width::SixtyFour, one_of(random, &long)),
        };
        Self { world, width, paging }
    }

    /// Who executes it.
    pub(super) fn ring(&self) -> Ring {
        match self.world {
            World::Real => Ring::Kernel,
            World::Virtual8086 => Ring::User,
            World::Protected(ring) | World::Compatible(ring) | World::Long(ring) => ring,
        }
    }

    /// Where it is counted in [`MODES`].
    pub(super) fn mode(&self) -> usize {
        match (self.world, self.width) {
            (World::Real, _) => 0,
            (World::Virtual8086, _) => 1,
            (World::Protected(_), Width::Sixteen) => 2,
            (World::Protected(_), Width::ThirtyTwo | Width::SixtyFour) => 3,
            (World::Compatible(_), Width::Sixteen) => 4,
            (World::Compatible(_), Width::ThirtyTwo | Width::SixtyFour) => 5,
            (World::Long(_), _) => 6,
        }
    }

    /// Whether no page boundary keeps an instruction in the window.
    pub(super) fn contained(&self) -> bool {
        self.paging == Paging::Off || self.paging.is_large()
    }

    /// Rights of the pages, and what else decides over them.
    pub(super) fn rights(&self, random: &mut Random, offered: u64) -> Rights {
        let mut cr4 = 0;
        for bit in [CR4_SMEP, CR4_SMAP, CR4_KEYS] {
            if random.below(2) == 0 {
                cr4 |= bit & offered;
            }
        }
        let mut keys = u64::from(u32::MAX) & random.next();
        if random.below(4) != 0 {
            keys &= !3;
        }
        let flags = [0, 1].map(|_| self.page(random));
        let mut directory = flag::PRESENT | flag::WRITABLE | flag::USER | flag::ACCESSED;
        for (bit, of) in [(flag::PRESENT, 64), (flag::WRITABLE, 24), (flag::USER, 24), (flag::ACCESSED, 4)] {
            if random.below(of) == 0 {
                directory &= !bit;
            }
        }
        if self.paging == Paging::Legacy && random.below(4) == 0 {
            // Without CR4.PSE it means nothing.
            directory |= LARGE;
        }
        if random.below(8) == 0 && !self.paging.is_legacy() {
            directory |= NO_EXECUTE;
        }
        let keys = keys.to_le_bytes();
        Rights {
            write_protect: random.below(3) != 0,
            cr4,
            keys: u32::from_le_bytes([keys[0], keys[1], keys[2], keys[3]]),
            flags,
            directory,
        }
    }

    fn page(&self, random: &mut Random) -> u64 {
        let mut flags = flag::PRESENT | flag::WRITABLE | flag::ACCESSED | flag::DIRTY;
        let for_user = match self.ring() {
            Ring::User => random.below(32) != 0,
            Ring::Kernel => random.below(4) == 0,
        };
        if for_user {
            flags |= flag::USER;
        }
        for (bit, of) in [(flag::PRESENT, 32), (flag::WRITABLE, 12), (flag::ACCESSED, 4), (flag::DIRTY, 4)] {
            if random.below(of) == 0 {
                flags &= !bit;
            }
        }
        if !self.paging.is_legacy() && random.below(8) == 0 {
            flags |= NO_EXECUTE;
        }
        if matches!(self.paging, Paging::FourLevel | Paging::FourLevelLarge) && random.below(2) == 0 {
            flags |= random.below(4) << KEY_SHIFT;
        }
        if random.below(48) == 0 {
            flags |= match self.paging {
                Paging::Off | Paging::Legacy | Paging::LegacyExtended => 0,
                // Reserved: above the physical address, or in the offset of a large page.
                Paging::LegacyLarge => 1 << 21,
                Paging::PaeLarge | Paging::FourLevelLarge => 1 << 13,
                Paging::Pae => 1 << 59,
                Paging::FourLevel => 1 << 51,
            };
        }
        flags
    }
}
