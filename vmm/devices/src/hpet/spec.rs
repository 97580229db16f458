//! Registers of the high-precision event timer. Intel IA-PC HPET Specification 1.0a, "Register Overview" and "Timer N
//! Configuration and Capabilities Register".

use arch::platform_layout::{HPET_ID, HPET_PERIOD_FS, HPET_TIMERS};

/// How many comparators there are.
pub(crate) const TIMERS: usize = HPET_TIMERS as usize;

/// The capabilities register.
pub(crate) const CAPABILITIES: u64 = (HPET_PERIOD_FS as u64) << 32 | HPET_ID as u64;

// Bits 12 to 8 are the number of the last timer.
const _: () = assert!((HPET_ID >> 8) & 0x1f == HPET_TIMERS as u32 - 1);

/// General configuration: the main counter runs and timers interrupt.
pub(crate) const ENABLE: u64 = 1 << 0;
/// General configuration: timer 0 replaces the interval timer, timer 1 the real-time clock.
pub(crate) const LEGACY_REPLACEMENT: u64 = 1 << 1;

/// Timer configuration: level-triggered.
pub(crate) const LEVEL: u64 = 1 << 1;
/// Timer configuration: interrupts when the comparator matches.
pub(crate) const INTERRUPT_ENABLE: u64 = 1 << 2;
/// Timer configuration: periodic.
pub(crate) const PERIODIC: u64 = 1 << 3;
/// Timer capabilities: can be periodic.
pub(crate) const PERIODIC_CAPABLE: u64 = 1 << 4;
/// Timer capabilities: has 64 bits.
pub(crate) const SIZE_64: u64 = 1 << 5;
/// Timer configuration: the next write to the comparator of a periodic timer sets the comparator too.
pub(crate) const VALUE_SET: u64 = 1 << 6;
/// Timer configuration: counts in 32 bits only.
pub(crate) const MODE_32: u64 = 1 << 8;
/// Timer configuration: interrupts by message.
pub(crate) const MESSAGE_ENABLE: u64 = 1 << 14;
/// Timer capabilities: can interrupt by message.
pub(crate) const MESSAGE_CAPABLE: u64 = 1 << 15;
/// Timer configuration: lowest bit of the I/O APIC pin.
pub(crate) const ROUTE_SHIFT: u32 = 9;
/// Timer configuration: the I/O APIC pin.
pub(crate) const ROUTE: u64 = 0x1f << ROUTE_SHIFT;

/// The bits of a timer's configuration that a write sets.
pub(crate) const TIMER_WRITABLE: u64 =
    LEVEL | INTERRUPT_ENABLE | PERIODIC | VALUE_SET | MODE_32 | ROUTE | MESSAGE_ENABLE;

/// What every timer can do, and to which I/O APIC pins it can be routed (bits 63 to 32).
pub(crate) const TIMER_CAPABILITIES: u64 =
    PERIODIC_CAPABLE | SIZE_64 | MESSAGE_CAPABLE | (ROUTES as u64) << 32;

/// The I/O APIC pins to which timers can be routed: the first four beyond the ISA interrupts.
pub(crate) const ROUTES: u32 = 0x000f_0000;
/// The first of them.
pub(crate) const FIRST_ROUTE: u8 = 16;
/// How many there are.
pub(crate) const ROUTE_COUNT: usize = 4;

const _: () = assert!(ROUTES == ((1 << ROUTE_COUNT) - 1) << FIRST_ROUTE);

/// What an 8-byte register holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Register {
    Capabilities,
    Configuration,
    InterruptStatus,
    Counter,
    TimerConfiguration(usize),
    Comparator(usize),
    MessageRoute(usize),
    Reserved,
}

impl Register {
    /// The register of which the byte at `offset` is one.
    pub(crate) const fn at(offset: u64) -> Self {
        match offset & !7 {
            0x000 => Self::Capabilities,
            0x010 => Self::Configuration,
            0x020 => Self::InterruptStatus,
            0x0f0 => Self::Counter,
            0x100 => Self::TimerConfiguration(0),
            0x108 => Self::Comparator(0),
            0x110 => Self::MessageRoute(0),
            0x120 => Self::TimerConfiguration(1),
            0x128 => Self::Comparator(1),
            0x130 => Self::MessageRoute(1),
            0x140 => Self::TimerConfiguration(2),
            0x148 => Self::Comparator(2),
            0x150 => Self::MessageRoute(2),
            _ => Self::Reserved,
        }
    }
}
