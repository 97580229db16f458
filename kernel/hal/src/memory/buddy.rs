//! The buddy system: which frames are free, in blocks of 4 KiB to 1 GiB. Pure bookkeeping on frame numbers.
//!
//! Knuth, "The Art of Computer Programming", vol. 1, "Dynamic Storage Allocation": the buddy system.

/// log2 of the number of 4-KiB frames in a block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Order(u8);

impl Order {
    /// 4 KiB.
    pub const SMALL: Self = Self(0);
    /// 2 MiB.
    pub const LARGE: Self = Self(9);
    /// 1 GiB, the largest.
    pub const HUGE: Self = Self(18);
    /// How many orders there are.
    pub const COUNT: usize = 19;

    /// The order of 2^`log2_frames` frames, if it exists.
    pub const fn new(log2_frames: u8) -> Option<Self> {
        if log2_frames <= Self::HUGE.0 { Some(Self(log2_frames)) } else { None }
    }

    /// The smallest order that holds `bytes`, if one does.
    pub fn for_bytes(bytes: u64) -> Option<Self> {
        let frames = bytes.div_ceil(arch::PAGE_SIZE).max(1).checked_next_power_of_two()?;
        Self::new(u8::try_from(frames.trailing_zeros()).ok()?)
    }

    /// A block's size in frames.
    pub const fn frames(self) -> u32 {
        1 << self.0
    }

    /// A block's size in bytes.
    pub const fn bytes(self) -> u64 {
        arch::PAGE_SIZE << self.0
    }

    /// All orders, smallest first.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..=Self::HUGE.0).map(Self)
    }

    const fn index(self) -> usize {
        self.0 as usize
    }

    const fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }
}

/// No frame: ends a list.
const NONE: u32 = u32::MAX;
/// State of a frame that heads no block.
const INNER: u8 = 0;
/// Added to the order in the state of a free block's first frame.
const FREE: u8 = 0x40;
/// Added to the order in the state of a block that is handed out.
const TAKEN: u8 = 0x80;

/// What is remembered of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    next: u32,
    previous: u32,
    state: u8,
}

impl Frame {
    /// A frame that is not memory, or not ours.
    pub(crate) const ABSENT: Self = Self { next: NONE, previous: NONE, state: INNER };
}

/// The allocator's books over frames `0..frames.len()`.
#[derive(Debug)]
pub(crate) struct Buddy<'a> {
    frames: &'a mut [Frame],
    heads: [u32; Order::COUNT],
    free_blocks: [u32; Order::COUNT],
    total: u64,
    free: u64,
}

impl<'a> Buddy<'a> {
    /// Books without memory: [`add`](Self::add) brings it. `frames` must be all [`Frame::ABSENT`].
    pub(crate) fn new(frames: &'a mut [Frame]) -> Self {
        Self { frames, heads: [NONE; Order::COUNT], free_blocks: [0; Order::COUNT], total: 0, free: 0 }
    }

    /// Frames that were ever added.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Frames that are free now.
    pub(crate) fn free(&self) -> u64 {
        self.free
    }

    /// Free blocks of exactly `order`.
    pub(crate) fn free_blocks(&self, order: Order) -> u32 {
        self.free_blocks[order.index()]
    }

    /// Adds the frames `start..end` as free memory. They must not have been added before.
    pub(crate) fn add(&mut self, start: u32, end: u32) {
        let mut frame = start;
        while frame < end {
            let order = Order::all()
                .rev()
                .find(|order| frame.is_multiple_of(order.frames()) && end - frame >= order.frames())
                .unwrap_or(Order::SMALL);
            self.total += u64::from(order.frames());
            self.merge(frame, order);
            frame += order.frames();
        }
    }

    /// Takes a block; its first frame's number is a multiple of the block's size. `None` when no block is large enough.
    pub(crate) fn take(&mut self, order: Order) -> Option<u32> {
        let mut found = Order::all().find(|&o| o >= order && self.heads[o.index()] != NONE)?;
        let frame = self.heads[found.index()];
        self.unlink(frame, found);
        while found > order {
            found = Order(found.0 - 1);
            self.link(frame + found.frames(), found);
        }
        self.frames[frame as usize].state = TAKEN | order.0;
        Some(frame)
    }

    /// Gives a block back. Panics when `frame` is not the first frame of a block of this order that was taken:
    /// a block was returned twice.
    pub(crate) fn give(&mut self, frame: u32, order: Order) {
        assert!(
            self.frames[frame as usize].state == TAKEN | order.0,
            "frame {frame:#x} of order {} was returned but is not taken",
            order.0
        );
        self.merge(frame, order);
    }

