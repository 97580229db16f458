//! Model-specific registers that are plain storage or constants: MTRRs, machine check, identification.
//!
//! The allow-list: what is neither here, nor in the local APIC, nor held by the processor itself, raises #GP with
//! RIP unchanged. SDM Vol. 4, "Architectural MSRs"; SDM Vol. 3A, "Memory Type Range Registers (MTRRs)".

use arch::Msr;

/// Variable-range MTRR pairs.
const VARIABLE_MTRRS: usize = 8;
/// MTRRCAP: eight pairs, fixed ranges, write-combining.
const MTRRCAP: u64 = VARIABLE_MTRRS as u64 | 1 << 8 | 1 << 10;
/// MISC_ENABLE: fast strings; BTS and PEBS unavailable.
const MISC_ENABLE: u64 = 1 | 1 << 11 | 1 << 12;
/// The fixed-range MTRRs, in the order of their storage.
const FIXED_MTRRS: [u32; 11] = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];

/// MSR storage of one vCPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsrState {
    mtrr_variable: [u64; VARIABLE_MTRRS * 2],
    mtrr_fixed: [u64; FIXED_MTRRS.len()],
    mtrr_def_type: u64,
    mcg_status: u64,
    misc_enable: u64,
    /// IA32_TSC_ADJUST.
    pub(crate) tsc_adjust: u64,
    /// IA32_XSS: no state component is offered, so always 0.
    microcode_revision: u64,
    physical_address_mask: u64,
}

/// An access that raises #GP(0).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refused;

/// Whether `value` is a memory type that MTRRs may hold (SDM Vol. 3A, "Memory Types That Can Be Encoded in
/// MTRRs").
const fn is_memory_type(value: u64) -> bool {
    matches!(value, 0 | 1 | 4 | 5 | 6)
}

impl MsrState {
    /// The registers as firmware leaves them: RAM write-back by default, MTRRs on. `microcode_revision` is what
    /// the upper half of IA32_BIOS_SIGN_ID reads; `physical_address_bits` bounds the MTRR addresses.
    pub const fn new(microcode_revision: u32, physical_address_bits: u8) -> Self {
        let bits = if physical_address_bits > 52 { 52 } else { physical_address_bits };
        Self {
            mtrr_variable: [0; VARIABLE_MTRRS * 2],
            mtrr_fixed: [0x0606_0606_0606_0606; FIXED_MTRRS.len()],
            mtrr_def_type: 6 | 1 << 11 | 1 << 10,
            mcg_status: 0,
            misc_enable: MISC_ENABLE,
            tsc_adjust: 0,
            microcode_revision: (microcode_revision as u64) << 32,
            physical_address_mask: (1 << bits) - 1,
        }
    }

    /// Reads `msr`, `None` for #GP.
    pub fn read(&self, msr: Msr) -> Option<u64> {
        let value = match msr {
            Msr::MTRRCAP => MTRRCAP,
            Msr::MTRR_DEF_TYPE => self.mtrr_def_type,
            Msr::TSC_ADJUST => self.tsc_adjust,
            Msr::BIOS_SIGN_ID => self.microcode_revision,
            Msr::MISC_ENABLE => self.misc_enable,
            Msr::MCG_STATUS => self.mcg_status,
            // Locked, VMX off: what firmware leaves on a machine without VT-x.
            Msr::FEATURE_CONTROL => 1,
            // No banks and no controls; a processor whose CPUID reports machine check has these registers.
            Msr::MCG_CAP | Msr::P5_MC_ADDR | Msr::P5_MC_TYPE | Msr::PLATFORM_ID | Msr::XSS => 0,
            _ => return self.mtrr_slot(msr).copied(),
        };
        Some(value)
    }

