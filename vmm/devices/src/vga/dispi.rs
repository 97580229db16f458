//! Bochs' extension: pictures of up to 2560 by 1600 pixels with 4 to 32 bits each. Bochs, "VBE Display API".
//!
//! A write that would make an impossible picture is ignored. Width, height and depth count when the extension is
//! enabled; that sets the virtual width to the width, and both offsets to 0.

use super::spec::{DISPI_NEWEST, DISPI_OLDEST, Dispi, Enable, MOST_HEIGHT, MOST_WIDTH};

/// What a write set off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    Nothing,
    /// The first bytes of memory are to be cleared, so many.
    Clear(u64),
}

/// The extension's registers, as plain data.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct DispiState {
    index: u16,
    id: u16,
    width: u16,
    height: u16,
    depth: u16,
    enable: Enable,
    bank: u16,
    virtual_width: u16,
    offset: (u16, u16),
    /// What is shown: width, height and depth when the extension was enabled.
    shown: (u16, u16, u16),
}

/// A picture that the extension shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extended {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) depth: u16,
    /// From a line to the next, in bytes; with a depth of 4, in bytes of one plane.
    pub(super) pitch: u64,
    /// Of the first pixel, in the same units.
    pub(super) start: u64,
}

impl DispiState {
    pub(super) const fn after_reset() -> Self {
        Self {
            index: 0,
            id: DISPI_NEWEST,
            width: 0,
            height: 0,
            depth: 8,
            enable: Enable::empty(),
            bank: 0,
            virtual_width: 0,
            offset: (0, 0),
            shown: (0, 0, 0),
        }
    }

    pub(super) const fn index(&self) -> u16 {
        self.index
    }

    pub(super) const fn set_index(&mut self, value: u16) {
        self.index = value;
    }

    pub(super) const fn is_enabled(&self) -> bool {
        self.enable.contains(Enable::ENABLED)
    }

    /// Whether the legacy memory is a window to bytes in their order.
    pub(super) const fn is_packed(&self) -> bool {
        self.is_enabled() && self.shown.2 > 4
    }

    /// Which 64 KiB the legacy memory is a window to.
    pub(super) const fn bank(&self) -> u16 {
        if self.is_enabled() { self.bank } else { 0 }
    }

    pub(super) const fn has_8_bit_palette(&self) -> bool {
        self.enable.contains(Enable::EIGHT_BIT_DAC)
    }

    /// The picture that is shown, if the extension is enabled.
    pub(super) fn shown(&self) -> Option<Extended> {
        let (width, height, depth) = self.shown;
        let pitch = pitch(self.virtual_width, depth);
        let (x, y) = self.offset;
        let start = u64::from(y) * pitch + pitch_of(x, depth);
        self.is_enabled().then_some(Extended {
            width: width.into(),
            height: height.into(),
            depth,
            pitch,
            start,
        })
    }

    pub(super) fn read(&self, register: Dispi, memory_bytes: u64) -> u16 {
        let most = self.enable.contains(Enable::CAPABILITIES);
        match register {
            Dispi::Id => self.id,
            Dispi::Width if most => MOST_WIDTH,
            Dispi::Width => self.width,
            Dispi::Height if most => MOST_HEIGHT,
            Dispi::Height => self.height,
            Dispi::Depth if most => 32,
            Dispi::Depth => self.depth,
            Dispi::Enable => self.enable.bits(),
            Dispi::Bank => self.bank,
            Dispi::VirtualWidth => self.virtual_width,
            Dispi::VirtualHeight => {
                let lines =
                    memory_bytes.checked_div(pitch(self.virtual_width, self.depth) * planes(self.depth));
                lines.map_or(0, |lines| u16::try_from(lines).unwrap_or(u16::MAX))
            }
            Dispi::OffsetX => self.offset.0,
            Dispi::OffsetY => self.offset.1,
            Dispi::Memory64K => u16::try_from(memory_bytes >> 16).unwrap_or(u16::MAX),
            Dispi::Reserved => 0,
        }
    }

    pub(super) fn write(&mut self, register: Dispi, value: u16, memory_bytes: u64) -> Change {
        match register {
            Dispi::Id if (DISPI_OLDEST..=DISPI_NEWEST).contains(&value) => self.id = value,
            Dispi::Width if value <= MOST_WIDTH => self.width = value,
            Dispi::Height if value <= MOST_HEIGHT => self.height = value,
            Dispi::Depth => match value {
                4 | 8 | 15 | 16 | 24 | 32 => self.depth = value,
                0 => self.depth = 8,
                _ => {}
            },
            Dispi::Enable => return self.set_enable(Enable::from_bits_truncate(value), memory_bytes),
            Dispi::Bank if u64::from(value) << 16 < memory_bytes / planes(self.depth) => self.bank = value,
            Dispi::VirtualWidth => {
                let (width, height, depth) =
                    if self.is_enabled() { self.shown } else { (self.width, self.height, self.depth) };
                if value >= width && bytes(value, height, depth) <= memory_bytes {
                    self.virtual_width = value;
                }
            }
            Dispi::OffsetX => self.offset.0 = value,
            Dispi::OffsetY => self.offset.1 = value,
            Dispi::Id
            | Dispi::Width
            | Dispi::Height
            | Dispi::Bank
            | Dispi::VirtualHeight
            | Dispi::Memory64K
            | Dispi::Reserved => {}
        }
        Change::Nothing
    }

    fn set_enable(&mut self, value: Enable, memory_bytes: u64) -> Change {
        let is_possible =
            self.width > 0 && self.height > 0 && bytes(self.width, self.height, self.depth) <= memory_bytes;
        if !value.contains(Enable::ENABLED) || !is_possible {
            self.enable = value.difference(Enable::ENABLED);
            self.bank = 0;
            return Change::Nothing;
        }
        let was_enabled = self.is_enabled();
        self.enable = value;
        if was_enabled && self.shown == (self.width, self.height, self.depth) {
            return Change::Nothing;
        }
        self.shown = (self.width, self.height, self.depth);
        self.virtual_width = self.width;
        self.offset = (0, 0);
        self.bank = 0;
        if value.contains(Enable::KEEP_MEMORY) {
            return Change::Nothing;
        }
        Change::Clear(bytes(self.width, self.height, self.depth))
    }
}

/// Planes that a byte of a line is in.
const fn planes(depth: u16) -> u64 {
    if depth == 4 { 4 } else { 1 }
}

/// A line of `width` pixels, in bytes; with a depth of 4, in bytes of one plane.
fn pitch(width: u16, depth: u16) -> u64 {
    match depth {
        4 => u64::from(width).div_ceil(8),
        _ => u64::from(width) * u64::from(depth.div_ceil(8)),
    }
}

/// Like [`pitch`], of what is whole.
fn pitch_of(x: u16, depth: u16) -> u64 {
    if depth == 4 { u64::from(x / 8) } else { pitch(x, depth) }
}

/// What a picture takes, in bytes.
fn bytes(width: u16, height: u16, depth: u16) -> u64 {
    pitch(width, depth) * u64::from(height) * planes(depth)
}
