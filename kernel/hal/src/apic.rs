//! This CPU's local APIC: x2APIC through MSRs where the CPU has it, memory-mapped otherwise. Its timer wakes the CPU.
//!
//! SDM Vol. 3A, "Advanced Programmable Interrupt Controller (APIC)".

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use arch::{Hpa, Msr, Tsc, Vector};
use spin::Once;

use crate::memory::tables::{self, Caching};
use crate::{cpu, interrupts, msr, time};

/// How the registers are reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Access {
    /// Through MSRs.
    X2Apic,
    /// At this virtual address.
    Memory(usize),
}

/// How the timer knows when to fire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerMode {
    /// At a value of the TSC.
    TscDeadline,
    /// After a count of the APIC's own clock.
    OneShot,
}

/// The registers, by their offset in the memory-mapped form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
enum Register {
    Id = 0x20,
    TaskPriority = 0x80,
    EndOfInterrupt = 0xb0,
    SpuriousVector = 0xf0,
    ErrorStatus = 0x280,
    InterruptCommand = 0x300,
    InterruptCommandHigh = 0x310,
    LvtTimer = 0x320,
    LvtLint0 = 0x350,
    LvtError = 0x370,
    InitialCount = 0x380,
    CurrentCount = 0x390,
    DivideConfiguration = 0x3e0,
}

const LVT_MASKED: u32 = 1 << 16;
const LVT_TSC_DEADLINE: u32 = 0b10 << 17;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const DIVIDE_BY_1: u32 = 0b1011;
const ICR_ASSERT: u32 = 1 << 14;
const ICR_PENDING: u32 = 1 << 12;
const ICR_NMI: u32 = 0b100 << 8;
const ICR_INIT: u32 = 0b101 << 8;
const ICR_STARTUP: u32 = 0b110 << 8;
/// How often the delivery status is read: an APIC takes no time worth mentioning.
const MOST_DELIVERY_READS: u32 = 1_000_000;
const APIC_BASE_ENABLE: u64 = 1 << 11;
const APIC_BASE_X2APIC: u64 = 1 << 10;

static ACCESS: Once<Access> = Once::new();
static TIMER: Once<TimerMode> = Once::new();
/// Ticks of the one-shot timer a second.
static TIMER_HZ: AtomicU64 = AtomicU64::new(0);

fn access() -> Access {
    *ACCESS.get().expect("the local APIC is set up before it is used")
}

const fn x2apic_msr(register: Register) -> Msr {
    Msr(Msr::X2APIC_FIRST.0 + (register as u32 >> 4))
}

fn register_pointer(base: usize, register: Register) -> *mut u32 {
    core::ptr::with_exposed_provenance_mut(base + register as usize)
}

