//! Tests of the Multiboot loaders by what they leave in memory and by what they refuse.

use crate::testing::{elf, elf32, memory, read, vm};
use crate::{
    BootProtocol, EntryMode, EntryState, Image, LoadError, Module, MultibootProblem, NotKernel,
    VmDescription, load,
};
use arch::{Gpa, Gpr, KIB, MIB};
use memory::{GuestMemory, MemoryMap, VecBlock};
use proptest::prelude::*;

const CODE: &[u8] = b"\xf4 some code";

/// A header of version 1 with `flags` and the words behind the checksum.
fn header1(flags: u32, rest: &[u32]) -> Vec<u8> {
    let magic = 0x1bad_b002_u32;
    let checksum = 0_u32.wrapping_sub(magic).wrapping_sub(flags);
    [magic, flags, checksum].iter().chain(rest).flat_map(|word| word.to_le_bytes()).collect()
}

/// A header of version 2 with `tags` and the end tag: kind, flags, content.
fn header2(tags: &[(u16, u16, &[u32])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, flags, words) in tags.iter().chain(&[(0, 0, [].as_slice())]) {
        body.extend(kind.to_le_bytes());
        body.extend(flags.to_le_bytes());
        body.extend((8 + 4 * u32::try_from(words.len()).expect("few")).to_le_bytes());
        body.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        body.resize(body.len().next_multiple_of(8), 0);
    }
    let length = u32::try_from(16 + body.len()).expect("short");
    let magic = 0xe852_50d6_u32;
    let words = [magic, 0, length, 0_u32.wrapping_sub(magic).wrapping_sub(length)];
    let mut header: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    header.extend(body);
    header
}

/// `header` and code behind it, in no format.
fn plain(header: &[u8]) -> Vec<u8> {
    [header, CODE].concat()
}

/// A file whose header is at 32, to be loaded to 1 MiB from its byte 16 on, with 100 zeroes behind.
fn with_addresses() -> Vec<u8> {
    let length = 16 + 32 + u32::try_from(CODE.len()).expect("short");
    let addresses = [0x10_0010, 0x10_0000, 0x10_0000 + length, 0x10_0000 + length + 100, 0x10_0030];
    [[7; 32].as_slice(), &plain(&header1(1 << 16, &addresses)), b"not loaded"].concat()
}

/// An ELF kernel with `header` at 2 MiB, code behind it, and the code's address as entry point.
fn linked(header: &[u8]) -> Vec<u8> {
    let entry = 2 * MIB + header.len() as u64;
    let mut file = elf(2 * MIB, &plain(header), 100, 0);
    file[24..32].copy_from_slice(&entry.to_le_bytes());
    file
}

fn described<'a>(file: &'a [u8], boot: BootProtocol) -> VmDescription<'a> {
    VmDescription { boot: Some(boot), cmdline: "debug x=1", ..vm(file) }
}

fn load_1(file: &[u8]) -> Result<(EntryState, MemoryMap<VecBlock>), LoadError> {
    let memory = memory(64 * MIB);
    Ok((load(&memory, &described(file, BootProtocol::Multiboot))?, memory))
}

fn load_2(file: &[u8]) -> Result<(EntryState, MemoryMap<VecBlock>), LoadError> {
    let memory = memory(64 * MIB);
    Ok((load(&memory, &described(file, BootProtocol::Multiboot2))?, memory))
}

fn problem<T>(result: Result<T, LoadError>) -> MultibootProblem {
    match result {
        Err(LoadError::Multiboot { file, why }) => {
            assert_eq!(file, "vmlinuz");
            why
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("loaded"),
    }
}

fn bad_field<T>(result: Result<T, LoadError>) -> &'static str {
    match result {
        Err(LoadError::BadHeader { field, .. }) => field,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("loaded"),
    }
}

/// The text at `gpa`.
fn text(memory: &impl GuestMemory, gpa: u64) -> String {
    let bytes = (gpa..).map(|at| read(memory, Gpa::new(at), 1)[0]).take_while(|byte| *byte != 0);
    String::from_utf8(bytes.collect()).expect("text")
}

