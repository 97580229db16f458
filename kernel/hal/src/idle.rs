//! Waiting for something to happen.

use core::arch::asm;
use core::sync::atomic::Ordering;

use arch::Tsc;
use spin::Once;

use crate::percpu::PerCpu;
use crate::{apic, cpu, interrupts, percpu};

/// How a CPU sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// MWAIT, which interrupts end although they are masked.
    Mwait,
    /// STI and HLT.
    Halt,
}

/// What this machine's CPUs have.
static WAY: Once<Way> = Once::new();

/// MWAIT is given up on a CPU where it returned this many times in a row although nothing had happened: some machines
/// only pretend to have it, and in one emulator the CPUs that wait wake each other.
const MOST_FALSE_ALARMS: u32 = 16;

/// How this CPU sleeps.
#[inline]
pub fn way() -> Way {
    let way = *WAY.call_once(|| choose(cpu::cpuid(1, 0), cpu::cpuid(5, 0).ecx));
    match way {
        Way::Mwait if percpu::current().false_alarms.load(Ordering::Relaxed) >= MOST_FALSE_ALARMS => {
            Way::Halt
        }
        Way::Mwait | Way::Halt => way,
    }
}

/// SDM Vol. 2A, "CPUID": leaf 1 reports MONITOR and MWAIT; leaf 5 that interrupts end MWAIT although they are masked.
const fn choose(leaf_1: cpu::Cpuid, leaf_5_ecx: u32) -> Way {
    const MONITOR: u32 = 1 << 3;
    const EXTENSIONS_AND_INTERRUPT_BREAK: u32 = 0b11;
    if leaf_1.ecx & MONITOR == 0
        || leaf_5_ecx & EXTENSIONS_AND_INTERRUPT_BREAK != EXTENSIONS_AND_INTERRUPT_BREAK
        || has_monitor_erratum(leaf_1.eax)
    {
        return Way::Halt;
    }
    Way::Mwait
}

/// Processors whose MONITOR is not to be relied on, by CPUID.01H:EAX. Intel specification updates: Xeon 7400 (AAI65),
/// Atom of the Goldmont kind (APL30), Core Ultra 200V (LNL030).
const fn has_monitor_erratum(signature: u32) -> bool {
    let family = signature >> 8 & 0xf;
    let model = (signature >> 4 & 0xf) | (signature >> 12 & 0xf0);
    family == 6 && matches!(model, 0x1d | 0x5c | 0xbd)
}

/// Sleeps until the TSC reaches `deadline`, an interrupt comes, or one came since the last
/// [`PerCpu::take_pending`](percpu::PerCpu::take_pending): none is lost between the caller's last look and the
/// sleep. May return early. Interrupts are off before and after.
///
/// Why no wake-up is lost: whoever has work for this CPU writes it down first and then interrupts it
/// ([`smp::kick`](crate::smp::kick)). The caller takes the pending flag, then looks for work, then calls this. An
/// interrupt from before the caller took the flag brought work that the caller's look saw. From then on, interrupts are
/// masked, so one that comes stays requested in the local APIC until it is let in; either it was let in by
/// [`interrupts::open_window`] (or taken at a VM exit), then the flag is set and this does not sleep; or it is still
/// requested, and then neither MWAIT (with interrupts as break events) nor HLT (behind STI, which opens only when HLT has
/// begun) waits at all. The timer is such an interrupt as well: a deadline that has passed requests it at once.
pub fn idle_until(deadline: Tsc) {
    let cpu = percpu::current();
    if cpu.is_pending() || cpu::rdtsc() >= deadline {
        interrupts::open_window();
        return;
    }
    if deadline != Tsc::NEVER {
        apic::arm_wake(deadline);
    }
    match way() {
        Way::Mwait => {
            let waited = mwait(cpu);
            interrupts::open_window();
            // Every interrupt sets the flag.
            let alarms = match (waited, cpu.is_pending()) {
                (false, _) => MOST_FALSE_ALARMS,
                (true, true) => 0,
                (true, false) => cpu.false_alarms.load(Ordering::Relaxed).saturating_add(1),
            };
            cpu.false_alarms.store(alarms, Ordering::Relaxed);
        }
        Way::Halt => {
            // SAFETY: the handlers are in place and the code here holds no lock. STI takes effect after HLT has begun, so
            // an interrupt that is already waiting ends the HLT at once. SDM Vol. 2B, "STI".
            unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
        }
    }
    if deadline != Tsc::NEVER {
        apic::arm_wake(Tsc::NEVER);
    }
}

/// Sleeps in C1 until an interrupt is requested or this CPU's pending flag is written; `false` when the CPU refuses, as
/// emulators do that report more than they have. SDM Vol. 2B, "MONITOR", "MWAIT".
#[inline]
fn mwait(cpu: &PerCpu) -> bool {
    let mut refused: u32 = 1;
    // SAFETY: watches a line of this CPU's own data and waits; EAX asks for C1, bit 0 of ECX that masked interrupts end
    // it. On a #GP the exception handler finds the entry in `.fixups` and resumes after the instruction that clears
    // `refused`.
    unsafe {
        asm!(
            "monitor",
            "xor eax, eax",
            "mov ecx, 1",
            "2: mwait",
            "mov {refused:e}, 0",
            "3:",
            ".pushsection .fixups, \"a\"",
            ".balign 8",
            ".quad 2b, 3b",
            ".popsection",
            refused = inout(reg) refused,
            inout("rax") cpu.watched() => _,
            inout("ecx") 0 => _,
            in("edx") 0,
            options(nostack),
        );
    }
    refused == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf_1(eax: u32, ecx: u32) -> cpu::Cpuid {
        cpu::Cpuid { eax, ecx, ..cpu::Cpuid::default() }
    }

    #[test]
    fn mwait_is_used_where_masked_interrupts_end_it() {
        assert_eq!(choose(leaf_1(0x0005_0654, 1 << 3), 0b11), Way::Mwait);
        assert_eq!(choose(leaf_1(0x0005_0654, 1 << 3), 0b01), Way::Halt);
        assert_eq!(choose(leaf_1(0x0005_0654, 0), 0b11), Way::Halt);
    }

    #[test]
    fn processors_with_a_broken_monitor_halt() {
        // Goldmont: family 6, model 5CH.
        assert_eq!(choose(leaf_1(0x0005_06c9, 1 << 3), 0b11), Way::Halt);
    }
}
