//! Models: which processor a virtual machine sees.
//!
//! `host` is the host's own, as far as it is offered; a machine of that model can go only where every feature exists. The
//! two others are the same everywhere, so that machines can move between hosts of different generations. Their names and
//! least features are those of the x86-64 psABI ("Micro-Architecture Levels"); each adds what the first processors of its
//! level had. They hide features, not instructions: what has no control of its own, as BMI, runs for a guest that does not
//! ask CPUID.

use super::Leaf;
use super::flags::{self as f, Flag, Flags};
use alloc::vec::Vec;
use core::fmt;

/// The processor that a virtual machine sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CpuModel {
    /// The host's.
    #[default]
    Host,
    /// `x86-64-v2`, as Westmere (2010).
    V2,
    /// `x86-64-v3`, as Haswell (2013).
    V3,
}

/// What a model has, if it is not the host's.
pub(super) struct Fixed {
    pub(super) flags: Flags,
    /// CPUID.1:EAX: family, model, stepping.
    pub(super) signature: u32,
    pub(super) brand: [u8; 48],
    /// Leaf 4, as a package of one core has it.
    pub(super) caches: &'static [Leaf],
    pub(super) physical_address_bits: u8,
}

/// The width of physical addresses that both have: that of the first clients of the newer, more than most servers fill.
const PHYSICAL_ADDRESS_BITS: u8 = 39;

const V2: &[Flag] = &[
    f::FPU,
    f::VME,
    f::DE,
    f::PSE,
    f::TSC,
    f::MSR,
    f::PAE,
    f::MCE,
    f::CX8,
    f::APIC,
    f::SEP,
    f::MTRR,
    f::PGE,
    f::MCA,
    f::CMOV,
    f::PAT,
    f::PSE36,
    f::CLFLUSH,
    f::MMX,
    f::FXSR,
    f::SSE,
    f::SSE2,
    f::SSE3,
    f::PCLMULQDQ,
    f::SSSE3,
    f::CMPXCHG16B,
    f::PCID,
    f::SSE4_1,
    f::SSE4_2,
    f::POPCNT,
    f::AES,
    f::LAHF,
    f::SYSCALL,
    f::NX,
    f::RDTSCP,
    f::LONG_MODE,
];

/// What the newer has beyond the older. No TSX, which microcode took away from all.
const V3: &[Flag] = &[
    f::FMA,
    f::MOVBE,
    f::XSAVE,
    f::AVX,
    f::F16C,
    f::RDRAND,
    f::FSGSBASE,
    f::BMI1,
    f::AVX2,
    f::SMEP,
    f::BMI2,
    f::ERMS,
    f::INVPCID,
    f::XSAVEOPT,
    f::LZCNT,
    f::GIB_PAGES,
];

/// Offered to every machine, as they are emulated: no host has to have them.
pub(super) const EMULATED: [Flag; 4] = [f::X2APIC, f::TSC_DEADLINE, f::TSC_ADJUST, f::HYPERVISOR];

/// Data, instructions, second level of 256 KiB, third level of 8 MiB, all with lines of 64 bytes.
const CACHES_V2: &[Leaf] = &[
    Leaf::new(0x121, 0x01c0_003f, 63, 0),
    Leaf::new(0x122, 0x00c0_003f, 127, 0),
    Leaf::new(0x143, 0x01c0_003f, 511, 0),
    Leaf::new(0x163, 0x03c0_003f, 8191, 2),
];
const CACHES_V3: &[Leaf] = &[
    Leaf::new(0x121, 0x01c0_003f, 63, 0),
    Leaf::new(0x122, 0x01c0_003f, 63, 0),
    Leaf::new(0x143, 0x01c0_003f, 511, 0),
    Leaf::new(0x163, 0x03c0_003f, 8191, 6),
];

impl CpuModel {
    /// All models.
    pub const ALL: [Self; 3] = [Self::Host, Self::V2, Self::V3];

    /// What the configuration calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::V2 => "x86-64-v2",
            Self::V3 => "x86-64-v3",
        }
    }

    pub(super) fn fixed(self) -> Option<Fixed> {
        let v2 = || V2.iter().chain(&EMULATED).copied();
        match self {
            Self::Host => None,
            Self::V2 => Some(Fixed {
                flags: Flags::of(v2()),
                signature: 0x0002_06c2,
                brand: brand("Craton virtual CPU x86-64-v2"),
                caches: CACHES_V2,
                physical_address_bits: PHYSICAL_ADDRESS_BITS,
            }),
            Self::V3 => Some(Fixed {
                flags: Flags::of(v2().chain(V3.iter().copied())),
                signature: 0x0003_06c3,
                brand: brand("Craton virtual CPU x86-64-v3"),
                caches: CACHES_V3,
                physical_address_bits: PHYSICAL_ADDRESS_BITS,
            }),
        }
    }
}

fn brand(name: &str) -> [u8; 48] {
    let mut bytes = [0; 48];
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    bytes
}

/// Why a host cannot be the processor of a model.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpuModelMissing {
    /// The model.
    pub model: CpuModel,
    /// The features that the host has not, by name.
    pub features: Vec<&'static str>,
    /// The width of physical addresses in bits, where it is too small.
    pub physical_address_bits: Option<u8>,
}

impl fmt::Display for CpuModelMissing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this host is no {}: it lacks ", self.model.name())?;
        for (index, feature) in self.features.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{feature}")?;
        }
        if let Some(bits) = self.physical_address_bits {
            let separator = if self.features.is_empty() { "" } else { " and " };
            write!(f, "{separator}physical addresses of {PHYSICAL_ADDRESS_BITS} bits (it has {bits})")?;
        }
        Ok(())
    }
}
