use super::*;
use alloc::sync::Arc;
use alloc::vec::Vec;
use memory::{MemoryMap, VecBlock};
use proptest::prelude::*;

const BASE: Gpa = Gpa::new(0xffc0_0000);
const BYTES: u64 = 0x3000;

fn erased() -> (Flash, DmaMemory) {
    let mut map = MemoryMap::new();
    map.add(BASE, VecBlock::new(0x4000)).expect("free");
    let memory: DmaMemory = Arc::new(map);
    memory.write(BASE, &[0xff; 0x3000]).expect("there");
    (Flash::new(Arc::clone(&memory), BASE, BYTES), memory)
}

fn commands(flash: &mut Flash, writes: &[(u64, u8)]) {
    for &(offset, value) in writes {
        flash.write(offset, Width::One, value.into());
    }
}

/// What EDK II's driver does to learn what it has before it.
#[test]
fn firmware_that_probes_finds_flash_and_neither_ram_nor_rom() {
    let (mut flash, _) = erased();
    let original = flash.read(8, Width::One);
    commands(&mut flash, &[(8, CLEAR_STATUS)]);
    assert_eq!(flash.read(8, Width::One), original);
    commands(&mut flash, &[(8, READ_STATUS)]);
    assert_eq!(flash.read(8, Width::One), 0, "neither the original nor the command");
    commands(&mut flash, &[(8, READ_ARRAY)]);
    assert!(flash.reads_array() && !flash.is_changed());
}

#[test]
fn programming_clears_bits_and_erasing_sets_those_of_the_block() {
    let (mut flash, memory) = erased();
    commands(&mut flash, &[(0x1000, PROGRAM), (0x1000, 0x5a), (0x1001, PROGRAM_ALTERNATE), (0x1001, 0)]);
    assert!(!flash.reads_array());
    assert_eq!(flash.read(0, Width::One), u64::from(READY));
    commands(&mut flash, &[(0x1000, PROGRAM), (0x1000, 0xa7), (0, READ_ARRAY)]);
    assert_eq!(flash.read(0x0ffe, Width::Four), 0x0002_ffff);
    assert_eq!(memory.read_u32(BASE + 0x1000), Ok(0xffff_0002));
    commands(
        &mut flash,
        &[(0x2000, PROGRAM), (0x2000, 1), (0x1fff, ERASE), (0x1fff, CONFIRM), (0, READ_ARRAY)],
    );
    assert_eq!(flash.read(0x1000, Width::Eight), u64::MAX);
    assert_eq!(flash.read(0x2000, Width::One), 1, "another block");
    assert!(flash.is_changed());
}

#[test]
fn a_buffer_is_programmed_where_its_bytes_were_written_once_confirmed() {
    let (mut flash, _) = erased();
    commands(&mut flash, &[(0x40, PROGRAM_BUFFER)]);
    assert_eq!(flash.read(0x40, Width::One), u64::from(READY));
    commands(&mut flash, &[(0x40, 2), (0x40, 1), (0x41, 2), (0x42, 3)]);
    let mut other = flash.save();
    assert_eq!(other.contents[0x40], 0xff, "not yet");
    commands(&mut flash, &[(0x40, CONFIRM), (0x40, READ_ARRAY)]);
    assert_eq!(flash.read(0x40, Width::Four), 0xff03_0201);
    // Not confirmed: nothing is programmed, and the status says so.
    other.contents[0x40] = 0xff;
    flash.restore(&other);
    commands(&mut flash, &[(0x40, READ_ARRAY)]);
    assert_eq!(flash.read(0x40, Width::One), u64::from(READY | ERASE_FAILED | PROGRAM_FAILED));
    commands(&mut flash, &[(0x40, READ_ARRAY)]);
    assert_eq!(flash.read(0x40, Width::Four), 0xffff_ffff);
}

#[test]
fn more_than_the_buffer_holds_is_an_error() {
    let (mut flash, _) = erased();
    for count in [32, 0xff] {
        commands(&mut flash, &[(0, CLEAR_STATUS), (0, PROGRAM_BUFFER), (0, count)]);
        assert_eq!(flash.read(0, Width::One), u64::from(READY | ERASE_FAILED | PROGRAM_FAILED));
    }
    commands(&mut flash, &[(0, CLEAR_STATUS), (0, PROGRAM_BUFFER), (0, 31)]);
    for offset in (0..32).step_by(8) {
        flash.write(offset, Width::Eight, 0x0101_0101_0101_0101 * (1 + offset / 8));
    }
    commands(&mut flash, &[(0, CONFIRM), (0, READ_ARRAY)]);
    assert_eq!(flash.read(24, Width::Eight), 0x0404_0404_0404_0404);
    assert_eq!(flash.read(32, Width::One), 0xff);
}

