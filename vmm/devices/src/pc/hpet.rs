//! The wiring of the HPET: its place among the interrupt lines, which in legacy replacement mode is that of the interval
//! timer and of the real-time clock.

use arch::platform_layout::{RTC_IRQ, TIMER_IRQ};
use arch::{Nanos, Width};
use bus::{Attention, IrqBank};

use super::{Pc, Timer};
use crate::hpet::HpetLines;

/// Where the lines of timers 0 and 1 are in the bank: behind the pins of the I/O APIC, as they are at a pin only in
/// legacy replacement mode.
const LEGACY_LINES: [u8; 2] = [24, 25];
/// The lines that they replace then.
const REPLACED: [u8; 2] = [TIMER_IRQ, RTC_IRQ];

/// The HPET's lines in `bank`.
pub(super) fn lines(bank: &IrqBank) -> HpetLines {
    let mut pin = HpetLines::FIRST_ROUTE;
    HpetLines {
        legacy: LEGACY_LINES.map(|number| bank.line(number)),
        routed: core::array::from_fn(|_| {
            let line = bank.line(pin);
            pin += 1;
            line
        }),
    }
}

impl Pc {
    /// The interrupt lines as the controllers see them, from how the devices drive them.
    #[inline]
    pub(super) fn wired(&self, lines: u32) -> u32 {
        if self.hpet.replaces_legacy() { replaced(lines) } else { lines }
    }

    // Out of line, as the write is: the paths to other devices are to stay short.
    #[inline(never)]
    pub(super) fn read_hpet(&mut self, offset: u64, width: Width, now: Nanos) -> u64 {
        let value = self.hpet.read(offset, width, now);
        self.hpet_touched();
        value
    }

    #[inline(never)]
    pub(super) fn write_hpet(&mut self, offset: u64, width: Width, value: u64, now: Nanos) {
        let before = self.hpet.replaces_legacy();
        self.hpet.write(offset, width, value, now);
        if self.hpet.replaces_legacy() != before {
            let rose = self.lines.take_changes().map_or(0, |changes| changes.rose);
            self.carry(self.lines.levels(), rose);
        }
        self.hpet_touched();
    }

    /// Carries on what the HPET did.
    pub(super) fn hpet_touched(&mut self) {
        if self.hpet.has_message() {
            self.attention |= Attention::INTERRUPT;
        }
        self.touched(Timer::Hpet);
        self.carry_lines();
    }
}

#[cold]
fn replaced(lines: u32) -> u32 {
    LEGACY_LINES.iter().zip(REPLACED).fold(lines, |lines, (from, to)| {
        let level = (lines >> from) & 1;
        lines & !(1 << to) | level << to
    })
}