#[test]
fn registers_are_those_of_the_specifications() {
    let (state, _) = load_1(&linked(&header1(3, &[]))).expect("a good file");
    assert_eq!((state.mode, state.cr0 & 0x8000_0001, state.rflags & 0x200), (EntryMode::Protected32, 1, 0));
    assert_eq!((state.rip, state.gprs.get(Gpr::Rax)), (2 * MIB + 12, 0x2bad_b002));
    let (state, _) = load_2(&linked(&header2(&[]))).expect("a good file");
    assert_eq!((state.rip, state.gprs.get(Gpr::Rax)), (2 * MIB + 24, 0x36d7_6289));
}

#[test]
fn information_tells_memory_command_line_loader_and_modules() {
    let memory = memory(64 * MIB);
    let file = linked(&header1(3, &[]));
    let modules = [
        Module { file: Image { name: "env.txt", bytes: b"A=1\n" }, string: "env.txt" },
        Module { file: Image { name: "m", bytes: &[7; 5000] }, string: "m with words" },
    ];
    let ramdisk = Image { name: "disk", bytes: b"files" };
    let vm = VmDescription {
        modules: &modules,
        initramfs: Some(ramdisk),
        ..described(&file, BootProtocol::Multiboot)
    };
    let state = load(&memory, &vm).expect("a good file");
    let info = state.gprs.get(Gpr::Rbx);
    let word = |at: u64| u64::from(memory.read_u32(Gpa::new(at)).expect("RAM"));
    let field = |offset: u64| word(info + offset);

    assert_eq!(field(0), 0x24d);
    assert_eq!((field(4), field(8)), (640, 63 * KIB));
    assert_eq!(text(&memory, field(16)), "vmlinuz debug x=1");
    assert_eq!(text(&memory, field(64)), "Craton");
    assert_eq!(field(20), 3);
    let list: Vec<_> = (0..3)
        .map(|index| field(24) + 16 * index)
        .map(|at| (word(at), word(at + 4) - word(at), text(&memory, word(at + 8)), word(at + 12)))
        .collect();
    assert_eq!(
        list,
        [
            (2 * MIB + 0x1000, 5, "disk".into(), 0),
            (2 * MIB + 0x2000, 4, "env.txt".into(), 0),
            (2 * MIB + 0x3000, 5000, "m with words".into(), 0),
        ]
    );
    assert_eq!(read(&memory, Gpa::new(list[1].0), 4), b"A=1\n");
    let (map, map_end) = (field(48), field(48) + field(44));
    let ranges: Vec<_> = (map..map_end)
        .step_by(24)
        .map(|at| {
            let wide = |at| memory.read_u64(Gpa::new(at)).expect("RAM");
            (word(at), wide(at + 4), wide(at + 12), word(at + 20))
        })
        .collect();
    assert_eq!(ranges.len(), 4);
    assert_eq!(ranges[0], (20, 0, 640 * KIB, 1));
    assert_eq!(ranges[2], (20, MIB, 63 * MIB, 1));
}

/// Tags of the boot information at `info`: kind and content.
fn tags(memory: &impl GuestMemory, info: u64) -> Vec<(u32, Vec<u8>)> {
    let word = |at: u64| memory.read_u32(Gpa::new(at)).expect("RAM");
    let end = info + u64::from(word(info));
    assert!(info.is_multiple_of(8));
    let mut at = info + 8;
    let mut tags = Vec::new();
    while at < end {
        let size = word(at + 4);
        tags.push((word(at), read(memory, Gpa::new(at + 8), size as usize - 8)));
        at += u64::from(size).next_multiple_of(8);
    }
    assert_eq!((at, tags.last()), (end, Some(&(0, Vec::new()))));
    tags
}

