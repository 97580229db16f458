//! Guest memory and made-up images for this crate's tests.

use crate::{Image, MemoryLayout, VmDescription};
use arch::{Gpa, MIB};
use core::num::NonZeroU8;
use memory::{GuestMemory, MemoryMap, VecBlock};

/// Zeroed memory as [`MemoryLayout`] lays it out.
pub(crate) fn memory(bytes: u64) -> MemoryMap<VecBlock> {
    let mut map = MemoryMap::new();
    for range in MemoryLayout::new(bytes).expect("a fair size").ram() {
        let size = usize::try_from(range.bytes).expect("fits the host");
        map.add(range.start, VecBlock::new(size)).expect("ranges are disjoint");
    }
    map
}

pub(crate) fn read(memory: &impl GuestMemory, gpa: Gpa, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    memory.read(gpa, &mut bytes).expect("RAM");
    bytes
}

/// A machine with 64 MiB that boots `bytes`.
pub(crate) fn vm(bytes: &[u8]) -> VmDescription<'_> {
    VmDescription {
        memory_bytes: 64 * MIB,
        vcpus: NonZeroU8::MIN,
        nodes: None,
        kernel: Image { name: "vmlinuz", bytes },
        boot: None,
        initramfs: None,
        modules: &[],
        cmdline: "console=ttyS0",
        screen: crate::Screen::None,
    }
}

/// A bzImage with one setup sector, `code_bytes` of code (a multiple of 16), 32 MiB of `init_size`, and the preferred
/// address 16 MiB.
pub(crate) fn bzimage(code_bytes: usize) -> Vec<u8> {
    let mut image = vec![0; 1024];
    let mut put = |offset: usize, bytes: &[u8]| image[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]);
    put(0x1f4, &u32::try_from(code_bytes / 16).expect("small").to_le_bytes());
    put(0x1fe, &[0x55, 0xaa]);
    put(0x200, &[0xeb, 0x6a]);
    put(0x202, b"HdrS");
    put(0x206, &0x020f_u16.to_le_bytes());
    put(0x211, &[1]);
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes());
    put(0x230, &0x20_0000_u32.to_le_bytes());
    put(0x234, &[1]);
    put(0x236, &0x3f_u16.to_le_bytes());
    put(0x238, &2047_u32.to_le_bytes());
    put(0x258, &0x100_0000_u64.to_le_bytes());
    put(0x260, &0x200_0000_u32.to_le_bytes());
    image.extend((0..code_bytes).map(|index| u8::try_from(index % 251).expect("a byte")));
    image
}

/// An ELF64 kernel: one segment of `bytes` at `paddr` with `zeroes` after it, and a PVH note that names `entry`.
pub(crate) fn elf(paddr: u64, bytes: &[u8], zeroes: u64, entry: u32) -> Vec<u8> {
    const HEADERS: u64 = 64 + 2 * 56;
    let mut note = Vec::new();
    note.extend(4_u32.to_le_bytes());
    note.extend(4_u32.to_le_bytes());
    note.extend(18_u32.to_le_bytes());
    note.extend(b"Xen\0");
    note.extend(entry.to_le_bytes());
    let note_bytes = note.len() as u64;

    let mut file = Vec::from(b"\x7fELF\x02\x01\x01".as_slice());
    file.resize(16, 0);
    file.extend(2_u16.to_le_bytes());
    file.extend(62_u16.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.extend(64_u64.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 2, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    let mut program_header = |kind: u32, offset: u64, paddr: u64, filesz: u64, memsz: u64| {
        file.extend(kind.to_le_bytes());
        file.extend(7_u32.to_le_bytes());
        for word in [offset, paddr, paddr, filesz, memsz, 4] {
            file.extend(word.to_le_bytes());
        }
    };
    let length = bytes.len() as u64;
    program_header(4, HEADERS, 0, note_bytes, note_bytes);
    let place = (HEADERS + note_bytes).next_multiple_of(8);
    program_header(1, place, paddr, length, length + zeroes);
    file.extend(note);
    file.resize(usize::try_from(place).expect("small"), 0);
    file.extend(bytes);
    file
}

/// An ELF32 kernel: one segment of `bytes` at `paddr` with `zeroes` after it, entered at `entry`.
pub(crate) fn elf32(paddr: u64, bytes: &[u8], zeroes: u64, entry: u64) -> Vec<u8> {
    const HEADERS: u64 = 52 + 32;
    let mut file = Vec::from(b"\x7fELF\x01\x01\x01".as_slice());
    file.resize(16, 0);
    let mut word = |value: u64| file.extend(u32::try_from(value).expect("32 bits").to_le_bytes());
    word(3 << 16 | 2);
    for value in [1, entry, 52, 0, 0] {
        word(value);
    }
    for halves in [32 << 16 | 52, 40 << 16 | 1, 0] {
        word(halves);
    }
    let length = bytes.len() as u64;
    for value in [1, HEADERS, paddr, paddr, length, length + zeroes, 7, 4] {
        word(value);
    }
    file.extend(bytes);
    file
}
