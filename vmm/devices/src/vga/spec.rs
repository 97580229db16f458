//! Registers of the IBM VGA, and of Bochs' extension of it. IBM Personal System/2 Hardware Interface Technical
//! Reference, "Video Subsystem"; Bochs, "VBE Display API".

use arch::platform_layout::{LEGACY_VIDEO, LEGACY_VIDEO_END};
use bitflags::bitflags;

/// The legacy ports: the adapter's, from the first of the monochrome addresses to the last of the colour ones.
pub(crate) const PORTS_FIRST: u16 = 0x3b0;
pub(crate) const PORTS_LAST: u16 = 0x3df;
/// Index and data port of Bochs' extension, 2 bytes each.
pub(crate) const DISPI_INDEX: u16 = 0x1ce;
pub(crate) const DISPI_DATA: u16 = 0x1cf;

/// The legacy memory.
pub(crate) const MEMORY_FIRST: u64 = LEGACY_VIDEO.get();
pub(crate) const MEMORY_LAST: u64 = LEGACY_VIDEO_END.get() - 1;

/// A port of the adapter. Those of the CRT controller and of the status are at 0x3Bx or 0x3Dx, as the miscellaneous
/// output register says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum VgaPort {
    CrtcIndex,
    CrtcData,
    /// Read: input status 1. Written: feature control.
    Status1,
    Attribute,
    AttributeRead,
    /// Read: input status 0. Written: miscellaneous output.
    Misc,
    SequencerIndex,
    SequencerData,
    PixelMask,
    /// Read: the state. Written: the address to read from.
    DacState,
    DacWriteAddress,
    DacData,
    FeatureRead,
    MiscRead,
    GraphicsIndex,
    GraphicsData,
    Nothing,
}

impl VgaPort {
    /// The port `port`, while the CRT controller is at the `colour` addresses.
    pub(crate) const fn at(port: u16, colour: bool) -> Self {
        match port {
            0x3b4 if !colour => Self::CrtcIndex,
            0x3b5 if !colour => Self::CrtcData,
            0x3ba if !colour => Self::Status1,
            0x3d4 if colour => Self::CrtcIndex,
            0x3d5 if colour => Self::CrtcData,
            0x3da if colour => Self::Status1,
            0x3c0 => Self::Attribute,
            0x3c1 => Self::AttributeRead,
            0x3c2 => Self::Misc,
            0x3c4 => Self::SequencerIndex,
            0x3c5 => Self::SequencerData,
            0x3c6 => Self::PixelMask,
            0x3c7 => Self::DacState,
            0x3c8 => Self::DacWriteAddress,
            0x3c9 => Self::DacData,
            0x3ca => Self::FeatureRead,
            0x3cc => Self::MiscRead,
            0x3ce => Self::GraphicsIndex,
            0x3cf => Self::GraphicsData,
            _ => Self::Nothing,
        }
    }
}

bitflags! {
    /// Miscellaneous output.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Misc: u8 {
        /// The CRT controller is at 0x3Dx.
        const COLOUR = 1 << 0;
        /// The processor reaches the memory.
        const RAM = 1 << 1;
        const _ = !0;
    }

    /// Input status 1.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Status1: u8 {
        /// No picture is being drawn: the beam returns, horizontally or vertically.
        const DISPLAY_OFF = 1 << 0;
        /// The beam returns to the top.
        const VERTICAL_RETRACE = 1 << 3;
    }

    /// Sequencer register 4, memory mode.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct MemoryMode: u8 {
        /// Addresses go to all planes, not even ones to planes 0 and 2 and odd ones to 1 and 3.
        const SEQUENTIAL = 1 << 2;
        /// The low two address bits select the plane.
        const CHAIN_4 = 1 << 3;
    }
}

/// Sequencer registers.
pub(crate) mod sequencer {
    pub(crate) const CLOCKING: usize = 1;
    pub(crate) const MAP_MASK: usize = 2;
    pub(crate) const CHARACTER_MAP: usize = 3;
    pub(crate) const MEMORY_MODE: usize = 4;
    /// Bits that are kept.
    pub(crate) const KEPT: [u8; 5] = [0x03, 0x3d, 0x0f, 0x3f, 0x0e];
    /// Clocking: characters are 8 dots wide, not 9.
    pub(crate) const EIGHT_DOTS: u8 = 1 << 0;
    /// Clocking: the screen is off.
    pub(crate) const SCREEN_OFF: u8 = 1 << 5;
}

/// Graphics controller registers.
pub(crate) mod graphics {
    pub(crate) const SET_RESET: usize = 0;
    pub(crate) const SET_RESET_ENABLE: usize = 1;
    pub(crate) const COMPARE: usize = 2;
    pub(crate) const ROTATE: usize = 3;
    pub(crate) const READ_MAP: usize = 4;
    pub(crate) const MODE: usize = 5;
    pub(crate) const MISC: usize = 6;
    pub(crate) const COMPARED: usize = 7;
    pub(crate) const BIT_MASK: usize = 8;
    /// Bits that are kept.
    pub(crate) const KEPT: [u8; 9] = [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff];
    /// Mode: reads compare colours.
    pub(crate) const READ_COMPARES: u8 = 1 << 3;
    /// Mode: reads take even addresses from even planes, odd ones from odd planes.
    pub(crate) const ODD_EVEN: u8 = 1 << 4;
    /// Mode: two bits a pixel.
    pub(crate) const INTERLEAVED: u8 = 1 << 5;
    /// Mode: eight bits a pixel.
    pub(crate) const EIGHT_BITS: u8 = 1 << 6;
    /// Misc: graphics, not text.
    pub(crate) const IS_GRAPHICS: u8 = 1 << 0;
}

