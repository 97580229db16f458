//! A file to load, and what its first bytes say it is.
//!
//! "The Linux/x86 Boot Protocol"; System V ABI, "ELF Header"; "Booting AArch64 Linux" and "RISC-V boot image header"
//! for the images of other machines, which deserve a clear word.

use crate::{LoadError, NotKernel, OtherArchitecture};

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

/// How a kernel is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BootProtocol {
    /// A bzImage, by the 64-bit Linux boot protocol.
    Linux,
    /// An ELF file with a PVH entry note.
    Pvh,
}

/// The bzImage header's signature and its offset.
pub(crate) const LINUX_MAGIC: (usize, &[u8]) = (0x202, b"HdrS");
/// The ELF signature and its offset.
pub(crate) const ELF_MAGIC: (usize, &[u8]) = (0, b"\x7fELF");

impl BootProtocol {
    /// Decides by the signatures in `image`.
    ///
    /// # Errors
    /// [`LoadError::NotKernel`] or [`LoadError::WrongArchitecture`] when it has none that can be booted.
    pub fn detect(image: Image<'_>) -> Result<Self, LoadError> {
        if has(image.bytes, LINUX_MAGIC) {
            return Ok(Self::Linux);
        }
        if has(image.bytes, ELF_MAGIC) {
            return Ok(Self::Pvh);
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
        return LoadError::NotKernel { file, why: NotKernel::Empty };
    }
    if let Some((_, found)) = other_architectures.iter().find(|(magic, _)| has(image.bytes, *magic)) {
        return LoadError::WrongArchitecture { file, found: *found };
    }
    let why = others.iter().find(|(magic, _)| has(image.bytes, *magic)).map_or(otherwise, |(_, why)| *why);
    LoadError::NotKernel { file, why }
}
