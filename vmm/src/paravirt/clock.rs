//! kvmclock: a record for each vCPU by which it turns its TSC into the machine's time, and the wall clock at time zero.
//!
//! The Linux Kernel documentation, "KVM-specific MSRs": MSR_KVM_SYSTEM_TIME_NEW, MSR_KVM_WALL_CLOCK_NEW. All records
//! of a machine start from one point, so that vCPUs with one TSC compute bit for bit one time.

use super::agreement::{Stability, TscAgreement};
use super::spec::{ENABLED, time_record, wall_record};
use crate::Clock;
use arch::{Gpa, Nanos};
use memory::{GuestMemory, OutsideRam};

/// What the time records of a vCPU are made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// The vCPU's TSC at `system_time`.
    pub guest_tsc: u64,
    /// A moment of the machine's time.
    pub system_time: Nanos,
    /// The TSC's frequency in Hz.
    pub frequency_hz: u64,
    /// Whether all vCPUs read one TSC, and since which generation.
    pub stability: Stability,
    /// The generation of the agreement that `stability` is of.
    pub generation: u32,
    /// The wall clock at time zero of the machine, in nanoseconds since 1970, UTC.
    pub unix_at_zero: Nanos,
}

impl Times {
    /// The times of a vCPU whose TSC is the host's and `tsc_offset`, in a machine with `clock` and `agreement`, which
    /// began at `unix_at_zero` nanoseconds since 1970.
    pub fn new(clock: &Clock, tsc_offset: u64, agreement: &TscAgreement, unix_at_zero: Nanos) -> Self {
        // The generation first: a change in between makes the record look older than it is, and it is written again.
        let generation = agreement.generation();
        Self {
            guest_tsc: clock.origin().0.wrapping_add(tsc_offset),
            system_time: Nanos(0),
            frequency_hz: clock.frequency_hz(),
            stability: agreement.stability(),
            generation,
            unix_at_zero,
        }
    }
}

/// Ticks to nanoseconds: `(ticks << shift) * multiplier >> 32`, a negative shift to the right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Scale {
    pub(super) multiplier: u32,
    pub(super) shift: i8,
}

impl Scale {
    /// The most precise scale for `frequency_hz`: the multiplier's highest bit is set.
    pub(super) fn new(frequency_hz: u64) -> Self {
        const SECOND: u128 = 1_000_000_000 << 32;
        let frequency = u128::from(frequency_hz.max(1));
        let mut shift = 0_i8;
        // At 1 Hz the shift is 30, at 2^64 Hz it is -33: both loops end, and nothing overflows 128 bits. The second
        // one runs only where the first did not.
        while SECOND / (frequency << shift) > u128::from(u32::MAX) {
            shift += 1;
        }
        let mut multiplier = SECOND / (frequency << shift);
        while multiplier < 1 << 31 {
            shift -= 1;
            multiplier = (SECOND << shift.unsigned_abs()) / frequency;
        }
        Self { multiplier: u32::try_from(multiplier).unwrap_or(u32::MAX), shift }
    }
}

/// Whether the guest is to be told that it stood still.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standstill {
    Reported,
    Unreported,
}

/// One vCPU's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SystemClock {
    /// The register: the record's address, and bit 0.
    pub(super) register: u64,
    /// The generation of the agreement that the record shows.
    pub(super) generation: u32,
    standstill: Standstill,
}

impl SystemClock {
    /// Off.
    pub(super) const fn new() -> Self {
        Self::restored(0)
    }

    /// A saved vCPU goes on.
    pub(super) const fn restored(register: u64) -> Self {
        Self { register, generation: 0, standstill: Standstill::Reported }
    }

    /// The guest writes the register. An address that cannot hold the record gets none, as on KVM.
    pub(super) fn write<M: GuestMemory>(&mut self, value: u64, memory: &M, times: &Times) {
        self.register = value;
        self.standstill = Standstill::Reported;
        self.publish(memory, times);
    }

    /// The guest stood still: the next record tells it so, for its watchdogs.
    pub(super) const fn stood_still(&mut self) {
        if self.register & ENABLED != 0 {
            self.standstill = Standstill::Unreported;
        }
    }

    /// Writes the record.
    pub(super) fn publish<M: GuestMemory>(&mut self, memory: &M, times: &Times) {
        self.generation = times.generation;
        if self.register & ENABLED == 0 {
            return;
        }
        if self.write_record(Gpa::new(self.register & !ENABLED), memory, times).is_ok() {
            self.standstill = Standstill::Reported;
        }
    }

