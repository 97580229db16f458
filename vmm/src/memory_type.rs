//! Memory types: how MTRRs, PAT, CR0.CD and EPT make one.
//!
//! SDM Vol. 3A, "Memory Cache Control"; SDM Vol. 3C, "EPT and Memory Typing". A guest's MTRRs and PAT say what it believes
//! that a page is; what the processor does is decided by EPT alone, which Craton has ignore the PAT (ADR 0018).

use arch::{Cr0Flags, Gpa};

/// A memory type that a range of physical memory, or an EPT leaf, can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryType {
    /// UC.
    Uncacheable,
    /// WC.
    WriteCombining,
    /// WT.
    WriteThrough,
    /// WP.
    WriteProtected,
    /// WB.
    WriteBack,
}

impl MemoryType {
    /// The type with this encoding, `None` for reserved ones (SDM Vol. 3A, "Memory Types That Can Be Encoded in MTRRs").
    pub const fn from_encoding(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Uncacheable),
            1 => Some(Self::WriteCombining),
            4 => Some(Self::WriteThrough),
            5 => Some(Self::WriteProtected),
            6 => Some(Self::WriteBack),
            _ => None,
        }
    }

    /// The encoding in MTRRs, PAT and EPT.
    pub const fn encoding(self) -> u8 {
        match self {
            Self::Uncacheable => 0,
            Self::WriteCombining => 1,
            Self::WriteThrough => 4,
            Self::WriteProtected => 5,
            Self::WriteBack => 6,
        }
    }

    /// What overlapping variable ranges of two types are: UC wins, WT wins over WB (SDM Vol. 3A, "MTRR Precedences"). Other
    /// overlaps are not defined; they are UC here.
    pub const fn overlapped(self, other: Self) -> Self {
        match (self, other) {
            (Self::WriteCombining, Self::WriteCombining) => Self::WriteCombining,
            (Self::WriteProtected, Self::WriteProtected) => Self::WriteProtected,
            (Self::WriteBack, Self::WriteBack) => Self::WriteBack,
            (Self::WriteThrough, Self::WriteThrough | Self::WriteBack)
            | (Self::WriteBack, Self::WriteThrough) => Self::WriteThrough,
            (
                Self::Uncacheable
                | Self::WriteCombining
                | Self::WriteThrough
                | Self::WriteProtected
                | Self::WriteBack,
                _,
            ) => Self::Uncacheable,
        }
    }

    /// The effective type of a page whose range is of this type and whose PAT entry is `pat` (SDM Vol. 3A, "Effective
    /// Page-Level Memory Types for Pentium III and More Recent Processor Families").
    pub const fn with_pat(self, pat: PatType) -> Self {
        match (self, pat) {
            (_, PatType::Uncacheable) => Self::Uncacheable,
            (_, PatType::WriteCombining) => Self::WriteCombining,
            (Self::WriteCombining | Self::WriteProtected, PatType::UncacheableMinus) => Self::WriteCombining,
            (Self::Uncacheable | Self::WriteThrough | Self::WriteBack, PatType::UncacheableMinus) => {
                Self::Uncacheable
            }
            (Self::Uncacheable, PatType::WriteThrough | PatType::WriteProtected | PatType::WriteBack)
            | (Self::WriteCombining, PatType::WriteThrough | PatType::WriteProtected) => Self::Uncacheable,
            (Self::WriteCombining, PatType::WriteBack) => Self::WriteCombining,
            (Self::WriteThrough | Self::WriteProtected | Self::WriteBack, PatType::WriteThrough) => {
                Self::WriteThrough
            }
            (Self::WriteThrough | Self::WriteProtected | Self::WriteBack, PatType::WriteProtected) => {
                Self::WriteProtected
            }
            (Self::WriteThrough, PatType::WriteBack) => Self::WriteThrough,
            (Self::WriteProtected, PatType::WriteBack) => Self::WriteProtected,
            (Self::WriteBack, PatType::WriteBack) => Self::WriteBack,
        }
    }
}

/// A memory type that a page-attribute-table entry can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PatType {
    /// UC.
    Uncacheable,
    /// WC.
    WriteCombining,
    /// WT.
    WriteThrough,
    /// WP.
    WriteProtected,
    /// WB.
    WriteBack,
    /// UC-: UC, unless the range is WC.
    UncacheableMinus,
}

impl PatType {
    /// The type with this encoding, `None` for reserved ones (SDM Vol. 3A, "Memory Types That Can Be Encoded With PAT").
    pub const fn from_encoding(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Uncacheable),
            1 => Some(Self::WriteCombining),
            4 => Some(Self::WriteThrough),
            5 => Some(Self::WriteProtected),
            6 => Some(Self::WriteBack),
            7 => Some(Self::UncacheableMinus),
            _ => None,
        }
    }

    /// The type that the PAT register `pat` gives to pages whose bits PAT, PCD and PWT make `index`; `None` where WRMSR
    /// would have refused the register.
    pub const fn in_register(pat: u64, index: u8) -> Option<Self> {
        Self::from_encoding(pat.to_le_bytes()[(index & 7) as usize])
    }
}

