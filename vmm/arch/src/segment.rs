//! Segment and descriptor-table registers with their hidden parts.
//!
//! SDM Vol. 3C, "Guest Register State": the access-rights layout is the VMCS's.

/// A segment register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentRegister {
    /// ES.
    Es,
    /// CS.
    Cs,
    /// SS.
    Ss,
    /// DS.
    Ds,
    /// FS.
    Fs,
    /// GS.
    Gs,
    /// LDTR.
    Ldtr,
    /// TR.
    Tr,
}

impl SegmentRegister {
    /// All eight, in the order of the VMCS encodings.
    pub const ALL: [Self; 8] =
        [Self::Es, Self::Cs, Self::Ss, Self::Ds, Self::Fs, Self::Gs, Self::Ldtr, Self::Tr];
}

/// A segment register: selector and hidden part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// The visible selector.
    pub selector: u16,
    /// Base, a linear address in bytes.
    pub base: u64,
    /// Limit in bytes, after granularity was applied.
    pub limit: u32,
    /// Access rights: bits 3:0 type, 4 S, 6:5 DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G, 16 unusable.
    pub access_rights: u32,
}

impl Segment {
    /// The bit of the access rights that marks an unusable segment.
    pub const UNUSABLE: u32 = 1 << 16;

    /// A null, unusable segment.
    pub const fn unusable() -> Self {
        Self { selector: 0, base: 0, limit: 0, access_rights: Self::UNUSABLE }
    }

    /// Descriptor privilege level, 0 to 3.
    pub const fn dpl(&self) -> u8 {
        ((self.access_rights >> 5) & 3) as u8
    }

    /// Whether the L bit marks 64-bit code.
    pub const fn is_long(&self) -> bool {
        self.access_rights & (1 << 13) != 0
    }

    /// Whether the D/B bit selects 32-bit operands.
    pub const fn is_default_32(&self) -> bool {
        self.access_rights & (1 << 14) != 0
    }

    /// Whether the segment cannot be used at all.
    pub const fn is_unusable(&self) -> bool {
        self.access_rights & Self::UNUSABLE != 0
    }
}

/// GDTR or IDTR.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TableRegister {
    /// Base, a linear address in bytes.
    pub base: u64,
    /// Limit: the table's size in bytes less one.
    pub limit: u16,
}
