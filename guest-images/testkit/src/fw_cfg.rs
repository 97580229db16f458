//! The firmware configuration device, by its ports.
//!
//! Source: "QEMU Firmware Configuration (fw_cfg) Device".

use crate::machine::cpu::{in8, out16};

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
/// Items: the signature, the number of processors.
const SIGNATURE: u16 = 0x00;
const PROCESSORS: u16 = 0x05;

/// How many processors the device says there are, if it is there.
pub(crate) fn cpus() -> Option<u16> {
    (item::<4>(SIGNATURE) == *b"QEMU").then(|| u16::from_le_bytes(item(PROCESSORS)))
}

/// The first bytes of an item.
fn item<const LENGTH: usize>(key: u16) -> [u8; LENGTH] {
    out16(SELECTOR, key);
    core::array::from_fn(|_| in8(DATA))
}
