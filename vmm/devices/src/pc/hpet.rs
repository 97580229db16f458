//! The wiring of the HPET. Its lines are behind the pins of the I/O APIC in the bank: its timers share pins with PCI, and
//! two of them have a place only in legacy replacement mode, that of the interval timer and of the real-time clock.

use arch::platform_layout::{RTC_IRQ, TIMER_IRQ};
use arch::{Nanos, Width};
use bus::{Attention, IrqBank};

use super::{Pc, Timer};
use crate::hpet::HpetLines;

/// The lines in the bank that are pins.
const PINS: u32 = 0x00ff_ffff;
/// The line of timer 0 in legacy replacement mode; that of timer 1 follows.
const LEGACY_LINE: u8 = 24;
/// The line for the first pin that timers can be routed to; the others follow.
const FIRST_ROUTED_LINE: u8 = 26;
const ROUTED_LINES: u32 = 0x0f << FIRST_ROUTED_LINE;
/// The lines that timers 0 and 1 replace in legacy replacement mode.
const REPLACED: u32 = 1 << TIMER_IRQ | 1 << RTC_IRQ;

/// The HPET's lines in `bank`.
pub(super) fn lines(bank: &IrqBank) -> HpetLines {
    HpetLines {
        legacy: [0, 1].map(|number| bank.line(LEGACY_LINE + number)),
        routed: [0, 1, 2, 3].map(|number| bank.line(FIRST_ROUTED_LINE + number)),
    }
}

impl Pc {
    /// The interrupt lines as the controllers see them, from how the devices drive them.
    #[inline]
    pub(super) fn wired(&self, lines: u32) -> u32 {
        let routed = (lines & ROUTED_LINES) >> (FIRST_ROUTED_LINE - HpetLines::FIRST_ROUTE);
        let pins = lines & PINS | routed;
        if self.hpet.replaces_legacy() { replaced(pins, lines >> LEGACY_LINE) } else { pins }
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

/// `pins` with the two lowest bits of `legacy` in the places that they replace.
#[cold]
fn replaced(pins: u32, legacy: u32) -> u32 {
    pins & !REPLACED | (legacy & 1) << TIMER_IRQ | (legacy >> 1 & 1) << RTC_IRQ
}