#[test]
fn commands_out_of_order_are_told_and_change_nothing() {
    let (mut flash, _) = erased();
    let before = flash.save().contents;
    for begun in [ERASE, LOCK] {
        commands(&mut flash, &[(0, CLEAR_STATUS), (0, begun), (0, READ_ARRAY)]);
        assert_eq!(flash.read(0, Width::One), u64::from(READY | ERASE_FAILED | PROGRAM_FAILED));
    }
    commands(&mut flash, &[(0, CLEAR_STATUS), (0, LOCK), (0, LOCK_SET), (0, LOCK), (0, CONFIRM)]);
    assert_eq!(flash.read(0, Width::One), u64::from(READY));
    assert_eq!(flash.save().contents, before);
}

#[test]
fn there_is_nothing_past_the_end() {
    let (mut flash, memory) = erased();
    commands(&mut flash, &[(BYTES, PROGRAM), (BYTES, 0)]);
    assert_eq!(flash.read(0, Width::One), u64::from(READY | PROGRAM_FAILED));
    commands(&mut flash, &[(0, CLEAR_STATUS), (BYTES, ERASE), (BYTES, CONFIRM)]);
    assert_eq!(flash.read(0, Width::One), u64::from(READY | ERASE_FAILED));
    commands(&mut flash, &[(u64::MAX, ERASE), (u64::MAX, CONFIRM), (0, READ_ARRAY)]);
    assert_eq!(flash.read(BYTES - 1, Width::Two), 0xffff);
    assert_eq!(memory.read_u32(BASE + BYTES), Ok(0), "memory behind the array is not its own");
}

#[test]
fn identifiers_and_the_query_table_are_an_intel_chips() {
    let (mut flash, _) = erased();
    commands(&mut flash, &[(0, READ_ID)]);
    assert_eq!((flash.read(0, Width::One), flash.read(1, Width::One)), (0x89, 0x18));
    commands(&mut flash, &[(0x55, QUERY)]);
    let byte = |offset| flash.read(offset, Width::One);
    assert_eq!([0x10, 0x11, 0x12, 0x13, 0x14].map(byte), [b'Q'.into(), b'R'.into(), b'Y'.into(), 1, 0]);
    assert_eq!((byte(0x27), byte(0x2a), byte(0x2c)), (13, 5, 1));
    assert_eq!([0x2d, 0x2e, 0x2f, 0x30].map(byte), [2, 0, 16, 0], "three blocks of 4 KiB");
    assert_eq!([0x31, 0x32, 0x33].map(byte), [b'P', b'R', b'I'].map(u64::from));
    assert_eq!(byte(0xff), 0);
}

proptest! {
    #[test]
    fn a_restored_chip_goes_on_as_the_one_that_was_saved(
        before in prop::collection::vec((0..BYTES + 8, any::<u8>(), 0..4_usize), 0..40),
        after in prop::collection::vec((0..BYTES + 8, any::<u8>(), 0..4_usize), 0..40),
    ) {
        const WIDTHS: [Width; 4] = [Width::One, Width::Two, Width::Four, Width::Eight];
        const LIKELY: [u8; 8] = [PROGRAM, ERASE, CONFIRM, PROGRAM_BUFFER, READ_ARRAY, READ_STATUS, LOCK, 3];
        let play = |flash: &mut Flash, writes: &[(u64, u8, usize)]| -> Vec<u64> {
            writes.iter().map(|&(offset, value, width)| {
                let value = if value < 192 { LIKELY[usize::from(value) % 8] } else { value };
                flash.write(offset, WIDTHS[width], 0x0101_0101_0101_0101 * u64::from(value));
                flash.read(offset, WIDTHS[width])
            }).collect()
        };
        let (mut flash, memory) = erased();
        play(&mut flash, &before);
        let state = flash.save();
        let (mut copy, _) = erased();
        copy.restore(&state);
        prop_assert_eq!(copy.save(), state);
        prop_assert_eq!(play(&mut flash, &after), play(&mut copy, &after));
        prop_assert_eq!(flash.save(), copy.save());
        let mut behind = [0; 8];
        memory.read(BASE + BYTES, &mut behind).expect("there");
        prop_assert_eq!(behind, [0; 8]);
    }
}
