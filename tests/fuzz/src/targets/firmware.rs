//! Firmware images: whatever is in them, they are refused with a word, or fit below 4 GiB with all that is seen of them.

use crate::{Bytes, Seen};
use devices::firmware_windows;
use loader::{Firmware, Image};
use memory::{GuestMap, Source, VecBlock};

/// Where a firmware volume's header has its length and its signature.
const VOLUME_LENGTH: usize = 32;
const VOLUME_SIGNATURE: usize = 40;

/// An image and a variable store of so many pages as the input says, with volumes in them.
pub(super) fn image(mut bytes: Bytes<'_>, seen: &mut Seen) {
    let image = file(&mut bytes);
    let variables = (bytes.byte() & 1 != 0).then(|| file(&mut bytes));
    let variables = variables.as_ref().map(|bytes| Image { name: "vars", bytes });
    match Firmware::new(Image { name: "code", bytes: &image }, variables) {
        Ok(firmware) => {
            let sizes = firmware.sizes();
            seen.note(0, sizes.image_bytes >> 14);
            seen.note(2, sizes.variable_bytes >> 14);
            let mut map = GuestMap::new();
            let length = usize::try_from(sizes.total_bytes()).expect("a few MiB");
            map.switched.add_rom(sizes.base(), VecBlock::new(length)).expect("the only block");
            for window in firmware_windows(sizes.image_bytes, sizes.variable_bytes) {
                map.switched.add_window(window).expect("in order");
                if let Some(source @ Source::Rom { .. }) = window.source(window.shown) {
                    map.switched
                        .for_each_piece(source, window.bytes, |_, _, _, _| {})
                        .expect("all of it is there");
                }
            }
        }
        Err(error) => {
            let said = error.to_string();
            assert!(!said.contains('\n') && said.contains('`'), "one line that names the file: {said}");
            let kind = said
                .bytes()
                .filter(u8::is_ascii_lowercase)
                .fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
            seen.note(1, kind);
        }
    }
}

fn file(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let pages = usize::from(bytes.byte() % 40);
    let odd = if bytes.byte() == 0 { usize::from(bytes.byte()) } else { 0 };
    let mut file = vec![bytes.byte(); pages * 0x1000 + odd];
    for _ in 0..bytes.byte() % 4 {
        let (page, length) = (usize::from(bytes.byte() % 40), u64::from(bytes.byte() % 64));
        let length = if bytes.byte().is_multiple_of(4) { bytes.magnitude() } else { length * 0x1000 };
        if let Some(header) = file.get_mut(page * 0x1000..).and_then(|rest| rest.get_mut(..44)) {
            header[VOLUME_LENGTH..][..8].copy_from_slice(&length.to_le_bytes());
            header[VOLUME_SIGNATURE..][..4].copy_from_slice(b"_FVH");
        }
    }
    if let Some(last) = file.last_mut() {
        *last = bytes.byte();
    }
    file
}
