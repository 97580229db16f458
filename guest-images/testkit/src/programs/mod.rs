//! The programs and how they report.

mod bench;
mod cpuid;
mod exceptions;
mod hostile;
mod interrupts;
mod timer;

use crate::console::report;
use crate::machine::provoke::Provoked;
use crate::machine::trap::Trap;

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
    body: fn() -> Verdict,
}

impl Program {
    const fn new(name: &'static str, body: fn() -> Verdict) -> Self {
        Self { name, ending: Ending::Itself, body }
    }

    const fn unending(name: &'static str, body: fn() -> Verdict) -> Self {
        Self { name, ending: Ending::FromOutside, body }
    }

    /// Runs it and prints the verdict.
    pub(crate) fn run(&self) {
        if self.ending == Ending::FromOutside {
            report!("testkit: {}: go", self.name);
            crate::console::flush();
        }
        match (self.body)() {
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
    Program::new("bench", bench::bench),
    Program::unending("triple-fault", hostile::triple_fault),
    Program::unending("unmapped-jump", hostile::unmapped_jump),
    Program::unending("hlt-if0", hostile::hlt_if0),
    Program::unending("spin", hostile::spin),
    Program::unending("port-flood", hostile::port_flood),
    Program::unending("mmio-flood", hostile::mmio_flood),
    Program::unending("chatter", hostile::chatter),
    Program::unending("ipi-storm", hostile::ipi_storm),
    Program::unending("reset-loop", hostile::reset_loop),
];

/// What a check saw and what it wanted.
pub(crate) struct Failure {
    /// The check.
    what: &'static str,
    /// What came out.
    got: u64,
    /// What should have.
    want: u64,
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
