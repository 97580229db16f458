//! The high-precision event timer: a 100 MHz counter and three comparators. Intel IA-PC HPET Specification 1.0a.
//!
//! Every timer has 64 bits, can be periodic, and interrupts by an I/O APIC pin (16 to 19), by message, or, in legacy
//! replacement mode, timer 0 in place of the interval timer and timer 1 in place of the real-time clock. A timer that
//! matches when the counter has passed its comparator already waits until the counter comes around, as on hardware.
//! Matches that were missed become one interrupt, and the phase is kept; a timer interrupts at most every
//! [`MINIMUM_TICK`] as long as nobody touches its registers.
//!
//! Any bytes may be read, at any offset; a read across the end of an 8-byte register goes on in the next one. Writes
//! must be of 4 or 8 bytes at a multiple of their size, as the specification demands; others are ignored. What is not
//! a register reads zero, and past the last there are ones. The main counter may be written while it runs.
//!
//! Not modelled: level-triggered messages (a message is sent at each match); non-periodic or 32-bit-only timers.

mod spec;
#[cfg(test)]
mod tests;
mod timer;

use arch::platform_layout::{HPET_BYTES, HPET_MINIMUM_TICK, HPET_PERIOD_FS};
use arch::{Nanos, Width};
use bus::{InterruptMessage, IrqLine};
use spec::{
    CAPABILITIES, ENABLE, FIRST_ROUTE, LEGACY_REPLACEMENT, ROUTE_COUNT, Register, TIMER_CAPABILITIES, TIMERS,
};
use timer::Timer;

use crate::lanes::low_word;

/// The period of the counter, a whole number of nanoseconds.
const TICK_NS: u64 = HPET_PERIOD_FS as u64 / 1_000_000;
/// The shortest time between two interrupts of a timer: a guest may ask for one each tick, and would do nothing else.
const MINIMUM_TICK: Nanos = Nanos(HPET_MINIMUM_TICK as u64 * TICK_NS);

/// The lines that the timers drive.
#[derive(Debug)]
pub struct HpetLines {
    /// In place of the interval timer and of the real-time clock.
    pub legacy: [IrqLine; 2],
    /// For the I/O APIC pins 16 to 19.
    pub routed: [IrqLine; ROUTE_COUNT],
}

impl HpetLines {
    /// The first of [`Self::routed`]'s I/O APIC pins.
    pub const FIRST_ROUTE: u8 = FIRST_ROUTE;
}

/// Everything about the timer that a snapshot needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HpetState {
    configuration: u64,
    /// The timers whose level-triggered interrupt is active, one bit each.
    status: u8,
    /// The main counter at `counted_at`.
    count: u64,
    /// Up to when matches have been looked for.
    counted_at: Nanos,
    timers: [Timer; TIMERS],
    /// No timer is called before this because of its matches.
    quiet_until: [Nanos; TIMERS],
    /// Messages not taken yet, by timer.
    waiting: [Option<InterruptMessage>; TIMERS],
}

impl HpetState {
    fn after_reset(now: Nanos) -> Self {
        Self {
            configuration: 0,
            status: 0,
            count: 0,
            counted_at: now,
            timers: [const { Timer::after_reset() }; TIMERS],
            quiet_until: [Nanos(0); TIMERS],
            waiting: [None; TIMERS],
        }
    }
}

/// A high-precision event timer.
#[derive(Debug)]
pub struct Hpet {
    lines: HpetLines,
    state: HpetState,
}

impl Hpet {
    /// A timer after reset at time zero, which interrupts through `lines`.
    pub fn new(lines: HpetLines) -> Self {
        Self { lines, state: HpetState::after_reset(Nanos(0)) }
    }

