//! The vector register file.
//!
//! SDM Vol. 1, "Intel AVX-512 Instruction Set Extensions", "Register State".

/// The number of a vector register, 0 to 31: XMMn, YMMn and ZMMn are the low 16, 32 and 64 bytes of the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct VectorRegister(u8);

impl VectorRegister {
    /// The register that the low five bits of `encoding` name.
    #[inline]
    pub const fn from_encoding(encoding: u8) -> Self {
        Self(encoding & 0x1f)
    }

    /// Its number, 0 to 31.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is in a vector register, the lowest byte first. Parts that the processor does not have are zero.
pub type VectorValue = [u8; 64];
