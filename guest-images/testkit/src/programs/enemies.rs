//! Guests that try to take the machine from others. None ends by itself, and none does anything that must end it.

use super::Verdict;
use super::random::Random;
use crate::apic::{self, IPI_VECTOR, TimerMode};
use crate::ipi::{self, Destination, Kind, SelfInterrupt, send_to_self};
use crate::machine::cpu::{
    self, Switch, cpuid, disable_interrupts, enable_interrupts, pause, rdtsc, set_osxsave, wait_for_interrupt,
};
use crate::machine::hostile::{self, Access};
use crate::machine::provoke::Provoked;
use crate::machine::startup::PAGES;
use crate::machine::{endless, percpu, trap};
use crate::smp;

/// For what may fault or not.
fn whatever(_: Provoked) {}

/// #AC whose delivery raises #AC.
pub(super) fn ac_loop() -> Verdict {
    endless::alignment_checks()
}

/// #DB whose delivery raises #DB.
pub(super) fn db_loop() -> Verdict {
    endless::debug_exceptions()
}

/// Everybody sends everybody everything, in turns.
pub(super) fn ipi_flood() -> Verdict {
    smp::start_others()?;
    for cpu in smp::others() {
        smp::give(cpu, flood);
    }
    flood()
}

fn flood() -> Verdict {
    let count = u64::try_from(smp::count()).unwrap_or(1);
    let mut random = Random::new(percpu::this().index() as u64);
    enable_interrupts();
    loop {
        let victim = percpu::of(usize::try_from(random.below(count)).unwrap_or(0));
        let mask = u32::try_from(random.below(256)).unwrap_or(0);
        let destination = match random.below(6) {
            0 => Destination::Broadcast,
            1 => Destination::Logical(mask),
            2 => Destination::Myself,
            3 => Destination::All,
            4 => Destination::Others,
            _ => smp::only(victim),
        };
        let kind = match (random.below(8), destination) {
            // By shorthand, self gets nothing but vectors.
            (0, Destination::Physical(_) | Destination::Broadcast | Destination::Others) => Kind::Nmi,
            (1, Destination::Logical(_)) => Kind::LowestPriority(IPI_VECTOR),
            (2, Destination::Physical(_) | Destination::Others) => Kind::Startup(PAGES[0]),
            (3, Destination::All) => Kind::InitDeassert,
            _ => Kind::Fixed(IPI_VECTOR + u8::try_from(random.below(32)).unwrap_or(0)),
        };
        ipi::send(destination, kind);
    }
}

/// Resets and starts the others over and over, whatever they are at.
pub(super) fn init_storm() -> Verdict {
    let mut random = Random::new(0);
    let count = smp::count() as u64;
    loop {
        let victim = percpu::of(usize::try_from(random.below(count)).unwrap_or(0));
        if victim.index() == 0 {
            ipi::send(Destination::Others, Kind::Init);
            ipi::send(Destination::Others, Kind::Startup(PAGES[1]));
        } else {
            ipi::send(smp::only(victim), Kind::Init);
            ipi::send(smp::only(victim), Kind::Startup(PAGES[0]));
            // Not an NMI: on the way through the startup code nobody can take one.
            ipi::send(smp::only(victim), Kind::Fixed(IPI_VECTOR));
        }
        for _ in 0..random.below(2000) {
            pause();
        }
    }
}

/// A timer that is always due.
pub(super) fn timer_storm() -> Verdict {
    enable_interrupts();
    loop {
        apic::set_timer(TimerMode::Periodic);
        for count in 1..200 {
            apic::arm_count(count);
            pause();
        }
        if apic::has_deadline() {
            apic::set_timer(TimerMode::Deadline);
            for ahead in 0..200 {
                apic::arm_deadline(rdtsc() + ahead);
                apic::arm_deadline(1);
            }
        }
    }
}

/// Empties the caches.
pub(super) fn wbinvd_loop() -> Verdict {
    loop {
        hostile::write_back_caches();
    }
}

/// Waits for nothing, politely.
pub(super) fn pause_loop() -> Verdict {
    disable_interrupts();
    loop {
        pause();
    }
}

/// Falls asleep just when something wakes it.
pub(super) fn hlt_wake_race() -> Verdict {
    smp::start_others()?;
    for cpu in smp::others() {
        smp::give(cpu, doze);
    }
    doze()
}

fn doze() -> Verdict {
    let next = percpu::of((percpu::this().index() + 1) % smp::count());
    let mut random = Random::new(next.index() as u64);
    apic::set_timer(TimerMode::OneShot);
    loop {
        apic::arm_count(u32::try_from(1 + random.below(400)).unwrap_or(1));
        if random.below(2) == 0 {
            ipi::send(smp::only(next), Kind::Fixed(IPI_VECTOR));
        } else {
            send_to_self(SelfInterrupt::Fixed(IPI_VECTOR));
        }
        wait_for_interrupt();
    }
}

/// Every bit of the control registers.
pub(super) fn cr_flood() -> Verdict {
    loop {
        for bit in 0..64 {
            // A bit that is refused is as good.
            whatever(hostile::toggle_cr0(bit));
            whatever(hostile::toggle_cr4(bit));
            hostile::reload_control_registers(u64::from(bit));
        }
    }
}

