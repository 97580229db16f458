//! The processor's mode at the start of an instruction, read once.
//!
//! SDM Vol. 3A, "Modes of Operation"; Vol. 1, "Operand Size and Address Size in 64-Bit Mode".

use crate::instruction::Instruction;
use crate::{Cpu, Paging, Privilege};
use arch::{Cr0Flags, EferFlags, RFlags, SegmentRegister};

/// The default operand and address size of a code segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CodeSize {
    Bits16,
    Bits32,
    Bits64,
}

impl CodeSize {
    /// The size in bits.
    pub(crate) const fn bits(self) -> u32 {
        match self {
            Self::Bits16 => 16,
            Self::Bits32 => 32,
            Self::Bits64 => 64,
        }
    }

    /// The bits of the instruction pointer that count. In 16-bit code too it goes on past FFFFH from one instruction
    /// to the next, into the segment's limit: only branches cut it off.
    pub(crate) const fn ip_mask(self) -> u64 {
        match self {
            Self::Bits16 | Self::Bits32 => 0xffff_ffff,
            Self::Bits64 => u64::MAX,
        }
    }
}

/// How segments work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Real-address mode: base and limit count, access rights do not.
    Real,
    /// Virtual-8086 mode: as in real-address mode, at CPL 3.
    Virtual8086,
    /// Protected and compatibility mode.
    Protected,
    /// 64-bit mode: only the bases of FS and GS count.
    Long,
}

/// Mode, privilege and paging of the instruction at hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Context {
    pub(crate) mode: Mode,
    pub(crate) code_size: CodeSize,
    pub(crate) cpl: u8,
    pub(crate) rflags: RFlags,
    pub(crate) paging: Paging,
    /// CR0.AM, RFLAGS.AC and CPL 3 together: unaligned data accesses fault.
    pub(crate) checks_alignment: bool,
}

impl Context {
    #[inline]
    pub(crate) fn of(cpu: &impl Cpu) -> Self {
        const LONG: u32 = 1 << 13;
        const DEFAULT_32: u32 = 1 << 14;
        let rflags = cpu.rflags();
        let paging = Paging::with_rflags(cpu, rflags);
        let (cr0, efer) = (paging.cr0(), paging.efer());
        let code = cpu.access_rights(SegmentRegister::Cs);
        let mode = if !cr0.contains(Cr0Flags::PROTECTED_MODE_ENABLE) {
            Mode::Real
        } else if efer.contains(EferFlags::LONG_MODE_ACTIVE) && code & LONG != 0 {
            Mode::Long
        } else if rflags.contains(RFlags::VIRTUAL_8086_MODE) {
            Mode::Virtual8086
        } else {
            Mode::Protected
        };
        let code_size = match mode {
            Mode::Long => CodeSize::Bits64,
            // D of CS counts in real-address mode too, where it may be left over from protected mode.
            Mode::Protected | Mode::Real if code & DEFAULT_32 != 0 => CodeSize::Bits32,
            Mode::Protected | Mode::Real | Mode::Virtual8086 => CodeSize::Bits16,
        };
        let cpl = cpu.cpl();
        Self {
            mode,
            code_size,
            cpl,
            rflags,
            paging,
            checks_alignment: cpl == 3
                && cr0.contains(Cr0Flags::ALIGNMENT_MASK)
                && rflags.contains(RFlags::ALIGNMENT_CHECK),
        }
    }

    /// Where the instruction behind `instruction`, which is at `rip`, is.
    #[inline]
    pub(crate) fn behind(&self, rip: u64, instruction: &Instruction) -> u64 {
        rip.wrapping_add(u64::from(instruction.length)) & self.code_size.ip_mask()
    }

    /// Whose the instruction's own memory accesses are.
    #[inline]
    pub(crate) const fn privilege(&self) -> Privilege {
        if self.cpl == 3 { Privilege::User } else { Privilege::Supervisor }
    }
}
