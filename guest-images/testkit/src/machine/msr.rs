//! MSRs that checks write with values of their choice.
//!
//! None of them can make the CPU touch memory that Rust knows: they steer the local APIC, caching, machine checks, and
//! instructions that this program never executes on its own.

use super::cpu::halves;
use super::provoke::Provoked;
use super::trap::{Trap, probe};

/// One of these MSRs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TestMsr(u32);

impl TestMsr {
    pub(crate) const TSC: Self = Self(0x10);
    pub(crate) const PLATFORM_ID: Self = Self(0x17);
    pub(crate) const APIC_BASE: Self = Self(0x1b);
    pub(crate) const FEATURE_CONTROL: Self = Self(0x3a);
    pub(crate) const TSC_ADJUST: Self = Self(0x3b);
    pub(crate) const MICROCODE_REVISION: Self = Self(0x8b);
    pub(crate) const MTRR_CAP: Self = Self(0xfe);
    pub(crate) const SYSENTER_CS: Self = Self(0x174);
    pub(crate) const SYSENTER_ESP: Self = Self(0x175);
    pub(crate) const SYSENTER_EIP: Self = Self(0x176);
    pub(crate) const MCG_CAP: Self = Self(0x179);
    pub(crate) const MCG_STATUS: Self = Self(0x17a);
    pub(crate) const MISC_ENABLE: Self = Self(0x1a0);
    pub(crate) const DEBUG_CONTROL: Self = Self(0x1d9);
    pub(crate) const MTRR_FIX_64K: Self = Self(0x250);
    pub(crate) const MTRR_FIX_16K_80000: Self = Self(0x258);
    pub(crate) const MTRR_FIX_4K_F8000: Self = Self(0x26f);
    pub(crate) const PAT: Self = Self(0x277);
    pub(crate) const MTRR_DEFAULT: Self = Self(0x2ff);
    pub(crate) const MC0_CONTROL: Self = Self(0x400);
    pub(crate) const VMX_BASIC: Self = Self(0x480);
    pub(crate) const TSC_DEADLINE: Self = Self(0x6e0);
    pub(crate) const XSS: Self = Self(0xda0);
    pub(crate) const STAR: Self = Self(0xc000_0081);
    pub(crate) const LSTAR: Self = Self(0xc000_0082);
    pub(crate) const CSTAR: Self = Self(0xc000_0083);
    pub(crate) const FMASK: Self = Self(0xc000_0084);
    pub(crate) const FS_BASE: Self = Self(0xc000_0100);
    pub(crate) const KERNEL_GS_BASE: Self = Self(0xc000_0102);
    pub(crate) const TSC_AUX: Self = Self(0xc000_0103);

    /// Base and mask of variable-range MTRR `number`.
    pub(crate) const fn mtrr_variable(number: u32) -> (Self, Self) {
        assert!(number < 10, "that many at most");
        (Self(0x200 + 2 * number), Self(0x201 + 2 * number))
    }

    /// Status, address and misc of machine-check bank `bank` are at 1, 2 and 3 behind its control.
    pub(crate) const fn machine_check(bank: u32, register: u32) -> Self {
        assert!(bank < 32 && register < 4, "a bank's register");
        Self(Self::MC0_CONTROL.0 + 4 * bank + register)
    }

    /// The x2APIC register that has xAPIC offset `offset`.
    pub(crate) const fn x2apic(offset: u32) -> Self {
        assert!(offset < 0x1000, "inside the page");
        Self(0x800 + (offset >> 4))
    }

    /// RDMSR.
    pub(crate) fn read(self) -> Result<u64, Trap> {
        super::hostile::read_any_msr(self.0)
    }

    /// WRMSR.
    pub(crate) fn write(self, value: u64) -> Provoked {
        let [low, high] = halves(value);
        probe!(["wrmsr"], in("ecx") self.0, in("eax") low, in("edx") high)
    }
}

/// IA32_EFER.
const EFER: u32 = 0xc000_0080;

/// Reads IA32_EFER.
pub(crate) fn read_efer() -> Result<u64, Trap> {
    super::hostile::read_any_msr(EFER)
}

/// Loads IA32_EFER with some bits changed, and puts the old value back at once. NXE has to stay: pages use it.
pub(crate) fn try_efer(set: u64, clear: u64) -> Result<u64, Trap> {
    let old = read_efer()?;
    let [low, high] = halves(old & !clear | set);
    let [old_low, _] = halves(old);
    let seen: u32;
    probe!(
        ["wrmsr", "rdmsr", "mov {seen:e}, eax", "mov eax, {old:e}", "xor edx, edx", "wrmsr"],
        in("ecx") EFER, inout("eax") low => _, inout("edx") high => _, old = in(reg) old_low,
        seen = inout(reg) 0u32 => seen
    )?;
    Ok(u64::from(seen))
}
