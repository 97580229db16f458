//! One comparator of the HPET: when it matches, and what a match does to it.

use super::spec::{
    INTERRUPT_ENABLE, LEVEL, MESSAGE_ENABLE, MODE_32, PERIODIC, ROUTE, ROUTE_SHIFT, TIMER_WRITABLE, VALUE_SET,
};
use crate::lanes::low_byte;

/// The registers of one comparator. Every `count` here is of the main counter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Timer {
    /// The writable bits of the configuration.
    configuration: u64,
    comparator: u64,
    /// What a periodic timer adds to its comparator at each match: the last value written to it.
    period: u64,
    /// Address in the high half, data in the low half.
    pub(super) message_route: u64,
}

impl Timer {
    /// A comparator after reset: off, one-shot, at the largest count.
    pub(super) const fn after_reset() -> Self {
        Self { configuration: 0, comparator: u64::MAX, period: 0, message_route: 0 }
    }

    pub(super) const fn configuration(&self) -> u64 {
        self.configuration
    }

    pub(super) const fn comparator(&self) -> u64 {
        self.comparator
    }

    pub(super) const fn interrupts(&self) -> bool {
        self.configuration & INTERRUPT_ENABLE != 0
    }

    pub(super) const fn is_level(&self) -> bool {
        self.configuration & LEVEL != 0
    }

    pub(super) const fn sends_messages(&self) -> bool {
        self.configuration & MESSAGE_ENABLE != 0
    }

    /// The I/O APIC pin to which it is routed, which may be one that it cannot be routed to.
    pub(super) fn route(&self) -> u8 {
        low_byte(crate::lanes::low_word((self.configuration & ROUTE) >> ROUTE_SHIFT))
    }

    pub(super) const fn configure(&mut self, value: u64) {
        self.configuration = value & TIMER_WRITABLE;
        if self.configuration & PERIODIC == 0 {
            // "Software uses this bit only for timers that have been set to periodic mode."
            self.configuration &= !VALUE_SET;
        }
        if self.is_32_bit() {
            self.comparator &= u32::MAX as u64;
            self.period &= u32::MAX as u64;
        }
    }

    /// Writes the bits `mask` of the comparator register.
    pub(super) const fn write_comparator(&mut self, value: u64, mask: u64) {
        let mask = mask & self.limit();
        if mask == 0 {
            return;
        }
        if self.is_periodic() {
            self.period = self.period & !mask | value & mask;
        }
        if !self.is_periodic() || self.configuration & VALUE_SET != 0 {
            self.comparator = self.comparator & !mask | value & mask;
        }
        self.configuration &= !VALUE_SET;
    }

    /// How many counts after `count` it matches next, 1 to all counts that the timer has.
    pub(super) const fn distance(&self, count: u64) -> u128 {
        let ahead = self.comparator.wrapping_sub(count) & self.limit();
        if ahead == 0 { self.limit() as u128 + 1 } else { ahead as u128 }
    }

    /// Whether it matched while the counter went `elapsed` counts on from `count`. A periodic comparator moves on.
    pub(super) fn matches(&mut self, count: u64, elapsed: u64) -> bool {
        let distance = self.distance(count);
        let Some(over) = u128::from(elapsed).checked_sub(distance) else { return false };
        if self.is_periodic() && self.period != 0 {
            let periods = over / u128::from(self.period) + 1;
            // Both are below 2^64, and only the sum's low bits count.
            let moved = u128::from(self.comparator) + periods * u128::from(self.period);
            let bytes = moved.to_le_bytes();
            let mut low = [0; 8];
            low.copy_from_slice(&bytes[..8]);
            self.comparator = u64::from_le_bytes(low) & self.limit();
        }
        true
    }

    const fn is_periodic(&self) -> bool {
        self.configuration & PERIODIC != 0
    }

    const fn is_32_bit(&self) -> bool {
        self.configuration & MODE_32 != 0
    }

    /// The largest count.
    const fn limit(&self) -> u64 {
        if self.is_32_bit() { u32::MAX as u64 } else { u64::MAX }
    }
}
