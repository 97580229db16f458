//! The levels of a four-level walk, the leaves they may hold, and the pieces into which they cut a range.
//!
//! SDM Vol. 3C, "EPT Translation Mechanism"; the AMD64 nested tables have the same geometry.

/// The first guest-physical address that a four-level walk cannot translate.
pub(crate) const ADDRESS_END: u64 = 1 << 48;

/// How many entries a table has.
pub(crate) const ENTRIES: usize = 512;

/// Size of a leaf.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LeafSize {
    /// 4 KiB.
    Size4K,
    /// 2 MiB.
    Size2M,
    /// 1 GiB.
    Size1G,
}

impl LeafSize {
    /// The size in bytes.
    #[inline]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Size4K => 1 << 12,
            Self::Size2M => 1 << 21,
            Self::Size1G => 1 << 30,
        }
    }
}

/// A level of the walk, by what one entry of it covers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// The root (PML4): an entry covers 512 GiB and is never a leaf.
    Root,
    /// The page-directory-pointer table: an entry covers 1 GiB.
    Directories,
    /// The page directory: an entry covers 2 MiB.
    Directory,
    /// The page table: an entry covers 4 KiB and is never a pointer.
    Pages,
}

impl Level {
    const fn shift(self) -> u32 {
        match self {
            Self::Root => 39,
            Self::Directories => 30,
            Self::Directory => 21,
            Self::Pages => 12,
        }
    }

    /// Bytes that one entry covers.
    #[inline]
    pub const fn span(self) -> u64 {
        1 << self.shift()
    }

    /// The level that entries of this one point to.
    #[inline]
    pub const fn below(self) -> Option<Self> {
        match self {
            Self::Root => Some(Self::Directories),
            Self::Directories => Some(Self::Directory),
            Self::Directory => Some(Self::Pages),
            Self::Pages => None,
        }
    }

    /// The size of this level's leaves.
    #[inline]
    pub const fn leaf_size(self) -> Option<LeafSize> {
        match self {
            Self::Root => None,
            Self::Directories => Some(LeafSize::Size1G),
            Self::Directory => Some(LeafSize::Size2M),
            Self::Pages => Some(LeafSize::Size4K),
        }
    }

    /// The index of the entry for `address`.
    #[inline]
    pub(crate) const fn index(self, address: u64) -> usize {
        ((address >> self.shift()) & 0x1ff) as usize
    }

    /// Cuts `span` at the borders of this level's entries. The span must lie within one table of this level.
    pub(crate) fn pieces(self, span: Span) -> impl Iterator<Item = (usize, Span)> {
        let mut start = span.start;
        core::iter::from_fn(move || {
            if start >= span.end {
                return None;
            }
            let border = (start & !(self.span() - 1)) + self.span();
            let piece = Span { start, end: border.min(span.end) };
            start = piece.end;
            Some((self.index(piece.start), piece))
        })
    }
}

/// Guest-physical addresses from `start` up to, not including, `end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Span {
    /// Everything that a four-level walk can translate.
    pub(crate) const ALL: Self = Self { start: 0, end: ADDRESS_END };

    /// Whether this piece covers its whole entry of `level`.
    pub(crate) const fn fills(self, level: Level) -> bool {
        self.end - self.start == level.span()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_at_entry_borders() {
        let span = Span { start: 0x1f_f000, end: 0x60_1000 };
        let pieces: Vec<_> = Level::Directory.pieces(span).collect();
        assert_eq!(
            pieces,
            [
                (0, Span { start: 0x1f_f000, end: 0x20_0000 }),
                (1, Span { start: 0x20_0000, end: 0x40_0000 }),
                (2, Span { start: 0x40_0000, end: 0x60_0000 }),
                (3, Span { start: 0x60_0000, end: 0x60_1000 }),
            ]
        );
        assert!(pieces[1].1.fills(Level::Directory));
        assert!(!pieces[0].1.fills(Level::Directory));
    }

    #[test]
    fn the_last_entry_ends_at_the_last_address() {
        let pieces: Vec<_> =
            Level::Root.pieces(Span { start: ADDRESS_END - 4096, end: ADDRESS_END }).collect();
        assert_eq!(pieces, [(511, Span { start: ADDRESS_END - 4096, end: ADDRESS_END })]);
    }
}
