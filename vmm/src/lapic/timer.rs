//! The local APIC's timer: one-shot, periodic, and TSC-deadline.
//!
//! SDM Vol. 3A, "APIC Timer". All times are the guest's TSC. The timer counts a clock of its own whose rate is a
//! fixed fraction of the TSC's; due times are kept in TSC ticks with 32 binary places, so that periods do not
//! drift.

use super::spec::TimerMode;
use arch::Tsc;
use core::num::NonZeroU64;

/// Binary places of a due time.
const FRACTION: u32 = 32;

/// How fast the timer's clock runs against the TSC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimerRate {
    /// TSC ticks per timer tick, with 32 binary places. Never zero.
    tsc_per_tick: u64,
}

impl TimerRate {
    /// A clock that ticks `timer_ticks` times while the TSC ticks `tsc_ticks` times: give both frequencies in Hz.
    #[expect(clippy::cast_possible_truncation, reason = "limited to the range on the line above")]
    pub const fn new(timer_ticks: NonZeroU64, tsc_ticks: NonZeroU64) -> Self {
        let exact = ((tsc_ticks.get() as u128) << FRACTION) / timer_ticks.get() as u128;
        let bounded = if exact == 0 {
            1
        } else if exact > u64::MAX as u128 {
            u64::MAX as u128
        } else {
            exact
        };
        Self { tsc_per_tick: bounded as u64 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Armed {
    Stopped,
    /// Counts down; reaches zero at `due`, in TSC ticks with 32 binary places.
    Counting {
        due: u128,
    },
    /// Waits for the TSC to reach this.
    Deadline(Tsc),
}

/// What of a timer is saved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerState {
    /// It stands still.
    Stopped,
    /// It counts down.
    Counting {
        /// The guest TSC at which it reaches zero: whole ticks.
        due: Tsc,
        /// And their 32 binary places.
        due_fraction: u32,
    },
    /// It waits for IA32_TSC_DEADLINE.
    Deadline(Tsc),
}

/// The timer without its entry in the local vector table, of which it knows only the mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Timer {
    rate: TimerRate,
    shortest_period: Tsc,
    mode: TimerMode,
    initial: u32,
    /// The divide configuration register.
    divide: u32,
    armed: Armed,
}

impl Timer {
    /// A stopped timer whose periods are never shorter than `shortest_period`.
    pub(super) const fn new(rate: TimerRate, shortest_period: Tsc) -> Self {
        Self { rate, shortest_period, mode: TimerMode::OneShot, initial: 0, divide: 0, armed: Armed::Stopped }
    }

    /// Back to the state after reset.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.rate, self.shortest_period);
    }

    pub(super) const fn initial(&self) -> u32 {
        self.initial
    }

    pub(super) const fn divide(&self) -> u32 {
        self.divide
    }

    /// Whether the timer ran out by `now`. A periodic timer that ran out several times says so once.
    #[inline]
    pub(super) fn expire(&mut self, now: Tsc) -> bool {
        match self.armed {
            Armed::Stopped => false,
            Armed::Deadline(deadline) if now < deadline => false,
            Armed::Deadline(_) => {
                self.armed = Armed::Stopped;
                true
            }
            Armed::Counting { due } if fixed(now) < due => false,
            Armed::Counting { due } => {
                self.armed = self.after_zero(due, fixed(now));
                true
            }
        }
    }

    /// What follows when the count reached zero at `due`, not later than `now`.
    fn after_zero(&self, due: u128, now: u128) -> Armed {
        match self.mode {
            TimerMode::Periodic if self.initial != 0 => {
                let period = self.period();
                let next = due + period;
                let missed = if next > now { 0 } else { (now - next) / period + 1 };
                Armed::Counting { due: next + missed * period }
            }
            TimerMode::Periodic | TimerMode::OneShot | TimerMode::TscDeadline | TimerMode::Reserved => {
                Armed::Stopped
            }
        }
    }

    /// When [`Self::expire`] says yes next.
    #[inline]
    pub(super) fn deadline(&self) -> Option<Tsc> {
        match self.armed {
            Armed::Stopped => None,
            Armed::Deadline(deadline) => Some(deadline),
            Armed::Counting { due } => {
                Some(u64::try_from((due + ((1 << FRACTION) - 1)) >> FRACTION).map_or(Tsc::NEVER, Tsc))
            }
        }
    }

    /// Takes the mode of the vector table's entry over.
    pub(super) fn set_mode(&mut self, mode: TimerMode) {
        let counts = |mode| match mode {
            TimerMode::OneShot | TimerMode::Periodic => true,
            TimerMode::TscDeadline | TimerMode::Reserved => false,
        };
        // One-shot and periodic differ only in what happens at zero; any other change disarms.
        if self.mode != mode && !(counts(self.mode) && counts(mode)) {
            self.armed = Armed::Stopped;
            self.initial = 0;
        }
        self.mode = mode;
    }

