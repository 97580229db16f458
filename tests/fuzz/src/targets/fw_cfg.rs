//! The firmware configuration device, with the guest's memory.

use crate::Bytes;
use crate::subject::{self, digest};
use arch::{Gpa, Nanos};
use devices::{Contents, DmaMemory, FwCfg, FwCfgState, Item};
use memory::{GuestMemory, MemoryMap, VecBlock};
use std::sync::Arc;

const RAM: u16 = 0x2000;
/// A control structure's control words: what there is to ask for, of items that are there and others.
const REQUESTS: [u32; 6] = [0x02, 0x04, 0x10, 0x20 << 16 | 0x0a, 0x21 << 16 | 0x0a, 0x15 << 16 | 0x0c];

/// The device, and the memory that it copies to.
pub(super) struct Subject {
    device: FwCfg,
    memory: DmaMemory,
}

impl Subject {
    fn ram(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::from(RAM)];
        self.memory.read(Gpa::new(0), &mut bytes).expect("RAM");
        bytes
    }
}

impl subject::Subject for Subject {
    type State = (FwCfgState, Vec<u8>);

    fn new() -> Self {
        let mut map = MemoryMap::new();
        map.add(Gpa::new(0), VecBlock::new(RAM.into())).expect("the first region");
        let memory: DmaMemory = Arc::new(map);
        let mut contents = Contents::new(1 << 20, 1, 1);
        contents.add_file("short", *b"abc").expect("a good file");
        contents.add_file("long", vec![0x5a; 0x8_0000]).expect("a good file");
        contents.set_item(Item::CommandLineData, *b"quiet\0");
        Self { device: FwCfg::new(contents, Arc::clone(&memory)), memory }
    }

    fn act(&mut self, bytes: &mut Bytes<'_>, now: Nanos) -> u64 {
        let mut read = 0;
        match bytes.byte() % 8 {
            0 => self.device.select(bytes.word()),
            1 => self.device.select(u16::from(bytes.byte() % 0x40)),
            2 => read = u64::from(self.device.read_data()),
            3 => read = u64::from(self.device.read_dma(bytes.below(12))),
            4 => self.device.write_dma(bytes.below(8), bytes.port_width(), bytes.dword(), now),
            5 | 6 => {
                let at = bytes.below(RAM);
                let mut structure = Vec::from(bytes.choose(&REQUESTS).to_be_bytes());
                structure.extend(u32::from(bytes.word()).to_be_bytes());
                structure.extend(u64::from(bytes.below(RAM + 8)).to_be_bytes());
                // One that does not fit is another thing that a guest may do.
                let _outside = self.memory.write(Gpa::new(at.into()), &structure);
                self.device.write_dma(4, arch::Width::Four, u32::from(at).swap_bytes(), now);
            }
            _ => match bytes.byte() % 8 {
                0 => self.device.reset(),
                _ => {
                    let _outside = self.memory.write_u64(Gpa::new(bytes.below(RAM).into()), bytes.qword());
                }
            },
        }
        let ram = self.ram();
        let sum = ram.iter().fold(0_u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
        digest(&[read, sum])
    }

    fn advance(&mut self, now: Nanos) -> u64 {
        self.device.advance(now);
        0
    }

    fn next_deadline(&self) -> Nanos {
        self.device.next_deadline()
    }

    fn save(&self) -> (FwCfgState, Vec<u8>) {
        (self.device.save(), self.ram())
    }

    fn restore(&mut self, (state, ram): &(FwCfgState, Vec<u8>)) {
        self.device.restore(state);
        self.memory.write(Gpa::new(0), ram).expect("RAM");
    }
}
