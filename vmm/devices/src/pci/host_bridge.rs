//! The host bridge: 00:00.0, the memory controller hub of Intel's Q35. Intel 3 Series Express Chipset Family datasheet,
//! "DRAM Controller Registers (D0:F0)".
//!
//! It says where the memory-mapped configuration space is. After reset that is at [`ECAM_BASE`], as firmware would
//! have left it: kernels are loaded without firmware too.
//!
//! The attributes of the memory below 1 MiB (PAM), of SMRAM, and the tops of memory are kept as written and have no
//! effect: there is RAM everywhere below 1 MiB, and no system management mode.

use super::config_space::{ConfigSpace, ConfigSpaceState};
use super::spec::Identity;
use arch::MIB;
use arch::platform_layout::ECAM_BASE;

const IDENTITY: Identity =
    Identity { vendor: 0x8086, device: 0x29c0, class: 0x06_00_00, revision: 2, subsystem: (0, 0) };

/// PCIEXBAR: the base of the memory-mapped configuration space.
const PCIEXBAR: u16 = 0x60;
const PCIEXBAR_HIGH: u16 = PCIEXBAR + 4;
const PCIEXBAR_ENABLE: u32 = 1 << 0;
const PCIEXBAR_LENGTH_SHIFT: u32 = 1;
const PCIEXBAR_KEPT: u32 = 0xfc00_0007;
const PCIEXBAR_HIGH_KEPT: u32 = 0xf;

/// Registers that are kept without effect: offset, value after reset, bits.
const KEPT: [(u16, u32, u32); 6] = [
    // PAM0 to PAM3, then PAM4 to PAM6: all memory below 1 MiB is read and written.
    (0x90, 0x3333_3330, 0x3333_3330),
    (0x94, 0x0033_3333, 0x0033_3333),
    // SMRAM control at 0x9d, extended control at 0x9e.
    (0x9c, 0x0038_0200, 0x0087_7800),
    // Top of upper usable DRAM and top of memory.
    (0xa0, 0, 0xfff0_03ff),
    // Graphics and TSEG bases: there is neither.
    (0xa4, 0, 0xfff0_0000),
    // Top of low usable DRAM.
    (0xb0, 0, 0xfff0_0000),
];

/// The bridge.
#[derive(Debug)]
pub(crate) struct HostBridge {
    space: ConfigSpace,
}

/// A range of guest-physical addresses that is the memory-mapped configuration space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ecam {
    pub(crate) base: u64,
    pub(crate) bytes: u64,
}

impl HostBridge {
    pub(crate) fn new() -> Self {
        let mut space = ConfigSpace::new(IDENTITY);
        let [low, high] = halves(ECAM_BASE.get());
        space.define(PCIEXBAR, low | PCIEXBAR_ENABLE, PCIEXBAR_KEPT);
        space.define(PCIEXBAR_HIGH, high, PCIEXBAR_HIGH_KEPT);
        for (offset, initial, kept) in KEPT {
            space.define(offset, initial, kept);
        }
        Self { space }
    }

    pub(crate) fn read_config(&self, offset: u16) -> u32 {
        self.space.get(offset)
    }

    pub(crate) fn write_config(&mut self, offset: u16, value: u32, enables: u32) {
        self.space.write(offset, value, enables);
    }

    /// Where the memory-mapped configuration space is.
    pub(crate) fn ecam(&self) -> Ecam {
        const OFF: Ecam = Ecam { base: 0, bytes: 0 };
        let register = self.space.get(PCIEXBAR);
        let bytes = match (register >> PCIEXBAR_LENGTH_SHIFT) & 3 {
            0 => 256 * MIB,
            1 => 128 * MIB,
            2 => 64 * MIB,
            _ => return OFF,
        };
        if register & PCIEXBAR_ENABLE == 0 {
            return OFF;
        }
        let base = u64::from(register) | u64::from(self.space.get(PCIEXBAR_HIGH)) << 32;
        Ecam { base: base & !(bytes - 1), bytes }
    }

    pub(crate) fn reset(&mut self) {
        self.space.reset();
    }

    pub(crate) fn save(&self) -> ConfigSpaceState {
        self.space.save()
    }

    pub(crate) fn restore(&mut self, state: &ConfigSpaceState) {
        self.space.restore(state);
    }
}

/// The halves of `value`, low first.
const fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}