    /// Frees a block and joins it with its buddies as far as they are free.
    fn merge(&mut self, mut frame: u32, mut order: Order) {
        while let Some(larger) = order.next() {
            let buddy = frame ^ order.frames();
            let joins = self.frames.get(buddy as usize).is_some_and(|b| b.state == FREE | order.0);
            if !joins {
                break;
            }
            self.unlink(buddy, order);
            self.frames[frame as usize].state = INNER;
            frame &= !order.frames();
            order = larger;
        }
        self.link(frame, order);
    }

    fn link(&mut self, frame: u32, order: Order) {
        let head = self.heads[order.index()];
        self.frames[frame as usize] = Frame { next: head, previous: NONE, state: FREE | order.0 };
        if head != NONE {
            self.frames[head as usize].previous = frame;
        }
        self.heads[order.index()] = frame;
        self.free_blocks[order.index()] += 1;
        self.free += u64::from(order.frames());
    }

    fn unlink(&mut self, frame: u32, order: Order) {
        let Frame { next, previous, .. } = self.frames[frame as usize];
        match previous {
            NONE => self.heads[order.index()] = next,
            _ => self.frames[previous as usize].next = next,
        }
        if next != NONE {
            self.frames[next as usize].previous = previous;
        }
        self.frames[frame as usize].state = INNER;
        self.free_blocks[order.index()] -= 1;
        self.free -= u64::from(order.frames());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(buddy: &Buddy<'_>) -> Vec<(u8, u32)> {
        Order::all().map(|o| (o.0, buddy.free_blocks(o))).filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn memory_is_added_in_the_largest_aligned_blocks() {
        let mut frames = vec![Frame::ABSENT; 2048];
        let mut buddy = Buddy::new(&mut frames);
        buddy.add(1, 1024 + 512);
        assert_eq!(buddy.total(), 1535);
        assert_eq!(buddy.free(), 1535);
        let expected: Vec<(u8, u32)> = (0..9).map(|order| (order, 1)).chain([(9, 2)]).collect();
        assert_eq!(blocks(&buddy), expected);
    }

    #[test]
    fn ranges_that_touch_join() {
        let mut frames = vec![Frame::ABSENT; 1024];
        let mut buddy = Buddy::new(&mut frames);
        buddy.add(0, 300);
        buddy.add(300, 1024);
        assert_eq!(blocks(&buddy), [(10, 1)]);
    }

    #[test]
    fn blocks_are_disjoint_aligned_and_all_come_back() {
        let mut frames = vec![Frame::ABSENT; 4096];
        let mut buddy = Buddy::new(&mut frames);
        buddy.add(3, 4090);
        let before = blocks(&buddy);
        let mut taken: Vec<(u32, Order)> = Vec::new();
        let mut used = vec![false; 4096];
        for step in 0_u8.. {
            let order = Order(step % 7);
            let Some(frame) = buddy.take(order) else { break };
            assert!(frame.is_multiple_of(order.frames()));
            for index in frame..frame + order.frames() {
                assert!((3..4090).contains(&index));
                assert!(
                    !core::mem::replace(&mut used[index as usize], true),
                    "frame {index} handed out twice"
                );
            }
            taken.push((frame, order));
        }
        // Give back in an order that is neither the one of taking nor its reverse.
        taken.sort_by_key(|(frame, _)| frame.wrapping_mul(2_654_435_761));
        for (frame, order) in taken {
            buddy.give(frame, order);
        }
        assert_eq!(blocks(&buddy), before);
        assert_eq!(buddy.free(), buddy.total());
    }

    #[test]
    fn a_request_beyond_the_largest_block_fails() {
        let mut frames = vec![Frame::ABSENT; 1024];
        let mut buddy = Buddy::new(&mut frames);
        buddy.add(0, 512);
        assert_eq!(buddy.take(Order(10)), None);
        assert_eq!(buddy.take(Order::LARGE), Some(0));
        assert_eq!(buddy.take(Order::SMALL), None);
    }

    #[test]
    #[should_panic(expected = "is not taken")]
    fn a_block_returned_twice_is_our_bug() {
        let mut frames = vec![Frame::ABSENT; 16];
        let mut buddy = Buddy::new(&mut frames);
        buddy.add(0, 16);
        let frame = buddy.take(Order::SMALL).expect("free");
        buddy.give(frame, Order::SMALL);
        buddy.give(frame, Order::SMALL);
    }

    #[test]
    fn orders_are_chosen_by_size() {
        assert_eq!(Order::for_bytes(1), Some(Order::SMALL));
        assert_eq!(Order::for_bytes(4097), Some(Order(1)));
        assert_eq!(Order::for_bytes(2 << 20), Some(Order::LARGE));
        assert_eq!(Order::for_bytes(1 << 30), Some(Order::HUGE));
        assert_eq!(Order::for_bytes((1 << 30) + 1), None);
        assert_eq!(Order::for_bytes(u64::MAX), None);
    }
}