#[test]
fn version_2_tells_the_same_in_tags_and_the_acpi_tables() {
    let memory = memory(64 * MIB);
    let file = linked(&header2(&[(1, 0, &[1, 4, 6, 15]), (6, 0, &[])]));
    let modules = [Module { file: Image { name: "m", bytes: b"abc" }, string: "m x" }];
    let vm = VmDescription { modules: &modules, ..described(&file, BootProtocol::Multiboot2) };
    let state = load(&memory, &vm).expect("a good file");
    let tags = tags(&memory, state.gprs.get(Gpr::Rbx));
    let tag = |kind| tags.iter().find(|(found, _)| *found == kind).map(|(_, content)| content.as_slice());

    assert_eq!(tag(1), Some(b"vmlinuz debug x=1\0".as_slice()));
    assert_eq!(tag(2), Some(b"Craton\0".as_slice()));
    let module = tag(3).expect("a module");
    assert_eq!(module[8..], *b"m x\0");
    let at = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four"));
    assert_eq!((at(&module[..4]), at(&module[4..8])), (0x20_1000, 0x20_1003));
    assert_eq!(read(&memory, Gpa::new(0x20_1000), 3), b"abc");
    assert_eq!(tag(4).map(|sizes| (at(&sizes[..4]), at(&sizes[4..]))), Some((640, 63 * 1024)));
    let map = tag(6).expect("a memory map");
    assert_eq!((at(&map[..4]), at(&map[4..8]), map.len()), (24, 0, 8 + 4 * 24));
    assert_eq!((at(&map[8 + 48..][..4]), at(&map[8 + 64..][..4])), (0x10_0000, 1));
    assert_eq!(tag(14).map(|root| (root.len(), &root[..8])), Some((20, b"RSD PTR ".as_slice())));
    assert_eq!(tag(15).map(|root| (root.len(), &root[..8])), Some((36, b"RSD PTR ".as_slice())));
    for absent in [5, 7, 8, 9, 10, 11, 12, 17, 18, 19, 20, 21] {
        assert_eq!(tag(absent), None, "tag {absent}");
    }
}

#[test]
fn addresses_in_the_header_count_whatever_the_file_is() {
    let file = with_addresses();
    let memory = memory(64 * MIB);
    memory.write(Gpa::new(MIB), &[0xff; 400]).expect("RAM");
    let state = load(&memory, &described(&file, BootProtocol::Multiboot)).expect("a good file");
    assert_eq!(state.rip, 0x10_0030);
    let end = 48 + CODE.len();
    let loaded = read(&memory, Gpa::new(MIB), 400);
    assert_eq!(loaded[..end], file[16..16 + end]);
    assert_eq!(loaded[end..end + 100], [0; 100]);
    assert_eq!(loaded[end + 100], 0xff);
}

#[test]
fn all_of_the_file_is_loaded_where_no_end_is_given() {
    let file = plain(&header1(1 << 16, &[0x20_0000, 0x20_0000, 0, 0, 0x20_0020]));
    let (state, memory) = load_1(&file).expect("a good file");
    assert_eq!((state.rip, read(&memory, Gpa::new(2 * MIB), file.len())), (0x20_0020, file));

    let tags = header2(&[(2, 0, &[0x20_0000, u32::MAX, 0, 0]), (3, 0, &[0x20_0000])]);
    let file = [[9; 16].as_slice(), &plain(&tags)].concat();
    let (state, memory) = load_2(&file).expect("a good file");
    assert_eq!((state.rip, read(&memory, Gpa::new(2 * MIB - 16), file.len())), (0x20_0000, file));
}

#[test]
fn elf_files_of_32_bits_are_kernels_too() {
    let file = elf32(2 * MIB, &plain(&header1(0, &[])), 10, 2 * MIB + 12);
    let (state, memory) = load_1(&file).expect("a good file");
    assert_eq!(state.rip, 2 * MIB + 12);
    assert_eq!(read(&memory, Gpa::new(2 * MIB + 12), CODE.len()), CODE);
}

#[test]
fn virtual_entry_points_are_taken_for_the_physical_ones_they_stand_for() {
    let mut file = linked(&header1(0, &[]));
    // The virtual address of the second program header.
    file[120 + 16..][..8].copy_from_slice(&0xffff_ffff_8020_0000_u64.to_le_bytes());
    file[24..32].copy_from_slice(&0xffff_ffff_8020_000c_u64.to_le_bytes());
    let (state, _) = load_1(&file).expect("a good file");
    assert_eq!(state.rip, 2 * MIB + 12);
}

#[test]
fn relocatable_kernels_go_where_they_like_best_and_are_told() {
    let tag =
        |lowest, highest, preference| linked(&header2(&[(10, 1, &[lowest, highest, 0x20_0000, preference])]));
    for (preference, base) in [(0, 16 * MIB), (1, 16 * MIB), (2, 62 * MIB)] {
        let (state, memory) = load_2(&tag(0x100_0000, u32::MAX, preference)).expect("a good file");
        assert_eq!(read(&memory, Gpa::new(state.rip), CODE.len()), CODE);
        let tags = tags(&memory, state.gprs.get(Gpr::Rbx));
        let told = tags.iter().find(|(kind, _)| *kind == 21).map(|(_, content)| content.as_slice());
        assert_eq!(told, Some(u32::to_le_bytes(u32::try_from(base).expect("low")).as_slice()));
        assert!((base..base + 0x1000).contains(&state.rip));
    }
    let nowhere = problem(load_2(&tag(0x1000_0000, u32::MAX, 0)));
    assert!(matches!(nowhere, MultibootProblem::NoPlace { lowest: 0x1000_0000, room: 0, .. }));
}

