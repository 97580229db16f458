//! The flash chip of firmware's variables, with the memory that its array is in.

use crate::Bytes;
use crate::subject::{self, digest};
use arch::{Gpa, Nanos};
use devices::{DmaMemory, Flash, FlashState};
use memory::{GuestMemory, MemoryMap, VecBlock};
use std::sync::Arc;

const BASE: Gpa = Gpa::new(0xffc0_0000);
const BYTES: u16 = 0x2000;
/// What is behind the array and none of the chip's.
const BEHIND: usize = 0x1000;
/// Commands, and what confirms them.
const COMMANDS: [u8; 12] = [0xff, 0x90, 0x98, 0x70, 0x50, 0x40, 0x10, 0xe8, 0x20, 0xd0, 0x60, 0x01];

/// The chip and the memory.
pub(super) struct Subject {
    chip: Flash,
    memory: DmaMemory,
}

impl subject::Subject for Subject {
    type State = FlashState;

    fn new() -> Self {
        let mut map = MemoryMap::new();
        map.add(BASE, VecBlock::new(usize::from(BYTES) + BEHIND)).expect("the first region");
        let memory: DmaMemory = Arc::new(map);
        memory.write(BASE, &vec![0xff; usize::from(BYTES)]).expect("memory");
        Self { chip: Flash::new(Arc::clone(&memory), BASE, BYTES.into()), memory }
    }

    fn act(&mut self, bytes: &mut Bytes<'_>, _now: Nanos) -> u64 {
        let offset = match bytes.byte() % 8 {
            0 => bytes.qword(),
            _ => u64::from(bytes.below(BYTES + 8)),
        };
        let width = bytes.memory_width();
        let mut read = 0;
        match bytes.byte() % 8 {
            0..=2 => self.chip.write(offset, width, u64::from(bytes.choose(&COMMANDS))),
            3 | 4 => self.chip.write(offset, width, bytes.qword()),
            5 | 6 => {
                read = self.chip.read(offset, width);
                assert_eq!(read & !width.mask(), 0);
            }
            _ => match bytes.byte() % 16 {
                0 => self.chip.reset(),
                _ => read = u64::from(self.chip.reads_array()),
            },
        }
        let mut behind = [0; BEHIND];
        self.memory.read(BASE + u64::from(BYTES), &mut behind).expect("memory");
        assert!(behind.iter().all(|byte| *byte == 0), "the chip has written past its array");
        digest(&[read])
    }

    fn advance(&mut self, _now: Nanos) -> u64 {
        0
    }

    fn next_deadline(&self) -> Nanos {
        Nanos::NEVER
    }

    fn save(&self) -> FlashState {
        self.chip.save()
    }

    fn restore(&mut self, state: &FlashState) {
        self.chip.restore(state);
    }
}
