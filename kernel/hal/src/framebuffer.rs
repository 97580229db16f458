//! The screen as bytes: bounds-checked writes into the frame buffer that the boot loader left.

use core::arch::asm;

use arch::Hpa;
use bootloader_api::info::FrameBufferInfo;

use crate::memory::tables::{self, Caching};

pub use bootloader_api::info::PixelFormat;

/// The linear frame buffer.
#[derive(Debug)]
pub struct Framebuffer {
    base: usize,
    info: FrameBufferInfo,
}

impl Framebuffer {
    /// Maps the frame buffer; `None` when there is no memory for it.
    ///
    /// # Safety
    /// The range must be the frame buffer, and this its only owner.
    pub(crate) unsafe fn new(hpa: Hpa, info: FrameBufferInfo) -> Option<Self> {
        let pointer = tables::map_device(hpa, info.byte_len as u64, Caching::WriteCombining)?;
        Some(Self { base: pointer.expose_provenance(), info })
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.info.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.info.height
    }

    /// Bytes from one row of pixels to the next.
    pub fn row_bytes(&self) -> usize {
        self.info.stride * self.info.bytes_per_pixel
    }

    /// Bytes of a pixel.
    pub fn pixel_bytes(&self) -> usize {
        self.info.bytes_per_pixel
    }

    /// How a pixel's bytes make its colour.
    pub fn pixel_format(&self) -> PixelFormat {
        self.info.pixel_format
    }

    /// Makes `length` bytes at `offset` black; what would lie outside is left out.
    pub fn clear(&mut self, offset: usize, length: usize) {
        let length = length.min(self.info.byte_len.saturating_sub(offset));
        let start: *mut u8 = core::ptr::with_exposed_provenance_mut(self.base.wrapping_add(offset));
        // SAFETY: inside the mapped frame buffer, which nobody else writes; the direction flag is clear by the calling
        // convention.
        unsafe {
            asm!(
                "rep stosq",
                "mov rcx, {rest}",
                "rep stosb",
                rest = in(reg) length % 8,
                inout("rcx") length / 8 => _,
                inout("rdi") start => _,
                in("rax") 0_u64,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Writes `bytes` at `offset`; what would lie outside is not written.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        let room = self.info.byte_len.saturating_sub(offset);
        let bytes = &bytes[..bytes.len().min(room)];
        let (words, rest) = bytes.as_chunks::<4>();
        let start: *mut u8 = core::ptr::with_exposed_provenance_mut(self.base.wrapping_add(offset));
        if start.cast::<u32>().is_aligned() {
            let mut at = start.cast::<u32>();
            for word in words {
                // SAFETY: inside the mapped frame buffer, aligned.
                unsafe { at.write_volatile(u32::from_le_bytes(*word)) };
                at = at.wrapping_add(1);
            }
            write_bytes(at.cast(), rest);
        } else {
            write_bytes(start, bytes);
        }

        /// Writes byte by byte. Only called with ranges inside the frame buffer.
        fn write_bytes(mut at: *mut u8, bytes: &[u8]) {
            for byte in bytes {
                // SAFETY: inside the mapped frame buffer.
                unsafe { at.write_volatile(*byte) };
                at = at.wrapping_add(1);
            }
        }
    }
}
