//! What two CPUs are about: interrupts from one to the other.
//!
//! `OPERATION-waiting` says how many instructions of an operation were executed in loops that wait for the other CPU, or
//! that only pass the time: no work.

use core::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Release},
};

use super::{COMMAND, PATIENCE, WARM_UP};
use crate::apic::{self, IPI_VECTOR};
use crate::console::report;
use crate::ipi::{self, Kind};
use crate::machine::cpu::{Mmio, rdtsc, wait_for_interrupt};
use crate::machine::measure::{self, INSTRUCTIONS_A_COUNTED_ROUND, ITERATIONS, spin_until, spin_while};
use crate::machine::percpu::{self, PerCpu};
use crate::programs::{Failure, Verdict, expect};
use crate::{options, smp};

/// Whether the other CPU's job is over.
static IS_OVER: AtomicBool = AtomicBool::new(false);
/// How often the other CPU has gone to sleep, and when it last woke, in TSC ticks.
static SLEEPS: AtomicU64 = AtomicU64::new(0);
static WOKE: AtomicU64 = AtomicU64::new(0);
/// Instructions of the other CPU's waiting loops.
static WAITED: AtomicU64 = AtomicU64::new(0);

/// Interrupts per figure.
const TICKS: u64 = 100;
/// Rounds of the other CPU's loop.
static ROUNDS: AtomicU64 = AtomicU64::new(0);

/// An interrupt sent to a CPU that runs with interrupts off, so that sending is all that is done, in x2APIC mode.
pub(super) fn send_in_x2apic_mode() -> Verdict {
    if !apic::is_x2apic() {
        return Ok(());
    }
    send("x2apic-icr-other", |other| {
        let destination = u64::from(other.apic_id()) << 32;
        measure::wrmsr_x2apic(apic::ICR_LOW, destination | u64::from(COMMAND))
    })
}

/// The same in xAPIC mode: the half that sends.
pub(super) fn send_in_xapic_mode() -> Verdict {
    send("xapic-icr-other", |other| {
        apic::write(apic::ICR_HIGH, other.apic_id() << 24);
        measure::mmio_write(Mmio::LocalApic, apic::ICR_LOW, COMMAND)
    })
}

fn send(operation: &str, measure: impl Fn(&PerCpu) -> u64) -> Verdict {
    let other = start(pass_time)?;
    measure(other);
    let before = ROUNDS.load(Acquire);
    let ticks = measure(other);
    let rounds = ROUNDS.load(Acquire) - before;
    report!("bench: {operation} {ticks}");
    report!("bench: {operation}-waiting {}", rounds * INSTRUCTIONS_A_COUNTED_ROUND / ITERATIONS);
    IS_OVER.store(true, Release);
    smp::join(other)
}

/// Run by the other CPU: lets nothing in.
fn pass_time() -> Verdict {
    SLEEPS.store(1, Release);
    measure::count_rounds(&IS_OVER, &ROUNDS);
    Ok(())
}

/// An interrupt to a CPU that runs and one back; an interrupt to a CPU that sleeps, until it executes.
pub(super) fn between_cpus() -> Verdict {
    let other = start(answer)?;
    let call = || ipi::send(smp::only(other), Kind::Fixed(IPI_VECTOR));
    let (mut sum, mut waiting, mut waited_there) = (0, 0, 0);
    for round in 0..TICKS + WARM_UP {
        if round == WARM_UP {
            (sum, waiting, waited_there) = (0, 0, WAITED.load(Acquire));
        }
        let Some(trip) = spin_until(IPI_VECTOR, call, PATIENCE) else {
            return expect("answers of the other CPU", round, TICKS);
        };
        sum += trip.total;
        waiting += trip.waiting;
    }
    waiting += WAITED.load(Acquire) - waited_there;
    report!("bench: ipi-round-trip {}", sum / TICKS);
    report!("bench: ipi-round-trip-waiting {}", waiting / TICKS);
    IS_OVER.store(true, Release);
    call();
    smp::join(other)?;

    IS_OVER.store(false, Release);
    SLEEPS.store(0, Release);
    smp::give(other, sleep);
    let (mut sum, mut waiting) = (0, 0);
    for round in 0..TICKS + WARM_UP {
        if round == WARM_UP {
            (sum, waiting) = (0, 0);
        }
        smp::wait_until(|| SLEEPS.load(Acquire) > round);
        // It says so before it sleeps.
        smp::settle();
        WOKE.store(0, Release);
        let start = rdtsc();
        call();
        let Some(waited) = spin_while(&WOKE, 0, PATIENCE) else {
            return expect("wake-ups of the other CPU", round, TICKS);
        };
        sum += WOKE.load(Acquire).saturating_sub(start);
        waiting += waited;
    }
    report!("bench: ipi-wake {}", sum / TICKS);
    report!("bench: ipi-wake-waiting {}", waiting / TICKS);
    IS_OVER.store(true, Release);
    smp::wait_until(|| {
        call();
        other.is_idle()
    });
    smp::join(other)
}

/// Starts the second CPU and has it do `job`, which says so by its first sleep.
fn start(job: fn() -> Verdict) -> Result<&'static PerCpu, Failure> {
    let other = percpu::of(1);
    smp::start(other)?;
    IS_OVER.store(false, Release);
    SLEEPS.store(0, Release);
    smp::give(other, job);
    // An interrupt that came before would be counted before it counts.
    smp::wait_until(|| SLEEPS.load(Acquire) > 0);
    Ok(other)
}

/// Run by the other CPU: answers each interrupt with one, awake all the time.
fn answer() -> Verdict {
    SLEEPS.store(1, Release);
    let first = percpu::of(0);
    while !IS_OVER.load(Acquire) {
        if let Some(wait) = spin_until(IPI_VECTOR, || {}, PATIENCE) {
            WAITED.store(WAITED.load(Acquire) + wait.waiting, Release);
            ipi::send(smp::only(first), Kind::Fixed(IPI_VECTOR));
        }
    }
    Ok(())
}

/// Run by the other CPU: sleeps, and writes down when it woke.
fn sleep() -> Verdict {
    while !IS_OVER.load(Acquire) {
        SLEEPS.store(SLEEPS.load(Acquire) + 1, Release);
        wait_for_interrupt();
        WOKE.store(rdtsc(), Release);
    }
    Ok(())
}

/// Interrupts from one running CPU to another and nothing else, as many as `count=` says; half go each way.
pub(crate) fn ipis() -> Verdict {
    let count = options::EVENTS.get();
    let other = start(answer)?;
    for sent in 0..count / 2 {
        let call = || ipi::send(smp::only(other), Kind::Fixed(IPI_VECTOR));
        if spin_until(IPI_VECTOR, call, PATIENCE).is_none() {
            return expect("answers of the other CPU", sent, count / 2);
        }
    }
    IS_OVER.store(true, Release);
    ipi::send(smp::only(other), Kind::Fixed(IPI_VECTOR));
    smp::join(other)?;
    report!("bench: ipis {count}");
    Ok(())
}
