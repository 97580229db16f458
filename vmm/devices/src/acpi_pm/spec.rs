//! Fixed power-management registers. ACPI Specification, "ACPI Hardware Specification": "PM1 Event Grouping",
//! "PM1 Control Grouping", "Power Management Timer".

use bitflags::bitflags;

bitflags! {
    /// PM1 status; the enable register has the same bits where there is something to enable.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) struct Events: u16 {
        const TIMER = 1 << 0;
        const BUS_MASTER = 1 << 4;
        const GLOBAL_LOCK = 1 << 5;
        const POWER_BUTTON = 1 << 8;
        const SLEEP_BUTTON = 1 << 9;
        const CLOCK_ALARM = 1 << 10;
        const WAKE = 1 << 15;
    }
}

impl Events {
    /// The bits that the enable register has.
    pub(crate) const ENABLES: Self = Self::TIMER
        .union(Self::GLOBAL_LOCK)
        .union(Self::POWER_BUTTON)
        .union(Self::SLEEP_BUTTON)
        .union(Self::CLOCK_ALARM);
}

/// PM1 control: the machine is in ACPI mode, and events raise the SCI. Only the SMI command port changes it.
pub(crate) const SCI_ENABLE: u16 = 1 << 0;
/// PM1 control: bits that are kept as written: bus-master reload and the sleep type.
pub(crate) const CONTROL_KEPT: u16 = 1 << 1 | 7 << SLEEP_TYPE_SHIFT;
/// PM1 control: the sleep type's lowest bit.
pub(crate) const SLEEP_TYPE_SHIFT: u32 = 10;
/// PM1 control: enter the sleep state; reads as zero.
pub(crate) const SLEEP_ENABLE: u16 = 1 << 13;

/// SMI control and enable, of Intel's I/O Controller Hub 9: interrupts are on (bit 0), that of the command port is (bit 5).
pub(crate) const SMI_ENABLE_VALUE: u32 = 1 << 0 | 1 << 5;

/// What a 32-bit-aligned offset in the block holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Register {
    /// PM1a status in the low half, enable in the high half.
    Event,
    /// PM1a control in the low half.
    Control,
    Timer,
    /// General-purpose event block 0: status in the low half, enable in the high half.
    GeneralEvent,
}

impl Register {
    pub(crate) const fn at(offset: u16) -> Self {
        match (offset >> 2) & 3 {
            0 => Self::Event,
            1 => Self::Control,
            2 => Self::Timer,
            _ => Self::GeneralEvent,
        }
    }
}
