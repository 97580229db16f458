//! Model-specific registers that are plain storage or constants.
//!
//! SDM Vol. 4, "Architectural MSRs". An allow-list: a register that is not named somewhere raises #GP, with RIP unchanged.
//!
//! | Registers | Where | What they do |
//! |---|---|---|
//! | IA32_TIME_STAMP_COUNTER, TSC_ADJUST | `exits/msr.rs` | move the guest's TSC |
//! | IA32_APIC_BASE, TSC_DEADLINE, 0x800 to 0x8FF | `lapic/` | the local APIC |
//! | IA32_EFER | `exits/msr.rs` | SCE, LME, NXE; LMA follows |
//! | SYSENTER, STAR, LSTAR, CSTAR, FMASK, FS, GS and KERNEL_GS base, TSC_AUX, PAT | the processor | the guest's own, without exits; the processor refuses what it refuses natively |
//! | IA32_DEBUGCTL | the backend | zero: neither LBR nor BTF is offered |
//! | MTRRs, MTRRCAP | [`mtrr`] | kept, without effect |
//! | machine check | [`machine_check`] | kept; no machine check comes |
//! | IA32_ARCH_CAPABILITIES | here | constant, where CPUID reports it |
//! | IA32_BIOS_SIGN_ID, BIOS_UPDT_TRIG | here | the revision stays: updates are the host's |
//! | IA32_FEATURE_CONTROL | here | locked, VMX and SMX off: what firmware leaves on a machine without them |
//! | IA32_MISC_ENABLE | here | fast strings; all else as it is |
//! | IA32_PLATFORM_ID, P5_MC_ADDR, P5_MC_TYPE | here | zero |
//! | IA32_XSS | here | zero, where CPUID reports XSAVES: no supervisor component is offered |
//! | 0x4B564D00 and on, 0x11, 0x12 | `paravirt/` | KVM's interface |
//!
//! [`Tolerated`] ones exist for no feature of ours: an operating system is known to touch them without asking CPUID.

pub(crate) mod machine_check;
pub(crate) mod mtrr;

use arch::Msr;
use machine_check::MachineCheck;
use mtrr::Mtrrs;

/// MISC_ENABLE: fast strings; BTS and PEBS unavailable.
const MISC_ENABLE: u64 = 1 | 1 << 11 | 1 << 12;

/// What a vCPU's registers are made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsrConfig {
    /// What the upper half of IA32_BIOS_SIGN_ID reads.
    pub microcode_revision: u32,
    /// The width of physical addresses, which bounds those in MTRRs.
    pub physical_address_bits: u8,
    /// IA32_ARCH_CAPABILITIES, `None` where CPUID does not report the register.
    pub arch_capabilities: Option<u64>,
    /// IA32_XSS exists.
    pub xss: bool,
}

/// MSR storage of one vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsrState {
    mtrrs: Mtrrs,
    machine_check: MachineCheck,
    misc_enable: u64,
    /// IA32_TSC_ADJUST.
    pub(crate) tsc_adjust: u64,
    microcode_revision: u64,
    arch_capabilities: Option<u64>,
    /// IA32_XSS exists.
    xss: bool,
}

/// An access that raises #GP(0).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refused;

/// A register that reads as a constant because a guest reads it unasked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Tolerated {
    msr: Msr,
    value: u64,
    writes: Writes,
}

/// What becomes of writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Writes {
    Refused,
    Ignored,
}

const TOLERATED: [Tolerated; 7] = [
    // MSR_EBL_CR_POWERON: kernels for the Pentium Pro and its successors read bus ratio and BSP flag. Zero is "no ratio".
    Tolerated { msr: Msr(0x2a), value: 0, writes: Writes::Refused },
    // MSR_PLATFORM_INFO: Windows and BSD read the ratio beside CPUID.15H and 16H. Zero is "none told".
    Tolerated { msr: Msr(0xce), value: 0, writes: Writes::Refused },
    // BBL_CR_CTL3, the level-2 cache: Windows XP reads it and sets a reserved bit. 256 KiB, configured, on.
    Tolerated { msr: Msr(0x11e), value: 0xbe70_2111, writes: Writes::Ignored },
    // Last branch and last exception records of the P6 family: Windows reads them when it stops.
    Tolerated { msr: Msr(0x1db), value: 0, writes: Writes::Refused },
    Tolerated { msr: Msr(0x1dc), value: 0, writes: Writes::Refused },
    Tolerated { msr: Msr(0x1dd), value: 0, writes: Writes::Refused },
    Tolerated { msr: Msr(0x1de), value: 0, writes: Writes::Refused },
];

fn tolerated(msr: Msr) -> Option<Tolerated> {
    TOLERATED.into_iter().find(|tolerated| tolerated.msr == msr)
}

impl MsrState {
    /// The registers as firmware leaves them.
    pub const fn new(config: &MsrConfig) -> Self {
        Self {
            mtrrs: Mtrrs::from_firmware(config.physical_address_bits),
            machine_check: MachineCheck::from_firmware(),
            misc_enable: MISC_ENABLE,
            tsc_adjust: 0,
            microcode_revision: (config.microcode_revision as u64) << 32,
            arch_capabilities: config.arch_capabilities,
            xss: config.xss,
        }
    }

