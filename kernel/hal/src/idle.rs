//! Waiting for something to happen.

use core::arch::asm;

use arch::Tsc;

use crate::{apic, cpu, percpu};

/// Sleeps until the TSC reaches `deadline`, an interrupt comes, or one came since the last
/// [`PerCpu::take_pending`](percpu::PerCpu::take_pending): none is lost between the caller's last look and the
/// sleep. May return early. Interrupts are off before and after.
pub fn idle_until(deadline: Tsc) {
    let cpu = percpu::current();
    if cpu.is_pending() || cpu::rdtsc() >= deadline {
        crate::interrupts::open_window();
        return;
    }
    apic::arm_wake(deadline);
    // SAFETY: the handlers are in place and the code here holds no lock. STI takes effect after HLT has begun, so an
    // interrupt that is already waiting ends the HLT at once. SDM Vol. 2B, "STI".
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
    apic::arm_wake(Tsc::NEVER);
}
