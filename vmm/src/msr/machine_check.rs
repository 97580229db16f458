//! The machine-check registers: a guest can program all of them, and no machine check ever comes.
//!
//! SDM Vol. 3B, "Machine-Check Architecture". Operating systems want them where CPUID reports MCE and MCA: Windows stops
//! without banks. Corrected-error interrupts, and with them the IA32_MCi_CTL2 registers and the local APIC's CMCI entry,
//! are not offered; neither are extended registers, software recovery and local machine checks.

use super::Refused;
use arch::Msr;

/// Error-reporting banks.
const BANKS: usize = 10;
/// IA32_MCG_CAP: the banks, and that IA32_MCG_CTL exists.
const CAPABILITIES: u64 = BANKS as u64 | 1 << 8;
/// IA32_MCG_STATUS: RIPV, EIPV, MCIP.
const STATUS_WRITABLE: u64 = 0b111;
/// Bits of a bank's IA32_MCi_CTL that may be clear in an otherwise set register, beside all of them: UnixWare clears bit 0
/// of one against corrected ECC errors, Linux bit 10 of another.
const MAY_BE_CLEAR: u64 = 1 << 10 | 1;

/// The registers of one processor that hold something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct MachineCheck {
    status: u64,
    control: u64,
    /// IA32_MCi_CTL. Status, address and miscellaneous registers of a bank can only be cleared, and are clear.
    banks: [u64; BANKS],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Register {
    Capabilities,
    Status,
    Control,
    BankControl(usize),
    /// IA32_MCi_STATUS, IA32_MCi_ADDR, IA32_MCi_MISC.
    BankReport,
}

impl Register {
    fn of(msr: Msr) -> Option<Self> {
        match msr {
            Msr::MCG_CAP => Some(Self::Capabilities),
            Msr::MCG_STATUS => Some(Self::Status),
            Msr::MCG_CTL => Some(Self::Control),
            _ => {
                let index = usize::try_from(msr.0.checked_sub(Msr::MC0_CTL.0)?).ok()?;
                let bank = index / 4;
                let register = if index % 4 == 0 { Self::BankControl(bank) } else { Self::BankReport };
                (bank < BANKS).then_some(register)
            }
        }
    }
}

impl MachineCheck {
    /// As firmware leaves them: all errors reported.
    pub(super) const fn from_firmware() -> Self {
        Self { status: 0, control: u64::MAX, banks: [u64::MAX; BANKS] }
    }

    /// Reads a register, `None` if `msr` is none of these.
    pub(super) fn read(&self, msr: Msr) -> Option<u64> {
        Some(match Register::of(msr)? {
            Register::Capabilities => CAPABILITIES,
            Register::Status => self.status,
            Register::Control => self.control,
            Register::BankControl(bank) => self.banks[bank],
            Register::BankReport => 0,
        })
    }

    /// Writes a register, which must exist and take the value.
    pub(super) fn write(&mut self, msr: Msr, value: u64) -> Result<(), Refused> {
        let (place, is_allowed) = match Register::of(msr).ok_or(Refused)? {
            Register::Capabilities => return Err(Refused),
            Register::BankReport => return if value == 0 { Ok(()) } else { Err(Refused) },
            Register::Status => (&mut self.status, value & !STATUS_WRITABLE == 0),
            Register::Control => (&mut self.control, value == 0 || value == u64::MAX),
            Register::BankControl(bank) => {
                (&mut self.banks[bank], value == 0 || value | MAY_BE_CLEAR == u64::MAX)
            }
        };
        if !is_allowed {
            return Err(Refused);
        }
        *place = value;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bank_has_four_registers_and_no_more_banks_are_there_than_reported() {
        let checks = MachineCheck::from_firmware();
        let banks = u32::try_from(checks.read(Msr::MCG_CAP).expect("it is there") & 0xff).expect("a byte");
        for number in 0x400..0x400 + 4 * banks {
            let expected = if number % 4 == 0 { u64::MAX } else { 0 };
            assert_eq!(checks.read(Msr(number)), Some(expected), "{number:#x}");
        }
        for number in [0x3ff, 0x400 + 4 * banks, 0x280, 0x289, 0x17c, 0x178] {
            assert_eq!(checks.read(Msr(number)), None, "{number:#x}");
        }
        assert_eq!(checks.read(Msr::MCG_CAP).map(|value| value >> 9), Some(0), "nothing beyond MCG_CTL");
    }

    #[test]
    fn controls_take_all_or_nothing() {
        for number in [0x17b, 0x400, 0x424] {
            let mut checks = MachineCheck::from_firmware();
            for value in [0, u64::MAX] {
                assert_eq!(checks.write(Msr(number), value), Ok(()), "{number:#x}");
                assert_eq!(checks.read(Msr(number)), Some(value), "{number:#x}");
            }
            for value in [1, 0xff, u64::MAX - 2, u64::MAX >> 1] {
                assert_eq!(checks.write(Msr(number), value), Err(Refused), "{number:#x} {value:#x}");
            }
            assert_eq!(checks.read(Msr(number)), Some(u64::MAX));
        }
        let mut checks = MachineCheck::from_firmware();
        assert_eq!(checks.write(Msr(0x404), u64::MAX - 1), Ok(()), "UnixWare");
        assert_eq!(checks.write(Msr(0x410), !(1 << 10)), Ok(()), "Linux");
    }

    #[test]
    fn reports_can_only_be_cleared() {
        let mut checks = MachineCheck::from_firmware();
        for number in [0x401, 0x402, 0x403, 0x425, 0x427] {
            assert_eq!(checks.write(Msr(number), 0), Ok(()), "{number:#x}");
            for value in [1, 1 << 63, u64::MAX] {
                assert_eq!(checks.write(Msr(number), value), Err(Refused), "{number:#x}");
            }
        }
    }

    #[test]
    fn the_status_keeps_its_flags_and_the_capabilities_are_read_only() {
        let mut checks = MachineCheck::from_firmware();
        assert_eq!(checks.write(Msr::MCG_STATUS, 5), Ok(()));
        assert_eq!(checks.read(Msr::MCG_STATUS), Some(5));
        assert_eq!(checks.write(Msr::MCG_STATUS, 8), Err(Refused));
        assert_eq!(checks.write(Msr::MCG_CAP, CAPABILITIES), Err(Refused));
    }
}
