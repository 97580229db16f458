//! The programs and how they report.

mod bench;
mod cpuid;
mod emulate_diff;
mod emulate_modes;
mod enemies;
mod exceptions;
mod heartbeat;
mod hostile;
mod interrupts;
pub(crate) mod ipi_modes;
mod neighbour;
mod random;
mod screen;
mod smp_hlt;
pub(crate) mod smp_start;
mod smp_tlb;
pub(crate) mod smp_tsc;
mod switches;
mod time;
mod timer;
pub(crate) mod topology;

use crate::console::report;
use crate::machine::provoke::Provoked;
use crate::machine::trap::Trap;
use crate::smp;

/// How a program is over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With a verdict.
    Itself,
    /// Never, or by whoever runs the machine.
    FromOutside,
}

/// A test program.
pub(crate) struct Program {
    /// What `test=` calls it.
    pub(crate) name: &'static str,
    /// How it is over.
    pub(crate) ending: Ending,
    /// Whether it needs the local APIC in xAPIC mode; others take the newest that there is.
    pub(crate) wants_xapic: bool,
    /// Whether it is about several CPUs: with one alone there is nothing to check.
    is_for_several: bool,
    body: fn() -> Verdict,
}

impl Program {
    const fn new(name: &'static str, body: fn() -> Verdict) -> Self {
        Self { name, ending: Ending::Itself, wants_xapic: false, is_for_several: false, body }
    }

    const fn unending(name: &'static str, body: fn() -> Verdict) -> Self {
        Self { name, ending: Ending::FromOutside, wants_xapic: false, is_for_several: false, body }
    }

    const fn smp(name: &'static str, body: fn() -> Verdict) -> Self {
        Self { is_for_several: true, ..Self::new(name, body) }
    }

    const fn in_xapic_mode(self) -> Self {
        Self { wants_xapic: true, ..self }
    }

    /// Runs it and prints the verdict.
    pub(crate) fn run(&self) {
        if self.ending == Ending::FromOutside {
            report!("testkit: {}: go", self.name);
            crate::console::flush();
        }
        if self.is_for_several && smp::count() == 1 {
            report!("testkit: {}: one CPU, nothing to check", self.name);
            report!("testkit: {}: ok", self.name);
            return;
        }
        let verdict = (self.body)();
        smp::stop_others();
        match verdict {
            Ok(()) => report!("testkit: {}: ok", self.name),
            Err(Failure { what, got, want }) => {
                report!("testkit: {}: FAIL {what}: got {got:#x}, want {want:#x}", self.name);
            }
        }
    }
}