    /// The initial-count register is written: starts to count, or stops on zero.
    pub(super) fn set_initial(&mut self, initial: u32, now: Tsc) {
        match self.mode {
            // The register is ignored (SDM: "TSC-Deadline Mode").
            TimerMode::TscDeadline | TimerMode::Reserved => {}
            TimerMode::OneShot | TimerMode::Periodic => {
                self.initial = initial;
                self.armed = match (initial, self.mode) {
                    (0, _) => Armed::Stopped,
                    (_, TimerMode::Periodic) => Armed::Counting { due: fixed(now) + self.period() },
                    (count, _) => Armed::Counting { due: fixed(now) + self.ticks(count) },
                };
            }
        }
    }

    /// The divide-configuration register is written: a running count goes on from where it is, at the new speed.
    pub(super) fn set_divide(&mut self, divide: u32, now: Tsc) {
        let count = self.current(now);
        self.divide = divide;
        if let Armed::Counting { .. } = self.armed {
            self.armed = Armed::Counting { due: fixed(now) + self.ticks(count) };
        }
    }

    /// The current-count register.
    pub(super) fn current(&self, now: Tsc) -> u32 {
        let Armed::Counting { due } = self.armed else { return 0 };
        let now = fixed(now);
        let remaining = match (due.checked_sub(now), self.mode) {
            (Some(remaining), _) if remaining > 0 => remaining,
            (_, TimerMode::Periodic) if self.initial != 0 => self.period() - (now - due) % self.period(),
            (_, _) => return 0,
        };
        let count = remaining.div_ceil(self.ticks(1));
        // A period that was stretched to the shortest allowed is longer than the count says.
        u32::try_from(count).unwrap_or(u32::MAX).min(self.initial)
    }

    /// IA32_TSC_DEADLINE is written: arms, or disarms on zero. Ignored in other modes.
    #[inline]
    pub(super) fn set_tsc_deadline(&mut self, deadline: Tsc) {
        if self.mode == TimerMode::TscDeadline {
            self.armed = if deadline.0 == 0 { Armed::Stopped } else { Armed::Deadline(deadline) };
        }
    }

    /// IA32_TSC_DEADLINE, zero when disarmed, past, or in another mode.
    pub(super) fn tsc_deadline(&self, now: Tsc) -> Tsc {
        match self.armed {
            Armed::Deadline(deadline) if now < deadline => deadline,
            Armed::Deadline(_) | Armed::Stopped | Armed::Counting { .. } => Tsc(0),
        }
    }

    /// The guest's TSC jumped from `old` to `new`: a count goes on as if nothing happened, a deadline stays.
    pub(super) fn tsc_jumped(&mut self, old: Tsc, new: Tsc) {
        if let Armed::Counting { due } = self.armed {
            self.armed = Armed::Counting { due: fixed(new) + due.saturating_sub(fixed(old)) };
        }
    }

    pub(super) fn save(&self) -> TimerState {
        match self.armed {
            Armed::Stopped => TimerState::Stopped,
            Armed::Deadline(deadline) => TimerState::Deadline(deadline),
            Armed::Counting { due } => {
                let due_fraction = u32::try_from(due & 0xffff_ffff).unwrap_or(0);
                match u64::try_from(due >> FRACTION) {
                    Ok(whole) => TimerState::Counting { due: Tsc(whole), due_fraction },
                    // Beyond the end of the TSC: it will not come.
                    Err(_) => TimerState::Counting { due: Tsc::NEVER, due_fraction: 0 },
                }
            }
        }
    }

    pub(super) fn restore(&mut self, mode: TimerMode, initial: u32, divide: u32, state: TimerState) {
        self.mode = mode;
        self.initial = initial;
        self.divide = divide;
        self.armed = match (state, mode) {
            (TimerState::Counting { due, due_fraction }, TimerMode::OneShot | TimerMode::Periodic) => {
                Armed::Counting { due: fixed(due) | u128::from(due_fraction) }
            }
            (TimerState::Deadline(deadline), TimerMode::TscDeadline) => Armed::Deadline(deadline),
            // A state that its mode cannot have counts for nothing.
            (TimerState::Stopped | TimerState::Counting { .. } | TimerState::Deadline(_), _) => {
                Armed::Stopped
            }
        };
    }

    /// `count` ticks of the divided clock, in TSC ticks with 32 binary places. Never zero for a count that is
    /// not, and below 2^104.
    fn ticks(&self, count: u32) -> u128 {
        (u128::from(count) * u128::from(self.rate.tsc_per_tick)) << self.divide_shift()
    }

    fn period(&self) -> u128 {
        self.ticks(self.initial).max(fixed(self.shortest_period)).max(1)
    }

    /// SDM Vol. 3A, "Divide Configuration Register": bits 3, 1 and 0 count from divide by 2; the last is by 1.
    fn divide_shift(&self) -> u32 {
        let code = (self.divide & 0b11) | (self.divide >> 1 & 0b100);
        (code + 1) & 7
    }
}

#[inline]
const fn fixed(tsc: Tsc) -> u128 {
    (tsc.0 as u128) << FRACTION
}
