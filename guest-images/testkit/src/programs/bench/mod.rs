//! What each way out of a guest costs.
//!
//! Each line is `bench: OPERATION INSTRUCTIONS`, the time stamp counter's ticks per round trip with the loop around it;
//! `bench: skip OPERATION` where this machine has no such thing. On Bochs the counter ticks once per instruction; with
//! several processors, once for each that all of them together have executed on average. So `OPERATION-waiting` says how
//! many instructions of an operation that two processors are about were executed in loops that wait for the other one.

use core::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Release},
};

use super::{Failure, Verdict, expect};
use crate::apic::{self, IPI_VECTOR, TIMER_VECTOR, TimerMode};
use crate::console::{SCRATCH, report};
use crate::ipi::{self, Kind, SelfInterrupt};
use crate::machine::cpu::{Mmio, rdtsc, wait_for_interrupt};
use crate::machine::measure::{self, Tick, spin_until, spin_while};
use crate::machine::percpu::{self, PerCpu};
use crate::machine::provoke;
use crate::{options, smp};

/// A port that the PC platform keeps for firmware's progress codes: written, never answered.
const POST_PORT: u16 = 0x80;
/// I/O APIC registers: index, and the window on the indexed one.
const IOAPIC_INDEX: u8 = 0x00;
const IOAPIC_WINDOW: u8 = 0x10;
/// Offsets of local APIC registers, in the page.
const ID: u16 = 0x20;
const TASK_PRIORITY: u16 = 0x80;
const LVT_TIMER: u16 = 0x320;
/// Ticks from arming a timer to its interrupt: long after any hypervisor is back from arming it.
const TICK_DELAY: u64 = 100_000;
/// Interrupts per figure.
const TICKS: u64 = 100;
/// Interrupts that are not counted.
const WARM_UP: u64 = 4;
/// Rounds of a waiting loop before an interrupt is given up.
const PATIENCE: u64 = 10_000_000;
/// Ticks of sleep before the first figure: a hypervisor may still be busy with the start of this guest.
const SETTLE: u64 = 5_000_000;

/// Measures and prints everything.
pub(super) fn bench() -> Verdict {
    if apic::has_deadline() {
        apic::set_timer(TimerMode::Deadline);
        measure::halt_until_deadline(SETTLE);
        apic::stop_timer();
    }
    line("empty-loop", measure::empty);
    if provoke::vmcall().is_ok() {
        line("vmcall", measure::vmcall);
    } else {
        report!("bench: skip vmcall");
    }
    line("cpuid", measure::cpuid);
    line("rdmsr-apic-base", measure::rdmsr);
    line("out-com1-scratch", || measure::out_port(SCRATCH));
    line("in-com1-scratch", || measure::in_port(SCRATCH));
    line("out-unused-port", || measure::out_port(POST_PORT));
    line("mmio-read-ioapic-index", || measure::mmio_read(Mmio::IoApic, IOAPIC_INDEX));
    line("mmio-write-ioapic-index", || measure::mmio_write(Mmio::IoApic, IOAPIC_INDEX));
    line("mmio-read-ioapic-window", || measure::mmio_read(Mmio::IoApic, IOAPIC_WINDOW));
    let ipi = || ipi::send_to_self(SelfInterrupt::Fixed(IPI_VECTOR));
    if let Some(ticks) = average(|| spin_until(IPI_VECTOR, ipi, PATIENCE)) {
        report!("bench: self-ipi {ticks}");
    }
    if apic::is_x2apic() {
        x2apic()?;
    }
    if apic::has_deadline() {
        apic::set_timer(TimerMode::Deadline);
        line("wrmsr-tsc-deadline", measure::wrmsr_deadline);
        let arm = || apic::arm_deadline(rdtsc() + TICK_DELAY);
        timer_tick(arm)?;
        let late = (0..TICKS).map(|_| measure::halt_until_deadline(TICK_DELAY)).sum::<u64>();
        report!("bench: hlt-wake {}", late / TICKS);
        apic::arm_deadline(0);
    } else {
        report!("bench: skip wrmsr-tsc-deadline");
        apic::set_timer(TimerMode::OneShot);
        timer_tick(|| apic::arm_count(100_000))?;
        report!("bench: skip hlt-wake");
    }
    apic::stop_timer();
    if smp::count() > 1 {
        between_cpus()?;
    } else {
        report!("bench: skip ipi-round-trip");
        report!("bench: skip ipi-wake");
    }
    report!("bench: done");
    Ok(())
}

