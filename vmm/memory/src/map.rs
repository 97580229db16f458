//! The map of a guest's RAM: disjoint regions, each backed by one block of host memory.

use crate::chunk_index::ChunkIndex;
use crate::{ExpectedWord, GuestMemory, OutsideRam};
use alloc::vec::Vec;
use arch::Gpa;

/// A block of host memory that backs guest RAM. Copies may race with the running guest; the implementation
/// makes that harmless.
pub trait Block {
    /// The block's size in bytes.
    fn size(&self) -> u64;

    /// Copies from the block at `offset`; the caller has checked that the copy lies inside.
    fn copy_out(&self, offset: u64, into: &mut [u8]);

    /// Reads the little-endian word at `offset`, `None` if it does not lie inside or is not aligned: what walks of page
    /// tables are made of.
    fn aligned_u64(&self, offset: u64) -> Option<u64>;

    /// Copies to the block at `offset`; the caller has checked that the copy lies inside.
    fn copy_in(&self, offset: u64, from: &[u8]);

    /// Puts `value` at `offset` and returns what was there, atomically; the caller has checked that the byte lies
    /// inside.
    fn swap_u8(&self, offset: u64, value: u8) -> u8;

    /// Puts `new` at `offset` if `current` is there, atomically, and returns whether it was; the caller has checked
    /// that the word lies inside, and that `offset` is a multiple of its size. Blocks begin aligned for any word.
    fn compare_exchange_u32(&self, offset: u64, current: u32, new: u32) -> bool;

    /// [`Self::compare_exchange_u32`] with a 64-bit word.
    fn compare_exchange_u64(&self, offset: u64, current: u64, new: u64) -> bool;
}

/// One stretch of guest RAM.
#[derive(Debug)]
pub struct Region<B> {
    base: Gpa,
    /// The block's size, kept beside the base for the search.
    size: u64,
    block: B,
}

impl<B: Block> Region<B> {
    /// The region's first guest-physical address.
    pub fn base(&self) -> Gpa {
        self.base
    }

    /// The region's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The host memory behind the region.
    pub fn block(&self) -> &B {
        &self.block
    }
}

/// Why a region was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// It overlaps the region at this address.
    Overlaps(Gpa),
    /// It is empty or runs past the end of the address space.
    BadExtent,
}

/// Guest RAM as a sorted list of disjoint regions.
#[derive(Debug)]
pub struct MemoryMap<B> {
    regions: Vec<Region<B>>,
    index: ChunkIndex,
}

impl<B: Block> Default for MemoryMap<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Block> MemoryMap<B> {
    /// A map without RAM.
    pub const fn new() -> Self {
        Self { regions: Vec::new(), index: ChunkIndex::new() }
    }

    /// Adds `block` at `base`.
    ///
    /// # Errors
    /// [`MapError`] when the extent is empty, wraps, or overlaps a region.
    pub fn add(&mut self, base: Gpa, block: B) -> Result<(), MapError> {
        let size = block.size();
        let end = base.checked_add(size).ok_or(MapError::BadExtent)?;
        if end == base {
            return Err(MapError::BadExtent);
        }
        let position = self.regions.partition_point(|region| region.base < base);
        if let Some(next) = self.regions.get(position)
            && next.base < end
        {
            return Err(MapError::Overlaps(next.base));
        }
        if let Some(previous) = position.checked_sub(1).and_then(|index| self.regions.get(index))
            && previous.base + previous.size() > base
        {
            return Err(MapError::Overlaps(previous.base));
        }
        let is_last = position == self.regions.len();
        self.regions.insert(position, Region { base, size, block });
        if is_last {
            self.index.record(position, base, size);
        } else {
            // The regions after it have moved on.
            self.index.clear();
            for (position, region) in self.regions.iter().enumerate() {
                self.index.record(position, region.base, region.size);
            }
        }
        Ok(())
    }

    /// The regions, in order of address.
    pub fn regions(&self) -> &[Region<B>] {
        &self.regions
    }

