//! Kernel images: whatever is in them, they are refused with a word, or loaded into the guest's memory.

use crate::{Bytes, Seen};
use arch::{Gpa, MIB};
use core::num::NonZeroU8;
use loader::{BootProtocol, EntryState, Image, LoadError, MemoryLayout, Module, Nodes, VmDescription};
use memory::{MemoryMap, VecBlock};

/// RAM of the guest.
const MEMORY: u64 = 8 * MIB;

/// An image of which the first bytes are right, and the rest is what the input says.
pub(super) fn image(mut bytes: Bytes<'_>, seen: &mut Seen) {
    let kind = bytes.byte();
    let file = match kind % 3 {
        0 => bzimage(&mut bytes),
        1 => elf(&mut bytes),
        _ => bytes.into_rest().to_vec(),
    };
    let initramfs = (kind & 0x80 != 0).then_some(Image { name: "i", bytes: &file });
    let nodes = Nodes::new(kind >> 3 & 0xf);
    let result = load(&VmDescription { initramfs, nodes, ..described(&file) });
    judge(&result, seen);
}

/// A file with a Multiboot header that would load, with changes, and modules of any size.
pub(super) fn multiboot(mut bytes: Bytes<'_>, seen: &mut Seen) {
    let kind = bytes.byte();
    let sizes = [bytes.word(), bytes.word()].map(|word| usize::from(word) << (kind & 7));
    let boot = if kind & 8 == 0 { BootProtocol::Multiboot } else { BootProtocol::Multiboot2 };
    let mut file = match kind >> 4 & 1 {
        0 => elf_of_segments(),
        _ => vec![0; 512],
    };
    put(&mut file, 256, if kind & 8 == 0 { &HEADER_1 } else { &HEADER_2 });
    patch(&mut file, &mut bytes);
    if kind & 0x20 != 0 {
        mend_checksum(&mut file);
    }
    let contents = sizes.map(|size| vec![1; size]);
    let modules: Vec<Module<'_>> = contents
        .iter()
        .map(|bytes| Module { file: Image { name: "mk", bytes }, string: "mk with words" })
        .collect();
    let boot = (kind & 0x40 == 0).then_some(boot);
    judge(&load(&VmDescription { boot, modules: &modules, ..described(&file) }), seen);
}

/// A file as it is, at any address.
pub(super) fn flat(mut bytes: Bytes<'_>, seen: &mut Seen) {
    let shift = bytes.byte() % 64;
    let load_address = Gpa::new(u64::from(bytes.word()) << shift);
    let entry = Gpa::new(load_address.get().wrapping_add(u64::from(bytes.word())));
    let file = vec![0xf4; usize::from(bytes.word()) << (bytes.byte() % 8)];
    let boot = Some(BootProtocol::Flat { load_address, entry });
    judge(&load(&VmDescription { boot, cmdline: "", ..described(&file) }), seen);
}

fn described(file: &[u8]) -> VmDescription<'_> {
    VmDescription {
        memory_bytes: MEMORY,
        vcpus: NonZeroU8::MIN,
        nodes: None,
        kernel: Image { name: "k", bytes: file },
        boot: None,
        initramfs: None,
        modules: &[],
        cmdline: "x",
        screen: loader::Screen::None,
    }
}

fn load(vm: &VmDescription<'_>) -> Result<EntryState, LoadError> {
    let mut memory = MemoryMap::new();
    let layout = MemoryLayout::new(MEMORY).expect("a fair size");
    for range in layout.ram() {
        let size = usize::try_from(range.bytes).expect("a few MiB");
        memory.add(range.start, VecBlock::new(size)).expect("ranges are apart");
    }
    loader::load(&memory, vm)
}

/// What is loaded is entered in RAM, and what is not is told in one line that names the file.
fn judge(result: &Result<EntryState, LoadError>, seen: &mut Seen) {
    match result {
        Ok(entry) => {
            assert!(entry.cs.base + entry.rip < MEMORY, "entered outside of RAM: {entry:?}");
            seen.note_magnitude(0, entry.rip);
        }
        Err(error) => {
            let said = error.to_string();
            assert!(!said.contains('\n') && said.contains('k'), "one line that names the file: {said}");
            let kind = said
                .bytes()
                .filter(u8::is_ascii_lowercase)
                .fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
            seen.note(1, kind);
        }
    }
}

