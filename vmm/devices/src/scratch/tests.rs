//! The device against plain memory.

use super::*;
use proptest::prelude::*;

fn width() -> impl Strategy<Value = Width> {
    prop_oneof![Just(Width::One), Just(Width::Two), Just(Width::Four), Just(Width::Eight)]
}

/// Offsets near the start and near the end.
fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![0_u64..16, SCRATCH_BYTES - 16..SCRATCH_BYTES]
}

proptest! {
    #[test]
    fn it_is_memory_up_to_its_end(writes in prop::collection::vec((offset(), width(), any::<u64>()), 0..40)) {
        let mut device = Scratch::new();
        let mut model = vec![0_u8; BYTES];
        for (offset, width, value) in writes {
            device.write(offset, width, value);
            for (index, byte) in (offset..).zip(value.to_le_bytes()).take(width as usize) {
                if index < SCRATCH_BYTES {
                    model[usize::try_from(index).expect("small")] = byte;
                }
            }
            // Saved and restored in the middle.
            let mut copy = Scratch::new();
            copy.restore(&device.save());
            device = copy;
        }
        for offset in (0..16).chain(SCRATCH_BYTES - 16..SCRATCH_BYTES + 8) {
            let byte = model.get(usize::try_from(offset).expect("small")).copied().unwrap_or(0xff);
            prop_assert_eq!(device.read(offset, Width::One), u64::from(byte));
        }
    }
}

#[test]
fn a_read_across_the_end_is_open_bus_there() {
    let device = Scratch::new();
    assert_eq!(device.read(SCRATCH_BYTES - 4, Width::Eight), 0xffff_ffff_0000_0000);
    assert_eq!(device.read(u64::MAX, Width::Eight) & 0xff, 0xff);
}

#[test]
fn reset_clears_it() {
    let mut device = Scratch::new();
    device.write(5, Width::Four, 0x1234_5678);
    assert_eq!(device.read(4, Width::Eight), 0x12_3456_7800);
    device.reset();
    assert_eq!(device.save(), Scratch::new().save());
}