    /// All RAM, in bytes.
    pub fn size(&self) -> u64 {
        self.regions.iter().map(Region::size).sum()
    }

    /// Calls `visit` with each region's piece of `length` bytes at `gpa`: how far from `gpa` it is, its block, the offset
    /// in that, and its length.
    ///
    /// # Errors
    /// [`OutsideRam`] when any byte is not RAM; `visit` may have been called for those before it.
    pub fn visit(
        &self,
        gpa: Gpa,
        length: u64,
        mut visit: impl FnMut(u64, &B, u64, u64),
    ) -> Result<(), OutsideRam> {
        let outside = OutsideRam { gpa, length };
        let mut done = 0;
        while done < length {
            let at = gpa.checked_add(done).ok_or(outside)?;
            let (region, offset) = self.locate(at).ok_or(outside)?;
            let piece = (region.size() - offset).min(length - done);
            visit(done, &region.block, offset, piece);
            done += piece;
        }
        Ok(())
    }

    /// The region that holds `gpa`, and the offset in it.
    #[inline]
    fn locate(&self, gpa: Gpa) -> Option<(&Region<B>, u64)> {
        if let Some(region) = self.regions.get(self.index.position(gpa)) {
            // Below the region the distance wraps and is past any size.
            let offset = gpa - region.base;
            if offset < region.size {
                return Some((region, offset));
            }
        }
        self.search(gpa)
    }

    /// [`Self::locate`] among all regions.
    #[cold]
    fn search(&self, gpa: Gpa) -> Option<(&Region<B>, u64)> {
        let index = self.regions.partition_point(|region| region.base <= gpa).checked_sub(1)?;
        let region = self.regions.get(index)?;
        let offset = gpa - region.base;
        (offset < region.size).then_some((region, offset))
    }

    /// The region that holds the aligned word of `length` bytes at `gpa`, and the offset in it.
    fn locate_word(&self, gpa: Gpa, length: u64) -> Result<(&Region<B>, u64), OutsideRam> {
        self.locate(gpa)
            .filter(|(region, offset)| offset.is_multiple_of(length) && region.size - offset >= length)
            .ok_or(OutsideRam { gpa, length })
    }

    /// Calls `copy` with each piece of `length` bytes at `gpa`: block, offset in the block, range in the buffer.
    fn for_each_piece(
        &self,
        gpa: Gpa,
        length: usize,
        mut copy: impl FnMut(&B, u64, core::ops::Range<usize>),
    ) -> Result<(), OutsideRam> {
        let outside = OutsideRam { gpa, length: length as u64 };
        let mut done = 0;
        while done < length {
            let at = gpa.checked_add(done as u64).ok_or(outside)?;
            let (region, offset) = self.locate(at).ok_or(outside)?;
            let rest = usize::try_from(region.size() - offset).unwrap_or(usize::MAX);
            let piece = rest.min(length - done);
            copy(&region.block, offset, done..done + piece);
            done += piece;
        }
        Ok(())
    }
}

impl<B: Block> MemoryMap<B> {
    /// Copies out `N` bytes that lie in one region: the short way for words. `None` if they do not.
    #[inline]
    fn read_word<const N: usize>(&self, gpa: Gpa) -> Option<[u8; N]> {
        let (region, offset) = self.locate(gpa)?;
        let mut bytes = [0; N];
        (region.size() - offset >= N as u64).then(|| {
            region.block.copy_out(offset, &mut bytes);
            bytes
        })
    }

    /// The aligned word at `gpa`, if it is in the region that the index knows.
    #[inline]
    fn aligned_u64(&self, gpa: Gpa) -> Option<u64> {
        let region = self.regions.get(self.index.position(gpa))?;
        // Below the region the distance wraps and is past any size.
        region.block.aligned_u64(gpa - region.base)
    }

    /// The region that holds `gpa`.
    #[cold]
    fn region_of(&self, gpa: Gpa) -> Option<&Region<B>> {
        self.locate(gpa).map(|(region, _)| region)
    }

