//! The MC146818A real-time clock with a PC's 128 bytes of CMOS memory and the second bank of 128 bytes that chipsets
//! add. MC146818A datasheet; IBM PC/AT technical reference for the conventional contents of the memory; Intel 82371SB
//! (PIIX3) datasheet, "Real Time Clock Extended Index Register", for the second bank.
//!
//! The time is not counted but computed from the machine's time. The time registers are kept as bytes only while
//! the clock is stopped (SET, or the divider held in reset); what the guest wrote is taken as the time when the
//! clock runs again, out-of-range numbers clamped. An update takes effect at the end of its "update in progress"
//! time. Interrupts that were missed because nobody looked become one, as on hardware, where a flag stays set
//! until register C is read.
//!
//! All ports are one byte; the platform splits wider accesses. The index ports read ones, as they are write-only. Bit 7
//! of the index masks NMIs on a PC; it is kept apart from the index and masks nothing, as no device here raises one.
//!
//! Not modelled: daylight saving, the square-wave output, crystals other than 32.768 kHz.

mod alarm;
mod calendar;
mod spec;
#[cfg(test)]
mod tests;

use alarm::Alarm;
use arch::Nanos;
use bus::IrqLine;
use calendar::{DAY_SECONDS, DateTime};
use spec::{
    A_DEFAULT, CENTURY, CMOS_BYTES, ControlB, DAY, DIVIDER, DIVIDER_RESET, FlagsC, HOURS, HOURS_ALARM,
    MINUTES, MINUTES_ALARM, MONTH, RATE, Register, SECONDS, SECONDS_ALARM, UPDATE_IN_PROGRESS,
    VALID_RAM_AND_TIME, WEEKDAY, YEAR, periodic_ticks,
};

use crate::clock::{Frequency, SECOND_NS};

/// The divider's input.
const CRYSTAL: Frequency = Frequency::new(32_768);
/// How long before an update "update in progress" shows (datasheet, "Update Cycle").
const UPDATE_WARNING_NS: u64 = 244_000;
/// From the end of a divider reset to the first update.
const FIRST_UPDATE_NS: u64 = SECOND_NS / 2;

/// What firmware reports about memory in the CMOS, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemorySizes {
    /// RAM from address 0 up to the first hole below 4 GiB.
    pub below_4g: u64,
    /// RAM from 4 GiB on.
    pub above_4g: u64,
}

/// Everything about the clock that a snapshot needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RtcState {
    index: u8,
    /// The index in the second bank, and the bank.
    second_index: u8,
    second_bank: [u8; CMOS_BYTES],
    /// The memory with the alarm registers; the time registers' places count only while the clock is stopped.
    memory: [u8; CMOS_BYTES],
    a: u8,
    b: ControlB,
    c: FlagsC,
    /// Where in each second of machine time the clock's seconds begin, in nanoseconds.
    phase_ns: u64,
    /// The time shown less the clock seconds since machine time zero, in seconds since 1970.
    base_s: i64,
    /// Added to the calendar's weekday, as a guest may set any.
    weekday_shift: i64,
    /// Up to when the flags are right.
    looked_at: Nanos,
}

/// An MC146818A.
#[derive(Debug)]
pub struct Rtc {
    irq: IrqLine,
    state: RtcState,
}

impl Rtc {
    /// A clock that shows `wall_clock_unix_s` (seconds since 1970, UTC) at machine time zero and interrupts
    /// through `irq`, with CMOS memory that reports `memory`.
    pub fn new(irq: IrqLine, wall_clock_unix_s: u64, memory: MemorySizes) -> Self {
        // Far years would only cost headroom in the arithmetic: the registers have two digits of centuries.
        let base_s = i64::try_from(wall_clock_unix_s).unwrap_or(0).min(LAST_SECOND);
        let state = RtcState {
            index: 0,
            second_index: 0,
            second_bank: [0; CMOS_BYTES],
            memory: firmware_contents(memory),
            a: A_DEFAULT,
            b: ControlB::HOURS_24,
            c: FlagsC::empty(),
            phase_ns: 0,
            base_s: base_s - 1,
            weekday_shift: 0,
            looked_at: Nanos(0),
        };
        Self { irq, state }
    }

