//! What a kernel is told of the screen.
//!
//! "The Linux/x86 Boot Protocol", "Zero Page": `screen_info`, as a boot loader fills it in that runs on a BIOS.

use crate::layout::BOOT_PARAMS;
use crate::{LoadError, copy};
use memory::GuestMemory;

/// What a machine shows when its kernel starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Screen {
    /// Nothing: there is no screen, and RAM at its place.
    None,
    /// 80 by 25 characters of a VGA, in colours.
    Text,
}

/// Bytes of `screen_info` up to the height of characters.
const SCREEN_INFO_BYTES: usize = 0x12;

/// Tells a Linux kernel of `screen`.
pub(crate) fn describe(memory: &impl GuestMemory, screen: Screen) -> Result<(), LoadError> {
    match screen {
        Screen::None => Ok(()),
        Screen::Text => copy::write(memory, BOOT_PARAMS, &text()),
    }
}

fn text() -> [u8; SCREEN_INFO_BYTES] {
    let mut info = [0; SCREEN_INFO_BYTES];
    // orig_video_mode, orig_video_cols; orig_video_ega_bx: colours and all of the memory; orig_video_lines,
    // orig_video_isVGA, orig_video_points.
    for (offset, value) in [(0x06, 3), (0x07, 80), (0x0a, 3), (0x0e, 25), (0x0f, 1), (0x10, 16)] {
        info[offset] = value;
    }
    info
}

#[cfg(test)]
mod tests {
    use super::*;
    use memory::{MemoryMap, VecBlock};

    #[test]
    fn a_kernel_is_told_of_a_text_screen_and_of_no_other() {
        let mut map = MemoryMap::new();
        map.add(arch::Gpa::new(0), VecBlock::new(0x1_0000)).expect("the first block");
        let read = |map: &MemoryMap<VecBlock>| {
            let mut info = [0; SCREEN_INFO_BYTES];
            map.read(BOOT_PARAMS, &mut info).expect("RAM");
            info
        };
        describe(&map, Screen::None).expect("RAM");
        assert_eq!(read(&map), [0; SCREEN_INFO_BYTES]);
        describe(&map, Screen::Text).expect("RAM");
        let info = read(&map);
        assert_eq!((info[6], info[7], info[14], info[15], info[16]), (3, 80, 25, 1, 16));
    }
}
