//! The CPUID leaves of the processor that the simulation pretends to run on.
//!
//! SDM Vol. 2A, "CPUID—CPU Identification".

use vmm::Leaf;

/// A leaf of the pretended processor: every feature bit set, XSAVE components as a server processor lays them out.
pub fn host_leaf(leaf: u32, subleaf: u32) -> Leaf {
    let (eax, ebx, ecx, edx) = match (leaf, subleaf) {
        (0, _) => (0x1f, 0x756e_6547, 0x6c65_746e, 0x4965_6e69),
        (1, _) => (0x0005_0654, 0x1234_0800, u32::MAX, u32::MAX),
        (4, 0..4) => (0x1c00_4121, 0x01c0_003f, 0x3f, 0),
        (4, _) => (0, 0, 0, 0),
        (0xd, 1) => (0xf, 0, 0, 0),
        (0xd, 2) => (256, 576, 0, 0),
        (0xd, 5) => (64, 1088, 2, 0),
        (0xd, 6) => (512, 1152, 2, 0),
        (0xd, 7) => (1024, 1664, 2, 0),
        (0xd, 9) => (8, 2688, 0, 0),
        (0x8000_0008, _) => (39 | 48 << 8, 0, 0, 0),
        _ => (u32::MAX, u32::MAX, u32::MAX, u32::MAX),
    };
    Leaf { eax, ebx, ecx, edx }
}
