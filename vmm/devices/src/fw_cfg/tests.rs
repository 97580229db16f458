//! Behaviour of the device, as firmware sees it.

use super::*;
use memory::{MemoryMap, VecBlock};
use proptest::prelude::*;

const T0: Nanos = Nanos(0);
const RAM: usize = 0x10_0000;
const CONTROL: u64 = 0x1000;
const BUFFER: u64 = 0x2000;

fn fw_cfg() -> (FwCfg, DmaMemory) {
    let mut map = MemoryMap::new();
    map.add(Gpa::new(0), VecBlock::new(RAM)).expect("the first region");
    let memory: DmaMemory = Arc::new(map);
    let mut contents = Contents::new(64 << 20, 3, 8);
    contents.add_file("etc/a", Vec::from(b"first".as_slice())).expect("a good file");
    contents.add_file("etc/long", long()).expect("a good file");
    contents.set_item(Item::CommandLineData, Vec::from(b"quiet\0".as_slice()));
    (FwCfg::new(contents, Arc::clone(&memory)), memory)
}

fn long() -> Vec<u8> {
    (0..0x8_0000_u32).map(|index| u8::try_from(index % 251).expect("a byte")).collect()
}

impl FwCfg {
    fn bytes(&mut self, key: u16, count: usize) -> Vec<u8> {
        self.select(key);
        (0..count).map(|_| self.read_data()).collect()
    }

    /// Starts what `control` asks for, with `length` bytes for `to`.
    fn start(&mut self, control: u32, length: u32, to: u64) {
        let mut structure = Vec::from(control.to_be_bytes());
        structure.extend(length.to_be_bytes());
        structure.extend(to.to_be_bytes());
        self.memory.write(Gpa::new(CONTROL), &structure).expect("RAM");
        self.write_dma(4, Width::Four, 0x1000_u32.swap_bytes(), T0);
    }

    fn result(&self) -> u32 {
        self.memory.read_u32(Gpa::new(CONTROL)).expect("RAM").swap_bytes()
    }

    /// Lets transfers come to their end, and returns in how many steps they did.
    fn settle(&mut self) -> u32 {
        let mut steps = 0;
        while self.next_deadline() != Nanos::NEVER {
            let now = self.next_deadline();
            self.advance(now);
            steps += 1;
        }
        steps
    }
}

fn read(memory: &DmaMemory, gpa: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    memory.read(Gpa::new(gpa), &mut bytes).expect("RAM");
    bytes
}

#[test]
fn the_machine_is_told_by_number() {
    let (mut device, _memory) = fw_cfg();
    assert_eq!(device.bytes(0, 6), b"QEMU\0\0");
    assert_eq!(device.bytes(1, 4), [3, 0, 0, 0]);
    assert_eq!(device.bytes(3, 8), (64_u64 << 20).to_le_bytes());
    assert_eq!((device.bytes(5, 2), device.bytes(0xf, 2)), (vec![3, 0], vec![8, 0]));
    assert_eq!(device.bytes(0x15, 7), b"quiet\0\0");
    assert_eq!(device.bytes(0x4015, 1), b"q", "the bit for writing is ignored");
    assert_eq!(device.bytes(0x3fff, 2), [0, 0]);
}

#[test]
fn files_are_found_by_name() {
    let (mut device, _memory) = fw_cfg();
    let directory = device.bytes(0x19, 4 + 2 * 64);
    assert_eq!(directory[..4], [0, 0, 0, 2]);
    let entry = &directory[4..68];
    assert_eq!((&entry[..8], &entry[8..14]), ([0, 0, 0, 5, 0, 0x20, 0, 0].as_slice(), b"etc/a\0".as_slice()));
    assert_eq!(directory[68..76], [0, 8, 0, 0, 0, 0x21, 0, 0]);
    assert_eq!(device.bytes(0x20, 7), b"first\0\0");
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let mut contents = Contents::new(0, 1, 1);
    let name = "n".repeat(56);
    assert_eq!(contents.add_file(&name, []), Err(FileRefused::LongName));
    for _file in 0..32 {
        assert_eq!(contents.add_file(&name[..55], []), Ok(()));
    }
    assert_eq!(contents.add_file("one more", []), Err(FileRefused::TooMany));
}

#[test]
fn the_dma_register_reads_its_signature() {
    let (device, _memory) = fw_cfg();
    let bytes: Vec<u8> = (0..8).map(|offset| device.read_dma(offset)).collect();
    assert_eq!(bytes, b"QEMU CFG");
}