    /// [`GuestMemory::holds`] where the index knows nothing.
    #[cold]
    fn holds_anywhere(&self, words: &[ExpectedWord]) -> bool {
        words.iter().all(|expected| {
            let aligned = self
                .region_of(expected.gpa)
                .and_then(|region| region.block.aligned_u64(expected.gpa - region.base));
            aligned.is_some_and(|word| expected.is_met_by(word))
        })
    }

    /// Any word.
    #[cold]
    #[inline(never)]
    fn any_u64(&self, gpa: Gpa) -> Result<u64, OutsideRam> {
        match self.read_word(gpa) {
            Some(word) => Ok(u64::from_le_bytes(word)),
            None => self.read_split_word(gpa).map(u64::from_le_bytes),
        }
    }

    /// Copies out `N` bytes that lie in no single region.
    #[cold]
    fn read_split_word<const N: usize>(&self, gpa: Gpa) -> Result<[u8; N], OutsideRam> {
        let mut bytes = [0; N];
        self.read(gpa, &mut bytes)?;
        Ok(bytes)
    }
}

impl<B: Block> GuestMemory for MemoryMap<B> {
    #[inline]
    fn read_u32(&self, gpa: Gpa) -> Result<u32, OutsideRam> {
        match self.read_word(gpa) {
            Some(word) => Ok(u32::from_le_bytes(word)),
            None => self.read_split_word(gpa).map(u32::from_le_bytes),
        }
    }

    #[inline]
    fn read_u64(&self, gpa: Gpa) -> Result<u64, OutsideRam> {
        match self.aligned_u64(gpa) {
            Some(word) => Ok(word),
            None => self.any_u64(gpa),
        }
    }

    #[inline]
    fn holds(&self, words: &[ExpectedWord]) -> bool {
        let Some(first) = words.first() else { return true };
        // Words that are looked at together mostly lie together, so the region of one is tried for the next.
        let Some(mut region) = self.regions.get(self.index.position(first.gpa)) else {
            return self.holds_anywhere(words);
        };
        words.iter().all(|expected| {
            // Below the region the distance wraps and is past any size.
            let word = match region.block.aligned_u64(expected.gpa - region.base) {
                Some(word) => Some(word),
                None => self.region_of(expected.gpa).and_then(|other| {
                    region = other;
                    region.block.aligned_u64(expected.gpa - region.base)
                }),
            };
            word.is_some_and(|word| expected.is_met_by(word))
        })
    }

