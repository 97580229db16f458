//! From the intensity of a grey to a pixel's bytes.

use hal::framebuffer::PixelFormat;

/// The most bytes that a pixel has.
pub(super) const MAX_PIXEL_BYTES: usize = 4;

/// The bytes of a grey pixel, lowest address first.
pub(super) fn encode(format: PixelFormat, intensity: u8) -> [u8; MAX_PIXEL_BYTES] {
    match format {
        // A grey is the same in both orders.
        PixelFormat::Rgb | PixelFormat::Bgr => [intensity, intensity, intensity, 0],
        PixelFormat::Unknown { red_position, green_position, blue_position } => {
            let component = |position: u8| u32::from(intensity).checked_shl(u32::from(position)).unwrap_or(0);
            (component(red_position) | component(green_position) | component(blue_position)).to_le_bytes()
        }
        // One byte of grey; and whatever formats the loader may add.
        _ => [intensity; MAX_PIXEL_BYTES],
    }
}
