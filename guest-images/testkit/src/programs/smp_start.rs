//! How CPUs come up, are reset, and come up again.
//!
//! Source: SDM Vol. 3A, "Multiple-Processor (MP) Initialization", "Local APIC State After It Receives an INIT-Deassert
//! IPI"; "Interrupt Command Register (ICR)" on startup messages.

use core::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use super::{Verdict, expect};
use crate::apic::{self, IPI_VECTOR};
use crate::ipi::{self, Destination, Kind};
use crate::machine::cpu::{self, Msr, cpuid, pause, read_msr};
use crate::machine::percpu::{self, PerCpu};
use crate::machine::startup::PAGES;
use crate::smp;

/// IA32_APIC_BASE: the CPU that boots.
const BOOT_PROCESSOR: u64 = 1 << 8;

/// What the CPU that counts has counted.
static COUNTED: AtomicU64 = AtomicU64::new(0);
static ENOUGH: AtomicBool = AtomicBool::new(false);

/// Starts, restarts, and what must not start or restart.
pub(super) fn smp_start() -> Verdict {
    unique_identifiers()?;
    smp::start_others()?;
    smp::each_in_turn(identity)?;
    for cpu in smp::others() {
        startup_while_running(cpu)?;
        reset_while_running(cpu)?;
        reset_while_halted(cpu)?;
    }
    all_together()?;
    smp::each_in_turn(identity)
}

/// No two CPUs of the firmware's table have the same identifier.
pub(crate) fn unique_identifiers() -> Verdict {
    for cpu in smp::others() {
        for earlier in 0..cpu.index() {
            let is_same = percpu::of(earlier).apic_id() == cpu.apic_id();
            expect("two CPUs with one APIC id", u64::from(is_same), 0u64)?;
        }
    }
    Ok(())
}

/// Run by each CPU: it is the one that it was started as.
pub(crate) fn identity() -> Verdict {
    let this = percpu::this();
    expect("APIC id", apic::id(), this.apic_id())?;
    expect("initial APIC id of leaf 1", cpuid(1, 0).ebx >> 24, this.apic_id() & 0xff)?;
    expect("the first CPU alone is the boot processor", read_msr(Msr::ApicBase) & BOOT_PROCESSOR, 0u64)
}

/// Run by a CPU: counts, interrupts off, until it is told to stop.
fn count() -> Verdict {
    while !ENOUGH.load(Relaxed) {
        COUNTED.store(COUNTED.load(Relaxed) + 1, Release);
        pause();
    }
    Ok(())
}

/// Whether the counting goes on from here.
fn is_counting() -> bool {
    let before = COUNTED.load(Acquire);
    smp::wait_until(|| COUNTED.load(Acquire) > before)
}

/// Startup messages and the end of an INIT do nothing to a CPU that runs.
pub(crate) fn startup_while_running(cpu: &'static PerCpu) -> Verdict {
    ENOUGH.store(false, Relaxed);
    let starts = cpu.starts();
    smp::give(cpu, count);
    expect("it counts", u64::from(is_counting()), 1u64)?;
    ipi::send(smp::only(cpu), Kind::Startup(PAGES[1]));
    ipi::send(smp::only(cpu), Kind::InitDeassert);
    ipi::send(Destination::All, Kind::InitDeassert);
    smp::settle();
    expect("it counts behind a startup IPI", u64::from(is_counting()), 1u64)?;
    ENOUGH.store(true, Relaxed);
    smp::join(cpu)?;
    expect("a startup IPI to a running CPU", cpu.starts(), starts)
}

/// INIT stops a CPU; then only a startup message moves it.
pub(crate) fn reset_while_running(cpu: &'static PerCpu) -> Verdict {
    ENOUGH.store(false, Relaxed);
    let starts = cpu.starts();
    smp::give(cpu, count);
    expect("it counts", u64::from(is_counting()), 1u64)?;
    smp::stop(cpu);
    let counted = COUNTED.load(Acquire);
    let handled = cpu.interrupts(IPI_VECTOR);
    ipi::send(smp::only(cpu), Kind::Fixed(IPI_VECTOR));
    ipi::send(smp::only(cpu), Kind::Nmi);
    smp::settle();
    expect("it stands still behind INIT", COUNTED.load(Acquire), counted)?;
    expect("it takes no interrupt", cpu.interrupts(IPI_VECTOR), handled)?;
    expect("it is not started by an interrupt", cpu.starts(), starts)?;
    ipi::send(smp::only(cpu), Kind::Startup(PAGES[1]));
    smp::await_start(cpu, starts)?;
    expect("the startup IPI's page", cpu.startup_page(), PAGES[1])?;
    smp::give(cpu, identity);
    smp::join(cpu)?;
    expect("one start", cpu.starts(), starts + 1)
}

/// What QEMU's TCG has wrong, in a program of its own: of two startup messages, the first one counts.
pub(crate) fn first_startup_counts() -> Verdict {
    smp::start_others()?;
    for cpu in smp::others() {
        let starts = cpu.starts();
        smp::stop(cpu);
        ipi::send(smp::only(cpu), Kind::Startup(PAGES[1]));
        ipi::send(smp::only(cpu), Kind::Startup(PAGES[0]));
        smp::await_start(cpu, starts)?;
        expect("the first startup IPI's page", cpu.startup_page(), PAGES[1])?;
    }
    Ok(())
}

/// INIT reaches a CPU that sleeps with interrupts off: so is one taken out of use and back.
pub(crate) fn reset_while_halted(cpu: &'static PerCpu) -> Verdict {
    smp::give(cpu, || cpu::halt_forever());
    smp::settle();
    smp::start(cpu)?;
    smp::give(cpu, identity);
    smp::join(cpu)
}

/// Everybody at once, by shorthand.
pub(crate) fn all_together() -> Verdict {
    let starts: u64 = smp::others().map(PerCpu::starts).sum();
    ipi::send(Destination::Others, Kind::Init);
    smp::settle();
    ipi::send(Destination::Others, Kind::Startup(PAGES[0]));
    smp::wait_until(|| {
        smp::others().map(PerCpu::starts).sum::<u64>() >= starts + smp::others().count() as u64
    });
    let now: u64 = smp::others().map(PerCpu::starts).sum();
    expect("starts of all by shorthand", now, starts + smp::others().count() as u64)
}