    /// Reads the index (`offset` 0) or data (`offset` 1) port.
    pub fn read(&mut self, offset: u16, now: Nanos) -> u8 {
        if offset & 1 == 0 {
            return 0xff;
        }
        self.look(now);
        let index = usize::from(self.state.index) % CMOS_BYTES;
        let value = match Register::at(index) {
            Register::Time if self.is_running() => self.shown(index, now),
            Register::A => self.state.a | self.update_in_progress(now),
            Register::B => self.state.b.bits(),
            Register::C => {
                let mut flags = core::mem::replace(&mut self.state.c, FlagsC::empty());
                flags.set(FlagsC::REQUEST, self.requests(flags));
                flags.bits()
            }
            Register::D => VALID_RAM_AND_TIME,
            Register::Time | Register::Alarm | Register::Memory => self.state.memory[index],
        };
        self.drive_irq();
        value
    }

    /// Writes the index (`offset` 0) or data (`offset` 1) port.
    pub fn write(&mut self, offset: u16, value: u8, now: Nanos) {
        if offset & 1 == 0 {
            self.state.index = value & 0x7f;
            return;
        }
        self.look(now);
        let index = usize::from(self.state.index) % CMOS_BYTES;
        match Register::at(index) {
            Register::Time => self.while_stopped(now, |state| state.memory[index] = value),
            Register::A => self.write_a(value, now),
            Register::B => self.write_b(value, now),
            Register::C | Register::D => {}
            Register::Alarm | Register::Memory => self.state.memory[index] = value,
        }
        self.drive_irq();
    }

    /// Reads the index (`offset` 0) or data (`offset` 1) port of the second bank.
    pub fn read_second_bank(&self, offset: u16) -> u8 {
        if offset & 1 == 0 {
            0xff
        } else {
            self.state.second_bank[usize::from(self.state.second_index) % CMOS_BYTES]
        }
    }

    /// Writes the index (`offset` 0) or data (`offset` 1) port of the second bank.
    pub fn write_second_bank(&mut self, offset: u16, value: u8) {
        if offset & 1 == 0 {
            self.state.second_index = value & 0x7f;
        } else {
            self.state.second_bank[usize::from(self.state.second_index) % CMOS_BYTES] = value;
        }
    }

    /// Raises the interrupts that became due up to `now`.
    pub fn advance(&mut self, now: Nanos) {
        self.look(now);
        self.drive_irq();
    }

    /// When [`Self::advance`] must be called next: when an enabled interrupt comes whose flag is not set yet.
    pub fn next_deadline(&self) -> Nanos {
        let waits =
            |enable: ControlB, flag: FlagsC| self.state.b.contains(enable) && !self.state.c.contains(flag);
        let mut deadline = Nanos::NEVER;
        if waits(ControlB::PERIODIC_INTERRUPT, FlagsC::PERIODIC)
            && let Some(period) = self.period_ticks()
        {
            let elapsed = CRYSTAL.ticks_at(self.divider_time(self.state.looked_at)) / period;
            deadline = deadline.min(self.machine_time(CRYSTAL.time_of((elapsed + 1) * period)));
        }
        if !self.is_running() {
            return deadline;
        }
        if waits(ControlB::UPDATE_INTERRUPT, FlagsC::UPDATE_ENDED) {
            deadline = deadline.min(self.time_after_seconds(1));
        }
        if waits(ControlB::ALARM_INTERRUPT, FlagsC::ALARM)
            && let Some(delay) = self.seconds_to_alarm()
        {
            deadline = deadline.min(self.time_after_seconds(delay));
        }
        deadline
    }

    /// The RESET pin: interrupts off, flags clear. Time and memory are the battery's, and stay.
    pub fn reset(&mut self, now: Nanos) {
        self.look(now);
        self.state.index = 0;
        self.state.second_index = 0;
        self.state.c = FlagsC::empty();
        self.state.b &= !(ControlB::PERIODIC_INTERRUPT
            | ControlB::ALARM_INTERRUPT
            | ControlB::UPDATE_INTERRUPT
            | ControlB::SQUARE_WAVE);
        self.drive_irq();
    }

