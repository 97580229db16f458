//! The local APIC's registers and their bits.
//!
//! SDM Vol. 3A, "Advanced Programmable Interrupt Controller (APIC)": "Local APIC Register Address Map", "x2APIC
//! Register Address Space", "Local Vector Table", "Interrupt Command Register (ICR)".

use arch::Vector;
use bitflags::bitflags;
use bus::{DeliveryMode, TriggerMode};

/// A register, by its number: bits 11:4 of its offset in the page, and its MSR number less 0x800.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Register {
    Id,
    Version,
    TaskPriority,
    ArbitrationPriority,
    ProcessorPriority,
    EndOfInterrupt,
    RemoteRead,
    LogicalDestination,
    DestinationFormat,
    SpuriousVector,
    /// One of eight.
    InService(u8),
    /// One of eight.
    Trigger(u8),
    /// One of eight.
    Request(u8),
    ErrorStatus,
    /// All of the ICR in x2APIC mode.
    CommandLow,
    CommandHigh,
    Lvt(LvtEntry),
    InitialCount,
    CurrentCount,
    Divide,
    SelfIpi,
}

impl Register {
    /// The register with `number`, if the local APIC has it in any mode.
    #[inline]
    pub(super) const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0x02 => Self::Id,
            0x03 => Self::Version,
            0x08 => Self::TaskPriority,
            0x09 => Self::ArbitrationPriority,
            0x0a => Self::ProcessorPriority,
            0x0b => Self::EndOfInterrupt,
            0x0c => Self::RemoteRead,
            0x0d => Self::LogicalDestination,
            0x0e => Self::DestinationFormat,
            0x0f => Self::SpuriousVector,
            0x10..=0x17 => Self::InService(number & 7),
            0x18..=0x1f => Self::Trigger(number & 7),
            0x20..=0x27 => Self::Request(number & 7),
            0x28 => Self::ErrorStatus,
            0x30 => Self::CommandLow,
            0x31 => Self::CommandHigh,
            0x32 => Self::Lvt(LvtEntry::Timer),
            0x33 => Self::Lvt(LvtEntry::Thermal),
            0x34 => Self::Lvt(LvtEntry::Performance),
            0x35 => Self::Lvt(LvtEntry::Lint0),
            0x36 => Self::Lvt(LvtEntry::Lint1),
            0x37 => Self::Lvt(LvtEntry::Error),
            0x38 => Self::InitialCount,
            0x39 => Self::CurrentCount,
            0x3e => Self::Divide,
            0x3f => Self::SelfIpi,
            _ => return None,
        })
    }
}

/// An entry of the local vector table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LvtEntry {
    Timer,
    Thermal,
    Performance,
    Lint0,
    Lint1,
    Error,
}

impl LvtEntry {
    pub(super) const COUNT: usize = 6;

    /// The bits that software may write; delivery status and remote IRR are read-only.
    pub(super) const fn writable(self, features: Features) -> u32 {
        match self {
            Self::Timer if features.contains(Features::TSC_DEADLINE) => 0x0007_00ff,
            Self::Timer => 0x0003_00ff,
            Self::Thermal | Self::Performance => 0x0001_07ff,
            Self::Lint0 | Self::Lint1 => 0x0001_a7ff,
            Self::Error => 0x0001_00ff,
        }
    }

    /// The bits that the local APIC changes and software does not.
    pub(super) const fn kept(self) -> u32 {
        match self {
            Self::Timer | Self::Thermal | Self::Performance | Self::Error => 0,
            Self::Lint0 | Self::Lint1 => Lvt::REMOTE_IRR,
        }
    }

    /// The bits that software may not change but may write without a fault.
    pub(super) const fn read_only(self) -> u32 {
        match self {
            Self::Timer | Self::Thermal | Self::Performance | Self::Error => 1 << 12,
            Self::Lint0 | Self::Lint1 => 1 << 12 | 1 << 14,
        }
    }
}

/// The value of an entry of the local vector table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lvt(pub(super) u32);

impl Lvt {
    pub(super) const MASK: u32 = 1 << 16;
    /// Of level-triggered pins: requested and not ended. Read-only.
    pub(super) const REMOTE_IRR: u32 = 1 << 14;
    pub(super) const RESET: Self = Self(Self::MASK);
    /// Unmasked, delivery mode ExtINT.
    pub(super) const EXTERNAL: Self = Self(0x700);

    #[inline]
    pub(super) const fn is_masked(self) -> bool {
        self.0 & Self::MASK != 0
    }

    #[inline]
    pub(super) const fn vector(self) -> Vector {
        low_byte(self.0)
    }

    /// The delivery mode of entries that have one; `None` for reserved encodings.
    pub(super) const fn mode(self) -> Option<DeliveryMode> {
        match delivery_mode(self.0) {
            // An entry can neither redirect nor start a processor.
            Some(DeliveryMode::LowestPriority | DeliveryMode::StartUp) => None,
            mode => mode,
        }
    }

    pub(super) const fn trigger(self) -> TriggerMode {
        trigger(self.0)
    }

    /// How the timer counts. Only the timer's entry has this field.
    pub(super) const fn timer_mode(self) -> TimerMode {
        match self.0 >> 17 & 3 {
            0 => TimerMode::OneShot,
            1 => TimerMode::Periodic,
            2 => TimerMode::TscDeadline,
            _ => TimerMode::Reserved,
        }
    }
}

/// How the timer counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TimerMode {
    OneShot,
    Periodic,
    TscDeadline,
    /// The fourth encoding. The timer stands still.
    Reserved,
}