/// CRT controller registers.
pub(crate) mod crtc {
    pub(crate) const COLUMNS_LESS_1: usize = 0x01;
    pub(crate) const OVERFLOW: usize = 0x07;
    /// Maximum scan line; also bits of others, and double scan.
    pub(crate) const MAX_SCAN: usize = 0x09;
    pub(crate) const CURSOR_START: usize = 0x0a;
    pub(crate) const CURSOR_END: usize = 0x0b;
    pub(crate) const START_HIGH: usize = 0x0c;
    pub(crate) const START_LOW: usize = 0x0d;
    pub(crate) const CURSOR_HIGH: usize = 0x0e;
    pub(crate) const CURSOR_LOW: usize = 0x0f;
    pub(crate) const RETRACE_END: usize = 0x11;
    pub(crate) const DISPLAY_END: usize = 0x12;
    pub(crate) const OFFSET: usize = 0x13;
    pub(crate) const UNDERLINE: usize = 0x14;
    pub(crate) const MODE: usize = 0x17;
    pub(crate) const LINE_COMPARE: usize = 0x18;
    pub(crate) const REGISTERS: usize = 0x19;
    /// Retrace end: registers 0 to 7 are protected, but for [`LINE_COMPARE_8`].
    pub(crate) const PROTECT: u8 = 1 << 7;
    /// Overflow: bit 8 of line compare.
    pub(crate) const LINE_COMPARE_8: u8 = 1 << 4;
    /// Maximum scan line: bit 9 of line compare.
    pub(crate) const LINE_COMPARE_9: u8 = 1 << 6;
    /// Maximum scan line: each line is drawn twice.
    pub(crate) const DOUBLE_SCAN: u8 = 1 << 7;
    /// Cursor start: no cursor.
    pub(crate) const CURSOR_OFF: u8 = 1 << 5;
    /// Mode: bit 13 of the address is the counter's, not bit 0 of the line.
    pub(crate) const KEEPS_BIT_13: u8 = 1 << 0;
    /// Mode: bit 14 of the address is the counter's, not bit 1 of the line.
    pub(crate) const KEEPS_BIT_14: u8 = 1 << 1;
    /// Mode: the counter counts bytes.
    pub(crate) const COUNTS_BYTES: u8 = 1 << 6;
}

/// Attribute controller registers.
pub(crate) mod attribute {
    pub(crate) const MODE: usize = 0x10;
    pub(crate) const OVERSCAN: usize = 0x11;
    pub(crate) const PLANES: usize = 0x12;
    pub(crate) const PANNING: usize = 0x13;
    pub(crate) const COLOUR_SELECT: usize = 0x14;
    pub(crate) const REGISTERS: usize = 0x15;
    /// The index: the palette is used for the picture, not reached by software.
    pub(crate) const PALETTE_IN_USE: u8 = 1 << 5;
    /// Mode: attributes are a monochrome display's.
    pub(crate) const MONOCHROME: u8 = 1 << 1;
    /// Mode: the ninth dot of line graphics is as the eighth.
    pub(crate) const LINE_GRAPHICS: u8 = 1 << 2;
    /// Mode: bit 7 of an attribute blinks.
    pub(crate) const BLINK: u8 = 1 << 3;
    /// Mode: colour select gives bits 5 and 4 too.
    pub(crate) const SELECTS_TWO: u8 = 1 << 7;
}

/// Registers of Bochs' extension.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Dispi {
    Id,
    Width,
    Height,
    Depth,
    Enable,
    Bank,
    VirtualWidth,
    VirtualHeight,
    OffsetX,
    OffsetY,
    /// Memory, in units of 64 KiB.
    Memory64K,
    Reserved,
}

impl Dispi {
    pub(crate) const fn at(index: u16) -> Self {
        match index {
            0 => Self::Id,
            1 => Self::Width,
            2 => Self::Height,
            3 => Self::Depth,
            4 => Self::Enable,
            5 => Self::Bank,
            6 => Self::VirtualWidth,
            7 => Self::VirtualHeight,
            8 => Self::OffsetX,
            9 => Self::OffsetY,
            10 => Self::Memory64K,
            _ => Self::Reserved,
        }
    }
}

/// The oldest and the newest version of the extension.
pub(crate) const DISPI_OLDEST: u16 = 0xb0c0;
pub(crate) const DISPI_NEWEST: u16 = 0xb0c5;
/// The largest picture.
pub(crate) const MOST_WIDTH: u16 = 2560;
pub(crate) const MOST_HEIGHT: u16 = 1600;

bitflags! {
    /// The enable register of Bochs' extension.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Enable: u16 {
        const ENABLED = 1 << 0;
        /// Width, height and depth read as the largest there are.
        const CAPABILITIES = 1 << 1;
        /// The palette has 8 bits a colour, not 6.
        const EIGHT_BIT_DAC = 1 << 5;
        const LINEAR = 1 << 6;
        /// Enabling does not clear the memory.
        const KEEP_MEMORY = 1 << 7;
    }
}

/// The range of memory-mapped registers: the ports from 0x3C0 on, and the registers of Bochs' extension.
pub(crate) const MMIO_PORTS: u64 = 0x400;
pub(crate) const MMIO_PORTS_BYTES: u64 = 0x20;
pub(crate) const MMIO_PORTS_FIRST: u16 = 0x3c0;
pub(crate) const MMIO_DISPI: u64 = 0x500;
pub(crate) const MMIO_DISPI_BYTES: u64 = 0x16;