/// All MSRs of the documented ranges, known or not.
pub(super) fn msr_flood() -> Verdict {
    /// Set by whoever is about to run code: its own CPU's parts are found by it.
    const GS_BASE: u32 = 0xc000_0101;
    loop {
        for first in [0, 0x4000_0000, 0x4b56_4d00, 0xc000_0000, 0xc001_0000] {
            for number in (first..first + 0x2000).filter(|&number| number != GS_BASE) {
                // Whether it is there is not the question.
                whatever(hostile::write_back_msr(number));
            }
        }
        for index in 0..hostile::PICKY_MSRS.len() {
            whatever(hostile::write_all_ones(index));
        }
    }
}

/// All leaves.
pub(super) fn cpuid_flood() -> Verdict {
    loop {
        for first in [0, 0x4000_0000, 0x8000_0000, 0xffff_ff00] {
            for leaf in first..=first + 0x3f {
                for subleaf in [0, 1, 2, 63, u32::MAX] {
                    cpuid(leaf, subleaf);
                }
            }
        }
    }
}

/// Touches pages all over the physical address space, in steps and at random.
pub(super) fn ept_storm() -> Verdict {
    let bits = (cpuid(0x8000_0008, 0).eax & 0xff).clamp(32, 52);
    let mut random = Random::new(1);
    loop {
        for bit in 21..bits {
            for around in 0..4 {
                // Above the end of memory there is nothing; below, the loads do no harm.
                whatever(hostile::touch_physical((1 << bit) + (around << 21)));
                whatever(hostile::touch_physical(random.below(1 << bit) & !7));
            }
        }
        let start = random.below(1 << bits) & !0x1f_ffff;
        for page in 0..512 {
            whatever(hostile::touch_physical(start + (page << 12)));
        }
    }
}

/// NMIs in NMIs, at windows, under IRETs.
pub(super) fn nmi_games() -> Verdict {
    trap::ignore_debug_exceptions();
    trap::on_nmi(nest);
    apic::set_timer(TimerMode::OneShot);
    let mut random = Random::new(2);
    loop {
        apic::arm_count(u32::try_from(1 + random.below(500)).unwrap_or(1));
        match random.below(8) {
            0 => hostile::software_nmi(),
            1 => hostile::unblock_nmis(),
            2 => hostile::unblock_nmis_stepping(),
            3 => whatever(hostile::return_nowhere()),
            4 => {
                send_to_self(SelfInterrupt::Nmi);
                wait_for_interrupt();
            }
            5 => {
                send_to_self(SelfInterrupt::Nmi);
                hostile::shadowed_cpuid();
            }
            6 => {
                send_to_self(SelfInterrupt::Fixed(IPI_VECTOR));
                send_to_self(SelfInterrupt::Nmi);
                enable_interrupts();
                disable_interrupts();
            }
            _ => {
                send_to_self(SelfInterrupt::Nmi);
                send_to_self(SelfInterrupt::Nmi);
            }
        }
    }
}

/// The NMI's handler: at times another NMI inside of it, which waits for an IRET that is not the handler's own.
fn nest() {
    let handled = trap::interrupts(apic::NMI_VECTOR);
    // Two in a row out of four, so that it ends.
    if handled % 4 < 2 {
        send_to_self(SelfInterrupt::Nmi);
        hostile::unblock_nmis();
    } else if handled % 8 == 7 {
        hostile::unblock_nmis_stepping();
    }
}

/// XSETBV with what no CPU accepts.
pub(super) fn bad_xsetbv() -> Verdict {
    let has_xsave = cpuid(1, 0).ecx & 1 << 26 != 0;
    let mut random = Random::new(3);
    loop {
        if has_xsave {
            set_osxsave(Switch::On);
            for bit in 0..64 {
                whatever(cpu::xsetbv(0, 1 << bit));
            }
            for _ in 0..16 {
                whatever(cpu::xsetbv(0, random.next()));
                whatever(cpu::xsetbv(u32::try_from(random.below(1 << 32)).unwrap_or(1) | 1, random.next()));
            }
            set_osxsave(Switch::Off);
        }
        whatever(cpu::xsetbv(0, 1));
    }
}

/// The local APIC's page in every size but the one that it is made for, across registers.
pub(super) fn lapic_odd_sizes() -> Verdict {
    touch_local_apic(&[1, 2, 4, 8])
}

/// The local APIC's page by the instructions of SSE, which a hypervisor need not know there.
pub(super) fn lapic_vectors() -> Verdict {
    hostile::enable_sse();
    touch_local_apic(&[16])
}

fn touch_local_apic(sizes: &[u16]) -> Verdict {
    /// The interrupt command register: what is stored there is sent.
    const COMMAND: core::ops::Range<u16> = 0x2f1..0x320;
    disable_interrupts();
    loop {
        for &bytes in sizes {
            for offset in (0..=0x1000 - bytes).step_by(3) {
                whatever(hostile::touch_local_apic(offset, bytes, Access::Load));
                if !COMMAND.contains(&offset) {
                    whatever(hostile::touch_local_apic(offset, bytes, Access::Store));
                }
            }
        }
        for unit in [1, 4, 8] {
            whatever(hostile::copy_local_apic(unit));
        }
    }
}
