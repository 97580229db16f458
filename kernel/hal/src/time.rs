//! The host's clock: the TSC, and how fast it runs.
//!
//! SDM Vol. 3B, "Determining the Processor Base Frequency"; Intel 8254 data sheet; ACPI specification, "Power
//! Management Timer".

use core::sync::atomic::{AtomicU64, Ordering};

use arch::{Msr, Port, Tsc};

use crate::acpi::PmTimer;
use crate::apic::{self, TimerMode};
use crate::{cpu, msr, port};

static TSC_HZ: AtomicU64 = AtomicU64::new(0);
static BOOT: AtomicU64 = AtomicU64::new(0);

/// Input clock of the 8254 in Hz.
const PIT_HZ: u64 = 1_193_182;
/// Clock of the ACPI timer in Hz.
const PM_TIMER_HZ: u64 = 3_579_545;
/// One measurement takes this part of a second.
const MEASUREMENTS_PER_SECOND: u64 = 50;
/// How many measurements are made; the median counts.
const MEASUREMENTS: usize = 3;
/// A clock that does not move within this many TSC ticks is not there.
const PATIENCE: Tsc = Tsc(2_000_000_000);

/// Takes back what the firmware, or a reset, put between the TSC and the counter below it: CPUs then agree, and
/// the deadline timer agrees with the TSC (an emulator's compares with the counter below).
///
/// SDM Vol. 3B, "Time-Stamp Counter Adjustment". Without effect where the CPU has no such register.
pub(crate) fn clear_adjustment() {
    // CPUID.(EAX=07H,ECX=0):EBX[1]: IA32_TSC_ADJUST.
    if cpu::cpuid(7, 0).ebx & (1 << 1) != 0 && msr::read(Msr::TSC_ADJUST) != 0 {
        // SAFETY: moves the clock, which nobody has read yet.
        unsafe { msr::write(Msr::TSC_ADJUST, 0) };
    }
}

/// Puts this CPU's counter back by `ticks`, or forward when they are negative.
pub(crate) fn put_back(ticks: i64) {
    let back = ticks.cast_unsigned();
    if cpu::cpuid(7, 0).ebx & (1 << 1) != 0 {
        let adjustment = msr::read(Msr::TSC_ADJUST).wrapping_sub(back);
        // SAFETY: moves the clock of a CPU that runs nothing yet.
        unsafe { msr::write(Msr::TSC_ADJUST, adjustment) };
    } else {
        // SAFETY: as above.
        unsafe { msr::write(Msr::TSC, cpu::rdtsc().0.wrapping_sub(back)) };
    }
}

/// Marks this moment as the zero of the log's clock.
pub(crate) fn mark_boot() {
    BOOT.store(cpu::rdtsc().0, Ordering::Relaxed);
}

/// The time-stamp counter now.
#[inline]
pub fn now() -> Tsc {
    cpu::rdtsc()
}

/// Ticks of the TSC a second; zero until it is known.
#[inline]
pub fn tsc_hz() -> u64 {
    TSC_HZ.load(Ordering::Relaxed)
}

/// Microseconds since the kernel was entered; zero while the rate of the TSC is not known.
pub fn uptime_us() -> u64 {
    match tsc_hz() {
        0 => 0,
        hz => scale(now().0.saturating_sub(BOOT.load(Ordering::Relaxed)), 1_000_000, hz),
    }
}

/// `value * numerator / denominator` without overflow between; saturates.
fn scale(value: u64, numerator: u64, denominator: u64) -> u64 {
    let product = u128::from(value) * u128::from(numerator) / u128::from(denominator.max(1));
    u64::try_from(product).unwrap_or(u64::MAX)
}

/// How the rate of the TSC was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// CPUID leaf 15H: crystal and ratio.
    Crystal,
    /// CPUID leaf 16H: the base frequency, in MHz.
    BaseFrequency,
    /// Measured against the ACPI timer.
    PmTimer,
    /// Measured against the 8254.
    Pit,
}

/// What CPUID says, if it says.
fn from_cpuid() -> Option<(u64, Source)> {
    let crystal = cpu::cpuid(0x15, 0);
    if crystal.eax != 0 && crystal.ebx != 0 && crystal.ecx != 0 {
        let hz = scale(u64::from(crystal.ecx), u64::from(crystal.ebx), u64::from(crystal.eax));
        return Some((hz, Source::Crystal));
    }
    let base_mhz = u64::from(cpu::cpuid(0x16, 0).eax & 0xffff);
    (base_mhz != 0).then_some((base_mhz * 1_000_000, Source::BaseFrequency))
}

/// One measurement: TSC ticks and APIC timer ticks, each per second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Measured {
    tsc_hz: u64,
    apic_hz: u64,
}