#[test]
fn a_transfer_selects_reads_and_fills_up_with_zeroes() {
    let (mut device, memory) = fw_cfg();
    memory.write(Gpa::new(BUFFER), &[0xff; 16]).expect("RAM");
    device.start(0x20 << 16 | DMA_SELECT | DMA_READ, 8, BUFFER);
    assert_eq!((device.settle(), device.result()), (0, 0), "a short one is done at once");
    assert_eq!(read(&memory, BUFFER, 10), b"first\0\0\0\xff\xff");
}

#[test]
fn transfers_go_on_where_the_last_ended_and_skip() {
    let (mut device, memory) = fw_cfg();
    device.start(0x20 << 16 | DMA_SELECT | DMA_SKIP, 2, 0);
    assert_eq!(device.result(), 0);
    device.start(DMA_READ, 2, BUFFER);
    assert_eq!(read(&memory, BUFFER, 2), b"rs");
    assert_eq!(device.read_data(), b't');
    device.start(0, 7, 0);
    assert_eq!((device.result(), device.read_data()), (0, 0));
}

#[test]
fn a_long_transfer_goes_on_in_pieces_and_what_comes_meanwhile_waits() {
    let (mut device, memory) = fw_cfg();
    device.start(0x21 << 16 | DMA_SELECT | DMA_READ, 0x8_0000, BUFFER);
    assert_eq!(device.result(), 0x21 << 16 | DMA_SELECT | DMA_READ, "it is not done");
    let mut second = Vec::from((0x20 << 16 | DMA_SELECT | DMA_READ).to_be_bytes());
    second.extend(5_u32.to_be_bytes());
    second.extend(0x1800_u64.to_be_bytes());
    memory.write(Gpa::new(0x1100), &second).expect("RAM");
    device.write_dma(4, Width::Four, 0x1100_u32.swap_bytes(), T0);
    let mut copy = FwCfg::new(fw_cfg().0.contents, Arc::clone(&memory));
    copy.restore(&device.save());
    assert!(copy.settle() > 1);
    assert_eq!(copy.result(), 0);
    assert_eq!(read(&memory, BUFFER, 0x8_0000), long());
    assert_eq!(memory.read_u32(Gpa::new(0x1100)), Ok(0));
    assert_eq!(read(&memory, 0x1800, 5), b"first");
}

#[test]
fn what_cannot_be_done_is_an_error() {
    let (mut device, _memory) = fw_cfg();
    for to in [RAM as u64 - 3, RAM as u64, u64::MAX - 2] {
        device.start(0x20 << 16 | DMA_SELECT | DMA_READ, 5, to);
        assert_eq!((device.settle(), device.result()), (0, DMA_ERROR), "{to:#x}");
    }
    device.start(0x20 << 16 | DMA_SELECT | DMA_WRITE, 5, BUFFER);
    assert_eq!(device.result(), DMA_ERROR);
    device.start(DMA_READ, u32::MAX, BUFFER);
    device.settle();
    assert_eq!(device.result(), DMA_ERROR, "more than there is RAM");
    device.write_dma(0, Width::Four, 1, T0);
    device.write_dma(4, Width::Four, 0, T0);
    assert_eq!(device.settle(), 0, "a structure outside of RAM");
}

#[test]
fn only_whole_words_start_a_transfer() {
    let (mut device, _memory) = fw_cfg();
    device.start(0x20 << 16 | DMA_SELECT, 0, 0);
    let before = device.save();
    device.write_dma(4, Width::Two, 0x10, T0);
    device.write_dma(6, Width::Two, 0x10, T0);
    device.write_dma(7, Width::One, 0, T0);
    assert_eq!(device.save(), before);
}

proptest! {
    #[test]
    fn any_requests_are_survived_in_bounded_steps(
        requests in prop::collection::vec(
            (any::<u32>(), prop_oneof![any::<u32>(), 0_u32..0x100], prop_oneof![any::<u64>(), 0_u64..0x11_0000], 0_u64..5000),
            0..20,
        ),
    ) {
        let (mut device, _memory) = fw_cfg();
        let mut now = T0;
        for (control, length, to, wait) in requests {
            device.start(control, length, to);
            now = now + Nanos(wait);
            device.advance(now);
            prop_assert!(device.next_deadline() > now);
            let _byte = device.read_data();
        }
        prop_assert!(device.settle() <= 40, "RAM is four pieces long");
    }
}