/// Registers of the local APIC, in x2APIC mode.
fn x2apic() -> Verdict {
    line("x2apic-read-id", || measure::rdmsr_x2apic(ID));
    line("x2apic-read-tpr", || measure::rdmsr_x2apic(TASK_PRIORITY));
    line("x2apic-write-tpr", || measure::wrmsr_x2apic(TASK_PRIORITY, 0));
    line("x2apic-write-lvt-timer", || measure::wrmsr_x2apic(LVT_TIMER, apic::MASKED.into()));
    // Interrupts are off: of all that are sent, one waits in the end.
    line("x2apic-icr-self", || {
        measure::wrmsr_x2apic(apic::ICR_LOW, u64::from(apic::id()) << 32 | 1 << 14 | u64::from(IPI_VECTOR))
    });
    match spin_until(IPI_VECTOR, || {}, PATIENCE) {
        Some(_) => Ok(()),
        None => expect("the last interrupt", 0u64, 1u64),
    }
}

/// The same through memory, in xAPIC mode. No `bench: done`: `bench` comes after it.
pub(super) fn xapic() -> Verdict {
    line("xapic-read-id", || measure::mmio_read(Mmio::LocalApic, 0x20));
    line("xapic-read-tpr", || measure::mmio_read(Mmio::LocalApic, 0x80));
    line("xapic-write-tpr", || measure::mmio_write(Mmio::LocalApic, 0x80));
    line("xapic-write-eoi", || measure::mmio_write(Mmio::LocalApic, 0xb0));
    line("xapic-write-ldr", || measure::mmio_write(Mmio::LocalApic, 0xd0));
    let ipi = || ipi::send_to_self(SelfInterrupt::Fixed(IPI_VECTOR));
    match average(|| spin_until(IPI_VECTOR, ipi, PATIENCE)) {
        Some(ticks) => {
            report!("bench: xapic-self-ipi {ticks}");
            Ok(())
        }
        None => expect("an interrupt to itself", 0u64, 1u64),
    }
}

/// Whether the other CPU's job is over.
static IS_OVER: AtomicBool = AtomicBool::new(false);
/// How often the other CPU has gone to sleep, and when it last woke, in TSC ticks.
static SLEEPS: AtomicU64 = AtomicU64::new(0);
static WOKE: AtomicU64 = AtomicU64::new(0);
/// Instructions of the other CPU's waiting loops.
static WAITED: AtomicU64 = AtomicU64::new(0);

/// An interrupt to a CPU that runs and one back; an interrupt to a CPU that sleeps, until it executes.
fn between_cpus() -> Verdict {
    let other = start_answering()?;
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

/// Starts the second CPU and has it [`answer`].
fn start_answering() -> Result<&'static PerCpu, Failure> {
    let other = percpu::of(1);
    smp::start(other)?;
    IS_OVER.store(false, Release);
    SLEEPS.store(0, Release);
    smp::give(other, answer);
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

/// Timer interrupts and nothing else, as many as `count=` says: for who counts exits from outside.
pub(super) fn ticks() -> Verdict {
    let count = options::EVENTS.get();
    // Asked once: to ask is an exit.
    let has_deadline = apic::has_deadline();
    apic::set_timer(if has_deadline { TimerMode::Deadline } else { TimerMode::OneShot });
    for tick in 0..count {
        let arm = || {
            if has_deadline {
                apic::arm_deadline(rdtsc() + 20_000);
            } else {
                apic::arm_count(20_000);
            }
        };
        if spin_until(TIMER_VECTOR, arm, PATIENCE).is_none() {
            return expect("timer interrupts", tick, count);
        }
    }
    apic::stop_timer();
    report!("bench: ticks {count}");
    Ok(())
}

/// The same of a timer that is armed once and goes on by itself.
pub(super) fn periodic_ticks() -> Verdict {
    let count = options::EVENTS.get();
    apic::set_timer(TimerMode::Periodic);
    apic::arm_count(20_000);
    for tick in 0..count {
        if spin_until(TIMER_VECTOR, || {}, PATIENCE).is_none() {
            return expect("timer interrupts", tick, count);
        }
    }
    apic::stop_timer();
    report!("bench: periodic-ticks {count}");
    Ok(())
}

/// Interrupts from one running CPU to another and nothing else, as many as `count=` says; half go each way.
pub(super) fn ipis() -> Verdict {
    let count = options::EVENTS.get();
    let other = start_answering()?;
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

fn line(name: &str, measure: fn() -> u64) {
    // Once unprinted, so that first touches of code and device are not counted.
    measure();
    report!("bench: {name} {}", measure());
}

/// Arming a timer, its interrupt, the handler and its end, without the instructions spent waiting.
fn timer_tick(arm: impl Fn()) -> Verdict {
    match average(|| spin_until(TIMER_VECTOR, &arm, PATIENCE)) {
        Some(ticks) => {
            report!("bench: timer-tick {ticks}");
            Ok(())
        }
        None => expect("the timer's interrupt", 0u64, 1u64),
    }
}

/// Average cost of an interrupt, the waiting loop's own instructions taken off.
fn average(once: impl Fn() -> Option<Tick>) -> Option<u64> {
    once()?;
    let mut sum = 0;
    for _ in 0..TICKS {
        let tick = once()?;
        sum += tick.total.saturating_sub(tick.waiting);
    }
    Some(sum / TICKS)
}