fn read(register: Register) -> u32 {
    match access() {
        Access::X2Apic => low(msr::read(x2apic_msr(register))),
        // SAFETY: the register page is mapped; reading any of `Register` has no effect on memory.
        Access::Memory(base) => unsafe { register_pointer(base, register).read_volatile() },
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is asked for")]
const fn low(value: u64) -> u32 {
    value as u32
}

/// Writes a register.
///
/// # Safety
/// The value must not bring an interrupt that has no handler, or stop one that is relied on.
unsafe fn write(register: Register, value: u32) {
    match access() {
        // SAFETY: the caller vouches for the value.
        Access::X2Apic => unsafe { msr::write(x2apic_msr(register), u64::from(value)) },
        // SAFETY: the register page is mapped; the caller vouches for the value.
        Access::Memory(base) => unsafe { register_pointer(base, register).write_volatile(value) },
    }
}

/// Whether the CPU has an x2APIC. CPUID.01H:ECX[21].
fn has_x2apic() -> bool {
    cpu::cpuid(1, 0).ecx & (1 << 21) != 0
}

/// Whether the timer can follow the TSC. CPUID.01H:ECX[24].
fn has_tsc_deadline() -> bool {
    cpu::cpuid(1, 0).ecx & (1 << 24) != 0
}

/// Turns the boot CPU's APIC on and decides how all CPUs' APICs work.
///
/// # Safety
/// The interrupt handlers are in place, interrupts are off, and `registers` is where the firmware says the
/// register page is.
pub(crate) unsafe fn init(registers: Hpa) {
    ACCESS.call_once(|| {
        if has_x2apic() {
            return Access::X2Apic;
        }
        let page =
            tables::map_device(registers, 4096, Caching::Uncached).expect("memory to map the local APIC");
        Access::Memory(page.expose_provenance())
    });
    TIMER.call_once(|| if has_tsc_deadline() { TimerMode::TscDeadline } else { TimerMode::OneShot });
    // SAFETY: the caller's promise.
    unsafe { init_this_cpu() };
}

/// Turns this CPU's APIC on, in the same mode on each CPU, everything masked but the timer.
///
/// # Safety
/// The interrupt handlers are in place and interrupts are off; [`init`] has run.
pub(crate) unsafe fn init_this_cpu() {
    let mode = match access() {
        Access::X2Apic => APIC_BASE_ENABLE | APIC_BASE_X2APIC,
        Access::Memory(_) => APIC_BASE_ENABLE,
    };
    let base = msr::read(Msr::APIC_BASE);
    // Enabling in two steps: from disabled to x2APIC in one is refused.
    // SAFETY: the page stays where it is.
    unsafe { msr::write(Msr::APIC_BASE, base | APIC_BASE_ENABLE) };
    // SAFETY: as above; no interrupt is in service.
    unsafe { msr::write(Msr::APIC_BASE, base | mode) };
    let timer = timer_mode();
    let lvt_timer = u32::from(interrupts::TIMER)
        | match timer {
            TimerMode::TscDeadline => LVT_TSC_DEADLINE,
            TimerMode::OneShot => 0,
        };
    let setup = [
        (Register::TaskPriority, 0),
        (Register::SpuriousVector, SOFTWARE_ENABLE | u32::from(interrupts::SPURIOUS)),
        (Register::LvtLint0, LVT_MASKED),
        (Register::LvtError, LVT_MASKED),
        (Register::ErrorStatus, 0),
        (Register::DivideConfiguration, DIVIDE_BY_1),
        (Register::InitialCount, 0),
        (Register::LvtTimer, lvt_timer),
    ];
    for (register, value) in setup {
        // SAFETY: all vectors named have handlers.
        unsafe { write(register, value) };
    }
    // SDM Vol. 3A, "TSC-Deadline Mode": order the write to LVT before writes to the deadline in xAPIC mode.
    core::sync::atomic::fence(Ordering::SeqCst);
}

/// Whether the APIC runs in x2APIC mode.
pub fn is_x2apic() -> bool {
    access() == Access::X2Apic
}

/// How the timer works on this machine.
pub fn timer_mode() -> TimerMode {
    *TIMER.get().expect("the local APIC is set up before it is used")
}

/// This CPU's APIC ID. Needs no set-up: CPUID leaf 0BH where there is one, leaf 1 otherwise.
pub fn own_id() -> u32 {
    let extended = cpu::cpuid(0xb, 0);
    if extended.ebx != 0 { extended.edx } else { cpu::cpuid(1, 0).ebx >> 24 }
}

/// The APIC ID that the APIC itself reports.
pub fn reported_id() -> u32 {
    match access() {
        Access::X2Apic => read(Register::Id),
        Access::Memory(_) => read(Register::Id) >> 24,
    }
}

/// Ends the interrupt in service.
#[inline]
pub fn end_of_interrupt() {
    // SAFETY: an EOI without an interrupt in service has no effect.
    unsafe { write(Register::EndOfInterrupt, 0) };
}

/// Has this CPU interrupted when the TSC reaches `deadline`, or as near as the timer can; at once when that has
/// passed, never for [`Tsc::NEVER`]. Replaces the previous deadline. May fire early.
#[inline]
pub fn arm_wake(deadline: Tsc) {
    match timer_mode() {
        // A deadline of zero disarms.
        TimerMode::TscDeadline if deadline == Tsc::NEVER => {
            // SAFETY: disarms a timer.
            unsafe { msr::write(Msr::TSC_DEADLINE, 0) };
        }
        // SAFETY: the timer's vector has a handler.
        TimerMode::TscDeadline => unsafe { msr::write(Msr::TSC_DEADLINE, deadline.0.max(1)) },
        // SAFETY: as above.
        TimerMode::OneShot => unsafe { write(Register::InitialCount, one_shot_count(deadline)) },
    }
}

/// The count after which the one-shot timer is at, or before, `deadline`; zero disarms.
fn one_shot_count(deadline: Tsc) -> u32 {
    if deadline == Tsc::NEVER {
        return 0;
    }
    let ticks = u128::from(deadline.since(cpu::rdtsc()).0);
    let count = ticks * u128::from(TIMER_HZ.load(Ordering::Relaxed)) / u128::from(time::tsc_hz().max(1));
    u32::try_from(count).unwrap_or(u32::MAX).max(1)
}

/// Starts the one-shot timer from its largest count, for calibration.
pub(crate) fn start_count() {
    // SAFETY: the timer's vector has a handler.
    unsafe { write(Register::InitialCount, u32::MAX) };
}

/// Ends what [`start_count`] began: how many ticks passed.
pub(crate) fn stop_count() -> u32 {
    let left = read(Register::CurrentCount);
    // SAFETY: disarms a timer.
    unsafe { write(Register::InitialCount, 0) };
    u32::MAX - left
}

/// Tells the one-shot timer its rate.
pub(crate) fn set_timer_hz(hz: u64) {
    TIMER_HZ.store(hz, Ordering::Relaxed);
}

/// Whether interrupts can be sent to the CPU with the APIC ID `target`. Without x2APIC an ID has eight bits, and all
/// ones stand for everybody.
pub fn can_address(target: u32) -> bool {
    match access() {
        Access::X2Apic => target != u32::MAX,
        Access::Memory(_) => target < 0xff,
    }
}

/// Sends an interrupt command to the CPU with the APIC ID `target`. What this CPU wrote before is seen by the target's
/// handler.
///
/// # Safety
/// The target must be able to take what is sent.
#[inline]
unsafe fn send(target: u32, command: u32) {
    match access() {
        Access::X2Apic => {
            let value = u64::from(target) << 32 | u64::from(command);
            // SDM Vol. 3A, "MSR Access in x2APIC Mode": these writes do not wait for earlier stores.
            // SAFETY: orders memory accesses.
            unsafe { asm!("mfence", "lfence", options(nostack, preserves_flags)) };
            // SAFETY: the caller vouches for the command.
            unsafe { msr::write(x2apic_msr(Register::InterruptCommand), value) };
        }
        Access::Memory(_) => {
            wait_until_sent();
            // SAFETY: only names the target.
            unsafe { write(Register::InterruptCommandHigh, target << 24) };
            // SAFETY: the caller vouches for the command.
            unsafe { write(Register::InterruptCommand, command) };
        }
    }
}

/// Waits until the APIC has sent the last command: it has room for one. One that is never accepted is given up.
fn wait_until_sent() {
    for _ in 0..MOST_DELIVERY_READS {
        if read(Register::InterruptCommand) & ICR_PENDING == 0 {
            return;
        }
        core::hint::spin_loop();
    }
}

/// Interrupts the CPU with the APIC ID `target`. Vectors of exceptions are not sent.
#[inline]
pub fn send_interrupt(target: u32, vector: Vector) {
    assert!(vector.0 >= interrupts::LEGACY_FIRST, "exceptions are not for sending");
    // SAFETY: every CPU that is up has a handler for each vector; one that is not ignores it.
    unsafe { send(target, ICR_ASSERT | u32::from(vector.0)) };
}

/// Sends an NMI to the CPU with the APIC ID `target`.
pub fn send_nmi(target: u32) {
    // SAFETY: every CPU that is up has a handler.
    unsafe { send(target, ICR_ASSERT | ICR_NMI) };
}

/// Resets the CPU with the APIC ID `target`, which then waits for [`send_startup`].
///
/// # Safety
/// The target must not be running anything that matters.
pub unsafe fn send_init(target: u32) {
    // SAFETY: the caller vouches for the target.
    unsafe { send(target, ICR_ASSERT | ICR_INIT) };
}

/// Starts the CPU with the APIC ID `target` in real mode at `page * 4096`.
///
/// # Safety
/// There must be code for a CPU that starts in real mode.
pub unsafe fn send_startup(target: u32, page: u8) {
    // SAFETY: the caller vouches for the code.
    unsafe { send(target, ICR_ASSERT | ICR_STARTUP | u32::from(page)) };
}
