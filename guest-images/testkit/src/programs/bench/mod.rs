//! What each way out of a guest costs.
//!
//! Each line is `bench: OPERATION INSTRUCTIONS`, the time stamp counter's ticks per round trip with the loop around it;
//! `bench: skip OPERATION` where this machine has no such thing. On Bochs the counter ticks once per instruction; with
//! several processors, once for each that all of them together have executed on average (see `several`).

mod devices;
mod several;

pub(super) use several::ipis;

use super::{Verdict, expect};
use crate::apic::{self, IPI_VECTOR, TIMER_VECTOR, TimerMode};
use crate::console::{SCRATCH, report};
use crate::ipi::{self, SelfInterrupt};
use crate::machine::cpu::{Mmio, rdtsc};
use crate::machine::measure::{self, Tick, spin_until};
use crate::machine::provoke;
use crate::{options, smp};

/// A port that the PC platform keeps for firmware's progress codes: written, never answered.
const POST_PORT: u16 = 0x80;
/// I/O APIC registers: index, and the window on the indexed one.
const IOAPIC_INDEX: u16 = 0x00;
const IOAPIC_WINDOW: u16 = 0x10;
/// Offsets of local APIC registers, in the page.
const ID: u16 = 0x20;
const TASK_PRIORITY: u16 = 0x80;
const LVT_TIMER: u16 = 0x320;
/// Interrupt command: [`IPI_VECTOR`], fixed, to the one whose identifier is given.
const COMMAND: u32 = 1 << 14 | IPI_VECTOR as u32;
/// Ticks from arming a timer to its interrupt: long after any hypervisor is back from arming it.
const TICK_DELAY: u64 = 100_000;
/// Interrupts per figure: of one CPU, the middle one counts.
const TICKS: usize = 100;
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
    line("mmio-write-ioapic-index", || measure::mmio_write(Mmio::IoApic, IOAPIC_INDEX, 0));
    line("mmio-read-ioapic-window", || measure::mmio_read(Mmio::IoApic, IOAPIC_WINDOW));
    // Register 0, the identifier: it stays what it is.
    line("mmio-write-ioapic-window", || measure::mmio_write(Mmio::IoApic, IOAPIC_WINDOW, 0));
    let ipi = || ipi::send_to_self(SelfInterrupt::Fixed(IPI_VECTOR));
    if let Some(ticks) = typical(|| spin_until(IPI_VECTOR, ipi, PATIENCE)) {
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
        let mut late = core::array::from_fn(|_| measure::halt_until_deadline(TICK_DELAY));
        report!("bench: hlt-wake {}", middle(&mut late));
        apic::arm_deadline(0);
    } else {
        report!("bench: skip wrmsr-tsc-deadline");
        apic::set_timer(TimerMode::OneShot);
        timer_tick(|| apic::arm_count(100_000))?;
        report!("bench: skip hlt-wake");
    }
    apic::stop_timer();
    if smp::count() > 1 {
        several::send_in_x2apic_mode()?;
        several::between_cpus()?;
    } else {
        devices::measure();
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
        measure::wrmsr_x2apic(apic::ICR_LOW, u64::from(apic::id()) << 32 | u64::from(COMMAND))
    });
    take_last()
}

/// Lets in the one interrupt that waits.
fn take_last() -> Verdict {
    match spin_until(IPI_VECTOR, || {}, PATIENCE) {
        Some(_) => Ok(()),
        None => expect("the last interrupt", 0u64, 1u64),
    }
}

/// The same through memory, in xAPIC mode. No `bench: done`: `bench` comes after it.
pub(super) fn xapic() -> Verdict {
    line("xapic-read-id", || measure::mmio_read(Mmio::LocalApic, ID));
    line("xapic-read-tpr", || measure::mmio_read(Mmio::LocalApic, TASK_PRIORITY));
    line("xapic-write-tpr", || measure::mmio_write(Mmio::LocalApic, TASK_PRIORITY, 0));
    line("xapic-write-eoi", || measure::mmio_write(Mmio::LocalApic, 0xb0, 0));
    line("xapic-write-ldr", || measure::mmio_write(Mmio::LocalApic, 0xd0, 0));
    // Interrupts are off: of all that are sent, one waits in the end.
    apic::write(apic::ICR_HIGH, apic::id() << 24);
    line("xapic-icr-self", || measure::mmio_write(Mmio::LocalApic, apic::ICR_LOW, COMMAND));
    take_last()?;
    let ipi = || ipi::send_to_self(SelfInterrupt::Fixed(IPI_VECTOR));
    match typical(|| spin_until(IPI_VECTOR, ipi, PATIENCE)) {
        Some(ticks) => {
            report!("bench: xapic-self-ipi {ticks}");
        }
        None => return expect("an interrupt to itself", 0u64, 1u64),
    }
    if smp::count() > 1 { several::send_in_xapic_mode() } else { Ok(()) }
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

fn line(name: &str, measure: fn() -> u64) {
    // Once unprinted, so that first touches of code and device are not counted.
    measure();
    report!("bench: {name} {}", measure());
}

/// Arming a timer, its interrupt, the handler and its end, without the instructions spent waiting.
fn timer_tick(arm: impl Fn()) -> Verdict {
    match typical(|| spin_until(TIMER_VECTOR, &arm, PATIENCE)) {
        Some(ticks) => {
            report!("bench: timer-tick {ticks}");
            Ok(())
        }
        None => expect("the timer's interrupt", 0u64, 1u64),
    }
}

/// What an interrupt costs, the waiting loop's own instructions taken off: the middle one of [`TICKS`].
fn typical(once: impl Fn() -> Option<Tick>) -> Option<u64> {
    once()?;
    let mut costs = [0; TICKS];
    for cost in &mut costs {
        let tick = once()?;
        *cost = tick.total.saturating_sub(tick.waiting);
    }
    Some(middle(&mut costs))
}

/// The middle one of `costs`: what hypervisors do now and then besides, at the end of a turn say, is no part of any.
fn middle(costs: &mut [u64; TICKS]) -> u64 {
    costs.sort_unstable();
    costs[TICKS / 2]
}