    /// The state, to be restored later.
    pub fn save(&self) -> RtcState {
        self.state.clone()
    }

    /// Becomes the clock that [`Self::save`] saw.
    pub fn restore(&mut self, state: &RtcState) {
        self.state = state.clone();
        self.drive_irq();
    }

    fn write_a(&mut self, value: u8, now: Nanos) {
        let divider_was_reset = self.divider_is_reset();
        let value = value & (DIVIDER | RATE);
        self.while_stopped(now, |state| {
            state.a = value;
            if divider_was_reset && value & DIVIDER_RESET != DIVIDER_RESET {
                state.phase_ns = (now + Nanos(FIRST_UPDATE_NS)).0 % SECOND_NS;
            }
        });
    }

    fn write_b(&mut self, value: u8, now: Nanos) {
        let mut control = ControlB::from_bits_truncate(value);
        if control.contains(ControlB::SET) {
            // "UIE is cleared by the SET bit going high."
            control.remove(ControlB::UPDATE_INTERRUPT);
        }
        let format = ControlB::SET | ControlB::BINARY | ControlB::HOURS_24;
        if (control ^ self.state.b).intersects(format) {
            // The chip does not convert its registers when their format changes: the bytes stay.
            self.while_stopped(now, |state| state.b = control);
        } else {
            self.state.b = control;
        }
    }

    /// Applies `change` to the registers as bytes, and takes them as the time if the clock runs afterwards.
    fn while_stopped(&mut self, now: Nanos, change: impl FnOnce(&mut RtcState)) {
        if self.is_running() {
            for index in [SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY] {
                self.state.memory[index] = self.shown(index, now);
            }
        }
        change(&mut self.state);
        if self.is_running() {
            self.take_time_from_registers(now);
        }
    }

    fn take_time_from_registers(&mut self, now: Nanos) {
        let (memory, format) = (&self.state.memory, self.state.b);
        let field = |index: usize| calendar::decode(memory[index], format);
        let moment = DateTime {
            year: field(CENTURY).clamp(0, 99) * 100 + field(YEAR).clamp(0, 99),
            month: field(MONTH),
            day: field(DAY),
            hour: calendar::decode_hour(memory[HOURS], format),
            minute: field(MINUTES),
            second: field(SECONDS),
        };
        let weekday = field(WEEKDAY);
        let seconds = moment.to_unix();
        self.state.base_s = seconds - self.clock_seconds(now);
        self.state.weekday_shift = (weekday - 1 - calendar::weekday(seconds)).rem_euclid(7);
    }

    /// The time register at `index` of a running clock.
    fn shown(&self, index: usize, now: Nanos) -> u8 {
        let (seconds, format) = (self.unix_seconds(now), self.state.b);
        let moment = DateTime::from_unix(seconds);
        let value = match index {
            SECONDS => moment.second,
            MINUTES => moment.minute,
            HOURS => return calendar::encode_hour(moment.hour, format),
            WEEKDAY => (calendar::weekday(seconds) + self.state.weekday_shift) % 7 + 1,
            DAY => moment.day,
            MONTH => moment.month,
            YEAR => moment.year.rem_euclid(100),
            _ => moment.year.div_euclid(100),
        };
        calendar::encode(value, format)
    }

    /// Sets the flags of what happened since the last look.
    fn look(&mut self, now: Nanos) {
        let before = self.state.looked_at;
        if now <= before {
            return;
        }
        if let Some(period) = self.period_ticks() {
            let periods = |time| CRYSTAL.ticks_at(self.divider_time(time)) / period;
            if periods(now) != periods(before) {
                self.state.c.insert(FlagsC::PERIODIC);
            }
        }
        if self.is_running() {
            let seconds = self.clock_seconds(now) - self.clock_seconds(before);
            if seconds > 0 {
                self.state.c.insert(FlagsC::UPDATE_ENDED);
                if self.seconds_to_alarm().is_some_and(|delay| delay <= seconds) {
                    self.state.c.insert(FlagsC::ALARM);
                }
            }
        }
        self.state.looked_at = now;
    }

