//! A VGA with Bochs' extension, as a PCI function: QEMU's "standard VGA". IBM Personal System/2 Hardware Interface
//! Technical Reference, "Video Subsystem"; Bochs, "VBE Display API"; QEMU documentation, "Standard VGA".
//!
//! Base address register 0 is the memory, as bytes in their order; 2 the registers once more: the ports from 0x3C0 on
//! at 0x400, Bochs' extension at 0x500. The legacy ports and the legacy memory answer whatever the command register
//! says, as software from before PCI does not ask it. After reset the adapter is as a video BIOS leaves it: 80 by 25
//! characters, with a font and a palette; software that finds no BIOS need not know how that is done.
//!
//! The screen is a pure function of the registers, the memory and the time: see [`View`]. There is no interrupt. What
//! time shows is the retrace, at 70 Hz, and what blinks.
//!
//! Not modelled: panning by single pixels and the preset row scan; timings other than 70 Hz; the light pen; what the
//! diagnostic bits show; EDID. With Bochs' extension enabled the CRT controller decides over nothing.

mod dispi;
mod font;
mod initial;
mod memory;
mod ports;
mod render;
mod spec;
#[cfg(test)]
mod tests;
mod text;
mod video_memory;

pub use render::View;
pub use text::TextScreen;
pub use video_memory::VideoMemory;

pub(crate) use spec::{DISPI_DATA, DISPI_INDEX, MEMORY_FIRST, MEMORY_LAST, PORTS_FIRST, PORTS_LAST};

use crate::lanes::{low_half, low_word, read_words, write_words};
use crate::pci::{Bar, BarKind, FunctionLayout, Identity, PciDevice, Signals};
use ::memory::VideoWindow;
use alloc::sync::Arc;
use arch::{Gpa, Nanos, Width};
use dispi::{Change, DispiState};
use ports::{Dac, Indexed};
use spec::{
    Dispi, MMIO_DISPI, MMIO_DISPI_BYTES, MMIO_PORTS, MMIO_PORTS_BYTES, MMIO_PORTS_FIRST, Misc, attribute,
    crtc,
};

/// The video memory's size in bytes.
pub const VIDEO_MEMORY_BYTES: u64 = 16 << 20;
/// Base address registers.
pub(crate) const FRAMEBUFFER: u8 = 0;
const REGISTERS: u8 = 2;

const LAYOUT: FunctionLayout = FunctionLayout {
    identity: Identity {
        vendor: 0x1234,
        device: 0x1111,
        class: 0x03_00_00,
        revision: 2,
        subsystem: (0x1af4, 0x1100),
    },
    bars: &[
        Bar { index: FRAMEBUFFER, kind: BarKind::Prefetchable32, bytes: VIDEO_MEMORY_BYTES },
        Bar { index: REGISTERS, kind: BarKind::Memory32, bytes: 0x1000 },
    ],
    pin: None,
    msi_order: None,
    msix: None,
};

/// Everything about the adapter that a snapshot needs but its memory, which is the guest's as its RAM is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VgaState {
    misc: Misc,
    feature: u8,
    sequencer: Indexed<5>,
    graphics: Indexed<9>,
    crtc: Indexed<{ crtc::REGISTERS }>,
    attribute: Indexed<{ attribute::REGISTERS }>,
    /// The attribute controller's next write is of a value.
    attribute_data: bool,
    dac: Dac,
    latches: u32,
    dispi: DispiState,
}

/// The adapter.
#[derive(Debug)]
pub struct Vga {
    memory: VideoMemory,
    rom: Option<Arc<[u8]>>,
    state: VgaState,
}

impl Vga {
    /// The adapter after reset, with `memory`, and `rom` as its BIOS.
    pub fn new(memory: VideoMemory, rom: Option<Arc<[u8]>>) -> Self {
        let vga = Self { memory, rom, state: VgaState::after_reset() };
        vga.draw_font();
        vga
    }

    /// The screen as it is at `now`.
    pub fn view(&self, now: Nanos) -> View {
        View::new(self.state.clone(), self.memory.clone(), now)
    }

    /// A read of the byte at `port`, which is one of the adapter's.
    pub(crate) fn read_port(&mut self, port: u16, now: Nanos) -> u8 {
        self.state.read_port(port, now)
    }

    /// A write of the byte at `port`, which is one of the adapter's.
    pub(crate) fn write_port(&mut self, port: u16, value: u8) {
        self.state.write_port(port, value);
    }

    /// A 2-byte read of one of the ports of Bochs' extension.
    pub(crate) fn read_dispi_port(&self, port: u16) -> u16 {
        match port {
            DISPI_INDEX => self.state.dispi.index(),
            _ => self.read_dispi(self.state.dispi.index()),
        }
    }

    /// A 2-byte write of one of the ports of Bochs' extension.
    pub(crate) fn write_dispi_port(&mut self, port: u16, value: u16) {
        match port {
            DISPI_INDEX => self.state.dispi.set_index(value),
            _ => self.write_dispi(self.state.dispi.index(), value),
        }
    }

    /// Where the legacy memory is a plain window to the memory now.
    pub(crate) fn plain_window(&self) -> Option<VideoWindow> {
        let (first, bytes, offset) = self.state.plain_window(self.memory.size())?;
        Some(VideoWindow { base: Gpa::new(MEMORY_FIRST + first), bytes, offset })
    }

