//! Base address registers: what a function decodes, and where software has put it.
//! PCI Local Bus Specification 3.0, "Base Addresses".
//!
//! A register keeps the address bits above the size, so that writing all ones and reading back tells the size. Nothing
//! is latched: a new address, or a new setting of the command register, counts from the next access on. Ports below
//! [`PCI_PORTS`] are the legacy devices', and no function decodes them.

use super::config_space::ConfigSpace;
use super::spec::{BAR0, COMMAND, IO_ENABLE, MEMORY_ENABLE, ROM_ADDRESS, ROM_ENABLE};
use arch::platform_layout::PCI_PORTS;

/// Base address registers of a type 0 header.
pub(crate) const BARS: u8 = 6;

/// What a base address register decodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BarKind {
    /// Ports.
    Io,
    /// Memory below 4 GiB, not prefetchable.
    Memory32,
    /// Memory below 4 GiB, prefetchable.
    Prefetchable32,
    /// Memory anywhere, prefetchable; takes this register and the next.
    Prefetchable64,
}

/// One base address register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bar {
    /// Which register, 0 to 5.
    pub index: u8,
    /// What it decodes.
    pub kind: BarKind,
    /// How much, in bytes: a power of two, at least 4 for ports and 16 for memory.
    pub bytes: u64,
}

/// The two address spaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Space {
    Io,
    Memory,
}

impl Bar {
    const IO: u32 = 1 << 0;
    const ANYWHERE: u32 = 2 << 1;
    const PREFETCHABLE: u32 = 1 << 3;

    /// Defines the register in `space`.
    pub(crate) fn define(self, space: &mut ConfigSpace) {
        debug_assert!(self.bytes.is_power_of_two() && self.bytes >= 16 && self.index < BARS, "{self:?}");
        let address_bits = !(self.bytes - 1);
        let [low, high] = words(address_bits);
        let flags = match self.kind {
            BarKind::Io => Self::IO,
            BarKind::Memory32 => 0,
            BarKind::Prefetchable32 => Self::PREFETCHABLE,
            BarKind::Prefetchable64 => Self::ANYWHERE | Self::PREFETCHABLE,
        };
        space.define(self.register(), flags, low);
        if self.kind == BarKind::Prefetchable64 {
            space.define(self.register() + 4, 0, high);
        }
    }

    pub(crate) const fn space(self) -> Space {
        match self.kind {
            BarKind::Io => Space::Io,
            BarKind::Memory32 | BarKind::Prefetchable32 | BarKind::Prefetchable64 => Space::Memory,
        }
    }

    /// The first and last address that `space` says it decodes, `None` if it decodes nothing: its space is off in the
    /// command register, or the end would be past the space's.
    pub(crate) fn range(self, space: &ConfigSpace) -> Option<(u64, u64)> {
        let command = space.get(COMMAND);
        let low = u64::from(space.get(self.register())) & !(self.bytes - 1);
        let (enabled, start, end) = match self.kind {
            BarKind::Io => (command & IO_ENABLE, low, 0xffff),
            BarKind::Memory32 | BarKind::Prefetchable32 => (command & MEMORY_ENABLE, low, 0xffff_ffff),
            BarKind::Prefetchable64 => {
                (command & MEMORY_ENABLE, low | u64::from(space.get(self.register() + 4)) << 32, u64::MAX)
            }
        };
        let last = start.checked_add(self.bytes - 1)?;
        if self.kind == BarKind::Io && start < u64::from(PCI_PORTS.0) {
            return None;
        }
        (enabled != 0 && last <= end).then_some((start, last))
    }

    const fn register(self) -> u16 {
        BAR0 + 4 * self.index as u16
    }
}

/// The expansion ROM's base address register, which counts as the one behind the others.
pub(crate) const ROM: u8 = BARS;
/// The least that it decodes, in bytes.
const LEAST_ROM: u64 = 2048;

/// What the expansion ROM's register decodes for a ROM of `bytes`.
const fn rom_size(bytes: u64) -> u64 {
    let size = bytes.next_power_of_two();
    if size < LEAST_ROM { LEAST_ROM } else { size }
}

/// Defines the expansion ROM's register in `space`. PCI Local Bus Specification 3.0, "Expansion ROM Base Address
/// Register".
pub(crate) fn define_rom(space: &mut ConfigSpace, bytes: u64) {
    let [address_bits, _] = words(!(rom_size(bytes) - 1));
    space.define(ROM_ADDRESS, 0, address_bits | ROM_ENABLE);
}

/// The first and last address of a ROM of `bytes`, `None` if it is not decoded.
pub(crate) fn rom_range(space: &ConfigSpace, bytes: u64) -> Option<(u64, u64)> {
    let register = space.get(ROM_ADDRESS);
    let start = u64::from(register) & !(rom_size(bytes) - 1);
    let enabled = register & ROM_ENABLE != 0 && space.get(COMMAND) & MEMORY_ENABLE != 0;
    enabled.then_some((start, start + (rom_size(bytes) - 1)))
}

/// The halves of `value`, low first.
const fn words(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}