/// The interrupt command register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Command(pub(super) u64);

impl Command {
    /// What may be written: vector, modes, level, trigger, shorthand; delivery status is read-only.
    pub(super) const LOW_WRITABLE: u32 = 0x000c_cfff;
    pub(super) const DELIVERY_STATUS: u32 = 1 << 12;

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
    pub(super) const fn low(self) -> u32 {
        self.0 as u32
    }

    #[inline]
    pub(super) const fn high(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub(super) const fn from_halves(high: u32, low: u32) -> Self {
        Self((high as u64) << 32 | low as u64)
    }

    pub(super) const fn vector(self) -> Vector {
        low_byte(self.low())
    }

    /// `None` for the reserved encoding and for ExtINT, which no IPI can carry.
    pub(super) const fn mode(self) -> Option<DeliveryMode> {
        match delivery_mode(self.low()) {
            Some(DeliveryMode::ExtInt) => None,
            mode => mode,
        }
    }

    pub(super) const fn is_logical(self) -> bool {
        self.low() & 1 << 11 != 0
    }

    /// INIT level de-assert: only old processors act on it.
    pub(super) const fn is_deassert(self) -> bool {
        self.low() & 1 << 14 == 0 && self.low() & 1 << 15 != 0
    }

    pub(super) const fn shorthand(self) -> Shorthand {
        match self.low() >> 18 & 3 {
            0 => Shorthand::None,
            1 => Shorthand::Myself,
            2 => Shorthand::All,
            _ => Shorthand::Others,
        }
    }
}

/// The destination shorthand of an IPI.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shorthand {
    None,
    Myself,
    All,
    Others,
}

bitflags! {
    /// What a local APIC has beyond the plain one.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Features: u8 {
        /// x2APIC mode (CPUID.1:ECX bit 21).
        const X2APIC = 1 << 0;
        /// The timer's TSC-deadline mode (CPUID.1:ECX bit 24).
        const TSC_DEADLINE = 1 << 1;
        /// SVR bit 12, which keeps EOIs from being broadcast.
        const EOI_BROADCAST_SUPPRESSION = 1 << 2;
    }
}

bitflags! {
    /// Errors, as the error status register shows them.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) struct Errors: u8 {
        const SEND_ILLEGAL_VECTOR = 1 << 5;
        const RECEIVE_ILLEGAL_VECTOR = 1 << 6;
        const ILLEGAL_REGISTER = 1 << 7;
    }
}

bitflags! {
    /// The flags of IA32_APIC_BASE (SDM Vol. 3A, "Local APIC Status and Location").
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(super) struct Base: u64 {
        const BOOTSTRAP = 1 << 8;
        const EXTENDED = 1 << 10;
        const ENABLED = 1 << 11;
    }
}

/// SVR: the software enable bit.
pub(super) const SVR_ENABLED: u32 = 1 << 8;
/// SVR: focus processor checking is off. It does nothing in current processors, which keep it in xAPIC mode.
pub(super) const SVR_NO_FOCUS: u32 = 1 << 9;
/// SVR: EOI-broadcast suppression.
pub(super) const SVR_SUPPRESS_EOI: u32 = 1 << 12;
/// SVR after reset.
pub(super) const SVR_RESET: u32 = 0xff;
/// DFR after reset: the flat model.
pub(super) const DFR_FLAT: u32 = 0xffff_ffff;
/// The divide configuration register's bits.
pub(super) const DIVIDE_WRITABLE: u32 = 0b1011;
/// Where the registers lie in memory after reset.
pub(super) const DEFAULT_BASE: u64 = 0xfee0_0000;
/// The lowest vector that a local APIC delivers.
pub(super) const FIRST_LEGAL_VECTOR: u8 = 16;

/// The version register: an integrated APIC (0x14) with six entries in its local vector table.
pub(super) const fn version(features: Features) -> u32 {
    const MAX_LVT_ENTRY: u32 = 5;
    let suppression = if features.contains(Features::EOI_BROADCAST_SUPPRESSION) { 1 << 24 } else { 0 };
    0x14 | MAX_LVT_ENTRY << 16 | suppression
}

/// The bits that software may write to SVR.
pub(super) const fn svr_writable(features: Features) -> u32 {
    let suppression =
        if features.contains(Features::EOI_BROADCAST_SUPPRESSION) { SVR_SUPPRESS_EOI } else { 0 };
    SVR_ENABLED | 0xff | suppression
}

/// The logical destination of the processor with `id` in x2APIC mode: cluster and place in it.
pub(super) const fn x2apic_logical(id: u32) -> u32 {
    (id >> 4) << 16 | 1 << (id & 0xf)
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low byte is what is asked for")]
pub(super) const fn low_byte(value: u32) -> Vector {
    Vector(value as u8)
}

const fn delivery_mode(value: u32) -> Option<DeliveryMode> {
    match value >> 8 & 7 {
        0 => Some(DeliveryMode::Fixed),
        1 => Some(DeliveryMode::LowestPriority),
        2 => Some(DeliveryMode::Smi),
        4 => Some(DeliveryMode::Nmi),
        5 => Some(DeliveryMode::Init),
        6 => Some(DeliveryMode::StartUp),
        7 => Some(DeliveryMode::ExtInt),
        _ => None,
    }
}

const fn trigger(value: u32) -> TriggerMode {
    if value & 1 << 15 != 0 { TriggerMode::Level } else { TriggerMode::Edge }
}