#[test]
fn modules_and_information_keep_out_of_each_others_way() {
    // A kernel that fills conventional memory, and all but a little of the rest.
    let addresses = [0x1000, 0x1000, 0, 0xa_0000, 0x1000];
    let file = plain(&header1(1 << 16, &addresses));
    let memory = memory(2 * MIB);
    let module = vec![5; 1024 * 1024 - 4096];
    let modules = [Module { file: Image { name: "m", bytes: &module }, string: "m" }];
    let described = VmDescription {
        memory_bytes: 2 * MIB,
        modules: &modules,
        ..described(&file, BootProtocol::Multiboot)
    };
    let state = load(&memory, &described).expect("just enough room");
    assert_eq!(state.gprs.get(Gpr::Rbx), 2 * MIB - 4096);
    let large = [5; 4096];
    let second = Module { file: Image { name: "n", bytes: &large }, string: "n" };
    let modules = [modules[0], second];
    let error = load(&memory, &VmDescription { modules: &modules, ..described }).expect_err("no room");
    assert!(matches!(error, LoadError::NoRoomForBootInformation { room: 0, .. }), "{error}");
    let modules = [modules[0], second, second];
    let error = load(&memory, &VmDescription { modules: &modules, ..described }).expect_err("no room");
    assert!(matches!(&error, LoadError::ModuleTooLarge { file, room: 0, .. } if file == "n"), "{error}");
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let flags = |flags| problem(load_1(&linked(&header1(flags, &[]))));
    assert_eq!(flags(4), MultibootProblem::Screen);
    assert_eq!(flags(0x8003), MultibootProblem::Flags(0x8000));
    assert!(load_1(&linked(&header1(0xfffe_0003, &[]))).is_ok(), "flags that may be ignored");
    assert_eq!(problem(load_1(&[0; 9000])), MultibootProblem::NoHeader1);
    assert_eq!(problem(load_2(&[0; 40000])), MultibootProblem::NoHeader2);

    let tag = |kind, flags, words: &[u32]| load_2(&linked(&header2(&[(kind, flags, words)])));
    assert_eq!(problem(tag(1, 0, &[1, 8])), MultibootProblem::Information(8));
    assert_eq!(problem(tag(5, 0, &[640, 480, 32])), MultibootProblem::Screen);
    assert_eq!(problem(tag(4, 0, &[3])), MultibootProblem::Screen);
    assert_eq!(problem(tag(77, 0, &[])), MultibootProblem::Tag(77));
    for (kind, flags, words) in
        [(1, 1, [1, 8].as_slice()), (5, 1, &[0, 0, 0]), (4, 0, &[2]), (77, 1, &[]), (7, 0, &[]), (9, 1, &[0])]
    {
        assert!(tag(kind, flags, words).is_ok(), "tag {kind}");
    }
    let mut mips = linked(&header2(&[]));
    let at = mips.windows(4).position(|bytes| bytes == [0xd6, 0x50, 0x52, 0xe8]).expect("a header");
    mips[at + 4] = 4;
    mips[at + 12] = mips[at + 12].wrapping_sub(4);
    assert_eq!(problem(load_2(&mips)), MultibootProblem::Architecture(4));
}