    fn drive_irq(&self) {
        self.irq.set(self.requests(self.state.c));
    }

    /// Whether `flags` request an interrupt with the present enables.
    fn requests(&self, flags: FlagsC) -> bool {
        let enables = FlagsC::from_bits_truncate(self.state.b.bits()) & !FlagsC::REQUEST;
        flags.intersects(enables)
    }

    fn update_in_progress(&self, now: Nanos) -> u8 {
        let to_update = SECOND_NS - self.divider_time(now).0 % SECOND_NS;
        if self.is_running() && to_update <= UPDATE_WARNING_NS { UPDATE_IN_PROGRESS } else { 0 }
    }

    /// Seconds from the last look's second to the alarm.
    fn seconds_to_alarm(&self) -> Option<i64> {
        let memory = &self.state.memory;
        let alarm =
            Alarm::new(memory[HOURS_ALARM], memory[MINUTES_ALARM], memory[SECONDS_ALARM], self.state.b);
        alarm.seconds_until(self.unix_seconds(self.state.looked_at).rem_euclid(DAY_SECONDS))
    }

    /// When the clock's second that is `seconds` after the last look's begins.
    fn time_after_seconds(&self, seconds: i64) -> Nanos {
        let second = self.clock_seconds(self.state.looked_at).saturating_add(seconds);
        let second = u64::try_from(second).unwrap_or(0);
        self.machine_time(Nanos(second.saturating_mul(SECOND_NS)))
    }

    fn period_ticks(&self) -> Option<u64> {
        if self.divider_is_reset() { None } else { periodic_ticks(self.state.a) }
    }

    fn divider_is_reset(&self) -> bool {
        self.state.a & DIVIDER_RESET == DIVIDER_RESET
    }

    /// Whether the time registers advance.
    fn is_running(&self) -> bool {
        !self.state.b.contains(ControlB::SET) && !self.divider_is_reset()
    }

    fn unix_seconds(&self, now: Nanos) -> i64 {
        self.state.base_s + self.clock_seconds(now)
    }

    /// The clock's seconds since machine time zero.
    fn clock_seconds(&self, now: Nanos) -> i64 {
        i64::try_from(self.divider_time(now).0 / SECOND_NS).unwrap_or(i64::MAX)
    }

    /// `now` on a time line on which the clock's seconds begin at whole seconds.
    fn divider_time(&self, now: Nanos) -> Nanos {
        now + Nanos(SECOND_NS - self.state.phase_ns)
    }

    /// The inverse of [`Self::divider_time`].
    fn machine_time(&self, divider: Nanos) -> Nanos {
        if divider == Nanos::NEVER { divider } else { divider - Nanos(SECOND_NS - self.state.phase_ns) }
    }
}

/// 9999-12-31 23:59:59, the last moment that the registers can show, less the life of a machine.
const LAST_SECOND: i64 = 253_402_300_799;

/// CMOS memory as firmware leaves it: memory sizes, equipment, checksum.
fn firmware_contents(sizes: MemorySizes) -> [u8; CMOS_BYTES] {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    /// A floating-point unit, and no diskette.
    const EQUIPMENT: u8 = 0x02;
    let mut memory = [0; CMOS_BYTES];
    let mut put = |index: usize, value: u64, bytes: usize, limit: u64| {
        let value = value.min(limit).to_le_bytes();
        memory[index..index + bytes].copy_from_slice(&value[..bytes]);
    };
    put(0x14, u64::from(EQUIPMENT), 1, 0xff);
    put(0x15, 640, 2, 640);
    let extended = sizes.below_4g.saturating_sub(MIB) / KIB;
    put(0x17, extended, 2, 0xffff);
    put(0x30, extended, 2, 0xffff);
    put(0x34, sizes.below_4g.saturating_sub(16 * MIB) / (64 * KIB), 2, 0xffff);
    put(0x5b, sizes.above_4g / (64 * KIB), 3, 0xff_ffff);
    let sum: u16 = memory[0x10..=0x2d].iter().map(|&byte| u16::from(byte)).sum();
    memory[0x2e..=0x2f].copy_from_slice(&sum.to_be_bytes());
    memory
}