/// Times one stretch of the PM timer. `None` when it stands still.
fn measure_pm_timer(timer: PmTimer) -> Option<Measured> {
    let mask = if timer.is_32_bit { u32::MAX } else { 0x00ff_ffff };
    let read = || {
        // SAFETY: reading the timer has no effect.
        unsafe { port::read_u32(timer.port) & mask }
    };
    let wanted = PM_TIMER_HZ / MEASUREMENTS_PER_SECOND;
    // Start at a tick, as the measurement ends at one.
    let before = read();
    let waiting = now();
    while read() == before {
        if now().since(waiting) > PATIENCE {
            return None;
        }
    }
    let first = read();
    let start = now();
    apic::start_count();
    loop {
        let passed = u64::from(read().wrapping_sub(first) & mask);
        let ticks = now().since(start);
        if passed >= wanted {
            let apic_ticks = apic::stop_count();
            return Some(Measured {
                tsc_hz: scale(ticks.0, PM_TIMER_HZ, passed),
                apic_hz: scale(u64::from(apic_ticks), PM_TIMER_HZ, passed),
            });
        }
        if ticks > PATIENCE {
            return None;
        }
    }
}

const PIT_CHANNEL_2: Port = Port(0x42);
const PIT_COMMAND: Port = Port(0x43);
const SPEAKER: Port = Port(0x61);

/// Times one countdown of channel 2 of the 8254, the one that drives the speaker and interrupts nobody.
fn measure_pit() -> Option<Measured> {
    let count = u16::try_from(PIT_HZ / MEASUREMENTS_PER_SECOND).ok()?;
    let [low, high] = count.to_le_bytes();
    // SAFETY: reading the speaker's port has no effect.
    let speaker = unsafe { port::read_u8(SPEAKER) };
    // Gate on, speaker off. Channel 2, both bytes, mode 0: the output rises when the count ends.
    for (target, value) in
        [(SPEAKER, speaker & !2 | 1), (PIT_COMMAND, 0xb0), (PIT_CHANNEL_2, low), (PIT_CHANNEL_2, high)]
    {
        // SAFETY: the 8254's and the speaker's own ports; neither touches memory.
        unsafe { port::write_u8(target, value) };
    }
    let start = now();
    apic::start_count();
    let measured = loop {
        // SAFETY: reading the speaker's port has no effect.
        let done = unsafe { port::read_u8(SPEAKER) } & 0x20 != 0;
        let ticks = now().since(start);
        if done {
            let apic_ticks = u64::from(apic::stop_count());
            break Some(Measured {
                tsc_hz: scale(ticks.0, PIT_HZ, u64::from(count)),
                apic_hz: scale(apic_ticks, PIT_HZ, u64::from(count)),
            });
        }
        if ticks > PATIENCE {
            break None;
        }
    };
    // SAFETY: puts back what was found.
    unsafe { port::write_u8(SPEAKER, speaker) };
    measured
}

/// The median of several measurements, or nothing when one of them fails.
fn median(mut measure: impl FnMut() -> Option<Measured>) -> Option<Measured> {
    let mut all = [Measured { tsc_hz: 0, apic_hz: 0 }; MEASUREMENTS];
    for slot in &mut all {
        *slot = measure()?;
    }
    all.sort_unstable();
    Some(all[MEASUREMENTS / 2])
}

/// Whether two rates differ by less than one in a hundred.
const fn agree(a: u64, b: u64) -> bool {
    a.abs_diff(b) <= a / 100
}

/// Finds the rates of the TSC and of the APIC's timer, and says how. The local APIC must be set up.
///
/// # Panics
/// When CPUID says nothing and no clock of the machine moves.
pub(crate) fn calibrate(pm_timer: Option<PmTimer>) -> Source {
    let measured = pm_timer
        .and_then(|timer| median(|| measure_pm_timer(timer)))
        .map(|measured| (measured, Source::PmTimer))
        .or_else(|| median(measure_pit).map(|measured| (measured, Source::Pit)));
    let (hz, source) = match (from_cpuid(), measured) {
        (Some((said, source)), Some((measured, _))) if agree(said, measured.tsc_hz) => (said, source),
        (Some((said, _)), Some((measured, source))) => {
            log::info!(
                "CPUID says that the TSC runs at {said} Hz, measured are {} Hz: using that",
                measured.tsc_hz
            );
            (measured.tsc_hz, source)
        }
        (None, Some((measured, source))) => (measured.tsc_hz, source),
        (Some((said, source)), None) => (said, source),
        (None, None) => panic!("no clock to time the TSC by: CPUID leaves 15H and 16H, ACPI timer, 8254"),
    };
    TSC_HZ.store(hz, Ordering::Relaxed);
    if let Some((measured, _)) = measured {
        apic::set_timer_hz(measured.apic_hz);
    } else if apic::timer_mode() == TimerMode::OneShot {
        // Without a measurement: the APIC's clock is the crystal where CPUID names it.
        apic::set_timer_hz(u64::from(cpu::cpuid(0x15, 0).ecx));
    }
    source
}

/// Ticks of the TSC in `us` microseconds; none while the rate of the TSC is not known.
pub fn ticks(us: u64) -> Tsc {
    Tsc(scale(us, tsc_hz(), 1_000_000))
}

/// Waits at least `us` microseconds, busy. For hardware that asks for it at boot.
pub fn spin_us(us: u64) {
    let end = now() + ticks(us);
    while now() < end {
        core::hint::spin_loop();
    }
}