#[test]
fn damaged_headers_are_told_by_field() {
    let addresses = |words: [u32; 5]| load_1(&plain(&header1(1 << 16, &words)));
    assert_eq!(bad_field(addresses([0x10_0000, 0x10_0010, 0, 0, 0])), "load_addr");
    assert_eq!(bad_field(addresses([0x10_0010, 0x10_0000, 0, 0, 0])), "load_addr");
    assert_eq!(bad_field(addresses([0x10_0000, 0x10_0000, 0xf_ffff, 0, 0])), "load_end_addr");
    assert_eq!(bad_field(addresses([0x10_0000, 0x10_0000, 0x10_0010, 0x10_000f, 0])), "bss_end_addr");
    let long = addresses([0x10_0000, 0x10_0000, 0x10_1000, 0, 0]);
    assert!(matches!(long, Err(LoadError::Truncated { needs: 4096, .. })));
    let outside = addresses([0x10_0000, 0x10_0000, 0, 0, 0x20_0000]);
    assert!(matches!(outside, Err(LoadError::EntryOutside { .. })));
    let over = addresses([0xf_fff0, 0xf_fff0, 0, 0, 0xf_fff0]);
    assert!(matches!(over, Err(LoadError::KernelOverFirmware { .. })));
    let far = addresses([0xffff_fff0, 0xffff_fff0, 0, 0, 0xffff_fff0]);
    assert!(matches!(far, Err(LoadError::KernelTooLarge { .. })));
    let cut = with_addresses()[..60].to_vec();
    assert!(matches!(load_1(&cut), Err(LoadError::Truncated { needs: 64, .. })));
    let no_format = plain(&header1(0, &[]));
    assert!(
        matches!(load_1(&no_format), Err(LoadError::NotKernel { why: NotKernel::NoAddresses, .. })),
        "neither"
    );

    let tags = |tags: &[(u16, u16, &[u32])]| load_2(&plain(&header2(tags)));
    assert_eq!(bad_field(tags(&[(2, 0, &[0x10_0000, 0x10_0000, 0, 0])])), "entry_addr");
    assert_eq!(bad_field(tags(&[(2, 0, &[0x10_0000])])), "tag size");
    assert_eq!(bad_field(tags(&[(10, 0, &[0, 0, 3, 0])])), "align");
    let mut small = linked(&header2(&[(77, 1, &[])]));
    let at = small.windows(4).position(|bytes| bytes == [77, 0, 1, 0]).expect("the tag");
    small[at + 4] = 7;
    assert_eq!(bad_field(load_2(&small)), "tag size");
    small.truncate(at + 8);
    assert!(load_2(&small).is_err());
}

#[test]
fn overlapping_parts_are_refused() {
    let mut file = linked(&header1(0, &[]));
    // A third program header in place of the note's: the same segment again.
    file.copy_within(120..176, 64);
    let error = load_1(&file).expect_err("two at one place");
    assert!(matches!(error, LoadError::PartsOverlap { start, .. } if start == Gpa::new(2 * MIB)), "{error}");
}

#[test]
fn compressed_kernels_are_told_to_be_so() {
    let error = load_1(b"\x1f\x8b\x08 and so on").expect_err("compressed");
    assert_eq!(error, LoadError::NotKernel { file: "vmlinuz".into(), why: NotKernel::Compressed("gzip") });
}

/// Loads `file` by each protocol and by its looks, with two modules and little memory.
fn load_any_way(file: &[u8]) {
    let modules = [
        Module { file: Image { name: "a", bytes: b"a" }, string: "a" },
        Module { file: Image { name: "b", bytes: file }, string: "b x" },
    ];
    for boot in [Some(BootProtocol::Multiboot), Some(BootProtocol::Multiboot2), None] {
        let memory = memory(4 * MIB);
        let vm = VmDescription { memory_bytes: 4 * MIB, boot, modules: &modules, ..vm(file) };
        match load(&memory, &vm) {
            Ok(state) => assert!(state.rip < 4 * MIB),
            Err(error) => assert!(error.to_string().contains('`') || !error.to_string().is_empty()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_header_makes_the_loader_panic(
        kind in 0..4,
        changes in prop::collection::vec((0_usize..300, any::<u8>()), 0..10),
        words in prop::array::uniform5(any::<u32>()),
        length in 0_usize..400,
    ) {
        let mut file = match kind {
            0 => with_addresses(),
            1 => linked(&header1(3, &[])),
            2 => linked(&header2(&[(1, 0, &[1, 4]), (10, 1, &words[..4]), (3, 1, &words[..1])])),
            _ => plain(&header2(&[(2, 0, &words[..4]), (3, 0, &words[4..])])),
        };
        for (offset, value) in changes {
            if let Some(byte) = file.get_mut(offset) {
                *byte = value;
            }
        }
        file.truncate(length.max(40));
        load_any_way(&file);
    }

    #[test]
    fn no_address_fields_make_the_loader_panic(words in prop::array::uniform5(any::<u32>()), low in any::<bool>()) {
        let words = words.map(|word| if low { 0x10_0000 + word % 0x1000 } else { word });
        load_any_way(&plain(&header1(1 << 16, &words)));
    }
}