    /// Reads `width` at `offset` in the register window.
    pub fn read(&mut self, offset: u64, width: Width, now: Nanos) -> u64 {
        let first = self.read_register(offset, now);
        let lane = offset & 7;
        if lane + width.bytes() <= 8 {
            return (first >> (8 * lane)) & width.mask();
        }
        let second = self.read_register(offset + 8, now);
        // The lane is not zero here, so both shifts are below 64.
        (first >> (8 * lane) | second << (8 * (8 - lane))) & width.mask()
    }

    /// Writes `width` at `offset` in the register window.
    pub fn write(&mut self, offset: u64, width: Width, value: u64, now: Nanos) {
        let shift = 8 * (offset & 7);
        match width {
            Width::Four if offset & 3 == 0 => {}
            Width::Eight if offset & 7 == 0 => {}
            Width::One | Width::Two | Width::Four | Width::Eight => return,
        }
        self.look(now);
        self.write_register(Register::at(offset), value << shift, width.mask() << shift);
        self.drive_levels();
    }

    /// Whether timers 0 and 1 replace the interval timer and the real-time clock.
    #[inline]
    pub fn replaces_legacy(&self) -> bool {
        self.state.configuration & LEGACY_REPLACEMENT != 0
    }

    /// Interrupts for the matches up to `now`.
    pub fn advance(&mut self, now: Nanos) {
        self.look(now);
        self.drive_levels();
    }

    /// When [`Self::advance`] must be called next: when a timer matches that interrupts.
    pub fn next_deadline(&self) -> Nanos {
        if !self.is_enabled() {
            return Nanos::NEVER;
        }
        let mut deadline = Nanos::NEVER;
        for (number, timer) in self.state.timers.iter().enumerate() {
            if timer.interrupts() && !(self.uses_status(number) && self.state.status & (1 << number) != 0) {
                let ticks = u64::try_from(timer.distance(self.state.count)).unwrap_or(u64::MAX);
                let due = self.state.counted_at + Nanos(ticks.saturating_mul(TICK_NS));
                if due != Nanos::NEVER {
                    deadline = deadline.min(due.max(self.state.quiet_until[number]));
                }
            }
        }
        deadline
    }

    /// Whether a message waits to be taken.
    #[inline]
    pub fn has_message(&self) -> bool {
        self.state.waiting.iter().any(Option::is_some)
    }

    /// Takes the next message that a timer sent.
    pub fn take_message(&mut self) -> Option<InterruptMessage> {
        self.state.waiting.iter_mut().find_map(Option::take)
    }

    /// As after a reset of the machine.
    pub fn reset(&mut self, now: Nanos) {
        self.state = HpetState::after_reset(now);
        self.drive_levels();
    }

    /// The state, to be restored later.
    pub fn save(&self) -> HpetState {
        self.state.clone()
    }

    /// Becomes the timer that [`Self::save`] saw.
    pub fn restore(&mut self, state: &HpetState) {
        self.state = state.clone();
        self.drive_levels();
    }

    fn read_register(&mut self, offset: u64, now: Nanos) -> u64 {
        if offset >= HPET_BYTES {
            return u64::MAX;
        }
        match Register::at(offset) {
            Register::Capabilities => CAPABILITIES,
            Register::Configuration => self.state.configuration,
            Register::InterruptStatus => {
                self.look(now);
                self.drive_levels();
                u64::from(self.state.status)
            }
            Register::Counter => self.count(now),
            Register::TimerConfiguration(number) => {
                self.state.timers[number].configuration() | TIMER_CAPABILITIES
            }
            Register::Comparator(number) => {
                self.look(now);
                self.drive_levels();
                self.state.timers[number].comparator()
            }
            Register::MessageRoute(number) => self.state.timers[number].message_route,
            Register::Reserved => 0,
        }
    }

