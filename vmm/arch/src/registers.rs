//! The general-purpose register file.

/// A general-purpose register, numbered as instruction encodings and exit qualifications number it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Gpr {
    /// RAX.
    Rax = 0,
    /// RCX.
    Rcx = 1,
    /// RDX.
    Rdx = 2,
    /// RBX.
    Rbx = 3,
    /// RSP. It lives in the VMCS, not in [`Gprs`]'s saved file.
    Rsp = 4,
    /// RBP.
    Rbp = 5,
    /// RSI.
    Rsi = 6,
    /// RDI.
    Rdi = 7,
    /// R8.
    R8 = 8,
    /// R9.
    R9 = 9,
    /// R10.
    R10 = 10,
    /// R11.
    R11 = 11,
    /// R12.
    R12 = 12,
    /// R13.
    R13 = 13,
    /// R14.
    R14 = 14,
    /// R15.
    R15 = 15,
}

impl Gpr {
    /// The register that the low four bits of `encoding` name.
    #[inline]
    pub const fn from_encoding(encoding: u64) -> Self {
        match encoding & 0xf {
            0 => Self::Rax,
            1 => Self::Rcx,
            2 => Self::Rdx,
            3 => Self::Rbx,
            4 => Self::Rsp,
            5 => Self::Rbp,
            6 => Self::Rsi,
            7 => Self::Rdi,
            8 => Self::R8,
            9 => Self::R9,
            10 => Self::R10,
            11 => Self::R11,
            12 => Self::R12,
            13 => Self::R13,
            14 => Self::R14,
            _ => Self::R15,
        }
    }
}

/// The guest's general-purpose registers, in encoding order. The entry stub saves and loads all slots but
/// RSP's, which is kept in the VMCS; the slot stays so that an encoding is an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Gprs(pub [u64; 16]);

const _: () = assert!(size_of::<Gprs>() == 128);

impl Gprs {
    /// The value of `register`. For RSP this is the file's own slot: ask the backend for the guest's RSP.
    #[inline]
    pub const fn get(&self, register: Gpr) -> u64 {
        self.0[register as usize]
    }

    /// Sets all 64 bits of `register`.
    #[inline]
    pub const fn set(&mut self, register: Gpr, value: u64) {
        self.0[register as usize] = value;
    }

    /// The low 32 bits of `register`.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
    pub const fn get32(&self, register: Gpr) -> u32 {
        self.0[register as usize] as u32
    }

    /// EDX:EAX as one 64-bit value, as WRMSR and XSETBV take it.
    #[inline]
    pub const fn edx_eax(&self) -> u64 {
        (self.get(Gpr::Rdx) << 32) | (self.get(Gpr::Rax) & 0xffff_ffff)
    }

    /// Splits `value` over EDX:EAX and clears the upper halves, as RDMSR does.
    #[inline]
    pub const fn set_edx_eax(&mut self, value: u64) {
        self.set(Gpr::Rax, value & 0xffff_ffff);
        self.set(Gpr::Rdx, value >> 32);
    }
}
