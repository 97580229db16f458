//! Firmware images: checked, and put where a processor after reset and the firmware itself look for them.
//!
//! UEFI Platform Initialization Specification, "Firmware Volume Format", for volumes, whose lengths tell of images that
//! are cut short; SDM Vol. 3A, "First Instruction Executed", for where an image must have code.

use crate::Image;
use alloc::string::String;
use arch::platform_layout::{FIRMWARE_END, LEAST_FIRMWARE_BYTES, MOST_FIRMWARE_BYTES};
use arch::{Gpa, PAGE_SIZE};
use core::fmt;
use memory::{GuestMemory, OutsideRam};

/// From the reset vector to the end of the image, in bytes.
const RESET_VECTOR_BYTES: usize = 16;
/// Where a firmware volume's header has its length, 8 bytes, and its signature.
const VOLUME_LENGTH: usize = 32;
const VOLUME_SIGNATURE: usize = 40;
/// What is copied at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Why an image is none that a machine can be started by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FirmwareError {
    /// The file is empty.
    Empty {
        /// The file.
        file: String,
    },
    /// Its length is not a multiple of 4 KiB.
    OddLength {
        /// The file.
        file: String,
        /// Its length in bytes.
        bytes: u64,
    },
    /// It is shorter than the segment that a processor starts in.
    TooSmall {
        /// The file.
        file: String,
        /// Its length in bytes.
        bytes: u64,
    },
    /// There is no room for it below 4 GiB.
    TooLarge {
        /// The file.
        file: String,
        /// Its length in bytes.
        bytes: u64,
        /// The room.
        most: u64,
    },
    /// A firmware volume in it is longer than what is left of the file.
    CutShort {
        /// The file.
        file: String,
        /// What is there of it, in bytes.
        has: u64,
        /// How long the file would be at least.
        needs: u64,
    },
    /// There is no code at the reset vector.
    NoResetVector {
        /// The file.
        file: String,
    },
}

impl fmt::Display for FirmwareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty { file } => write!(f, "`{file}` is empty"),
            Self::OddLength { file, bytes } => write!(
                f,
                "`{file}` is no firmware image: its {bytes} bytes are no multiple of 4 KiB; it may be cut short"
            ),
            Self::TooSmall { file, bytes } => write!(
                f,
                "`{file}` is no firmware image: it has {bytes} bytes, and a processor starts in the last \
                 {LEAST_FIRMWARE_BYTES}"
            ),
            Self::TooLarge { file, bytes, most } => {
                write!(f, "`{file}` has {bytes} bytes, and there is room for {most} below 4 GiB")
            }
            Self::CutShort { file, has, needs } => {
                write!(f, "`{file}` is cut short: it has {has} bytes, and its firmware volumes want {needs}")
            }
            Self::NoResetVector { file } => {
                write!(
                    f,
                    "`{file}` is no firmware image: there is no code 16 bytes before its end; it may be cut short"
                )
            }
        }
    }
}

/// An image, and the variable store below it.
#[derive(Clone, Copy, Debug)]
pub struct Firmware<'a> {
    image: &'a [u8],
    variables: &'a [u8],
}

/// The lengths of an image and of the variable store below it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FirmwareSizes {
    /// The image's, in bytes.
    pub image_bytes: u64,
    /// The variable store's, in bytes; 0 if there is none.
    pub variable_bytes: u64,
}

impl FirmwareSizes {
    /// Both together, in bytes.
    pub const fn total_bytes(&self) -> u64 {
        self.image_bytes + self.variable_bytes
    }

    /// Where the variable store begins, and the image behind it.
    pub const fn base(&self) -> Gpa {
        Gpa::new(FIRMWARE_END.get() - self.total_bytes())
    }
}