    /// Writes the bits `mask` of a register.
    fn write_register(&mut self, register: Register, value: u64, mask: u64) {
        let merged = |before: u64| before & !mask | value & mask;
        match register {
            Register::Configuration => {
                self.state.configuration = merged(self.state.configuration) & (ENABLE | LEGACY_REPLACEMENT);
            }
            Register::InterruptStatus => {
                let [cleared, ..] = (value & mask).to_le_bytes();
                self.state.status &= !cleared;
            }
            Register::Counter => self.state.count = merged(self.state.count),
            Register::TimerConfiguration(number) => {
                let timer = &mut self.state.timers[number];
                timer.configure(merged(timer.configuration()));
            }
            Register::Comparator(number) => self.state.timers[number].write_comparator(value, mask),
            Register::MessageRoute(number) => {
                let timer = &mut self.state.timers[number];
                timer.message_route = merged(timer.message_route);
            }
            Register::Capabilities | Register::Reserved => {}
        }
    }

    fn is_enabled(&self) -> bool {
        self.state.configuration & ENABLE != 0
    }

    /// The main counter.
    fn count(&self, now: Nanos) -> u64 {
        self.state.count.wrapping_add(self.elapsed(now))
    }

    /// Counts since the last look.
    fn elapsed(&self, now: Nanos) -> u64 {
        if self.is_enabled() { now.since(self.state.counted_at).0 / TICK_NS } else { 0 }
    }

    /// Finds the matches since the last look.
    fn look(&mut self, now: Nanos) {
        if !self.is_enabled() {
            self.state.counted_at = self.state.counted_at.max(now);
            return;
        }
        let elapsed = self.elapsed(now);
        if elapsed == 0 {
            return;
        }
        for number in 0..TIMERS {
            if self.state.timers[number].matches(self.state.count, elapsed) {
                self.matched(number, now);
            }
        }
        self.state.count = self.state.count.wrapping_add(elapsed);
        // A part of a count is kept for the next look.
        self.state.counted_at = self.state.counted_at + Nanos(elapsed * TICK_NS);
    }

    fn matched(&mut self, number: usize, now: Nanos) {
        self.state.quiet_until[number] = now + MINIMUM_TICK;
        if self.uses_status(number) {
            self.state.status |= 1 << number;
            return;
        }
        let timer = &self.state.timers[number];
        if !timer.interrupts() {
            return;
        }
        if timer.sends_messages() {
            let message =
                InterruptMessage::from_msi(timer.message_route >> 32, low_word(timer.message_route));
            if message.is_some() {
                self.state.waiting[number] = message;
            }
        } else if let Some(line) = self.line(number).filter(|line| !line.is_high()) {
            line.pulse();
        }
    }

    /// Whether the interrupt stays until the status bit is cleared: only by a line.
    fn uses_status(&self, number: usize) -> bool {
        let timer = &self.state.timers[number];
        timer.is_level() && !timer.sends_messages()
    }

    /// The line of a timer, `None` if it is routed where it cannot be.
    fn line(&self, number: usize) -> Option<&IrqLine> {
        if self.replaces_legacy() && number < self.lines.legacy.len() {
            return self.lines.legacy.get(number);
        }
        let route = self.state.timers[number].route().checked_sub(FIRST_ROUTE)?;
        self.lines.routed.get(usize::from(route))
    }

    /// Drives the lines of level-triggered timers; the others' are low between pulses.
    fn drive_levels(&self) {
        let mut routed = [false; ROUTE_COUNT];
        let mut legacy = [false; 2];
        for (number, timer) in self.state.timers.iter().enumerate() {
            let active = self.state.status & (1 << number) != 0
                && self.uses_status(number)
                && timer.interrupts()
                && self.is_enabled();
            if !active {
                continue;
            }
            if let Some(level) = legacy.get_mut(number).filter(|_| self.replaces_legacy()) {
                *level = true;
            } else if let Some(level) =
                timer.route().checked_sub(FIRST_ROUTE).and_then(|route| routed.get_mut(usize::from(route)))
            {
                *level = true;
            }
        }
        for (line, level) in self.lines.routed.iter().zip(routed).chain(self.lines.legacy.iter().zip(legacy))
        {
            line.set(level);
        }
    }
}