    /// The same registers before any firmware has run: no memory type range is set.
    #[must_use]
    pub const fn before_firmware(mut self) -> Self {
        self.mtrrs = self.mtrrs.after_reset();
        self
    }

    /// The memory type range registers.
    pub const fn mtrrs(&self) -> &Mtrrs {
        &self.mtrrs
    }

    /// Reads `msr`, `None` for #GP.
    pub fn read(&self, msr: Msr) -> Option<u64> {
        match msr {
            Msr::MTRRCAP => Some(mtrr::CAPABILITIES),
            Msr::TSC_ADJUST => Some(self.tsc_adjust),
            Msr::BIOS_SIGN_ID => Some(self.microcode_revision),
            Msr::MISC_ENABLE => Some(self.misc_enable),
            Msr::ARCH_CAPABILITIES => self.arch_capabilities,
            Msr::FEATURE_CONTROL => Some(1),
            Msr::P5_MC_ADDR | Msr::P5_MC_TYPE | Msr::PLATFORM_ID => Some(0),
            Msr::XSS => self.xss.then_some(0),
            _ => self.read_other(msr),
        }
    }

    fn read_other(&self, msr: Msr) -> Option<u64> {
        let kept = self.mtrrs.read(msr).or_else(|| self.machine_check.read(msr));
        kept.or_else(|| tolerated(msr).map(|tolerated| tolerated.value))
    }

    /// Writes `value` to `msr`.
    pub(crate) fn write(&mut self, msr: Msr, value: u64) -> Result<(), Refused> {
        match msr {
            Msr::MISC_ENABLE => self.misc_enable = value & 1 | MISC_ENABLE & !1,
            // Microcode updates are the host's; the revision stays, as on a processor that refuses the update.
            Msr::BIOS_SIGN_ID | Msr::BIOS_UPDT_TRIG | Msr::P5_MC_ADDR | Msr::P5_MC_TYPE => {}
            // No state component is offered.
            Msr::XSS if self.xss && value == 0 => {}
            _ if self.mtrrs.read(msr).is_some() => self.mtrrs.write(msr, value)?,
            _ if self.machine_check.read(msr).is_some() => self.machine_check.write(msr, value)?,
            _ => match tolerated(msr).map(|tolerated| tolerated.writes) {
                Some(Writes::Ignored) => {}
                Some(Writes::Refused) | None => return Err(Refused),
            },
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> MsrConfig {
        MsrConfig { microcode_revision: 1, physical_address_bits: 39, arch_capabilities: None, xss: true }
    }

    fn msrs() -> MsrState {
        MsrState::new(&config())
    }

    #[test]
    fn unknown_numbers_are_refused() {
        let mut msrs = msrs();
        for number in [0x2, 0x48, 0x10a, 0x199, 0x210, 0x280, 0x480, 0xc001_0015, 0x4000_0000, u32::MAX] {
            assert_eq!(msrs.read(Msr(number)), None, "{number:#x}");
            assert_eq!(msrs.write(Msr(number), 0), Err(Refused), "{number:#x}");
        }
    }

    #[test]
    fn what_can_be_read_can_be_written_back_or_is_read_only() {
        let read_only = [Msr::MTRRCAP, Msr::FEATURE_CONTROL, Msr::PLATFORM_ID, Msr::MCG_CAP];
        for number in 0..0x2000 {
            let mut msrs = msrs();
            let Some(value) = msrs.read(Msr(number)) else { continue };
            // TSC_ADJUST moves the TSC, and is written elsewhere.
            if read_only.contains(&Msr(number)) || Msr(number) == Msr::TSC_ADJUST {
                continue;
            }
            if tolerated(Msr(number)).is_some_and(|tolerated| tolerated.writes == Writes::Refused) {
                assert_eq!(msrs.write(Msr(number), value), Err(Refused), "{number:#x}");
                continue;
            }
            let before = msrs;
            assert_eq!(msrs.write(Msr(number), value), Ok(()), "{number:#x}");
            assert_eq!(msrs, before, "{number:#x}");
        }
    }

    #[test]
    fn architectural_capabilities_exist_where_cpuid_says_so() {
        let mut with = MsrState::new(&MsrConfig { arch_capabilities: Some(0x2b), ..config() });
        assert_eq!(with.read(Msr::ARCH_CAPABILITIES), Some(0x2b));
        assert_eq!(with.write(Msr::ARCH_CAPABILITIES, 0x2b), Err(Refused));
    }

    #[test]
    fn extended_supervisor_state_exists_where_cpuid_says_so_and_takes_no_component() {
        let mut with = msrs();
        assert_eq!(with.read(Msr::XSS), Some(0));
        assert_eq!((with.write(Msr::XSS, 0), with.write(Msr::XSS, 1 << 8)), (Ok(()), Err(Refused)));
        let mut without = MsrState::new(&MsrConfig { xss: false, ..config() });
        assert_eq!((without.read(Msr::XSS), without.write(Msr::XSS, 0)), (None, Err(Refused)));
    }

    #[test]
    fn a_tolerated_write_changes_nothing() {
        let mut msrs = msrs();
        let before = msrs;
        assert_eq!(msrs.write(Msr(0x11e), u64::MAX), Ok(()));
        assert_eq!(msrs, before);
    }
}