/// What an EPT leaf says of the type of its memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EptType {
    /// The leaf's memory type, which takes the place of the MTRRs'.
    pub memory_type: MemoryType,
    /// Whether the guest's PAT counts.
    pub pat: PatRule,
}

/// An EPT leaf's "ignore PAT" bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PatRule {
    /// It is clear: the PAT is combined with the leaf's type.
    Combined,
    /// It is set.
    Ignored,
}

impl EptType {
    /// The type of an access through this leaf, as the processor's own CR0 and the guest's PAT entry are (SDM Vol. 3C,
    /// "Memory Type Used for Translated Guest-Physical Addresses"). MTRRs, the guest's or the host's, have no say.
    pub const fn effective(self, processor_cr0: Cr0Flags, pat: PatType) -> MemoryType {
        if processor_cr0.contains(Cr0Flags::CACHE_DISABLE) {
            return MemoryType::Uncacheable;
        }
        match self.pat {
            PatRule::Ignored => self.memory_type,
            PatRule::Combined => self.memory_type.with_pat(pat),
        }
    }
}

/// What an access without EPT would be of: the guest's own view, from its CR0, MTRRs and PAT.
pub fn guest_view(cr0: Cr0Flags, mtrrs: &crate::Mtrrs, gpa: Gpa, pat: PatType) -> MemoryType {
    if cr0.contains(Cr0Flags::CACHE_DISABLE) {
        MemoryType::Uncacheable
    } else {
        mtrrs.memory_type(gpa).with_pat(pat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MemoryType::{
        Uncacheable as UC, WriteBack as WB, WriteCombining as WC, WriteProtected as WP, WriteThrough as WT,
    };

    const ALL: [MemoryType; 5] = [UC, WC, WT, WP, WB];
    /// In the order of the columns below.
    const PAT: [PatType; 6] = [
        PatType::Uncacheable,
        PatType::UncacheableMinus,
        PatType::WriteCombining,
        PatType::WriteThrough,
        PatType::WriteBack,
        PatType::WriteProtected,
    ];
    /// SDM Vol. 3A, "Effective Page-Level Memory Types for Pentium III and More Recent Processor Families".
    const EFFECTIVE: [(MemoryType, [MemoryType; 6]); 5] = [
        (UC, [UC, UC, WC, UC, UC, UC]),
        (WC, [UC, WC, WC, UC, WC, UC]),
        (WT, [UC, UC, WC, WT, WT, WP]),
        (WB, [UC, UC, WC, WT, WB, WP]),
        (WP, [UC, WC, WC, WT, WP, WP]),
    ];

    #[test]
    fn ranges_and_pages_combine_as_the_manuals_table_says() {
        for (range, row) in EFFECTIVE {
            for (pat, expected) in PAT.into_iter().zip(row) {
                assert_eq!(range.with_pat(pat), expected, "{range:?} with {pat:?}");
            }
        }
    }

    #[test]
    fn encodings_are_the_manuals_and_nothing_else_is_one() {
        for value in 0..=255_u8 {
            let range = MemoryType::from_encoding(value);
            assert_eq!(range.is_some(), matches!(value, 0 | 1 | 4..=6), "{value}");
            assert!(range.is_none_or(|range| range.encoding() == value));
            assert_eq!(PatType::from_encoding(value).is_some(), matches!(value, 0 | 1 | 4..=7), "{value}");
        }
    }

    #[test]
    fn the_register_after_reset_is_wb_wt_uc_minus_uc_twice() {
        let reset = 0x0007_0406_0007_0406;
        let types =
            [PatType::WriteBack, PatType::WriteThrough, PatType::UncacheableMinus, PatType::Uncacheable];
        for index in 0..8 {
            assert_eq!(PatType::in_register(reset, index), Some(types[usize::from(index & 3)]));
        }
        assert_eq!(PatType::in_register(0x02, 0), None);
    }

    #[test]
    fn overlaps_follow_the_precedences_whatever_the_order() {
        for a in ALL {
            for b in ALL {
                let both = a.overlapped(b);
                assert_eq!(both, b.overlapped(a));
                let expected = match (a, b) {
                    _ if a == b => a,
                    (WT, WB) | (WB, WT) => WT,
                    _ => UC,
                };
                assert_eq!(both, expected, "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn ept_has_the_last_word_but_for_the_processors_cache_disable() {
        let on = Cr0Flags::empty();
        for memory_type in ALL {
            for pat in PAT {
                let ignored = EptType { memory_type, pat: PatRule::Ignored };
                assert_eq!(ignored.effective(on, pat), memory_type);
                let combined = EptType { memory_type, pat: PatRule::Combined };
                assert_eq!(combined.effective(on, pat), memory_type.with_pat(pat));
                assert_eq!(ignored.effective(Cr0Flags::CACHE_DISABLE, pat), UC);
            }
        }
    }
}
