//! Tests of the PVH loader by what it leaves in memory and by what it refuses.

use crate::testing::{elf, memory, read, vm};
use crate::{
    BootProtocol, EntryMode, Image, LoadError, Module, NotKernel, OtherArchitecture, VmDescription, load,
};
use arch::{Gpa, Gpr, MIB};
use memory::GuestMemory;
use proptest::prelude::*;

const CODE: &[u8] = b"\xf4 some code";

fn good() -> Vec<u8> {
    elf(2 * MIB, CODE, 100, 0x20_0004)
}

#[test]
fn segments_are_loaded_and_their_rest_is_zeroed() {
    let memory = memory(64 * MIB);
    memory.write(Gpa::new(2 * MIB), &[0xff; 200]).expect("RAM");
    let image = good();
    let state = load(&memory, &vm(&image)).expect("a good image");
    let loaded = read(&memory, Gpa::new(2 * MIB), 200);
    assert!(loaded.starts_with(CODE));
    assert!(loaded[CODE.len()..CODE.len() + 100].iter().all(|byte| *byte == 0));
    assert_eq!(loaded[CODE.len() + 100], 0xff);
    assert_eq!((state.mode, state.rip, state.cr0 & 1), (EntryMode::Protected32, 0x20_0004, 1));
}

#[test]
fn start_info_names_command_line_module_tables_and_memory() {
    let memory = memory(64 * MIB);
    let image = good();
    let initramfs = Image { name: "initramfs", bytes: b"files" };
    let state =
        load(&memory, &VmDescription { initramfs: Some(initramfs), ..vm(&image) }).expect("a good image");
    let info = Gpa::new(state.gprs.get(Gpr::Rbx));
    let u32_at = |offset: u64| memory.read_u32(info + offset).expect("RAM");
    let u64_at = |offset: u64| memory.read_u64(info + offset).expect("RAM");

    assert_eq!((u32_at(0), u32_at(4), u32_at(12)), (0x336e_c578, 1, 1));
    let module = Gpa::new(u64_at(16));
    let start = memory.read_u64(module).expect("RAM");
    assert_eq!(memory.read_u64(module + 8), Ok(5));
    assert_eq!(read(&memory, Gpa::new(start), 5), b"files");
    assert_eq!(read(&memory, Gpa::new(u64_at(24)), 14), b"console=ttyS0\0");
    assert_eq!(read(&memory, Gpa::new(u64_at(32)), 8), b"RSD PTR ");
    assert_eq!(u32_at(48), 4);
    let high = Gpa::new(u64_at(40)) + 2 * 24;
    assert_eq!((memory.read_u64(high), memory.read_u64(high + 8)), (Ok(MIB), Ok(63 * MIB)));
}

#[test]
fn modules_come_after_the_initramfs_with_their_texts() {
    let memory = memory(64 * MIB);
    let image = good();
    let file = |bytes| Image { name: "m", bytes };
    let modules =
        [Module { file: file(b"one"), string: "m 1" }, Module { file: file(b"three"), string: "m 3" }];
    let vm = VmDescription { initramfs: Some(file(b"files")), modules: &modules, ..vm(&image) };
    let state = load(&memory, &vm).expect("a good image");
    let info = Gpa::new(state.gprs.get(Gpr::Rbx));
    assert_eq!(memory.read_u32(info + 12), Ok(3));
    let list = Gpa::new(memory.read_u64(info + 16).expect("RAM"));
    let field = |offset: u64| memory.read_u64(list + offset).expect("RAM");
    assert_eq!((field(8), field(16)), (5, 0));
    for (at, content, string) in [(32, b"one".as_slice(), b"m 1\0"), (64, b"three", b"m 3\0")] {
        assert_eq!(read(&memory, Gpa::new(field(at)), content.len()), content);
        assert_eq!(field(at + 8), content.len() as u64);
        assert_eq!(read(&memory, Gpa::new(field(at + 16)), 4), string);
    }
    let long = "x".repeat(96 * 1024);
    let modules = [Module { file: file(b"one"), string: &long }];
    let error = load(&memory, &VmDescription { modules: &modules, ..vm }).expect_err("no room");
    assert!(matches!(error, LoadError::NoRoomForBootInformation { .. }));
}

#[test]
fn a_guest_without_initramfs_has_no_module() {
    let memory = memory(2 * MIB + 8192);
    let image = elf(MIB, CODE, 0, 0x10_0000);
    let state = load(&memory, &VmDescription { memory_bytes: 2 * MIB + 8192, cmdline: "", ..vm(&image) });
    let info = Gpa::new(state.expect("a good image").gprs.get(Gpr::Rbx));
    assert_eq!(memory.read_u32(info + 12), Ok(0));
    assert_eq!(memory.read_u64(info + 16), Ok(0));
}

#[test]
fn mistakes_in_the_file_are_told_apart() {
    let load_it = |image: &[u8]| {
        let vm = VmDescription { boot: Some(BootProtocol::Pvh), ..vm(image) };
        load(&memory(64 * MIB), &vm).expect_err("not good")
    };
    let cut = good();
    assert!(matches!(load_it(&cut[..cut.len() - 1]), LoadError::Truncated { .. }));
    assert!(matches!(load_it(&cut[..70]), LoadError::BadElf { .. }));
    let mut arm = good();
    arm[18..20].copy_from_slice(&183_u16.to_le_bytes());
    assert!(matches!(load_it(&arm), LoadError::WrongArchitecture { found: OtherArchitecture::Elf(183), .. }));
    let mut no_note = good();
    no_note[64] = 0;
    assert!(matches!(load_it(&no_note), LoadError::NoPvhEntry { .. }));
    let outside = elf(2 * MIB, CODE, 0, 0x30_0000);
    assert!(
        matches!(load_it(&outside), LoadError::EntryOutside { entry, .. } if entry == Gpa::new(0x30_0000))
    );
    let low = elf(0x8000, CODE, 0, 0x8000);
    assert!(matches!(load_it(&low), LoadError::KernelTooLow { .. }));
    let large = elf(63 * MIB, CODE, MIB, 0x3f0_0000);
    assert!(matches!(load_it(&large), LoadError::KernelTooLarge { .. }));
    let wraps = elf(u64::MAX - 4, CODE, 0, 0);
    assert!(matches!(load_it(&wraps), LoadError::BadHeader { field: "p_paddr", .. }));
}

#[test]
fn a_bzimage_asked_for_by_pvh_is_refused() {
    let image = crate::testing::bzimage(4096);
    let description = VmDescription { boot: Some(BootProtocol::Pvh), ..vm(&image) };
    let error = load(&memory(64 * MIB), &description).expect_err("not ELF");
    assert_eq!(error, LoadError::NotKernel { file: "vmlinuz".into(), why: NotKernel::NotElf });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_elf_file_makes_the_loader_panic(
        changes in prop::collection::vec((4_usize..200, any::<u8>()), 1..10),
        length in 64_usize..250,
    ) {
        let mut image = elf(MIB, CODE, 100, 0x10_0000);
        for (offset, value) in changes {
            if let Some(byte) = image.get_mut(offset) {
                *byte = value;
            }
        }
        image.truncate(length);
        let _ = load(&memory(2 * MIB), &VmDescription { memory_bytes: 2 * MIB, ..vm(&image) });
    }
}