/// Every program.
pub(crate) const ALL: &[Program] = &[
    Program::new("exceptions", exceptions::exceptions),
    Program::new("fault-details", exceptions::fault_details),
    Program::new("exceptions-under-timer", exceptions::exceptions_under_timer),
    Program::new("xsetbv", exceptions::xsetbv),
    Program::new("control-registers", exceptions::control_registers),
    Program::new("cpuid", cpuid::consistency),
    Program::new("timer", timer::timer),
    Program::new("pit", timer::pit),
    Program::new("nmi-self", interrupts::nmi_self),
    Program::new("self-ipi", interrupts::self_ipi),
    Program::new("task-priority", interrupts::task_priority),
    Program::new("sti-blocking", interrupts::sti_blocking),
    Program::new("unknown-msr", hostile::unknown_msr),
    Program::new("unknown-port", hostile::unknown_port),
    Program::new("unknown-mmio", hostile::unknown_mmio),
    Program::new("vmx-instructions", hostile::vmx_instructions),
    Program::smp("smp-start-xapic", smp_start::smp_start).in_xapic_mode(),
    Program::smp("smp-start", smp_start::smp_start),
    Program::smp("ipi-modes-xapic", ipi_modes::ipi_modes).in_xapic_mode(),
    Program::smp("ipi-modes", ipi_modes::ipi_modes),
    Program::smp("startup-details", smp_start::first_startup_counts),
    Program::smp("ipi-details", ipi_modes::details).in_xapic_mode(),
    Program::smp("smp-tsc", smp_tsc::smp_tsc),
    Program::smp("smp-tlb", smp_tlb::smp_tlb),
    Program::smp("smp-hlt", smp_hlt::smp_hlt),
    Program::smp("cpuid-topology", topology::topology),
    Program::new("bench-xapic", bench::xapic).in_xapic_mode(),
    Program::new("bench", bench::bench),
    Program::new("ticks", bench::ticks),
    Program::new("periodic-ticks", bench::periodic_ticks),
    Program::smp("ipis", bench::ipis),
    Program::smp("switches", switches::switches),
    Program::new("neighbour", neighbour::neighbour),
    // Behind the others: it leaves segments, control registers and page tables changed.
    Program::new("emulate-diff", emulate_diff::emulate_diff),
    Program::new("emulate-modes", emulate_modes::emulate_modes),
    Program::unending("screen", screen::screen),
    Program::unending("heartbeat", heartbeat::heartbeat),
    Program::unending("triple-fault", hostile::triple_fault),
    Program::unending("debug-exit", hostile::debug_exit),
    Program::unending("unmapped-jump", hostile::unmapped_jump),
    Program::unending("hlt-if0", hostile::hlt_if0),
    Program::unending("spin", hostile::spin),
    Program::unending("port-flood", hostile::port_flood),
    Program::unending("mmio-flood", hostile::mmio_flood),
    Program::unending("chatter", hostile::chatter),
    Program::unending("ipi-storm", hostile::ipi_storm),
    Program::unending("reset-loop", hostile::reset_loop),
    Program::unending("ac-loop", enemies::ac_loop),
    Program::unending("db-loop", enemies::db_loop),
    Program::unending("ipi-flood", enemies::ipi_flood),
    Program::unending("init-storm", enemies::init_storm),
    Program::unending("timer-storm", enemies::timer_storm),
    Program::unending("wbinvd-loop", enemies::wbinvd_loop),
    Program::unending("pause-loop", enemies::pause_loop),
    Program::unending("hlt-wake-race", enemies::hlt_wake_race),
    Program::unending("cr-flood", enemies::cr_flood),
    Program::unending("msr-flood", enemies::msr_flood),
    Program::unending("cpuid-flood", enemies::cpuid_flood),
    Program::unending("ept-storm", enemies::ept_storm),
    Program::unending("nmi-games", enemies::nmi_games),
    Program::unending("bad-xsetbv", enemies::bad_xsetbv),
    Program::unending("lapic-odd-sizes", enemies::lapic_odd_sizes).in_xapic_mode(),
    Program::unending("lapic-vectors", enemies::lapic_vectors).in_xapic_mode(),
];

/// The program called `name`.
pub(crate) fn named(name: &str) -> Option<&'static Program> {
    ALL.iter().find(|program| program.name == name)
}

/// What a check saw and what it wanted.
#[derive(Clone, Copy)]
pub(crate) struct Failure {
    /// The check.
    pub(crate) what: &'static str,
    /// What came out.
    pub(crate) got: u64,
    /// What should have.
    pub(crate) want: u64,
}

/// A program's result.
pub(crate) type Verdict = Result<(), Failure>;

/// Fails unless both are equal.
pub(crate) fn expect(what: &'static str, got: impl Into<u64>, want: impl Into<u64>) -> Verdict {
    let (got, want) = (got.into(), want.into());
    if got == want { Ok(()) } else { Err(Failure { what, got, want }) }
}

/// Fails unless `got` is between `low` and `high`, both included.
pub(crate) fn expect_within(what: &'static str, got: u64, low: u64, high: u64) -> Verdict {
    if got < low {
        Err(Failure { what, got, want: low })
    } else if got > high {
        Err(Failure { what, got, want: high })
    } else {
        Ok(())
    }
}

/// Fails unless the exception `vector` was raised, as a fault (RIP still at the instruction).
pub(crate) fn expect_fault(what: &'static str, provoked: Provoked, vector: u64) -> Result<Trap, Failure> {
    match provoked {
        Ok(()) => Err(Failure { what, got: u64::MAX, want: vector }),
        Err(trap) => {
            expect(what, trap.vector, vector)?;
            Ok(trap)
        }
    }
}

/// Exception numbers. SDM Vol. 3A, "Exception and Interrupt Vectors".
pub(crate) mod exception {
    /// Divide error.
    pub(crate) const DE: u64 = 0;
    /// Debug.
    pub(crate) const DB: u64 = 1;
    /// Breakpoint.
    pub(crate) const BP: u64 = 3;
    /// Invalid opcode.
    pub(crate) const UD: u64 = 6;
    /// Device not available.
    pub(crate) const NM: u64 = 7;
    /// Segment not present.
    pub(crate) const NP: u64 = 11;
    /// Stack-segment fault.
    pub(crate) const SS: u64 = 12;
    /// General protection.
    pub(crate) const GP: u64 = 13;
    /// Page fault.
    pub(crate) const PF: u64 = 14;
}
