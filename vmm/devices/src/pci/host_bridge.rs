//! The host bridge: 00:00.0, the memory controller hub of Intel's Q35. Intel 3 Series Express Chipset Family datasheet,
//! "DRAM Controller Registers (D0:F0)".
//!
//! It says where the memory-mapped configuration space is, and what is seen from 0xC0000 to 1 MiB (PAM). After reset the
//! one is off, and the other leads away from RAM. A kernel that is loaded without firmware finds what firmware would
//! have left: the space is at [`ECAM_BASE`], and there is RAM everywhere below 1 MiB, which PAM does not switch then.
//!
//! The attributes of SMRAM and the tops of memory are kept as written and have no effect: there is no system management
//! mode.

use super::config_space::{ConfigSpace, ConfigSpaceState};
use super::spec::Identity;
use crate::lanes::low_byte;
use arch::platform_layout::{ECAM_BASE, SWITCHED_BASE};
use arch::{Gpa, MIB};

const IDENTITY: Identity =
    Identity { vendor: 0x8086, device: 0x29c0, class: 0x06_00_00, revision: 2, subsystem: (0, 0) };

/// PCIEXBAR: the base of the memory-mapped configuration space.
const PCIEXBAR: u16 = 0x60;
const PCIEXBAR_HIGH: u16 = PCIEXBAR + 4;
const PCIEXBAR_ENABLE: u32 = 1 << 0;
const PCIEXBAR_LENGTH_SHIFT: u32 = 1;
const PCIEXBAR_KEPT: u32 = 0xfc00_0007;
const PCIEXBAR_HIGH_KEPT: u32 = 0xf;

/// PAM0 to PAM3, then PAM4 to PAM6: each has two fields of two bits, in bits 1:0 and 5:4.
const PAM: [(u16, u32); 2] = [(0x90, 0x3333_3330), (0x94, 0x0033_3333)];
/// PAM: reads find RAM.
const READ_ENABLE: u8 = 1 << 0;
/// PAM: writes find RAM.
const WRITE_ENABLE: u8 = 1 << 1;

/// Who starts the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartedBy {
    /// Whoever loads a kernel, in the place of firmware.
    Loader,
    /// Firmware.
    Firmware,
}

/// A part of the memory below 1 MiB that PAM switches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PamSegment {
    /// Its first address.
    pub base: Gpa,
    /// Its length in bytes.
    pub bytes: u64,
    /// The byte of configuration space, and the bit in it, where its field is.
    field: (u16, u32),
    /// Reads find RAM.
    pub reads_ram: bool,
    /// Writes find RAM.
    pub writes_ram: bool,
}

/// The parts, in order of address, as they are after reset.
pub const PAM_SEGMENTS: [PamSegment; 13] = {
    let mut segments = [PamSegment {
        base: SWITCHED_BASE,
        bytes: 0x4000,
        field: (0x91, 0),
        reads_ram: false,
        writes_ram: false,
    }; 13];
    let mut index = 1;
    let mut field = (0x91, 4);
    while index < segments.len() {
        let before = segments[index - 1];
        segments[index].base = Gpa::new(before.base.get() + before.bytes);
        segments[index].field = field;
        field = if field.1 == 0 { (field.0, 4) } else { (field.0 + 1, 0) };
        index += 1;
    }
    // The last is the segment of the reset vector, whole, and the first register's.
    segments[12].bytes = 0x1_0000;
    segments[12].field = (0x90, 4);
    segments
};

/// Registers that are kept without effect: offset, value after reset, bits.
const KEPT: [(u16, u32, u32); 4] = [
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
    started_by: StartedBy,
}

/// A range of guest-physical addresses that is the memory-mapped configuration space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ecam {
    pub(crate) base: u64,
    pub(crate) bytes: u64,
}

impl HostBridge {
    pub(crate) fn new(started_by: StartedBy) -> Self {
        let mut space = ConfigSpace::new(IDENTITY);
        let [low, high] = halves(ECAM_BASE.get());
        let enable = match started_by {
            StartedBy::Loader => PCIEXBAR_ENABLE,
            StartedBy::Firmware => 0,
        };
        space.define(PCIEXBAR, low | enable, PCIEXBAR_KEPT);
        space.define(PCIEXBAR_HIGH, high, PCIEXBAR_HIGH_KEPT);
        for (offset, kept) in PAM {
            let initial = match started_by {
                StartedBy::Loader => kept,
                StartedBy::Firmware => 0,
            };
            space.define(offset, initial, kept);
        }
        for (offset, initial, kept) in KEPT {
            space.define(offset, initial, kept);
        }
        Self { space, started_by }
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

    /// What of the memory below 1 MiB is RAM, in order of address. A machine without firmware has RAM there in any case.
    pub(crate) fn pam(&self) -> impl Iterator<Item = PamSegment> {
        PAM_SEGMENTS.into_iter().map(|segment| {
            let (byte, shift) = segment.field;
            let register = self.space.get(byte & !3) >> (8 * u32::from(byte & 3));
            let field = low_byte(register >> shift);
            let is_fixed = self.started_by == StartedBy::Loader;
            PamSegment {
                reads_ram: is_fixed || field & READ_ENABLE != 0,
                writes_ram: is_fixed || field & WRITE_ENABLE != 0,
                ..segment
            }
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The segments that reads and writes find RAM in, a bit each.
    fn ram(bridge: &HostBridge) -> (u16, u16) {
        bridge.pam().enumerate().fold((0, 0), |(reads, writes), (index, segment)| {
            (reads | u16::from(segment.reads_ram) << index, writes | u16::from(segment.writes_ram) << index)
        })
    }

    #[test]
    fn segments_cover_the_memory_below_1_mib_without_gaps() {
        let mut end = 0xc_0000;
        for segment in PAM_SEGMENTS {
            assert_eq!(segment.base.get(), end);
            end += segment.bytes;
        }
        assert_eq!(end, 0x10_0000);
    }

    #[test]
    fn each_field_switches_its_segment() {
        // The datasheet's order: PAM0 has the last segment, in its high half; then two a register, the low half first.
        let fields: Vec<(u16, u32)> =
            (0..12).map(|index| (0x91 + index / 2, 4 * u32::from(index % 2))).collect();
        for (index, (byte, shift)) in fields.into_iter().chain([(0x90, 4)]).enumerate() {
            let mut bridge = HostBridge::new(StartedBy::Firmware);
            assert_eq!(ram(&bridge), (0, 0));
            for (field, reads, writes) in [(1, 1, 0), (2, 0, 1), (3, 1, 1), (0, 0, 0)] {
                let lane = 8 * u32::from(byte & 3) + shift;
                bridge.write_config(byte & !3, field << lane, 3 << lane);
                assert_eq!(ram(&bridge), (reads << index, writes << index));
            }
        }
    }

    #[test]
    fn without_firmware_everything_is_ram_and_stays_so() {
        let mut bridge = HostBridge::new(StartedBy::Loader);
        assert_eq!((bridge.read_config(0x90), bridge.read_config(0x94)), (0x3333_3330, 0x0033_3333));
        bridge.write_config(0x90, 0, u32::MAX);
        assert_eq!((bridge.read_config(0x90), ram(&bridge)), (0, (0x1fff, 0x1fff)));
        assert!(bridge.ecam().bytes > 0);
        assert_eq!(HostBridge::new(StartedBy::Firmware).ecam().bytes, 0, "firmware turns it on");
    }
}
