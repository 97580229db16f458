//! IA32_APIC_BASE: where the registers are, and the transitions between the modes.
//!
//! SDM Vol. 3A, "Local APIC Status and Location", "x2APIC State Transitions".

use super::spec::{Base, Command, DFR_FLAT, Features};
use super::{GeneralProtection, LocalApic, Mode};

impl LocalApic {
    /// IA32_APIC_BASE.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Writes IA32_APIC_BASE.
    ///
    /// # Errors
    /// [`GeneralProtection`] for reserved bits and for transitions that the manual forbids; nothing changes then.
    pub fn set_base(&mut self, value: u64) -> Result<(), GeneralProtection> {
        let page = !0xfff & !(u64::MAX << self.config.physical_address_bits.clamp(32, 52));
        let mut writable = page | (Base::BOOTSTRAP | Base::ENABLED).bits();
        if self.config.features.contains(Features::X2APIC) {
            writable |= Base::EXTENDED.bits();
        }
        if value & !writable != 0 {
            return Err(GeneralProtection);
        }
        let wanted = Mode::from_base(value).ok_or(GeneralProtection)?;
        match (self.mode, wanted) {
            (Mode::Disabled, Mode::X2Apic) | (Mode::X2Apic, Mode::XApic) => return Err(GeneralProtection),
            (Mode::Disabled, Mode::Disabled | Mode::XApic)
            | (Mode::XApic, Mode::XApic)
            | (Mode::X2Apic, Mode::X2Apic) => {}
            // What x2APIC mode has otherwise is not preserved, all else is (SDM Vol. 3A, "State Changes From xAPIC Mode
            // to x2APIC Mode").
            (Mode::XApic, Mode::X2Apic) => {
                self.command = Command::from_halves(0, self.command.low());
                self.logical_destination = 0;
                self.destination_format = DFR_FLAT;
            }
            // What was pending is gone; when enabled again, the APIC is as after reset, and no firmware sees to LINT0.
            (Mode::XApic | Mode::X2Apic, Mode::Disabled) => self.clear(),
        }
        self.mode = wanted;
        self.base = value;
        Ok(())
    }
}

impl Mode {
    /// The mode that IA32_APIC_BASE says, `None` for the invalid combination.
    pub(super) fn from_base(value: u64) -> Option<Self> {
        let flags = Base::from_bits_truncate(value);
        match (flags.contains(Base::ENABLED), flags.contains(Base::EXTENDED)) {
            (false, false) => Some(Self::Disabled),
            (true, false) => Some(Self::XApic),
            (true, true) => Some(Self::X2Apic),
            (false, true) => None,
        }
    }
}
