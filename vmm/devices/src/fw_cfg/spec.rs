//! Keys, bits and structures of QEMU's firmware configuration device. QEMU documentation, "QEMU Firmware Configuration
//! (fw_cfg) Device".

/// Key bits that select: bit 14 asked for writing once, and is ignored.
pub(crate) const KEY_MASK: u16 = 0xbfff;
/// [`super::Contents`]: "QEMU".
pub(crate) const KEY_SIGNATURE: u16 = 0x0000;
/// What the device can do.
pub(crate) const KEY_ID: u16 = 0x0001;
pub(crate) const KEY_RAM_SIZE: u16 = 0x0003;
pub(crate) const KEY_NO_GRAPHIC: u16 = 0x0004;
pub(crate) const KEY_CPUS: u16 = 0x0005;
pub(crate) const KEY_MOST_CPUS: u16 = 0x000f;
pub(crate) const KEY_DIRECTORY: u16 = 0x0019;
/// The first key of a file.
pub(crate) const KEY_FIRST_FILE: u16 = 0x0020;
/// Files that there can be.
pub(crate) const MOST_FILES: u16 = 0x20;
/// IRQ 0 is on IOAPIC input 2.
pub(crate) const KEY_IRQ0_OVERRIDE: u16 = 0x8002;

pub(crate) const SIGNATURE: [u8; 4] = *b"QEMU";
/// The two interfaces: ports, and DMA.
pub(crate) const ID: u32 = 1 << 0 | 1 << 1;
/// What the DMA register reads.
pub(crate) const DMA_SIGNATURE: [u8; 8] = *b"QEMU CFG";

/// Room for a file's name in the directory, with its end mark.
pub(crate) const NAME_BYTES: usize = 56;

/// Length of the DMA control structure: control, length, address, big-endian.
pub(crate) const CONTROL_BYTES: usize = 16;
pub(crate) const DMA_ERROR: u32 = 1 << 0;
pub(crate) const DMA_READ: u32 = 1 << 1;
pub(crate) const DMA_SKIP: u32 = 1 << 2;
pub(crate) const DMA_SELECT: u32 = 1 << 3;
pub(crate) const DMA_WRITE: u32 = 1 << 4;
