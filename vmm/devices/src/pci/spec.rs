//! Configuration space: addresses, header, and the capabilities that functions here have. PCI Local Bus Specification
//! 3.0, "Configuration Space Organization", "Message Signaled Interrupts"; PCI Express Base Specification 3.1,
//! "PCI Express Capability Structure".

/// Address register of mechanism #1: the data port reaches configuration space.
pub(crate) const ENABLE: u32 = 1 << 31;
/// The address register's bits that are kept.
pub(crate) const ADDRESS_MASK: u32 = 0x80ff_fffc;

/// Bytes of configuration space that mechanism #1 reaches, and that a function has without extended capabilities.
pub(crate) const CONFIG_BYTES: u16 = 0x100;

/// Vendor in the low half, device in the high half.
pub(crate) const ID: u16 = 0x00;
/// Command in the low half, status in the high half.
pub(crate) const COMMAND: u16 = 0x04;
/// Revision in the low byte, class above.
pub(crate) const CLASS: u16 = 0x08;
/// The first of six base address registers.
pub(crate) const BAR0: u16 = 0x10;
/// Subsystem vendor and device.
pub(crate) const SUBSYSTEM: u16 = 0x2c;
/// Base address register of the expansion ROM.
pub(crate) const ROM_ADDRESS: u16 = 0x30;
/// In it: the ROM is decoded.
pub(crate) const ROM_ENABLE: u32 = 1 << 0;
/// Offset of the first capability.
pub(crate) const CAPABILITIES: u16 = 0x34;
/// Interrupt line in the low byte, pin in the next.
pub(crate) const INTERRUPT: u16 = 0x3c;
/// Where capabilities may begin.
pub(crate) const FIRST_CAPABILITY: u8 = 0x40;

/// Command: decodes I/O base addresses.
pub(crate) const IO_ENABLE: u32 = 1 << 0;
/// Command: decodes memory base addresses.
pub(crate) const MEMORY_ENABLE: u32 = 1 << 1;
/// Command: may write to memory, and so send interrupt messages.
pub(crate) const BUS_MASTER: u32 = 1 << 2;
/// Command: does not drive its interrupt pin.
pub(crate) const INTX_DISABLE: u32 = 1 << 10;
/// Command bits that are kept: those above, parity error response and SERR.
pub(crate) const COMMAND_KEPT: u32 = IO_ENABLE | MEMORY_ENABLE | BUS_MASTER | 1 << 6 | 1 << 8 | INTX_DISABLE;
/// Status: the function asks for an interrupt by its pin.
pub(crate) const INTERRUPT_STATUS: u32 = 1 << 19;
/// Status: there are capabilities.
pub(crate) const HAS_CAPABILITIES: u32 = 1 << 20;

/// Capability identifiers.
pub(crate) const CAPABILITY_MSI: u8 = 0x05;
pub(crate) const CAPABILITY_EXPRESS: u8 = 0x10;
pub(crate) const CAPABILITY_MSIX: u8 = 0x11;

/// PCI Express capability: version 2, of an endpoint that is integrated in the root complex.
pub(crate) const EXPRESS_VERSION_AND_TYPE: u16 = 9 << 4 | 2;
/// Device capabilities: role-based error reporting; payloads of 128 bytes.
pub(crate) const EXPRESS_DEVICE_CAPABILITIES: u32 = 1 << 15;
/// Device control bits that are kept: error reporting, relaxed ordering, no snoop, sizes of payload and read request.
pub(crate) const EXPRESS_DEVICE_CONTROL_KEPT: u32 = 0x78ff;
/// Length of the capability's second version, in 4-byte registers.
pub(crate) const EXPRESS_WORDS: usize = 15;

/// What a function is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Class code: base class, subclass, programming interface, from bit 23 down.
    pub class: u32,
    /// Revision ID.
    pub revision: u8,
    /// Subsystem vendor and subsystem ID.
    pub subsystem: (u16, u16),
}

/// Where a function sits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FunctionAddress {
    /// Bus.
    pub bus: u8,
    /// Device on the bus, 0 to 31.
    pub device: u8,
    /// Function of the device, 0 to 7.
    pub function: u8,
}

impl FunctionAddress {
    /// The host bridge.
    pub const HOST_BRIDGE: Self = Self { bus: 0, device: 0, function: 0 };
    /// The bridge to the legacy devices.
    pub const ISA_BRIDGE: Self = Self { bus: 0, device: 0x1f, function: 0 };

    /// From the address register of mechanism #1.
    pub(crate) const fn from_address(address: u32) -> Self {
        let [_, low, bus, _] = address.to_le_bytes();
        Self { bus, device: low >> 3, function: low & 7 }
    }

    /// From an offset in the memory-mapped configuration space. PCI Express Base Specification, "PCI Express Enhanced
    /// Configuration Access Mechanism (ECAM)".
    pub(crate) const fn from_ecam(offset: u64) -> Self {
        let [_, low, middle, high, ..] = offset.to_le_bytes();
        let function_and_device = low_nibbles(low, middle);
        Self {
            bus: (middle >> 4) | (high << 4),
            device: function_and_device >> 3,
            function: function_and_device & 7,
        }
    }
}

/// Bits 19 to 12 of an offset whose second byte is `low` and whose third is `middle`.
const fn low_nibbles(low: u8, middle: u8) -> u8 {
    (low >> 4) | (middle << 4)
}
