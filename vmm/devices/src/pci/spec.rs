//! Configuration mechanism #1 and the configuration header. PCI Local Bus Specification 3.0, "Software Generation
//! of Configuration Transactions" and "Configuration Space Organization".

/// Address register: the data port reaches configuration space.
pub(crate) const ENABLE: u32 = 1 << 31;
/// The address register's bits that are kept.
pub(crate) const ADDRESS_MASK: u32 = 0x80ff_fffc;

/// Where a function sits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FunctionAddress {
    pub(crate) bus: u8,
    pub(crate) device: u8,
    pub(crate) function: u8,
}

impl FunctionAddress {
    pub(crate) const HOST_BRIDGE: Self = Self { bus: 0, device: 0, function: 0 };

    /// From the address register.
    pub(crate) const fn decode(address: u32) -> Self {
        let [_, low, bus, _] = address.to_le_bytes();
        Self { bus, device: low >> 3, function: low & 7 }
    }
}

/// Vendor and device of the bridge: Red Hat's generic PCI host bridge, which needs no driver and has no quirks.
pub(crate) const HOST_BRIDGE_ID: u32 = 0x0008_1b36;
/// Class 06 (bridge), subclass 00 (host), interface 00, revision 0.
pub(crate) const HOST_BRIDGE_CLASS: u32 = 0x0600_0000;
/// Offsets of 32-bit registers in the header.
pub(crate) const OFFSET_ID: u8 = 0x00;
/// Command in the low half, status in the high half.
pub(crate) const OFFSET_COMMAND: u8 = 0x04;
pub(crate) const OFFSET_CLASS: u8 = 0x08;
/// Command bits of the bridge that are kept: I/O, memory, bus master, SERR.
pub(crate) const COMMAND_MASK: u32 = 0x0107;
