//! All CPUs: starting those that the firmware left waiting, waking them, and stopping them at the end.
//!
//! SDM Vol. 3A, "Multiple-Processor (MP) Initialization"; "Issuing Interprocessor Interrupts".

mod arrival;
mod clock;
mod start;
mod stop;
mod trampoline;

pub use start::{Failed, Started, Why, start_others};
pub(crate) use stop::halt_if_told;
pub use stop::stop_others;
pub(crate) use trampoline::reserve;

use arch::Vector;

use crate::{apic, interrupts, percpu};

/// Has the CPU numbered `index` look for work: if it sleeps it wakes, if it runs a guest it leaves it, and its
/// [`PerCpu::is_pending`](percpu::PerCpu::is_pending) becomes true. What the caller wrote before is seen by then.
/// Without effect on a CPU that is not up.
#[inline]
pub fn kick(index: u32) {
    if let Some(cpu) = percpu::cpu(index) {
        apic::send_interrupt(cpu.apic_id, Vector(interrupts::WAKE));
    }
}
