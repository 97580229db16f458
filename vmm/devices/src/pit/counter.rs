//! One counter of an 8254. It holds the tick at which it was loaded rather than a count, and computes count and
//! output from the present tick: nothing runs while nobody looks.

use super::spec::{Access, Mode, Radix, STATUS_NULL_COUNT, STATUS_OUT};

/// A count that takes over from the running one in the periodic modes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Successor {
    /// The tick at which it takes over.
    at: i64,
    /// The tick at which its first (perhaps already half elapsed) cycle counts as begun.
    since: i64,
    count: i64,
}

/// Where the counting element is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// A control word was written, and no complete count after it.
    Unloaded,
    /// A count was written and waits for a trigger on the gate.
    AwaitingTrigger,
    /// Loaded at tick `since` (possibly the next one) and counting.
    Running { since: i64, count: i64, next: Option<Successor> },
    /// The gate holds the counter, `elapsed` ticks after it was loaded.
    Held { elapsed: i64, count: i64 },
}

/// Which byte of a two-byte access is next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum NextByte {
    Low,
    High,
}

/// One of the three counters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Counter {
    mode: Mode,
    access: Access,
    radix: Radix,
    /// Level of the gate input.
    gate: bool,
    /// The count register, in ticks.
    reload: i64,
    /// The low byte of a two-byte count whose high byte is to come.
    written_low: Option<u8>,
    next_read: NextByte,
    latched_count: Option<[u8; 2]>,
    latched_status: Option<u8>,
    phase: Phase,
}

