//! Kernel images: whatever is in them, they are refused with a word, or loaded into the guest's memory.

use crate::{Bytes, Seen};
use arch::MIB;
use core::num::NonZeroU8;
use loader::{Image, MemoryLayout, Nodes, VmDescription};
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
    let mut memory = MemoryMap::new();
    let layout = MemoryLayout::new(MEMORY).expect("a fair size");
    for range in layout.ram() {
        let size = usize::try_from(range.bytes).expect("a few MiB");
        memory.add(range.start, VecBlock::new(size)).expect("ranges are apart");
    }
    let vm = VmDescription {
        memory_bytes: MEMORY,
        vcpus: NonZeroU8::MIN,
        nodes: Nodes::new(kind >> 3 & 0xf),
        kernel: Image { name: "k", bytes: &file },
        boot: None,
        initramfs: (kind & 0x80 != 0).then_some(Image { name: "i", bytes: &file }),
        cmdline: "x",
        screen: loader::Screen::None,
    };
    match loader::load(&memory, &vm) {
        Ok(entry) => seen.note_magnitude(0, entry.rip),
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

/// An ELF file with a PVH note and a segment that would load, with changes.
fn elf(bytes: &mut Bytes<'_>) -> Vec<u8> {
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
    patch(&mut file, bytes);
    file
}