impl<'a> Firmware<'a> {
    /// Checks `image`, and the variable store that is to begin as `variables`.
    ///
    /// # Errors
    /// [`FirmwareError`] for whatever cannot be mapped or started.
    pub fn new(image: Image<'a>, variables: Option<Image<'a>>) -> Result<Self, FirmwareError> {
        check_length(image, MOST_FIRMWARE_BYTES)?;
        let bytes = image.bytes.len() as u64;
        if bytes < LEAST_FIRMWARE_BYTES {
            return Err(FirmwareError::TooSmall { file: image.name.into(), bytes });
        }
        check_volumes(image)?;
        let vector = image.bytes.last_chunk::<RESET_VECTOR_BYTES>();
        if vector.is_none_or(|vector| vector.iter().all(|byte| *byte == vector[0])) {
            return Err(FirmwareError::NoResetVector { file: image.name.into() });
        }
        if let Some(variables) = variables {
            check_length(variables, MOST_FIRMWARE_BYTES - bytes)?;
            check_volumes(variables)?;
        }
        Ok(Self { image: image.bytes, variables: variables.map_or(&[], |variables| variables.bytes) })
    }

    /// How long they are.
    pub const fn sizes(&self) -> FirmwareSizes {
        FirmwareSizes { image_bytes: self.image.len() as u64, variable_bytes: self.variables.len() as u64 }
    }

    /// Writes both to where they belong; `variables` take the place of the store's first content if they are as long.
    ///
    /// # Errors
    /// [`OutsideRam`] when `memory` does not reach from [`FirmwareSizes::base`] to 4 GiB.
    pub fn write(&self, memory: &impl GuestMemory, variables: Option<&[u8]>) -> Result<(), OutsideRam> {
        let variables =
            variables.filter(|variables| variables.len() == self.variables.len()).unwrap_or(self.variables);
        let mut at = self.sizes().base();
        for piece in variables.chunks(PIECE_BYTES).chain(self.image.chunks(PIECE_BYTES)) {
            memory.write(at, piece)?;
            at = at + piece.len() as u64;
        }
        Ok(())
    }
}

fn check_length(image: Image<'_>, most: u64) -> Result<(), FirmwareError> {
    let (file, bytes) = (|| String::from(image.name), image.bytes.len() as u64);
    if bytes == 0 {
        return Err(FirmwareError::Empty { file: file() });
    }
    if bytes > most {
        return Err(FirmwareError::TooLarge { file: file(), bytes, most });
    }
    if !bytes.is_multiple_of(PAGE_SIZE) {
        return Err(FirmwareError::OddLength { file: file(), bytes });
    }
    Ok(())
}

/// Follows firmware volumes from the image's beginning, as far as there are some.
fn check_volumes(image: Image<'_>) -> Result<(), FirmwareError> {
    let mut rest = image.bytes;
    while let Some(length) = volume_length(rest) {
        let next = usize::try_from(length).ok().and_then(|length| rest.get(length..));
        match next {
            // One without length is none.
            _ if length == 0 => return Ok(()),
            Some(next) => rest = next,
            None => {
                let has = image.bytes.len() as u64;
                let needs = (has - rest.len() as u64).saturating_add(length);
                return Err(FirmwareError::CutShort { file: image.name.into(), has, needs });
            }
        }
    }
    Ok(())
}

