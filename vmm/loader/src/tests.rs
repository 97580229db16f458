//! Tests of what the protocols share, and of flat images.

use crate::testing::{bzimage, elf, memory, read, vm};
use crate::{BootProtocol, EntryMode, Image, LoadError, Module, VmDescription, load};
use arch::{Gpa, KIB, MIB};
use core::num::NonZeroU8;
use memory::GuestMemory;

#[test]
fn the_protocol_is_told_by_the_image() {
    let detect = |bytes: &[u8]| BootProtocol::detect(Image { name: "k", bytes });
    assert_eq!(detect(&bzimage(4096)), Ok(BootProtocol::Linux));
    assert_eq!(detect(&elf(MIB, b"x", 0, 0)), Ok(BootProtocol::Pvh));
    assert!(matches!(detect(b"nothing"), Err(LoadError::NotKernel { .. })));

    let mut only_32_bits = bzimage(4096);
    only_32_bits[0x236] = 0;
    assert_eq!(detect(&only_32_bits), Ok(BootProtocol::Linux32));
    let mut no_note = elf(MIB, b"x", 0, 0);
    no_note[64] = 0;
    assert!(matches!(detect(&no_note), Err(LoadError::NoWayToBoot { .. })));
    let header = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let first = header(&[0x1bad_b002, 0, 0xe452_4ffe]);
    let second = header(&[0xe852_50d6, 0, 16, 0x17ad_af1a]);
    no_note.resize(256, 0);
    for (headers, found) in [
        (first.clone(), BootProtocol::Multiboot),
        (second.clone(), BootProtocol::Multiboot2),
        ([second, first].concat(), BootProtocol::Multiboot2),
    ] {
        assert_eq!(detect(&headers), Ok(found));
        assert_eq!(detect(&[no_note.clone(), headers].concat()), Ok(found));
    }
}

/// Loads `bytes` flat and returns mode, CS base + RIP and SS base + RSP.
fn load_flat(bytes: &[u8], load_address: u64, entry: u64) -> Result<(EntryMode, u64, u64), LoadError> {
    let boot = BootProtocol::Flat { load_address: Gpa::new(load_address), entry: Gpa::new(entry) };
    let memory = memory(64 * MIB);
    let state = load(&memory, &VmDescription { boot: Some(boot), cmdline: "", ..vm(bytes) })?;
    assert_eq!(read(&memory, Gpa::new(load_address), bytes.len()), bytes);
    let linear = |base: u64, offset| base + offset;
    Ok((state.mode, linear(state.cs.base, state.rip), linear(state.ss.base, state.rsp)))
}

#[test]
fn flat_images_are_entered_in_real_mode_below_1_mib_and_in_protected_mode_above() {
    let sector = [0x90; 512];
    assert_eq!(load_flat(&sector, 0x7c00, 0x7c00), Ok((EntryMode::Real16, 0x7c00, 0x7000)));
    assert_eq!(load_flat(&sector, 0x9_f000, 0x9_f010), Ok((EntryMode::Real16, 0x9_f010, 0x7000)));
    assert_eq!(load_flat(&sector, MIB, MIB + 5), Ok((EntryMode::Protected32, MIB + 5, 0x7000)));
    // One that lies where the stack is otherwise.
    assert_eq!(load_flat(&[0x90; 0x8000], 0, 0), Ok((EntryMode::Real16, 0, 0x9000)));
    assert_eq!(load_flat(&[0x90; 0x2_0000], 0x1000, 0x1000), Ok((EntryMode::Real16, 0x1000, 0x2_2000)));
}

#[test]
fn real_mode_is_what_a_boot_sector_finds() {
    let boot = BootProtocol::Flat { load_address: Gpa::new(0x7c00), entry: Gpa::new(0x7c00) };
    let description = VmDescription { boot: Some(boot), cmdline: "", ..vm(&[0x90; 512]) };
    let state = load(&memory(64 * MIB), &description).expect("a good image");
    assert_eq!((state.cr0 & 1, state.cr4, state.efer, state.rflags), (0, 0, 0, 2));
    assert_eq!((state.cs.selector, state.cs.limit, state.rip), (0, 0xffff, 0x7c00));
    for segment in [state.ds, state.es, state.ss] {
        assert_eq!((segment.selector, segment.base, segment.limit), (0, 0, 0xffff));
    }
    assert_eq!((state.idtr.base, state.idtr.limit), (0, 0x3ff));
}

#[test]
fn flat_images_out_of_place_are_refused() {
    let sector = [0x90; 512];
    assert!(matches!(load_flat(&sector, 0x7c00, 0x7e00), Err(LoadError::FlatEntryOutside { .. })));
    assert!(matches!(
        load_flat(&sector, 640 * KIB - 1, 640 * KIB - 1),
        Err(LoadError::KernelOverFirmware { .. })
    ));
    assert!(matches!(load_flat(&sector, 64 * MIB, 64 * MIB), Err(LoadError::KernelTooLarge { .. })));
    assert!(matches!(load_flat(&sector, u64::MAX, u64::MAX), Err(LoadError::KernelTooLarge { .. })));
    assert!(matches!(load_flat(&[], 0x7c00, 0x7c00), Err(LoadError::NotKernel { .. })));
}

#[test]
fn what_would_be_lost_on_the_way_to_the_kernel_is_refused() {
    let image = bzimage(4096);
    let modules = [Module { file: Image { name: "m", bytes: b"m" }, string: "m" }];
    let with_modules = VmDescription { modules: &modules, ..vm(&image) };
    let what = |description: &VmDescription<'_>| match load(&memory(64 * MIB), description) {
        Err(LoadError::NotPassed { what, boot, .. }) => (what, boot),
        other => panic!("{other:?}"),
    };
    assert_eq!(what(&with_modules), ("modules", "linux"));
    let boot = Some(BootProtocol::Flat { load_address: Gpa::new(MIB), entry: Gpa::new(MIB) });
    assert_eq!(what(&VmDescription { boot, ..with_modules }), ("modules", "flat"));
    assert_eq!(what(&VmDescription { boot, ..vm(&image) }), ("cmdline", "flat"));
    let initramfs = Some(modules[0].file);
    assert_eq!(what(&VmDescription { boot, initramfs, ..vm(&image) }), ("initramfs", "flat"));
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
fn the_data_area_of_the_firmware_tells_base_memory_and_com1() {
    let memory = memory(64 * MIB);
    memory.write(Gpa::new(0), &[0xff; 0x600]).expect("RAM");
    let image = bzimage(4096);
    load(&memory, &vm(&image)).expect("a good image");
    let area = read(&memory, Gpa::new(0), 0x600);
    let word = |at: usize| u16::from_le_bytes([area[at], area[at + 1]]);
    assert_eq!((word(0x400), word(0x413), word(0x410)), (0x3f8, 640, 0x202));
    assert_eq!(word(0x40e), 0, "no extended area");
    let services = read(&memory, Gpa::new(0xf_f000), 16);
    for vector in [0, 8, 0x10, 0x13, 0x15, 0x70, 0xff] {
        let (offset, segment) = (word(4 * vector), word(4 * vector + 2));
        assert_eq!((segment, offset & 0xf000), (0xf000, 0xf000));
        let first = services[usize::from(offset & 0xf)];
        let expected = match vector {
            0x10 | 0x13 => 0x55,
            0x15 => 0xb4,
            _ => 0xcf,
        };
        assert_eq!(first, expected, "vector {vector:#x}");
    }
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
