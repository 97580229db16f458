//! Tests of the bzImage loader by what it leaves in memory and by what it refuses.

use super::spec;
use crate::testing::{bzimage, memory, read, vm};
use crate::{BootProtocol, EntryMode, Image, LoadError, NotKernel, OtherArchitecture, VmDescription, load};
use arch::{GIB, Gpa, Gpr, MIB};
use memory::GuestMemory;
use proptest::prelude::*;

const INITRAMFS: &[u8] = b"070701 some files";

fn with_initramfs<'a>(kernel: &'a [u8], initramfs: &'a [u8]) -> VmDescription<'a> {
    VmDescription { initramfs: Some(Image { name: "initramfs", bytes: initramfs }), ..vm(kernel) }
}

/// Loads a bzImage changed by `change`.
fn load_changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<(), LoadError> {
    let mut image = bzimage(4096);
    change(&mut image);
    load(&memory(64 * MIB), &vm(&image)).map(|_| ())
}

#[test]
fn code_is_at_the_preferred_address_and_entered_512_bytes_in() {
    let image = bzimage(100_000 / 16 * 16);
    let memory = memory(64 * MIB);
    let state = load(&memory, &vm(&image)).expect("a good image");
    assert_eq!(state.rip, 0x100_0200);
    assert_eq!(read(&memory, Gpa::new(0x100_0000), 100_000 / 16 * 16), image[1024..]);
}

#[test]
fn the_32_bit_entry_is_the_first_byte_in_protected_mode() {
    let image = bzimage(4096);
    let memory = memory(64 * MIB);
    let description = VmDescription { boot: Some(BootProtocol::Linux32), ..vm(&image) };
    let state = load(&memory, &description).expect("a good image");
    assert_eq!((state.mode, state.rip), (EntryMode::Protected32, 0x100_0000));
    assert_eq!((state.cs.selector, state.ds.selector), (0x10, 0x18));
    assert_eq!(memory.read_u64(Gpa::new(state.gdtr.base) + 0x10), Ok(0x00cf_9b00_0000_ffff));
    assert_eq!(memory.read_u64(Gpa::new(state.gdtr.base) + 0x18), Ok(0x00cf_9300_0000_ffff));
    assert_eq!(read(&memory, Gpa::new(state.gprs.get(Gpr::Rsi) + 0x202), 4), b"HdrS");
    for register in [Gpr::Rbx, Gpr::Rbp, Gpr::Rdi] {
        assert_eq!(state.gprs.get(register), 0);
    }
    let mut old = bzimage(4096);
    old[0x206] = 9;
    let error = load(&memory, &VmDescription { boot: Some(BootProtocol::Linux32), ..vm(&old) });
    assert!(matches!(error, Err(LoadError::OldProtocol { version: 0x0209, least: 0x020a, .. })));
}

#[test]
fn boot_params_have_header_command_line_initramfs_and_memory_map() {
    let image = bzimage(4096);
    let memory = memory(64 * MIB);
    let state = load(&memory, &with_initramfs(&image, INITRAMFS)).expect("a good image");
    let params = read(&memory, Gpa::new(state.gprs.get(Gpr::Rsi)), spec::BOOT_PARAMS_SIZE);
    let u32_at = |offset: usize| u32::from_le_bytes(params[offset..offset + 4].try_into().expect("four"));
    let u64_at = |offset: usize| u64::from_le_bytes(params[offset..offset + 8].try_into().expect("eight"));

    assert_eq!(params[0x202..0x206], *b"HdrS");
    assert_eq!(params[0x210], 0xff);
    assert_eq!(read(&memory, Gpa::new(u64::from(u32_at(0x228))), 14), b"console=ttyS0\0");
    let start = u64::from(u32_at(0x218));
    assert_eq!(start, 64 * MIB - 4096);
    assert_eq!(u32_at(0x21c) as usize, INITRAMFS.len());
    assert_eq!(read(&memory, Gpa::new(start), INITRAMFS.len()), INITRAMFS);
    assert_eq!(read(&memory, Gpa::new(u64_at(0x70)), 8), b"RSD PTR ");
    assert_eq!(params[0x1e8], 4);
    assert_eq!((u64_at(0x2d0), u64_at(0x2d8), u32_at(0x2e0)), (0, 0xa_0000, 1));
    assert_eq!((u64_at(0x2f8), u64_at(0x300), u32_at(0x308)), (MIB, 63 * MIB, 1));
}