    fn write_record<M: GuestMemory>(&self, gpa: Gpa, memory: &M, times: &Times) -> Result<(), OutsideRam> {
        let mut record = [0; time_record::SIZE];
        // Read whole, so that a record which does not fit is not begun.
        read_aligned(memory, gpa, time_record::ALIGNMENT, &mut record)?;
        // The guest clears its flag in its own time: one that it has not seen stays.
        let mut flags = time_record::Flags::from_bits_truncate(record[time_record::FLAGS])
            & time_record::Flags::GUEST_STOPPED;
        flags.set(time_record::Flags::STABLE, times.stability == Stability::Stable);
        if self.standstill == Standstill::Unreported {
            flags |= time_record::Flags::GUEST_STOPPED;
        }
        let scale = Scale::new(times.frequency_hz);
        let mut body = [0; time_record::SIZE - 8];
        body[0..8].copy_from_slice(&times.guest_tsc.to_le_bytes());
        body[8..16].copy_from_slice(&times.system_time.0.to_le_bytes());
        body[16..20].copy_from_slice(&scale.multiplier.to_le_bytes());
        body[20..21].copy_from_slice(&scale.shift.to_le_bytes());
        body[21] = flags.bits();
        let odd = next_odd([record[0], record[1], record[2], record[3]]);
        memory.write_u32(gpa + time_record::VERSION, odd)?;
        memory.write(gpa + time_record::BODY, &body)?;
        memory.write_u32(gpa + time_record::VERSION, odd.wrapping_add(1))
    }
}

/// Writes the wall clock at time zero to `address`. One that cannot hold the record gets none, as on KVM.
pub(super) fn write_wall_clock<M: GuestMemory>(address: u64, memory: &M, times: &Times) {
    const SECOND: u64 = 1_000_000_000;
    let gpa = Gpa::new(address);
    let mut record = [0; wall_record::SIZE];
    if address == 0 || read_aligned(memory, gpa, wall_record::ALIGNMENT, &mut record).is_err() {
        return;
    }
    let odd = next_odd([record[0], record[1], record[2], record[3]]);
    // The record has 32 bits for seconds, which end in 2106.
    let seconds = u32::try_from(times.unix_at_zero.0 / SECOND).unwrap_or(u32::MAX);
    let nanoseconds = u32::try_from(times.unix_at_zero.0 % SECOND).unwrap_or(0);
    let words = [
        (wall_record::VERSION, odd),
        (wall_record::SECONDS, seconds),
        (wall_record::NANOSECONDS, nanoseconds),
        (wall_record::VERSION, odd.wrapping_add(1)),
    ];
    for (offset, word) in words {
        // The record was read: it is RAM.
        if memory.write_u32(gpa + offset, word).is_err() {
            return;
        }
    }
}

/// Reads `record` at `gpa`, which must be aligned.
fn read_aligned<M: GuestMemory>(
    memory: &M,
    gpa: Gpa,
    alignment: u64,
    record: &mut [u8],
) -> Result<(), OutsideRam> {
    if !gpa.is_aligned(alignment) {
        return Err(OutsideRam { gpa, length: record.len() as u64 });
    }
    memory.read(gpa, record)
}

/// The odd version after this one: an update is under way.
pub(super) const fn next_odd(version: [u8; 4]) -> u32 {
    u32::from_le_bytes(version).wrapping_add(1) | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a guest computes it.
    fn nanos(scale: Scale, ticks: u64) -> u64 {
        let shift = u32::from(scale.shift.unsigned_abs());
        let shifted = if scale.shift < 0 { ticks >> shift } else { ticks << shift };
        u64::try_from((u128::from(shifted) * u128::from(scale.multiplier)) >> 32).expect("small")
    }

    #[test]
    fn an_hour_is_an_hour_at_any_frequency() {
        for frequency_hz in [1_000_000, 25_000_000, 999_999_999, 1_000_000_000, 2_893_202_417, 5_200_000_000]
        {
            let hour = nanos(Scale::new(frequency_hz), frequency_hz * 3600);
            let error = hour.abs_diff(3_600_000_000_000);
            assert!(error < 2_000, "{frequency_hz} Hz: {error} ns");
        }
    }

    #[test]
    fn the_multiplier_uses_all_its_bits() {
        for frequency_hz in [1, 1_000_000, 1_000_000_000, 1_000_000_001, 3_000_000_000, u64::MAX] {
            let scale = Scale::new(frequency_hz);
            assert!(scale.multiplier >= 1 << 31, "{frequency_hz} Hz: {scale:?}");
        }
        assert_eq!(Scale::new(1_000_000_000), Scale { multiplier: 1 << 31, shift: 1 });
        assert_eq!(Scale::new(0), Scale::new(1), "a frequency of zero divides nothing");
    }

    #[test]
    fn the_next_version_is_odd_and_new() {
        for (version, expected) in [(0_u32, 1), (1, 3), (2, 3), (u32::MAX, 1), (u32::MAX - 1, u32::MAX)] {
            assert_eq!(next_odd(version.to_le_bytes()), expected);
        }
    }
}
