//! The video adapter at its legacy ports and addresses, the screen from outside, and where the guest sees the video
//! memory without our help.
//!
//! The video memory is mapped lazily: at the first access that is emulated, where the access would find just the
//! memory. It is taken away as soon as that is no longer so. Taking away makes all cores flush, so a window that was
//! mapped is not mapped again for a while: a guest that moves it over and over finds its accesses emulated instead.

use super::Pc;
use crate::vga::{self, View};
use arch::{Gpa, Nanos, Width};
use bus::Attention;
use memory::{VIDEO_WINDOWS, VideoWindow};

/// How long after it was mapped a window is not mapped again.
const PAUSE_NS: u64 = 10_000_000;

/// Which window to the video memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Which {
    Framebuffer,
    Legacy,
}

/// The windows that are mapped. No part of the machine's state: they come by themselves.
#[derive(Debug)]
pub(super) struct VideoWindows {
    shown: [Option<VideoWindow>; VIDEO_WINDOWS],
    /// When each may be mapped again.
    again: [Nanos; VIDEO_WINDOWS],
    generation: u64,
}

impl VideoWindows {
    pub(super) const fn new() -> Self {
        Self { shown: [None; VIDEO_WINDOWS], again: [Nanos(0); VIDEO_WINDOWS], generation: 0 }
    }

    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) const fn shown(&self) -> [Option<VideoWindow>; VIDEO_WINDOWS] {
        self.shown
    }

    /// Maps nothing, and anything when it is wanted again.
    pub(super) fn forget(&mut self) {
        self.again = [Nanos(0); VIDEO_WINDOWS];
        if self.shown != [None; VIDEO_WINDOWS] {
            self.shown = [None; VIDEO_WINDOWS];
            self.generation += 1;
        }
    }
}

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
            self.look_at_video_windows();
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
            self.look_at_video_windows();
        }
    }

    /// A read of the legacy video memory, which is nobody's without an adapter.
    pub(super) fn read_legacy_video(&mut self, address: u64, width: Width, now: Nanos) -> u64 {
        let Some(vga) = self.pci.vga_mut() else { return width.mask() };
        let value = vga.read_legacy(address - vga::MEMORY_FIRST, width);
        self.want_video_window(Which::Legacy, now);
        value
    }

    /// A write of the legacy video memory.
    pub(super) fn write_legacy_video(&mut self, address: u64, width: Width, value: u64, now: Nanos) {
        if let Some(vga) = self.pci.vga_mut() {
            vga.write_legacy(address - vga::MEMORY_FIRST, width, value);
            self.want_video_window(Which::Legacy, now);
        }
    }

    /// An access to a function's memory at `gpa` was emulated: if it was one to the framebuffer, it shall be the last.
    pub(super) fn was_function_access(&mut self, gpa: Gpa, now: Nanos) {
        if self.video_windows.shown[Which::Framebuffer as usize].is_none()
            && self.pci.framebuffer().is_some_and(|window| gpa - window.base < window.bytes)
        {
            self.want_video_window(Which::Framebuffer, now);
        }
        // Registers of the adapter are in memory too.
        self.look_at_video_windows();
    }

    /// Where `which` may be mapped now.
    fn plain_video_window(&self, which: Which) -> Option<VideoWindow> {
        match which {
            Which::Framebuffer => self.pci.framebuffer(),
            Which::Legacy => self.pci.vga().and_then(vga::Vga::plain_window),
        }
    }

    /// Has `which` mapped, if it may be and was not a moment ago.
    fn want_video_window(&mut self, which: Which, now: Nanos) {
        let index = which as usize;
        if self.video_windows.shown[index].is_some() || now < self.video_windows.again[index] {
            return;
        }
        if let Some(window) = self.plain_video_window(which) {
            self.video_windows.again[index] = Nanos(now.0.saturating_add(PAUSE_NS));
            self.show_video_window(which, Some(window));
        }
    }

    /// Takes away what is not as it was when it was mapped.
    pub(super) fn look_at_video_windows(&mut self) {
        for which in [Which::Framebuffer, Which::Legacy] {
            let shown = self.video_windows.shown[which as usize];
            if shown.is_some() && shown != self.plain_video_window(which) {
                self.show_video_window(which, None);
            }
        }
    }

    fn show_video_window(&mut self, which: Which, window: Option<VideoWindow>) {
        self.video_windows.shown[which as usize] = window;
        self.video_windows.generation += 1;
        self.attention |= Attention::MEMORY;
    }
}