#[test]
fn page_tables_map_4_gib_to_itself() {
    let memory = memory(64 * MIB);
    let image = bzimage(4096);
    let state = load(&memory, &vm(&image)).expect("a good image");
    let entry = |table: u64, index: u64| memory.read_u64(Gpa::new(table + index * 8)).expect("RAM");
    for address in [0, 0x100_0200, 3 * GIB + 12345, 4 * GIB - 1] {
        let pointers = entry(state.cr3, 0) & !0xfff;
        let directory = entry(pointers, address / GIB) & !0xfff;
        let page = entry(directory, (address % GIB) / (2 * MIB));
        assert_eq!(page & 0x83, 0x83);
        assert_eq!((page & !0xfff) + address % (2 * MIB), address);
    }
    assert_eq!(entry(state.cr3, 1), 0);
}

#[test]
fn a_second_load_leaves_the_same_memory() {
    let memory = memory(64 * MIB);
    let image = bzimage(4096);
    let first = load(&memory, &with_initramfs(&image, INITRAMFS)).expect("a good image");
    let before = read(&memory, Gpa::new(0), 0x11_0000);
    for address in [0x40e, 0x7000, 0x9008, 0xa_0000, 0xe_0000, 0xf_ff00] {
        memory.write(Gpa::new(address), &[0xff; 256]).expect("RAM");
    }
    assert_eq!(load(&memory, &with_initramfs(&image, INITRAMFS)), Ok(first));
    assert!(read(&memory, Gpa::new(0), 0x11_0000) == before);
}

#[test]
fn initramfs_stays_below_the_kernels_limit() {
    let mut image = bzimage(4096);
    image[0x22c..0x230].copy_from_slice(&0x33f_ffff_u32.to_le_bytes());
    let memory = memory(64 * MIB);
    load(&memory, &with_initramfs(&image, INITRAMFS)).expect("a good image");
    assert_eq!(memory.read_u32(Gpa::new(0x7000 + 0x218)), Ok(0x33f_f000));
}

#[test]
fn a_file_cut_short_is_told_with_both_lengths() {
    let image = bzimage(4096);
    for length in [0x203, 0x206, 0x240, 1023, 1024, image.len() - 1] {
        let error = load_changed(|image| image.truncate(length)).expect_err("cut short");
        let told = error.to_string();
        assert!(
            matches!(error, LoadError::Truncated { has, .. } if has == length as u64) || length < 0x206,
            "{told}"
        );
        assert!(told.contains("`vmlinuz`"), "{told}");
    }
    let error = load_changed(|image| image.truncate(2000)).expect_err("cut short");
    assert_eq!(error, LoadError::Truncated { file: "vmlinuz".into(), has: 2000, needs: 5120 });
    assert_eq!(
        error.to_string(),
        "`vmlinuz` is cut short: it has 2000 bytes and its header declares 5120; copy it again"
    );
}

#[test]
fn a_kernel_without_64_bit_entry_is_not_entered_there() {
    let load_64 = |change: (usize, u8)| {
        let mut image = bzimage(4096);
        image[change.0] = change.1;
        load(&memory(64 * MIB), &VmDescription { boot: Some(BootProtocol::Linux), ..vm(&image) })
    };
    let error = load_64((0x236, 0)).expect_err("32-bit");
    assert!(matches!(error, LoadError::No64BitEntry { .. }));
    let error = load_64((0x206, 0x0b)).expect_err("old");
    assert!(matches!(error, LoadError::OldProtocol { version: 0x020b, .. }));
}

