//! Stopping all other CPUs, when this one ends the system: a panic's output is then its own, and nothing runs on.

use core::sync::atomic::{AtomicU32, Ordering};

use arch::Tsc;

use crate::{apic, cpu, percpu, time};

/// No CPU ends the system.
const NOBODY: u32 = u32::MAX;
/// How long the others may take, in microseconds: one may have NMIs blocked for a moment.
const PATIENCE_US: u64 = 100_000;
/// The same in TSC ticks while the rate of the TSC is not known.
const PATIENCE_BLIND: Tsc = Tsc(200_000_000);

/// The number of the CPU that ends the system.
static ENDED_BY: AtomicU32 = AtomicU32::new(NOBODY);
/// CPUs that have halted for it.
static HALTED: AtomicU32 = AtomicU32::new(0);

/// Halts all other CPUs for good, by NMI, so that neither locks nor guests hold them; returns when they have halted, or
/// do not answer. A CPU that finds another one doing so halts here; one that has done so already goes on.
///
/// Takes no lock and no memory.
pub fn stop_others() {
    cpu::disable_interrupts();
    let Some(own) = percpu::try_current() else { return };
    match ENDED_BY.compare_exchange(NOBODY, own.index, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {}
        Err(other) if other == own.index => return,
        Err(_) => halt(),
    }
    let mut others = 0;
    for cpu in percpu::cpus().filter(|cpu| cpu.index != own.index) {
        apic::send_nmi(cpu.apic_id);
        others += 1;
    }
    let patience = match time::tsc_hz() {
        0 => PATIENCE_BLIND,
        _ => time::ticks(PATIENCE_US),
    };
    let end = time::now() + patience;
    while HALTED.load(Ordering::Acquire) < others && time::now() < end {
        core::hint::spin_loop();
    }
}

/// Halts this CPU if another one ends the system: for the NMI handler.
pub(crate) fn halt_if_told() {
    match ENDED_BY.load(Ordering::Acquire) {
        NOBODY => {}
        index if percpu::try_current().is_none_or(|own| own.index == index) => {}
        _ => halt(),
    }
}

fn halt() -> ! {
    HALTED.fetch_add(1, Ordering::AcqRel);
    cpu::halt_forever()
}
