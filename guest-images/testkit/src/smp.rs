//! The other CPUs: found in the firmware's table, started, given jobs, stopped again.
//!
//! Between programs they wait for a startup IPI. A program that wants them calls [`start_others`]; they then sleep until
//! they are given a job. Only the CPU that booted (number 0) gives jobs.
//!
//! Source: SDM Vol. 3A, "Multiple-Processor (MP) Initialization", "MP Initialization Example".

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::apic::{self, TIMER_VECTOR, TimerMode};
use crate::ipi::{self, Destination, Kind};
use crate::machine::cpu::{disable_interrupts, pause, rdtsc, wait_for_interrupt};
use crate::machine::percpu::{self, PerCpu};
use crate::machine::{startup, trap};
use crate::programs::{Failure, Verdict, expect};

/// Wakes a CPU that waits for a job.
const WAKE_VECTOR: u8 = 0x90;
/// How long anything that another CPU has to do may take, in TSC ticks: seconds on every machine. A CPU may have to
/// wait for its turn behind many.
const PATIENCE: u64 = 2_000_000_000;
/// How long a message may take to arrive and be acted upon, in TSC ticks: a fraction of a millisecond.
const SETTLING: u64 = 500_000;
/// Rounds of looking before a wait turns into sleep.
const LOOKS: u32 = 50;
/// Timer counts to sleep at a time while messages arrive.
const SETTLING_NAP: u32 = 100_000;
/// Timer counts to sleep between looks.
const NAP: u32 = 20_000;

static COUNT: AtomicUsize = AtomicUsize::new(1);

/// Numbers the CPUs in the table of the ACPI tables at `rsdp`, a physical address. Without a table there is one CPU.
pub(crate) fn discover(rsdp: Option<u64>) {
    let first = apic::id();
    percpu::of(0).set_apic_id(first);
    let mut count = 1;
    if let Some(rsdp) = rsdp {
        crate::acpi::for_each_cpu(rsdp, |id| {
            // Wider identifiers have no place in the startup code's table.
            let Ok(narrow) = u8::try_from(id) else { return };
            if id != first && count < percpu::MAX {
                percpu::of(count).set_apic_id(id);
                startup::assign(narrow, count);
                count += 1;
            }
        });
    }
    COUNT.store(count, Relaxed);
    startup::prepare();
}

/// How many CPUs the machine has; those above [`percpu::MAX`] are left alone.
pub(crate) fn count() -> usize {
    COUNT.load(Relaxed)
}

/// All CPUs but the one that booted.
pub(crate) fn others() -> impl Iterator<Item = &'static PerCpu> + Clone {
    (1..count()).map(percpu::of)
}

/// The destination that is one CPU.
pub(crate) fn only(cpu: &PerCpu) -> Destination {
    Destination::Physical(cpu.apic_id())
}

/// Starts every other CPU.
pub(crate) fn start_others() -> Verdict {
    others().try_for_each(start)
}

/// Resets a CPU and starts it: INIT, its old-fashioned end, and two startup IPIs.
pub(crate) fn start(cpu: &'static PerCpu) -> Verdict {
    let before = cpu.starts();
    stop(cpu);
    ipi::send(only(cpu), Kind::InitDeassert);
    for _ in 0..2 {
        ipi::send(only(cpu), Kind::Startup(startup::PAGES[0]));
        settle();
    }
    await_start(cpu, before)
}

/// Waits until a CPU has come through the startup code once more than `before`.
pub(crate) fn await_start(cpu: &'static PerCpu, before: u64) -> Verdict {
    wait_until(|| cpu.starts() > before);
    expect("times a CPU came up", cpu.starts(), before + 1)
}

/// Resets a CPU to the wait for a startup IPI.
pub(crate) fn stop(cpu: &PerCpu) {
    ipi::send(only(cpu), Kind::Init);
    settle();
    cpu.forget_job();
}

/// Resets every other CPU.
pub(crate) fn stop_others() {
    for cpu in others() {
        stop(cpu);
    }
}

/// Gives a CPU that has nothing to do a job, and wakes it.
pub(crate) fn give(cpu: &PerCpu, job: fn() -> Verdict) {
    cpu.give(job);
    ipi::send(only(cpu), Kind::Fixed(WAKE_VECTOR));
}

/// Waits for a CPU's job to end and returns what came of it.
pub(crate) fn join(cpu: &'static PerCpu) -> Verdict {
    wait_until(|| cpu.is_idle());
    cpu.result().unwrap_or_else(|| {
        let number = u64::try_from(cpu.index()).unwrap_or(u64::MAX);
        Err(Failure { what: "a CPU ends its job", got: number, want: 0 })
    })
}

/// Has every other CPU do `job`, one after the other.
pub(crate) fn each_in_turn(job: fn() -> Verdict) -> Verdict {
    others().try_for_each(|cpu| {
        give(cpu, job);
        join(cpu)
    })
}

/// Has every other CPU do `job`, all at once, and this one `here` meanwhile.
pub(crate) fn all_at_once(job: fn() -> Verdict, here: impl FnOnce() -> Verdict) -> Verdict {
    for cpu in others() {
        give(cpu, job);
    }
    let verdict = here();
    others().map(join).fold(verdict, |sum, one| sum.and(one))
}

/// Waits until a condition holds that another CPU brings about, or patience ends; whether it holds.
///
/// Interrupts are off before and after, and let in meanwhile. The timer is used.
pub(crate) fn wait_until(condition: impl Fn() -> bool) -> bool {
    let start = rdtsc();
    let mut looks = 0;
    while !condition() {
        if rdtsc() - start > PATIENCE {
            return condition();
        }
        looks += 1;
        if looks < LOOKS {
            pause();
        } else {
            // Whoever is waited for may be waiting for this CPU's host.
            nap(NAP);
        }
    }
    true
}

/// Lets messages arrive and others act: sleeps for [`SETTLING`] at least.
pub(crate) fn settle() {
    let start = rdtsc();
    while rdtsc() - start < SETTLING {
        nap(SETTLING_NAP);
    }
}

/// Sleeps until the timer has counted down from `count`.
pub(crate) fn nap(count: u32) {
    let before = trap::interrupts(TIMER_VECTOR);
    apic::set_timer(TimerMode::OneShot);
    apic::arm_count(count);
    while trap::interrupts(TIMER_VECTOR) == before {
        wait_for_interrupt();
    }
    apic::stop_timer();
}

/// What a CPU does that came through the startup code at `page`: jobs, for ever.
pub(crate) fn arrive(page: u64) -> ! {
    apic::start();
    let cpu = percpu::this();
    cpu.note_start(page);
    loop {
        disable_interrupts();
        if !cpu.work() {
            wait_for_interrupt();
        }
    }
}