    /// The memory's size in bytes.
    pub(crate) const fn memory_bytes(&self) -> u64 {
        self.memory.size()
    }

    /// A read of `width` at `offset` in the legacy memory, byte by byte; bytes behind its end read ones.
    pub(crate) fn read_legacy(&mut self, offset: u64, width: Width) -> u64 {
        let mut bytes = [0; 8];
        for (byte, offset) in bytes.iter_mut().zip(offset..).take(byte_count(width)) {
            *byte = self.state.read_legacy(&self.memory, offset);
        }
        u64::from_le_bytes(bytes)
    }

    /// A write of `width` at `offset` in the legacy memory, byte by byte; bytes behind its end are lost.
    pub(crate) fn write_legacy(&mut self, offset: u64, width: Width, value: u64) {
        for (byte, offset) in value.to_le_bytes().into_iter().zip(offset..).take(byte_count(width)) {
            self.state.write_legacy(&self.memory, offset, byte);
        }
    }

    fn read_dispi(&self, index: u16) -> u16 {
        self.state.dispi.read(Dispi::at(index), self.memory.size())
    }

    fn write_dispi(&mut self, index: u16, value: u16) {
        match self.state.dispi.write(Dispi::at(index), value, self.memory.size()) {
            Change::Nothing => {}
            Change::Clear(bytes) => self.memory.clear(bytes),
        }
    }

    fn draw_font(&self) {
        initial::draw_font(&self.memory);
        initial::clear_text(&self.memory);
    }

    /// The two registers of Bochs' extension that are at `offset` of the memory-mapped ones.
    fn read_registers(&self, offset: u64) -> u32 {
        let Some(at) = within(offset, MMIO_DISPI, MMIO_DISPI_BYTES) else { return 0 };
        let index = low_half(at / 2);
        u32::from(self.read_dispi(index)) | u32::from(self.read_dispi(index + 1)) << 16
    }
}

/// How far `offset` is into the range, if it is in it.
fn within(offset: u64, first: u64, bytes: u64) -> Option<u32> {
    let into = offset.checked_sub(first)?;
    (into < bytes).then(|| low_word(into))
}

const fn byte_count(width: Width) -> usize {
    match width {
        Width::One => 1,
        Width::Two => 2,
        Width::Four => 4,
        Width::Eight => 8,
    }
}

impl PciDevice for Vga {
    type State = VgaState;

    fn layout(&self) -> FunctionLayout {
        LAYOUT
    }

    fn rom(&self) -> Option<&[u8]> {
        self.rom.as_deref()
    }

    fn read(&mut self, bar: u8, offset: u64, width: Width, now: Nanos, _signals: &mut Signals<'_>) -> u64 {
        if bar == FRAMEBUFFER {
            let mut bytes = [0; 8];
            self.memory.copy_out(offset, &mut bytes[..byte_count(width)]);
            return u64::from_le_bytes(bytes);
        }
        // Reading a port may do something, so only those are read that were asked for.
        if within(offset, MMIO_PORTS, MMIO_PORTS_BYTES).is_some() {
            let mut bytes = [0xff; 8];
            for (byte, at) in bytes.iter_mut().zip(offset..).take(byte_count(width)) {
                if let Some(port) = within(at, MMIO_PORTS, MMIO_PORTS_BYTES) {
                    *byte = self.read_port(MMIO_PORTS_FIRST + low_half(port), now);
                }
            }
            return u64::from_le_bytes(bytes);
        }
        read_words(offset, width, |offset| self.read_registers(offset))
    }

    fn write(
        &mut self,
        bar: u8,
        offset: u64,
        width: Width,
        value: u64,
        _now: Nanos,
        _signals: &mut Signals<'_>,
    ) {
        if bar == FRAMEBUFFER {
            for (byte, at) in value.to_le_bytes().into_iter().zip(offset..).take(byte_count(width)) {
                self.memory.set_byte(at, byte);
            }
            return;
        }
        if within(offset, MMIO_PORTS, MMIO_PORTS_BYTES).is_some() {
            for (byte, at) in value.to_le_bytes().into_iter().zip(offset..).take(byte_count(width)) {
                if let Some(port) = within(at, MMIO_PORTS, MMIO_PORTS_BYTES) {
                    self.write_port(MMIO_PORTS_FIRST + low_half(port), byte);
                }
            }
            return;
        }
        write_words(offset, width, value, |offset, value, mask| {
            let Some(at) = within(offset, MMIO_DISPI, MMIO_DISPI_BYTES) else { return };
            // Registers are written whole.
            for (half, shift) in [(0, 0), (1, 16)] {
                if mask >> shift & 0xffff == 0xffff {
                    self.write_dispi(low_half(at / 2) + half, low_half(value >> shift));
                }
            }
        });
    }

    fn advance(&mut self, _now: Nanos, _signals: &mut Signals<'_>) {}

    fn next_deadline(&self) -> Nanos {
        Nanos::NEVER
    }

    fn reset(&mut self) {
        self.state = VgaState::after_reset();
        self.draw_font();
    }

    fn save(&self) -> VgaState {
        self.state.clone()
    }

    fn restore(&mut self, state: &VgaState) {
        self.state = state.clone();
    }
}
