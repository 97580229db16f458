//! A file to load, and what its first bytes say it is.
//!
//! "The Linux/x86 Boot Protocol"; System V ABI, "ELF Header"; "Booting AArch64 Linux" and "RISC-V boot image header"
//! for the images of other machines, which deserve a clear word.

use crate::multiboot::Version;
use crate::{LoadError, NotKernel, OtherArchitecture, linux, pvh};
use arch::Gpa;

/// A file from the boot archive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Image<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// Its contents.
    pub bytes: &'a [u8],
}

impl core::fmt::Debug for Image<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Image").field("name", &self.name).field("bytes", &self.bytes.len()).finish()
    }
}

/// A file that is passed to a kernel, with a text of the operator's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Module<'a> {
    /// The file.
    pub file: Image<'a>,
    /// The text: by convention the file's name, and words for the kernel behind it.
    pub string: &'a str,
}

impl Module<'_> {
    /// Checks that the text can be passed.
    pub(crate) fn check(&self) -> Result<(), LoadError> {
        match self.string.contains('\0') {
            true => Err(LoadError::ModuleStringHasZero { file: self.file.name.into() }),
            false => Ok(()),
        }
    }
}

/// How a kernel is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BootProtocol {
    /// A bzImage, by the 64-bit Linux boot protocol.
    Linux,
    /// A bzImage, by the 32-bit Linux boot protocol.
    Linux32,
    /// An ELF file with a PVH entry note.
    Pvh,
    /// A file with a Multiboot header, ELF or not.
    Multiboot,
    /// A file with a Multiboot2 header, ELF or not.
    Multiboot2,
    /// Any file, as it is: in real mode if it is entered below 1 MiB, otherwise in 32-bit protected mode.
    Flat {
        /// Where its first byte goes.
        load_address: Gpa,
        /// Where it is entered.
        entry: Gpa,
    },
}

/// The bzImage header's signature and its offset.
pub(crate) const LINUX_MAGIC: (usize, &[u8]) = (0x202, b"HdrS");
/// The ELF signature and its offset.
pub(crate) const ELF_MAGIC: (usize, &[u8]) = (0, b"\x7fELF");

impl BootProtocol {
    /// Decides by the signatures in `image`: a bzImage with a 64-bit entry point or without one, an ELF file with a PVH
    /// note, a Multiboot2 header, a Multiboot header, in this order.
    ///
    /// # Errors
    /// [`LoadError::NotKernel`] or another when it has none that can be booted.
    pub fn detect(image: Image<'_>) -> Result<Self, LoadError> {
        if has(image.bytes, LINUX_MAGIC) {
            return Ok(if linux::has_64_bit_entry(image.bytes) { Self::Linux } else { Self::Linux32 });
        }
        let is_multiboot2 = || Version::Two.is_in(image.bytes);
        let is_multiboot = || Version::One.is_in(image.bytes);
        if has(image.bytes, ELF_MAGIC) {
            return match pvh::entry_note(image) {
                Ok(Some(_)) => Ok(Self::Pvh),
                Ok(None) | Err(_) if is_multiboot2() => Ok(Self::Multiboot2),
                Ok(None) | Err(_) if is_multiboot() => Ok(Self::Multiboot),
                Ok(None) => Err(LoadError::NoWayToBoot { file: image.name.into() }),
                Err(error) => Err(error),
            };
        }
        if let Some(error) = other_file(image) {
            return Err(error);
        }
        if is_multiboot2() {
            return Ok(Self::Multiboot2);
        }
        if is_multiboot() {
            return Ok(Self::Multiboot);
        }
        Err(not_kernel(image, NotKernel::NoSignature))
    }
}

/// Whether `bytes` have the signature at its offset.
pub(crate) fn has(bytes: &[u8], (offset, signature): (usize, &[u8])) -> bool {
    bytes.get(offset..).is_some_and(|rest| rest.starts_with(signature))
}

/// The error for an image without the signature that was looked for: `otherwise`, unless it is recognized as
/// something else.
pub(crate) fn not_kernel(image: Image<'_>, otherwise: NotKernel) -> LoadError {
    other_file(image).unwrap_or_else(|| LoadError::NotKernel { file: image.name.into(), why: otherwise })
}

/// The error for an image that is recognized as something that is no kernel for this machine.
pub(crate) fn other_file(image: Image<'_>) -> Option<LoadError> {
    let other_architectures = [
        ((56, b"ARM\x64".as_slice()), OtherArchitecture::Arm64),
        ((36, b"\x18\x28\x6f\x01".as_slice()), OtherArchitecture::Arm),
        ((56, b"RSC\x05".as_slice()), OtherArchitecture::RiscV),
    ];
    let others = [
        ((0, b"\x1f\x8b".as_slice()), NotKernel::Compressed("gzip")),
        ((0, b"\xfd7zXZ\0".as_slice()), NotKernel::Compressed("xz")),
        ((0, b"\x28\xb5\x2f\xfd".as_slice()), NotKernel::Compressed("zstd")),
        ((0, b"070701".as_slice()), NotKernel::Cpio),
    ];
    let file = image.name.into();
    if image.bytes.is_empty() {
        return Some(LoadError::NotKernel { file, why: NotKernel::Empty });
    }
    if let Some((_, found)) = other_architectures.iter().find(|(magic, _)| has(image.bytes, *magic)) {
        return Some(LoadError::WrongArchitecture { file, found: *found });
    }
    let (_, why) = others.iter().find(|(magic, _)| has(image.bytes, *magic))?;
    Some(LoadError::NotKernel { file, why: *why })
}