/// The length of the firmware volume at the beginning of `bytes`, if there is one.
fn volume_length(bytes: &[u8]) -> Option<u64> {
    let field = |at: usize| bytes.get(at..)?.first_chunk::<8>();
    field(VOLUME_SIGNATURE).filter(|signature| signature.starts_with(b"_FVH"))?;
    field(VOLUME_LENGTH).map(|length| u64::from_le_bytes(*length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec;
    use alloc::vec::Vec;
    use memory::{MemoryMap, VecBlock};
    use proptest::prelude::*;

    /// A volume of `bytes` bytes, which ends in a jump.
    fn volume(bytes: usize) -> Vec<u8> {
        let mut volume = vec![0xff; bytes];
        volume[VOLUME_LENGTH..][..8].copy_from_slice(&(bytes as u64).to_le_bytes());
        volume[VOLUME_SIGNATURE..][..4].copy_from_slice(b"_FVH");
        volume[bytes - 16] = 0xe9;
        volume
    }

    fn image(bytes: &[u8]) -> Image<'_> {
        Image { name: "fw", bytes }
    }

    fn told(bytes: &[u8], variables: Option<&[u8]>) -> String {
        let variables = variables.map(|bytes| Image { name: "vars", bytes });
        Firmware::new(image(bytes), variables).map_or_else(
            |error| error.to_string(),
            |firmware| format!("{:#x}", firmware.sizes().base().get()),
        )
    }

    #[test]
    fn an_image_ends_at_4_gib_with_its_variables_below() {
        let (code, variables) = ([volume(0x2_0000), volume(0x1_0000)].concat(), volume(0x2000));
        assert_eq!(told(&code, None), "0xfffd0000");
        let firmware = Firmware::new(image(&code), Some(image(&variables))).expect("sound");
        assert_eq!(firmware.sizes().base(), Gpa::new(0xfffc_e000));
        let mut map = MemoryMap::new();
        map.add(firmware.sizes().base(), VecBlock::new(0x3_2000)).expect("free");
        let content = |range: core::ops::Range<u64>| {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).expect("small")];
            map.read(Gpa::new(range.start), &mut bytes).expect("there");
            bytes
        };
        firmware.write(&map, None).expect("room");
        assert_eq!(content(0xfffc_e000..0xfffd_0000), variables);
        assert_eq!(content(0xfffd_0000..0x1_0000_0000), code);
        firmware.write(&map, Some(&[7; 0x2000])).expect("room");
        assert_eq!(content(0xfffc_e000..0xfffd_0000), [7; 0x2000], "what was kept");
        firmware.write(&map, Some(&[8; 0x1000])).expect("room");
        assert_eq!(content(0xfffc_e000..0xfffd_0000), variables, "of another store");
    }

    #[test]
    fn each_mistake_is_one_error_that_names_the_file() {
        let code = volume(0x1_0000);
        assert_eq!(told(&[], None), "`fw` is empty");
        assert_eq!(
            told(&code[..0xffff], None),
            "`fw` is no firmware image: its 65535 bytes are no multiple of 4 KiB; it may be cut short"
        );
        assert_eq!(
            told(&code[..0x1000], None),
            "`fw` is no firmware image: it has 4096 bytes, and a processor starts in the last 65536"
        );
        assert_eq!(
            told(&volume(0x3_0000)[..0x2_0000], None),
            "`fw` is cut short: it has 131072 bytes, and its firmware volumes want 196608"
        );
        assert_eq!(
            told(&[0xff; 0x1_0000], None),
            "`fw` is no firmware image: there is no code 16 bytes before its end; it may be cut short"
        );
        assert_eq!(
            told(&vec![1; 0x100_1000], None),
            "`fw` has 16781312 bytes, and there is room for 16777216 below 4 GiB"
        );
        assert_eq!(told(&code, Some(&[])), "`vars` is empty");
        assert_eq!(
            told(&code, Some(&[1; 0xff_1000])),
            "`vars` has 16715776 bytes, and there is room for 16711680 below 4 GiB"
        );
        assert!(told(&code, Some(&volume(0x2000)[..0x1000])).starts_with("`vars` is cut short"));
        let mut endless = volume(0x1_0000);
        endless[VOLUME_LENGTH..][..8].copy_from_slice(&[0xff; 8]);
        assert!(told(&endless, None).contains("cut short"));
    }

    proptest! {
        #[test]
        fn any_image_is_refused_or_fits(
            pages in 0..40_usize,
            headers in prop::collection::vec((0..40_usize, any::<u64>(), 0..3_u8), 0..6),
        ) {
            let mut bytes = vec![0x5a; pages * 0x1000];
            for (page, length, kind) in headers {
                if let Some(header) = bytes.get_mut(page * 0x1000..).and_then(|rest| rest.get_mut(..44)) {
                    let length = if kind == 0 { length } else { (length % 20) * 0x1000 };
                    header[VOLUME_LENGTH..][..8].copy_from_slice(&length.to_le_bytes());
                    header[VOLUME_SIGNATURE..][..4].copy_from_slice(b"_FVH");
                }
            }
            if let Some(last) = bytes.last_mut() {
                *last = 0;
            }
            if let Ok(firmware) = Firmware::new(image(&bytes), None) {
                prop_assert_eq!(firmware.sizes().base().get() + bytes.len() as u64, 1 << 32);
            }
        }
    }
}
