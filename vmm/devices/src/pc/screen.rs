//! The video adapter at its legacy ports and addresses, and the screen from outside.

use super::Pc;
use crate::vga::{self, View};
use arch::{Nanos, Width};

impl Pc {
    /// The screen as it is at `now`, if there is one.
    pub fn screen(&self, now: Nanos) -> Option<View> {
        self.pci.vga().map(|vga| vga.view(now))
    }

    #[cold]
    pub(super) fn read_vga_port(&mut self, port: u16, now: Nanos) -> u8 {
        self.pci.vga_mut().map_or(0xff, |vga| vga.read_port(port, now))
    }

    #[cold]
    pub(super) fn write_vga_port(&mut self, port: u16, value: u8) {
        if let Some(vga) = self.pci.vga_mut() {
            vga.write_port(port, value);
        }
    }

    #[cold]
    pub(super) fn read_dispi(&mut self, port: u16) -> u32 {
        self.pci.vga().map_or(0xffff, |vga| u32::from(vga.read_dispi_port(port)))
    }

    #[cold]
    pub(super) fn write_dispi(&mut self, port: u16, value: u16) {
        if let Some(vga) = self.pci.vga_mut() {
            vga.write_dispi_port(port, value);
        }
    }

    /// A read of the legacy video memory, which is nobody's without an adapter.
    pub(super) fn read_legacy_video(&mut self, address: u64, width: Width) -> u64 {
        let offset = address - vga::MEMORY_FIRST;
        self.pci.vga_mut().map_or(width.mask(), |vga| vga.read_legacy(offset, width))
    }

    /// A write of the legacy video memory.
    pub(super) fn write_legacy_video(&mut self, address: u64, width: Width, value: u64) {
        if let Some(vga) = self.pci.vga_mut() {
            vga.write_legacy(address - vga::MEMORY_FIRST, width, value);
        }
    }
}
