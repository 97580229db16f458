//! Tests of what both protocols share.

use crate::testing::{bzimage, elf, memory, read, vm};
use crate::{BootProtocol, Image, LoadError, VmDescription, load};
use arch::{Gpa, MIB};
use core::num::NonZeroU8;

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
    assert_eq!(table[table.len() - 6..], [127, 4, 8, 0, 0, 0]);
}

/// The SMBIOS structures of kind `kind` that a machine with `vcpus` processors is given: their formatted parts.
fn smbios_structures(kind: u8, vcpus: u8) -> Vec<Vec<u8>> {
    let memory = memory(64 * MIB);
    let image = bzimage(4096);
    let description = VmDescription { vcpus: NonZeroU8::new(vcpus).expect("not zero"), ..vm(&image) };
    load(&memory, &description).expect("a good image");
    let entry = read(&memory, Gpa::new(0xf_0000), 0x1f);
    let start = u32::from_le_bytes(entry[0x18..0x1c].try_into().expect("four"));
    let length = usize::from(u16::from_le_bytes([entry[0x16], entry[0x17]]));
    let table = read(&memory, Gpa::new(start.into()), length);

    let (mut found, mut count, mut rest) = (Vec::new(), 0_u16, table.as_slice());
    while let [this, length, ..] = *rest {
        let (formatted, strings) = rest.split_at(length.into());
        if this == kind {
            found.push(formatted.to_vec());
        }
        let end = strings.windows(2).position(|pair| pair == [0, 0]).expect("an end mark");
        rest = &strings[end + 2..];
        count += 1;
    }
    assert_eq!(count, u16::from_le_bytes([entry[0x1c], entry[0x1d]]), "as many as the entry point says");
    found
}

#[test]
fn smbios_has_one_socket_with_a_core_for_each_processor() {
    for vcpus in [1, 2, 64] {
        let sockets = smbios_structures(4, vcpus);
        let [socket] = sockets.as_slice() else { panic!("{} sockets", sockets.len()) };
        assert_eq!(socket.len(), 0x2a, "version 2.6 and later, before 3.0");
        assert_eq!(socket[0x18], 0x41, "populated, enabled");
        assert_eq!(socket[0x23..0x26], [vcpus; 3], "cores, those enabled, threads");
        assert_eq!(socket[0x26] & 1 << 3 != 0, vcpus > 1, "multi-core");
    }
}

#[test]
fn smbios_has_all_memory_in_one_device_and_says_where_it_is() {
    let devices = smbios_structures(17, 1);
    let [device] = devices.as_slice() else { panic!("{} devices", devices.len()) };
    let arrays = smbios_structures(16, 1);
    assert_eq!((device.len(), device[12..14].to_vec()), (0x28, vec![64, 0]));
    assert_eq!(device[4..6], arrays[0][2..4], "in the array");
    assert_eq!(arrays[0][13..15], [1, 0], "which has one");
    let mapped = smbios_structures(19, 1);
    assert_eq!(mapped.len(), 1);
    assert_eq!((mapped[0].len(), &mapped[0][4..12]), (0x1f, [0, 0, 0, 0, 0xff, 0xff, 0, 0].as_slice()));
}

#[test]
fn the_mp_table_is_found_by_a_scan() {
    let memory = memory(64 * MIB);
    let image = bzimage(4096);
    load(&memory, &vm(&image)).expect("a good image");
    let segment = read(&memory, Gpa::new(0xf_0000), 0x1_0000);
    assert!(segment.chunks(16).any(|line| line.starts_with(b"_MP_")));
}

#[test]
fn a_hole_in_the_memory_is_an_error() {
    let holey = memory(2 * MIB);
    let image = bzimage(4096);
    assert!(matches!(load(&holey, &vm(&image)), Err(LoadError::OutsideRam { .. })));
}