#[test]
fn other_files_are_named_for_what_they_are() {
    let why = |bytes: &[u8]| match load(&memory(2 * MIB), &vm(bytes)) {
        Err(LoadError::NotKernel { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(why(b""), NotKernel::Empty);
    assert_eq!(why(b"#!/bin/sh\n"), NotKernel::NoSignature);
    assert_eq!(why(INITRAMFS), NotKernel::Cpio);
    assert_eq!(why(b"\x1f\x8b\x08"), NotKernel::Compressed("gzip"));
    let mut arm = vec![0; 64];
    arm[56..60].copy_from_slice(b"ARM\x64");
    let error = load(&memory(2 * MIB), &vm(&arm)).expect_err("not ours");
    assert!(matches!(error, LoadError::WrongArchitecture { found: OtherArchitecture::Arm64, .. }));
}

#[test]
fn damaged_fields_are_named() {
    let field = |offset: usize, bytes: &[u8]| match load_changed(|image| {
        image[offset..offset + bytes.len()].copy_from_slice(bytes);
    }) {
        Err(LoadError::BadHeader { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(0x1fe, &[0, 0]), "boot_flag");
    assert_eq!(field(0x1f4, &[0; 4]), "syssize");
    assert_eq!(field(0x211, &[0]), "loadflags");
    assert_eq!(field(0x230, &[3, 0, 0, 0]), "kernel_alignment");
    assert_eq!(field(0x258, &[1]), "pref_address");
    assert_eq!(field(0x258, &[0, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), "pref_address");
}

#[test]
fn what_does_not_fit_is_told_with_figures() {
    let image = bzimage(4096);
    let small = VmDescription { memory_bytes: 32 * MIB, ..vm(&image) };
    let error = load(&memory(32 * MIB), &small).expect_err("too small");
    assert_eq!(
        error.to_string(),
        "`vmlinuz` needs memory up to 48 MiB and the virtual machine has 32 MiB for it; give it more memory"
    );
    let big = vec![0; 16 * 1024 * 1024 + 1];
    let error = load(&memory(64 * MIB), &with_initramfs(&image, &big)).expect_err("too big");
    assert_eq!(
        error,
        LoadError::InitramfsTooLarge {
            file: "initramfs".into(),
            bytes: 16 * MIB + 1,
            room: 16 * MIB,
            memory: 64 * MIB
        }
    );
    let fits = &big[..16 * 1024 * 1024];
    assert!(load(&memory(64 * MIB), &with_initramfs(&image, fits)).is_ok());
    let error = load(&memory(64 * MIB), &with_initramfs(&image, &[])).expect_err("empty");
    assert!(matches!(error, LoadError::InitramfsEmpty { .. }));
}

#[test]
fn command_lines_are_held_to_the_kernels_limit() {
    let image = bzimage(4096);
    let load_with = |cmdline: &str| load(&memory(64 * MIB), &VmDescription { cmdline, ..vm(&image) });
    assert!(load_with(&"x".repeat(2047)).is_ok());
    assert_eq!(load_with(&"x".repeat(2048)), Err(LoadError::CommandLineTooLong { bytes: 2048, most: 2047 }));
    assert_eq!(load_with("a\0b"), Err(LoadError::CommandLineHasZero));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_header_makes_the_loader_panic(
        changes in prop::collection::vec((0x1f1_usize..0x270, any::<u8>()), 1..12),
        length in 0_usize..2048,
        initramfs in 1_usize..5000,
    ) {
        let mut image = bzimage(1024);
        for (offset, value) in changes {
            image[offset] = value;
        }
        image.truncate(length.max(0x210));
        let initramfs = vec![1; initramfs];
        let _ = load(&memory(4 * MIB), &VmDescription { memory_bytes: 4 * MIB, ..with_initramfs(&image, &initramfs) });
    }

    #[test]
    fn no_file_makes_the_loader_panic(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        for boot in [BootProtocol::Linux, BootProtocol::Linux32, BootProtocol::Pvh] {
            let description = VmDescription { memory_bytes: 2 * MIB, boot: Some(boot), ..vm(&bytes) };
            prop_assert!(load(&memory(2 * MIB), &description).is_err());
        }
    }
}