    /// Writes `value` to `msr`.
    pub(crate) fn write(&mut self, msr: Msr, value: u64) -> Result<(), Refused> {
        match msr {
            Msr::MTRR_DEF_TYPE => {
                if value & !0xcff != 0 || !is_memory_type(value & 0xff) {
                    return Err(Refused);
                }
                self.mtrr_def_type = value;
            }
            Msr::MISC_ENABLE => self.misc_enable = value & 1 | MISC_ENABLE & !1,
            Msr::MCG_STATUS => {
                if value != 0 {
                    return Err(Refused);
                }
                self.mcg_status = 0;
            }
            // Microcode updates are the host's; the revision stays, as on a processor that refuses the update.
            Msr::BIOS_SIGN_ID | Msr::BIOS_UPDT_TRIG | Msr::P5_MC_ADDR | Msr::P5_MC_TYPE => {}
            Msr::XSS => {
                if value != 0 {
                    return Err(Refused);
                }
            }
            _ => {
                self.check_mtrr(msr, value)?;
                *self.mtrr_slot_mut(msr).ok_or(Refused)? = value;
            }
        }
        Ok(())
    }

    fn check_mtrr(&self, msr: Msr, value: u64) -> Result<(), Refused> {
        let valid = if FIXED_MTRRS.contains(&msr.0) {
            value.to_le_bytes().iter().all(|byte| is_memory_type(u64::from(*byte)))
        } else if msr.0 & 1 == 0 {
            value & !(self.physical_address_mask & !0xfff | 0xff) == 0 && is_memory_type(value & 0xff)
        } else {
            value & !(self.physical_address_mask & !0xfff | 1 << 11) == 0
        };
        if valid { Ok(()) } else { Err(Refused) }
    }

    fn variable_index(msr: Msr) -> Option<usize> {
        usize::try_from(msr.0.checked_sub(Msr::MTRR_PHYSBASE0.0)?).ok().filter(|i| *i < VARIABLE_MTRRS * 2)
    }

    fn fixed_index(msr: Msr) -> Option<usize> {
        FIXED_MTRRS.iter().position(|number| *number == msr.0)
    }

    fn mtrr_slot(&self, msr: Msr) -> Option<&u64> {
        match Self::variable_index(msr) {
            Some(index) => self.mtrr_variable.get(index),
            None => self.mtrr_fixed.get(Self::fixed_index(msr)?),
        }
    }

    fn mtrr_slot_mut(&mut self, msr: Msr) -> Option<&mut u64> {
        match Self::variable_index(msr) {
            Some(index) => self.mtrr_variable.get_mut(index),
            None => self.mtrr_fixed.get_mut(Self::fixed_index(msr)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_numbers_are_refused() {
        let mut msrs = MsrState::new(1, 39);
        for number in [0x2, 0x48, 0x199, 0x210, 0x480, 0xc001_0015, 0x4000_0000, u32::MAX] {
            assert_eq!(msrs.read(Msr(number)), None, "{number:#x}");
            assert_eq!(msrs.write(Msr(number), 0), Err(Refused), "{number:#x}");
        }
    }

    #[test]
    fn mtrrs_keep_valid_values_and_refuse_reserved_bits() {
        let mut msrs = MsrState::new(1, 39);
        assert_eq!(msrs.write(Msr(0x200), 0xe000_0000), Ok(()));
        assert_eq!(msrs.read(Msr(0x200)), Some(0xe000_0000));
        assert_eq!(msrs.write(Msr(0x200), 2), Err(Refused), "type 2 is reserved");
        assert_eq!(msrs.write(Msr(0x201), 1 << 39), Err(Refused), "beyond the address width");
        assert_eq!(msrs.write(Msr(0x250), 0x0202_0202_0202_0202), Err(Refused));
        assert_eq!(msrs.write(Msr::MTRR_DEF_TYPE, 0xc06), Ok(()));
        assert_eq!(msrs.write(Msr::MTRR_DEF_TYPE, 0x1c06), Err(Refused));
    }

    #[test]
    fn machine_check_registers_exist() {
        assert_eq!(MsrState::new(1, 39).read(Msr::MCG_CAP), Some(0));
    }
}