impl Counter {
    /// A counter at power-on. Hardware leaves it undefined; here it is in mode 0 and has no count, so that it does
    /// nothing before it is programmed.
    pub(super) fn after_reset(gate: bool) -> Self {
        Self {
            mode: Mode::InterruptOnTerminalCount,
            access: Access::LowThenHigh,
            radix: Radix::Binary,
            gate,
            reload: Radix::Binary.modulus(),
            written_low: None,
            next_read: NextByte::Low,
            latched_count: None,
            latched_status: None,
            phase: Phase::Unloaded,
        }
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// A control word for this counter, other than a latch command.
    pub(super) fn program(&mut self, mode: Mode, access: Access, radix: Radix) {
        *self = Self { mode, access, radix, ..Self::after_reset(self.gate) };
    }

    /// The counter latch command: holds the count until it is read.
    pub(super) fn latch_count(&mut self, tick: i64) {
        if self.latched_count.is_none() {
            self.latched_count = Some(self.count_bytes(tick));
        }
    }

    /// The read-back command for status: holds the status until it is read.
    pub(super) fn latch_status(&mut self, tick: i64) {
        if self.latched_status.is_none() {
            self.latched_status = Some(self.status(tick));
        }
    }

    /// Reads the counter's port.
    pub(super) fn read(&mut self, tick: i64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let [low, high] = self.latched_count.unwrap_or_else(|| self.count_bytes(tick));
        let (byte, complete) = match (self.access, self.next_read) {
            (Access::Low, _) => (low, true),
            (Access::High, _) => (high, true),
            (Access::LowThenHigh, NextByte::Low) => (low, false),
            (Access::LowThenHigh, NextByte::High) => (high, true),
        };
        self.next_read = if complete { NextByte::Low } else { NextByte::High };
        if complete {
            self.latched_count = None;
        }
        byte
    }

    /// Writes the counter's port.
    pub(super) fn write(&mut self, value: u8, tick: i64) {
        let raw = match (self.access, self.written_low) {
            (Access::Low, _) => u16::from(value),
            (Access::High, _) => u16::from(value) << 8,
            (Access::LowThenHigh, None) => {
                self.written_low = Some(value);
                if self.mode == Mode::InterruptOnTerminalCount {
                    // "Writing the first byte disables counting. OUT is set low immediately."
                    self.phase = Phase::Unloaded;
                }
                return;
            }
            (Access::LowThenHigh, Some(low)) => u16::from_le_bytes([low, value]),
        };
        self.written_low = None;
        self.load(self.radix.count(raw), tick);
    }

    /// Sets the level of the gate input.
    pub(super) fn set_gate(&mut self, gate: bool, tick: i64) {
        self.catch_up(tick);
        if gate == self.gate {
            return;
        }
        self.gate = gate;
        match self.mode {
            Mode::InterruptOnTerminalCount | Mode::SoftwareStrobe => {
                self.phase = match self.phase {
                    Phase::Running { since, count, .. } if !gate => {
                        Phase::Held { elapsed: (tick - since).max(0), count }
                    }
                    Phase::Held { elapsed, count } if gate => {
                        Phase::Running { since: tick - elapsed, count, next: None }
                    }
                    unchanged @ (Phase::Unloaded
                    | Phase::AwaitingTrigger
                    | Phase::Running { .. }
                    | Phase::Held { .. }) => unchanged,
                }
            }
            Mode::OneShot | Mode::HardwareStrobe => {
                if gate && self.phase != Phase::Unloaded {
                    self.start(tick);
                }
            }
            Mode::RateGenerator | Mode::SquareWave => match self.phase {
                Phase::Unloaded | Phase::AwaitingTrigger => {}
                Phase::Running { since, count, .. } => {
                    self.phase = Phase::Held { elapsed: (tick - since).max(0), count };
                }
                Phase::Held { .. } => self.start(tick),
            },
        }
    }

    /// The level of OUT.
    pub(super) fn output(&self, tick: i64) -> bool {
        let phase = self.phase_at(tick);
        match (self.mode, phase) {
            (Mode::InterruptOnTerminalCount, Phase::Unloaded | Phase::AwaitingTrigger) => false,
            (Mode::InterruptOnTerminalCount, Phase::Held { elapsed, count }) => elapsed >= count,
            (Mode::InterruptOnTerminalCount, Phase::Running { since, count, .. }) => tick - since >= count,
            (
                Mode::OneShot
                | Mode::RateGenerator
                | Mode::SquareWave
                | Mode::SoftwareStrobe
                | Mode::HardwareStrobe,
                Phase::Unloaded | Phase::AwaitingTrigger | Phase::Held { .. },
            ) => true,
            // Triggered, and not yet loaded: one more tick.
            (Mode::OneShot, Phase::Running { since, count, .. }) => tick < since || tick - since >= count,
            (Mode::RateGenerator, Phase::Running { since, count, .. }) => {
                tick < since || count == 1 || (tick - since) % count != count - 1
            }
            (Mode::SquareWave, Phase::Running { since, count, .. }) => {
                tick < since || (tick - since) % count < high_ticks(count)
            }
            (Mode::SoftwareStrobe | Mode::HardwareStrobe, Phase::Running { since, count, .. }) => {
                tick - since != count
            }
        }
    }

    /// The first tick after `tick` at which OUT rises, if nothing is written until then.
    pub(super) fn next_rise(&self, tick: i64) -> Option<i64> {
        let Phase::Running { since, count, next } = self.phase_at(tick) else { return None };
        let rise = match self.mode {
            Mode::InterruptOnTerminalCount | Mode::OneShot => since + count,
            Mode::SoftwareStrobe | Mode::HardwareStrobe => since + count + 1,
            Mode::RateGenerator | Mode::SquareWave => {
                let rise = since + ((tick - since).max(0) / count + 1) * count;
                match next {
                    Some(next) if rise > next.at => next.since + next.count,
                    Some(_) | None => rise,
                }
            }
        };
        (rise > tick).then_some(rise)
    }

    /// A complete count was written.
    fn load(&mut self, count: i64, tick: i64) {
        self.catch_up(tick);
        self.reload = count;
        match self.mode {
            Mode::InterruptOnTerminalCount | Mode::SoftwareStrobe => {
                if self.gate {
                    self.start(tick);
                } else {
                    self.phase = Phase::Held { elapsed: 0, count };
                }
            }
            Mode::OneShot | Mode::HardwareStrobe => {
                // A running one-shot is not affected until it is triggered again.
                if self.phase == Phase::Unloaded {
                    self.phase = Phase::AwaitingTrigger;
                }
            }
            Mode::RateGenerator | Mode::SquareWave => match self.phase {
                Phase::Running { since, count: old, .. } if tick >= since => {
                    let next = self.successor(since, old, tick);
                    self.phase = Phase::Running { since, count: old, next: Some(next) };
                }
                Phase::Running { .. } | Phase::Unloaded | Phase::AwaitingTrigger | Phase::Held { .. } => {
                    if self.gate {
                        self.start(tick);
                    } else {
                        self.phase = Phase::Held { elapsed: 0, count };
                    }
                }
            },
        }
    }

    /// How the count register follows the cycle of `old` ticks that began at `since` and runs at `tick`: at the
    /// end of the cycle, or in mode 3 at the end of the half cycle.
    fn successor(&self, since: i64, old: i64, tick: i64) -> Successor {
        let count = self.reload;
        let position = (tick - since) % old;
        let cycle = tick - position;
        if self.mode == Mode::SquareWave && position < high_ticks(old) && old > 1 {
            let at = cycle + high_ticks(old);
            Successor { at, since: at - high_ticks(count), count }
        } else {
            Successor { at: cycle + old, since: cycle + old, count }
        }
    }

    /// The counting element takes the count register on the next tick.
    fn start(&mut self, tick: i64) {
        self.phase = Phase::Running { since: tick + 1, count: self.reload, next: None };
    }

    /// Lets a successor that is due take over.
    fn catch_up(&mut self, tick: i64) {
        self.phase = self.phase_at(tick);
    }

    fn phase_at(&self, tick: i64) -> Phase {
        match self.phase {
            Phase::Running { next: Some(next), .. } if tick >= next.at => {
                Phase::Running { since: next.since, count: next.count, next: None }
            }
            phase @ (Phase::Unloaded
            | Phase::AwaitingTrigger
            | Phase::Running { .. }
            | Phase::Held { .. }) => phase,
        }
    }

    fn count_bytes(&self, tick: i64) -> [u8; 2] {
        let value = match self.phase_at(tick) {
            Phase::Unloaded => 0,
            Phase::AwaitingTrigger => self.reload,
            Phase::Held { elapsed, count } => self.count_after(elapsed, count),
            Phase::Running { since, count, .. } => self.count_after((tick - since).max(0), count),
        };
        self.radix.bytes(value)
    }

    /// The counting element `elapsed` ticks after it was loaded with `count`.
    fn count_after(&self, elapsed: i64, count: i64) -> i64 {
        match self.mode {
            Mode::InterruptOnTerminalCount | Mode::OneShot | Mode::SoftwareStrobe | Mode::HardwareStrobe => {
                count - elapsed
            }
            Mode::RateGenerator => count - elapsed % count,
            Mode::SquareWave => {
                let position = elapsed % count;
                let high = high_ticks(count);
                let in_half = if position < high { position } else { position - high };
                ((count & !1) - 2 * in_half).max(0)
            }
        }
    }

    fn status(&self, tick: i64) -> u8 {
        let null = match self.phase_at(tick) {
            Phase::Unloaded | Phase::AwaitingTrigger => true,
            Phase::Held { count, .. } => count != self.reload,
            Phase::Running { since, count, next } => tick < since || next.is_some() || count != self.reload,
        };
        let radix = match self.radix {
            Radix::Binary => 0,
            Radix::Bcd => 1,
        };
        let out = if self.output(tick) { STATUS_OUT } else { 0 };
        let null = if null { STATUS_NULL_COUNT } else { 0 };
        out | null | self.access.encode() | self.mode.encode() | radix
    }
}

/// Ticks for which a square wave of `count` ticks is high: an odd count is high for one tick longer.
const fn high_ticks(count: i64) -> i64 {
    (count + 1) / 2
}