    fn read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), OutsideRam> {
        self.for_each_piece(gpa, into.len(), |block, offset, range| {
            if let Some(piece) = into.get_mut(range) {
                block.copy_out(offset, piece);
            }
        })
    }

    fn write(&self, gpa: Gpa, from: &[u8]) -> Result<(), OutsideRam> {
        self.for_each_piece(gpa, from.len(), |block, offset, range| {
            if let Some(piece) = from.get(range) {
                block.copy_in(offset, piece);
            }
        })
    }

    fn swap_u8(&self, gpa: Gpa, value: u8) -> Result<u8, OutsideRam> {
        let (region, offset) = self.locate(gpa).ok_or(OutsideRam { gpa, length: 1 })?;
        Ok(region.block.swap_u8(offset, value))
    }

    fn compare_exchange_u32(&self, gpa: Gpa, current: u32, new: u32) -> Result<bool, OutsideRam> {
        let (region, offset) = self.locate_word(gpa, 4)?;
        Ok(region.block.compare_exchange_u32(offset, current, new))
    }

    fn compare_exchange_u64(&self, gpa: Gpa, current: u64, new: u64) -> Result<bool, OutsideRam> {
        let (region, offset) = self.locate_word(gpa, 8)?;
        Ok(region.block.compare_exchange_u64(offset, current, new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VecBlock;

    fn map() -> MemoryMap<VecBlock> {
        let mut map = MemoryMap::new();
        map.add(Gpa::new(0x10_0000), VecBlock::new(0x1000)).expect("free");
        map.add(Gpa::new(0), VecBlock::new(0x2000)).expect("free");
        map.add(Gpa::new(0x2000), VecBlock::new(0x1000)).expect("free");
        map
    }

    #[test]
    fn regions_are_kept_in_order_and_summed() {
        let map = map();
        let bases: Vec<u64> = map.regions().iter().map(|region| region.base().get()).collect();
        assert_eq!(bases, [0, 0x2000, 0x10_0000]);
        assert_eq!(map.size(), 0x4000);
    }

    #[test]
    fn overlap_is_refused_on_both_sides() {
        let mut map = map();
        assert_eq!(map.add(Gpa::new(0x1fff), VecBlock::new(1)), Err(MapError::Overlaps(Gpa::new(0))));
        assert_eq!(
            map.add(Gpa::new(0xf_f000), VecBlock::new(0x1001)),
            Err(MapError::Overlaps(Gpa::new(0x10_0000)))
        );
        assert_eq!(map.add(Gpa::new(0x5000), VecBlock::new(0)), Err(MapError::BadExtent));
        assert_eq!(map.add(Gpa::new(u64::MAX), VecBlock::new(2)), Err(MapError::BadExtent));
    }

    #[test]
    fn a_copy_crosses_regions_that_touch() {
        let map = map();
        map.write(Gpa::new(0x1ffe), &[1, 2, 3, 4]).expect("RAM");
        assert_eq!(map.read_u32(Gpa::new(0x1ffe)), Ok(0x0403_0201));
    }

    #[test]
    fn every_region_is_found_among_many() {
        let mut map = MemoryMap::new();
        // Out of order, so that regions move in the list.
        for index in [4, 5, 6, 0, 1, 8, 2, 3, 7_u64] {
            let size = 0x1000 << (index % 3);
            map.add(Gpa::new(index * 0xf_0000), VecBlock::new(size)).expect("free");
        }
        for index in 0..9_u64 {
            let (first, last) = (index * 0xf_0000, index * 0xf_0000 + (0x1000 << (index % 3)) - 8);
            map.write_u64(Gpa::new(first), index).expect("RAM");
            map.write_u64(Gpa::new(last), !index).expect("RAM");
            assert_eq!(map.read_u64(Gpa::new(first)), Ok(index));
            assert_eq!(map.read_u64(Gpa::new(last)), Ok(!index));
            assert!(map.read_u64(Gpa::new(last + 8)).is_err());
        }
    }

    #[test]
    fn ram_far_up_is_found_too() {
        let mut map = MemoryMap::new();
        for base in [1 << 45, (1 << 36) - 0x1000, u64::MAX - 0xffff] {
            map.add(Gpa::new(base), VecBlock::new(0x2000)).expect("free");
        }
        for base in [1 << 45, (1 << 36) - 0x1000, u64::MAX - 0xffff] {
            for at in [base, base + 0x1ff8] {
                map.write_u64(Gpa::new(at), at).expect("RAM");
                assert_eq!(map.read_u64(Gpa::new(at)), Ok(at));
            }
            assert!(map.read_u64(Gpa::new(base + 0x2000)).is_err());
        }
    }

    #[test]
    fn words_are_read_inside_a_region_and_across_two() {
        let map = map();
        map.write(Gpa::new(0x1ff8), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]).expect("RAM");
        assert_eq!(map.read_u64(Gpa::new(0x1ff8)), Ok(0x0807_0605_0403_0201));
        assert_eq!(map.read_u64(Gpa::new(0x1ffa)), Ok(0x0a09_0807_0605_0403));
        assert_eq!(map.read_u32(Gpa::new(0x1ffc)), Ok(0x0807_0605));
        assert_eq!(map.read_u32(Gpa::new(0x1ffd)), Ok(0x0908_0706));
    }

    #[test]
    fn words_are_compared_where_they_lie_and_under_their_masks() {
        let map = map();
        map.write_u64(Gpa::new(0x1ff8), 0x1111_2222_3333_4444).expect("RAM");
        map.write_u64(Gpa::new(0x2000), 5).expect("RAM");
        map.write_u64(Gpa::new(0x10_0000), 6).expect("RAM");
        let word = |gpa, value, mask| ExpectedWord { gpa: Gpa::new(gpa), value, mask };
        let words = [
            word(0x10_0000, 6, u64::MAX),
            word(0x1ff8, 0x2222_0000_0000, 0xffff_0000_0000),
            word(0x2000, 5, u64::MAX),
        ];
        assert!(map.holds(&words));
        assert!(map.holds(&[]));
        for index in 0..words.len() {
            let mut other = words;
            other[index].value ^= 1 << 32;
            assert!(!map.holds(&other), "{index}");
        }
        assert!(!map.holds(&[words[0], word(0x3000, 0, 0)]), "not RAM");
        assert!(!map.holds(&[word(u64::MAX - 7, 0, 0)]), "not RAM");
        assert!(!map.holds(&[word(0x1004, 0, 0)]), "not aligned");
        let mut high = MemoryMap::new();
        high.add(Gpa::new(1 << 45), VecBlock::new(0x1000)).expect("free");
        high.write_u64(Gpa::new(1 << 45), 7).expect("RAM");
        assert!(high.holds(&[word(1 << 45, 7, u64::MAX)]), "past the index");
        assert!(!high.holds(&[word(1 << 45, 6, u64::MAX)]));
    }

    #[test]
    fn a_swap_returns_what_was_there_and_touches_one_byte() {
        let map = map();
        map.write_u32(Gpa::new(0x1ffe), 0x4433_2211).expect("RAM");
        assert_eq!(map.swap_u8(Gpa::new(0x2000), 0xee), Ok(0x33));
        assert_eq!(map.read_u32(Gpa::new(0x1ffe)), Ok(0x44ee_2211));
        assert_eq!(map.swap_u8(Gpa::new(0x2fff), 1), Ok(0), "the last byte of a region");
    }

    #[test]
    fn a_swap_outside_of_ram_fails() {
        let map = map();
        for gpa in [0x3000, 0xf_ffff, 0x10_1000, u64::MAX] {
            let gpa = Gpa::new(gpa);
            assert_eq!(map.swap_u8(gpa, 1), Err(OutsideRam { gpa, length: 1 }));
        }
    }

    #[test]
    fn a_word_is_exchanged_only_if_it_is_as_expected() {
        let map = map();
        map.write_u64(Gpa::new(0x1ff8), 5).expect("RAM");
        assert_eq!(map.compare_exchange_u64(Gpa::new(0x1ff8), 4, 6), Ok(false));
        assert_eq!(map.read_u64(Gpa::new(0x1ff8)), Ok(5));
        assert_eq!(map.compare_exchange_u64(Gpa::new(0x1ff8), 5, 0x1_0000_0006), Ok(true));
        assert_eq!(map.compare_exchange_u32(Gpa::new(0x1ffc), 1, 2), Ok(true));
        assert_eq!(map.read_u64(Gpa::new(0x1ff8)), Ok(0x2_0000_0006));
    }

    #[test]
    fn only_an_aligned_word_of_ram_is_exchanged() {
        let map = map();
        for gpa in [0x1ffc_u64, 0x1001, 0x3000, 0x10_0ffc, u64::MAX] {
            let gpa = Gpa::new(gpa);
            assert_eq!(map.compare_exchange_u64(gpa, 0, 1), Err(OutsideRam { gpa, length: 8 }));
        }
        let gpa = Gpa::new(0x102);
        assert_eq!(map.compare_exchange_u32(gpa, 0, 1), Err(OutsideRam { gpa, length: 4 }));
    }

    #[test]
    fn a_copy_that_leaves_ram_fails() {
        let map = map();
        let expected = OutsideRam { gpa: Gpa::new(0x2ffc), length: 8 };
        assert_eq!(map.read_u64(Gpa::new(0x2ffc)), Err(expected));
        assert!(map.read_u64(Gpa::new(u64::MAX - 3)).is_err());
    }
}