/// Replaces bytes of `file`: place, count, bytes; until the input ends.
fn patch(file: &mut [u8], bytes: &mut Bytes<'_>) {
    while !bytes.is_empty() {
        // Mostly where headers are.
        let place = usize::from(match bytes.byte() % 4 {
            0 => 0x1f0 + bytes.word() % 0x80,
            1 => bytes.word(),
            _ => bytes.word() % 0x120,
        });
        for offset in 0..usize::from(bytes.byte() % 9) {
            let byte = bytes.byte();
            if let Some(old) = file.get_mut(place + offset) {
                *old = byte;
            }
        }
    }
}

fn put(file: &mut [u8], offset: usize, bytes: &[u8]) {
    file[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// A bzImage that would load, with changes.
fn bzimage(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut file = vec![0; 2048];
    put(&mut file, 0x1f1, &[1]);
    put(&mut file, 0x1f4, &64_u32.to_le_bytes());
    put(&mut file, 0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
    put(&mut file, 0x202, b"HdrS\x0f\x02");
    put(&mut file, 0x211, &[1]);
    put(&mut file, 0x22c, &0x7fff_ffff_u32.to_le_bytes());
    put(&mut file, 0x230, &0x20_0000_u32.to_le_bytes());
    put(&mut file, 0x234, &[1]);
    put(&mut file, 0x236, &[0x3f]);
    put(&mut file, 0x238, &2047_u32.to_le_bytes());
    put(&mut file, 0x258, &0x10_0000_u64.to_le_bytes());
    put(&mut file, 0x260, &0x10_0000_u32.to_le_bytes());
    patch(&mut file, bytes);
    file
}

/// A Multiboot header for `elf_of_segments`, with address fields that would do, were they asked for.
const HEADER_1: [u8; 32] = words([
    0x1bad_b002,
    3,
    0_u32.wrapping_sub(0x1bad_b002 + 3),
    0x10_0000,
    0x10_0000,
    0x10_0040,
    0x10_1000,
    0x10_0020,
]);

/// A Multiboot2 header with a tag of each kind that there is, all of them optional.
const HEADER_2: [u8; 144] = words([
    0xe852_50d6,
    0,
    144,
    0_u32.wrapping_sub(0xe852_50d6_u32.wrapping_add(144)),
    1 | 1 << 16,
    16,
    4,
    6,
    2 | 1 << 16,
    24,
    0x10_0000,
    0x10_0000,
    0x10_0040,
    0x10_1000,
    3 | 1 << 16,
    12,
    0x10_0020,
    0,
    4 | 1 << 16,
    12,
    2,
    0,
    5 | 1 << 16,
    20,
    640,
    480,
    32,
    0,
    10 | 1 << 16,
    24,
    0x10_0000,
    0x7f_ffff,
    0x1000,
    2,
    0,
    8,
]);

/// The bytes of `words`.
const fn words<const COUNT: usize, const BYTES: usize>(words: [u32; COUNT]) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let mut index = 0;
    while index < BYTES {
        bytes[index] = words[index / 4].to_le_bytes()[index % 4];
        index += 1;
    }
    bytes
}

/// Makes the checksum of the header at 256 right again after changes, whichever it is.
fn mend_checksum(file: &mut [u8]) {
    let word = |file: &[u8], at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four"));
    let counted = if word(file, 256) == 0x1bad_b002 { 2 } else { 3 };
    let sum = (0..counted).fold(0_u32, |sum, index| sum.wrapping_add(word(file, 256 + 4 * index)));
    put(file, 256 + 4 * counted, &0_u32.wrapping_sub(sum).to_le_bytes());
}

/// An ELF file with a PVH note and a segment that would load, with changes.
fn elf(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut file = elf_of_segments();
    patch(&mut file, bytes);
    file
}

/// An ELF file with a PVH note and a segment that would load.
fn elf_of_segments() -> Vec<u8> {
    let mut file = vec![0; 512];
    put(&mut file, 0, b"\x7fELF\x02\x01\x01");
    put(&mut file, 16, &[2, 0, 62, 0, 1]);
    put(&mut file, 32, &[64]);
    put(&mut file, 52, &[64, 0, 56, 0, 2]);
    for (place, words) in
        [(64, [4 | 4 << 32, 176, 0, 0, 20, 20, 4]), (120, [1 | 7 << 32, 256, 0, 0x10_0000, 64, 4096, 4])]
    {
        for (index, word) in words.into_iter().enumerate() {
            put(&mut file, place + 8 * index, &u64::to_le_bytes(word));
        }
    }
    for (index, word) in [4, 4, 18, u32::from_le_bytes(*b"Xen\0"), 0x10_0000].into_iter().enumerate() {
        put(&mut file, 176 + 4 * index, &u32::to_le_bytes(word));
    }
    put(&mut file, 24, &0x10_0020_u64.to_le_bytes());
    file
}
