//! What each way out of a guest costs.
//!
//! Each line is `bench: OPERATION INSTRUCTIONS`, the time stamp counter's ticks per round trip with the loop around it;
//! `bench: skip OPERATION` where this machine has no such thing. On Bochs the counter ticks once per instruction.

use super::{Verdict, expect};
use crate::apic::{self, IPI_VECTOR, SelfInterrupt, TIMER_VECTOR, TimerMode};
use crate::console::{SCRATCH, report};
use crate::machine::cpu::{Mmio, rdtsc};
use crate::machine::measure::{self, Tick, spin_until};
use crate::machine::provoke;

/// A port that the PC platform keeps for firmware's progress codes: written, never answered.
const POST_PORT: u16 = 0x80;
/// I/O APIC registers: index, and the window on the indexed one.
const IOAPIC_INDEX: u8 = 0x00;
const IOAPIC_WINDOW: u8 = 0x10;
/// Ticks from arming a timer to its interrupt: long after any hypervisor is back from arming it.
const TICK_DELAY: u64 = 100_000;
/// Interrupts per figure.
const TICKS: u64 = 100;
/// Rounds of a waiting loop before an interrupt is given up.
const PATIENCE: u64 = 10_000_000;

/// Measures and prints everything.
pub(super) fn bench() -> Verdict {
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
    let ipi = || apic::send_to_self(SelfInterrupt::Fixed(IPI_VECTOR));
    if let Some(ticks) = average(|| spin_until(IPI_VECTOR, ipi, PATIENCE)) {
        report!("bench: self-ipi {ticks}");
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
    report!("bench: done");
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
