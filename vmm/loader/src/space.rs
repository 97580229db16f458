//! Which guest-physical memory below 4 GiB is still free while a guest is put together: kernel, modules and boot
//! information each take a piece, and no two get the same.

use crate::layout::{CONVENTIONAL_END, HIGH_MEMORY, MemoryLayout};
use crate::{Image, LoadError};
use alloc::vec::Vec;
use arch::{Gpa, PAGE_SIZE};

/// A range of addresses: the first, and the first past it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Range {
    start: u64,
    end: u64,
}

impl Range {
    const fn bytes(self) -> u64 {
        self.end - self.start
    }
}

/// RAM below 4 GiB with what is taken of it.
#[derive(Debug)]
pub(crate) struct Space {
    low_end: Gpa,
    memory_bytes: u64,
    /// In order, none empty, no two overlapping.
    taken: Vec<Range>,
}

/// There is no room: the largest free piece, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoRoom(pub(crate) u64);

impl Space {
    /// All RAM below 4 GiB, but for the video memory and the firmware tables from 640 KiB to 1 MiB.
    pub(crate) fn new(layout: &MemoryLayout) -> Self {
        let firmware = Range { start: CONVENTIONAL_END.get(), end: HIGH_MEMORY.get() };
        Self { low_end: layout.low_end(), memory_bytes: layout.total_bytes(), taken: [firmware].into() }
    }

    /// Takes `start` to `end` for a part of the kernel `file`, where the file wants it.
    ///
    /// # Errors
    /// [`LoadError`] when that is not free RAM.
    pub(crate) fn claim(&mut self, file: Image<'_>, start: Gpa, end: u64) -> Result<(), LoadError> {
        let range = Range { start: start.get(), end };
        if range.start >= range.end {
            return Ok(());
        }
        let name = || file.name.into();
        if end > self.low_end.get() {
            return Err(LoadError::KernelTooLarge { file: name(), end, memory_end: self.low_end });
        }
        if start < HIGH_MEMORY && end > CONVENTIONAL_END.get() {
            return Err(LoadError::KernelOverFirmware { file: name(), start, end: Gpa::new(end) });
        }
        let place = self.taken.partition_point(|taken| taken.end <= range.start);
        if self.taken.get(place).is_some_and(|next| next.start < range.end) {
            return Err(LoadError::PartsOverlap { file: name(), start, end: Gpa::new(end) });
        }
        self.taken.insert(place, range);
        Ok(())
    }

