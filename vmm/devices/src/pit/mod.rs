//! The 8254 interval timer, and system control port B (0x61) with timer 2's gate and output. Intel 8254 datasheet;
//! IBM PC/AT technical reference.
//!
//! Timer 0 drives the timer interrupt, timer 2 the speaker. The interrupt line follows timer 0's rising edges: the
//! low half of its square wave is seen in the status byte, not on the line, so that a guest which is kept from
//! running for half a period does not lose a tick. Ticks that were missed altogether become one. A tick comes at
//! most every [`MINIMUM_TICK`], however small the count.
//!
//! Every register is one byte; the platform splits wider accesses into bytes at successive ports.
//!
//! Not modelled: sound; memory refresh, but for the bit that toggles with it.

mod counter;
mod spec;
#[cfg(test)]
mod tests;

use arch::Nanos;
use arch::platform_layout::PM_TIMER_HZ;
use bus::IrqLine;
use counter::Counter;
use spec::{Access, ControlB, Mode, READ_BACK_NO_COUNT, READ_BACK_NO_STATUS, Radix};

use crate::clock::Frequency;

/// Three times the 8254's frequency: the crystal of a PC divided by 4, which is also the PM timer's clock.
const TRIPLE_CLOCK: Frequency = Frequency::new(PM_TIMER_HZ);
/// The shortest time between two interrupts: a guest may program 600 kHz, and would do nothing else.
const MINIMUM_TICK: Nanos = Nanos(50_000);
/// Half the period of the refresh toggle of port 0x61.
const REFRESH_NS: u64 = 15_085;

/// Everything about the timer that a snapshot needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PitState {
    counters: [Counter; 3],
    control_b: ControlB,
    /// When timer 0's output rises next.
    next_tick: Nanos,
    /// Whether the interrupt line is up.
    irq_level: bool,
}

impl PitState {
    fn after_reset() -> Self {
        Self {
            counters: [Counter::after_reset(true), Counter::after_reset(true), Counter::after_reset(false)],
            control_b: ControlB::empty(),
            next_tick: Nanos::NEVER,
            irq_level: false,
        }
    }
}

/// An 8254 with the port around it.
#[derive(Debug)]
pub struct Pit {
    irq: IrqLine,
    state: PitState,
}

impl Pit {
    /// A timer at power-on that interrupts through `irq`.
    pub fn new(irq: IrqLine) -> Self {
        Self { irq, state: PitState::after_reset() }
    }

    /// Reads port `offset` (modulo 4): a counter, or the control port, which reads ones.
    pub fn read(&mut self, offset: u16, now: Nanos) -> u8 {
        self.advance(now);
        match self.state.counters.get_mut(usize::from(offset & 3)) {
            Some(counter) => counter.read(tick(now)),
            None => 0xff,
        }
    }

    /// Writes port `offset` (modulo 4): a counter or the control port.
    pub fn write(&mut self, offset: u16, value: u8, now: Nanos) {
        self.advance(now);
        match self.state.counters.get_mut(usize::from(offset & 3)) {
            Some(counter) => counter.write(value, tick(now)),
            None => self.write_control(value, now),
        }
        self.follow_timer_0(now, now);
    }

    /// Reads system control port B.
    pub fn read_control_b(&self, now: Nanos) -> u8 {
        let mut value = self.state.control_b;
        value.set(ControlB::TIMER_2_OUT, self.state.counters[2].output(tick(now)));
        value.set(ControlB::REFRESH_TOGGLE, (now.0 / REFRESH_NS) & 1 != 0);
        value.bits()
    }

    /// Writes system control port B.
    pub fn write_control_b(&mut self, value: u8, now: Nanos) {
        self.state.control_b = ControlB::from_bits_truncate(value) & ControlB::WRITABLE;
        let gate = self.state.control_b.contains(ControlB::TIMER_2_GATE);
        self.state.counters[2].set_gate(gate, tick(now));
    }

    /// Interrupts if timer 0's output rose up to `now`, once however often it did.
    pub fn advance(&mut self, now: Nanos) {
        if now >= self.state.next_tick {
            self.drive(false);
            self.drive(true);
            self.follow_timer_0(now, now + MINIMUM_TICK);
        }
    }

    /// When [`Self::advance`] must be called next.
    #[inline]
    pub fn next_deadline(&self) -> Nanos {
        self.state.next_tick
    }

    /// As at power-on.
    pub fn reset(&mut self) {
        self.state = PitState::after_reset();
        self.irq.set(false);
    }

    /// The state, to be restored later.
    pub fn save(&self) -> PitState {
        self.state.clone()
    }

    /// Becomes the timer that [`Self::save`] saw.
    pub fn restore(&mut self, state: &PitState) {
        self.state = state.clone();
        self.irq.set(self.state.irq_level);
    }

    fn write_control(&mut self, value: u8, now: Nanos) {
        let tick = tick(now);
        let Some(counter) = self.state.counters.get_mut(usize::from(value >> 6)) else {
            self.read_back(value, tick);
            return;
        };
        match Access::decode(value) {
            None => counter.latch_count(tick),
            Some(access) => counter.program(Mode::decode(value), access, Radix::decode(value)),
        }
    }

    fn read_back(&mut self, command: u8, tick: i64) {
        for (number, counter) in self.state.counters.iter_mut().enumerate() {
            if command & (2 << number) == 0 {
                continue;
            }
            if command & READ_BACK_NO_COUNT == 0 {
                counter.latch_count(tick);
            }
            if command & READ_BACK_NO_STATUS == 0 {
                counter.latch_status(tick);
            }
        }
    }

    /// Sets the line and the next tick, not before `earliest`, from what timer 0 is programmed to do.
    fn follow_timer_0(&mut self, now: Nanos, earliest: Nanos) {
        let timer = &self.state.counters[0];
        let level = timer.mode() != Mode::InterruptOnTerminalCount || timer.output(tick(now));
        let rise = timer.next_rise(tick(now)).map_or(Nanos::NEVER, time_of);
        self.state.next_tick = if rise == Nanos::NEVER { rise } else { rise.max(earliest) };
        self.drive(level);
    }

    fn drive(&mut self, level: bool) {
        self.state.irq_level = level;
        self.irq.set(level);
    }
}

/// The 8254's clock ticks up to `now`.
fn tick(now: Nanos) -> i64 {
    // A third of a 22-bit frequency over 584 years of nanoseconds stays far below 2^63.
    i64::try_from(TRIPLE_CLOCK.ticks_at(now) / 3).unwrap_or(i64::MAX)
}

/// The first time at which [`tick`] gives `tick`.
fn time_of(tick: i64) -> Nanos {
    u64::try_from(tick).map_or(Nanos(0), |tick| TRIPLE_CLOCK.time_of(tick.saturating_mul(3)))
}
