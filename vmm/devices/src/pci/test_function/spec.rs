//! Registers of the test function. They are the same in the range of ports and in the first page of the 32-bit range.

use crate::pci::bar::{Bar, BarKind};
use crate::pci::function::{FunctionLayout, InterruptPin};
use crate::pci::msix::MsixLayout;
use crate::pci::spec::Identity;

/// The range of ports.
pub(crate) const PORTS: u8 = 0;
/// The range below 4 GiB: registers, then the MSI-X table.
pub(crate) const REGISTERS: u8 = 1;
/// The 64-bit range: memory.
pub(crate) const MEMORY: u8 = 2;

/// Bytes of memory, which repeat through the 64-bit range.
pub(crate) const MEMORY_BYTES: u64 = 256;
/// Messages by MSI and by MSI-X.
pub(crate) const MSI_ORDER: u32 = 2;
const MSIX_VECTORS: u16 = 8;

/// What the test function has.
pub(crate) const LAYOUT: FunctionLayout = FunctionLayout {
    // A vendor that nobody is, and a class that says nothing.
    identity: Identity { vendor: 0x1234, device: 0x7e57, class: 0xff_00_00, revision: 1, subsystem: (0, 0) },
    bars: &[
        Bar { index: PORTS, kind: BarKind::Io, bytes: 0x40 },
        Bar { index: REGISTERS, kind: BarKind::Memory32, bytes: 0x2000 },
        Bar { index: MEMORY, kind: BarKind::Prefetchable64, bytes: 0x4000 },
    ],
    pin: Some(InterruptPin::A),
    msi_order: Some(MSI_ORDER),
    msix: Some(MsixLayout { vectors: MSIX_VECTORS, bar: REGISTERS, table: 0x1000, pending: 0x1800 }),
};

/// What [`Register::Magic`] reads: "CTST".
pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"CTST");

/// A 4-byte register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Register {
    /// [`MAGIC`].
    Magic,
    /// Reads what was written.
    Scratch,
    /// Bit 0: asks for an interrupt by the pin.
    Pin,
    /// Written: sends the message of this number, by MSI or MSI-X, whichever is enabled. Reads how often.
    Send,
    /// How interrupts are delivered: 0 by the pin, 1 by MSI, 2 by MSI-X.
    Delivery,
    /// Written: after so many nanoseconds the pin is raised and message [`Self::TimerMessage`] sent; 0 for never.
    /// Reads the same until then, 0 after.
    Timer,
    /// The message that the timer sends.
    TimerMessage,
    /// The last access but those to this register: width in bits 31 to 28, register range in bits 27 to 24, offset
    /// below, bit 23 set for a write.
    LastAccess,
    /// Reads zero.
    Reserved,
}

impl Register {
    pub(crate) const fn at(offset: u64) -> Self {
        match offset {
            0x00 => Self::Magic,
            0x04 => Self::Scratch,
            0x08 => Self::Pin,
            0x0c => Self::Send,
            0x10 => Self::Delivery,
            0x14 => Self::Timer,
            0x18 => Self::TimerMessage,
            0x1c => Self::LastAccess,
            _ => Self::Reserved,
        }
    }
}
