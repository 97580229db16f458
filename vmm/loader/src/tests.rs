//! Tests of what both protocols share.

use crate::testing::{bzimage, elf, memory, read, vm};
use crate::{BootProtocol, Image, LoadError, load};
use arch::{Gpa, MIB};

#[test]
fn the_protocol_is_told_by_the_image() {
    let detect = |bytes: &[u8]| BootProtocol::detect(Image { name: "k", bytes });
    assert_eq!(detect(&bzimage(4096)), Ok(BootProtocol::Linux));
    assert_eq!(detect(&elf(MIB, b"x", 0, 0)), Ok(BootProtocol::Pvh));
    assert!(matches!(detect(b"nothing"), Err(LoadError::NotKernel { .. })));
}

#[test]
fn smbios_entry_point_is_found_by_a_scan_and_leads_to_the_system_structure() {
    let memory = memory(64 * MIB);
    let image = bzimage(4096);
    load(&memory, &vm(&image)).expect("a good image");
    let segment = read(&memory, Gpa::new(0xf_0000), 0x1_0000);
    let entry = segment.chunks(16).position(|line| line.starts_with(b"_SM_")).expect("an anchor") * 16;
    let entry = &segment[entry..entry + 0x1f];
    let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    assert_eq!((sum(entry), sum(&entry[0x10..])), (0, 0));
    let start = u32::from_le_bytes(entry[0x18..0x1c].try_into().expect("four")) as usize - 0xf_0000;
    let length = usize::from(u16::from_le_bytes([entry[0x16], entry[0x17]]));
    let table = &segment[start..start + length];
    assert!(table.windows(23).any(|window| window == b"Craton Virtual Machine\0"));
    assert_eq!(table[table.len() - 6..], [127, 4, 5, 0, 0, 0]);
}

#[test]
fn a_hole_in_the_memory_is_an_error() {
    let holey = memory(2 * MIB);
    let image = bzimage(4096);
    assert!(matches!(load(&holey, &vm(&image)), Err(LoadError::OutsideRam { .. })));
}