    /// Takes the lowest free `bytes` (at least 1) at a multiple of `alignment` from `from` to `limit`.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub(crate) fn lowest(
        &mut self,
        bytes: u64,
        alignment: u64,
        from: Gpa,
        limit: u64,
    ) -> Result<Gpa, NoRoom> {
        self.take(bytes, self.gaps(alignment, from.get(), limit), |gaps| gaps.next().map(|gap| gap.start))
    }

    /// The same at the highest such address.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub(crate) fn highest(
        &mut self,
        bytes: u64,
        alignment: u64,
        from: Gpa,
        limit: u64,
    ) -> Result<Gpa, NoRoom> {
        self.take(bytes, self.gaps(alignment, from.get(), limit), |gaps| {
            // The gap begins at a multiple, so rounding down stays inside of it.
            gaps.last().map(|gap| (gap.end - bytes) & !(alignment - 1))
        })
    }

    /// Takes the lowest pages from `from` on for the file of a module.
    ///
    /// # Errors
    /// [`LoadError::ModuleEmpty`], [`LoadError::ModuleTooLarge`].
    pub(crate) fn module(&mut self, file: Image<'_>, from: Gpa) -> Result<Gpa, LoadError> {
        let bytes = file.bytes.len() as u64;
        if bytes == 0 {
            return Err(LoadError::ModuleEmpty { file: file.name.into() });
        }
        self.lowest(bytes.next_multiple_of(PAGE_SIZE), PAGE_SIZE, from, u64::MAX)
            .or_else(|_| self.lowest(bytes.next_multiple_of(PAGE_SIZE), PAGE_SIZE, HIGH_MEMORY, u64::MAX))
            .map_err(|NoRoom(room)| LoadError::ModuleTooLarge {
                file: file.name.into(),
                bytes,
                room,
                memory: self.memory_bytes,
            })
    }

    fn take(
        &mut self,
        bytes: u64,
        gaps: Vec<Range>,
        choose: impl FnOnce(&mut dyn Iterator<Item = Range>) -> Option<u64>,
    ) -> Result<Gpa, NoRoom> {
        let room = gaps.iter().map(|gap| gap.bytes()).max().unwrap_or(0);
        let mut fitting = gaps.into_iter().filter(|gap| gap.bytes() >= bytes);
        let start = choose(&mut fitting).ok_or(NoRoom(room))?;
        let place = self.taken.partition_point(|taken| taken.end <= start);
        self.taken.insert(place, Range { start, end: start + bytes });
        Ok(Gpa::new(start))
    }

    /// What is free from `from` to `limit`, from the first multiple of `alignment` in each piece on.
    fn gaps(&self, alignment: u64, from: u64, limit: u64) -> Vec<Range> {
        let limit = limit.min(self.low_end.get());
        let starts = core::iter::once(0).chain(self.taken.iter().map(|taken| taken.end));
        let ends = self.taken.iter().map(|taken| taken.start).chain([limit]);
        starts
            .zip(ends)
            .filter_map(|(start, end)| {
                let start = start.max(from).checked_next_multiple_of(alignment)?;
                let end = end.min(limit);
                (start < end).then_some(Range { start, end })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arch::{KIB, MIB};
    use proptest::prelude::*;

    fn space(bytes: u64) -> Space {
        Space::new(&MemoryLayout::new(bytes).expect("a fair size"))
    }

    const FILE: Image<'static> = Image { name: "k", bytes: b"x" };

    #[test]
    fn pieces_go_around_what_is_taken() {
        let mut space = space(4 * MIB);
        space.claim(FILE, Gpa::new(MIB), 2 * MIB).expect("free");
        assert_eq!(space.lowest(PAGE_SIZE, PAGE_SIZE, Gpa::new(1), u64::MAX), Ok(Gpa::new(PAGE_SIZE)));
        assert_eq!(space.lowest(MIB, PAGE_SIZE, Gpa::new(0), u64::MAX), Ok(Gpa::new(2 * MIB)));
        assert_eq!(space.highest(10, PAGE_SIZE, Gpa::new(0), u64::MAX), Ok(Gpa::new(4 * MIB - PAGE_SIZE)));
        assert_eq!(space.highest(PAGE_SIZE, PAGE_SIZE, Gpa::new(0), MIB), Ok(Gpa::new(0x9_f000)));
        assert_eq!(space.lowest(MIB, 1, HIGH_MEMORY, u64::MAX), Err(NoRoom(MIB - PAGE_SIZE)));
    }

    #[test]
    fn parts_of_a_kernel_stay_in_free_ram() {
        let mut space = space(4 * MIB);
        space.claim(FILE, Gpa::new(MIB), 2 * MIB).expect("free");
        let claimed = |space: &mut Space, start: u64, end| space.claim(FILE, Gpa::new(start), end);
        assert!(matches!(claimed(&mut space, 2 * MIB - 1, 3 * MIB), Err(LoadError::PartsOverlap { .. })));
        assert!(matches!(claimed(&mut space, 0, 640 * KIB + 1), Err(LoadError::KernelOverFirmware { .. })));
        assert!(matches!(claimed(&mut space, 3 * MIB, 5 * MIB), Err(LoadError::KernelTooLarge { .. })));
        assert_eq!(claimed(&mut space, 2 * MIB, 4 * MIB), Ok(()));
        assert_eq!(claimed(&mut space, 0, 640 * KIB), Ok(()));
        assert_eq!(space.lowest(1, 1, Gpa::new(0), u64::MAX), Err(NoRoom(0)));
    }

    #[test]
    fn modules_follow_the_kernel_or_go_before_it() {
        let mut space = space(4 * MIB);
        let large = vec![0; 1024 * 1024];
        let large = Image { name: "m", bytes: &large };
        space.claim(FILE, Gpa::new(2 * MIB), 3 * MIB + 5).expect("free");
        assert_eq!(space.module(FILE, Gpa::new(3 * MIB + 5)), Ok(Gpa::new(3 * MIB + PAGE_SIZE)));
        assert_eq!(space.module(large, Gpa::new(3 * MIB)), Ok(Gpa::new(MIB)));
        let error = space.module(large, Gpa::new(3 * MIB)).expect_err("full");
        assert!(matches!(error, LoadError::ModuleTooLarge { bytes: MIB, memory: 0x40_0000, .. }));
        let nothing = Image { name: "m", bytes: b"" };
        assert!(matches!(space.module(nothing, HIGH_MEMORY), Err(LoadError::ModuleEmpty { .. })));
    }

    proptest! {
        #[test]
        fn no_two_pieces_overlap(
            wishes in prop::collection::vec((1_u64..MIB, 0_u32..15, any::<u32>(), any::<u32>(), 0..3), 1..30),
        ) {
            let mut space = space(3 * MIB);
            let mut given = vec![(CONVENTIONAL_END.get(), HIGH_MEMORY.get())];
            for (bytes, alignment, from, limit, how) in wishes {
                let alignment = 1 << alignment;
                let (from, limit) = (Gpa::new(u64::from(from) % (4 * MIB)), u64::from(limit) % (4 * MIB));
                let start = match how {
                    0 => space.lowest(bytes, alignment, from, limit).ok(),
                    1 => space.highest(bytes, alignment, from, limit).ok(),
                    _ => space.claim(FILE, from, from.get() + bytes).ok().map(|()| from),
                };
                let Some(start) = start else { continue };
                let end = start.get() + bytes;
                prop_assert!(end <= 3 * MIB && start >= from);
                prop_assert!(how == 2 || (start.is_aligned(alignment) && end <= limit));
                prop_assert!(given.iter().all(|&(other, other_end)| end <= other || other_end <= start.get()));
                given.push((start.get(), end));
            }
        }
    }
}
