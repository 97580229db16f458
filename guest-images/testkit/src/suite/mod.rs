//! The suite: checks of every rule that a PC's devices and processor keep, each with a name and a verdict of its own.
//!
//! `test=suite` runs all, `only=PREFIX,PREFIX` those whose names begin so, `after=NAME` those behind it. Each prints one line:
//!
//! ```text
//! check NAME: pass
//! check NAME: value V                    no right answer is prescribed, but the same one everywhere
//! check NAME: skip WHY                   this machine has no such part
//! check NAME: fail WHAT got G want W
//! ```
//!
//! An exception or a panic ends the check, not the suite; the machine is brought to rest behind each. `suite: begin` and
//! `suite: done` stand around all.

mod clock;
mod rest;

mod apic_mode;
mod controls;
mod firmware;
mod hpet;
mod ioapic;
mod lapic;
mod lapic_timer;
mod mmio;
mod mmio_branches;
mod mmio_pages;
mod mmio_watch;
mod msrs;
mod pci;
mod pci_function;
mod pic;
mod pit;
mod platform;
mod port_strings;
mod protection;
mod rtc;
mod several;
mod steps;
mod xsaves;

use crate::apic::{self, Mode};
use crate::console::{flush, report};
use crate::loader::CommandLine;
use crate::machine::cpu::{disable_interrupts, enable_interrupts};
use crate::machine::guard::{self, Left};
use crate::machine::provoke::Provoked;
use crate::machine::trap::Trap;
use crate::programs::{Failure, exception, expect, expect_fault};
use crate::smp;

/// Why a check ended without passing.
#[derive(Clone, Copy)]
pub(crate) enum Stop {
    /// What was seen is not what should have been.
    Failed(Failure),
    /// This machine lacks what it is about.
    Skipped(&'static str),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What a check comes to; a value where it has one to tell.
type Checked<T = ()> = Result<T, Stop>;

/// What a check does.
enum Body {
    /// Passes or fails.
    Verdict(fn() -> Checked),
    /// Tells what it saw.
    Value(fn() -> Checked<u64>),
}

/// One check.
struct Check {
    /// `subject.behaviour`.
    name: &'static str,
    body: Body,
}

/// A check that passes or fails.
const fn check(name: &'static str, body: fn() -> Checked) -> Check {
    Check { name, body: Body::Verdict(body) }
}

/// A check that tells what it saw.
const fn value(name: &'static str, body: fn() -> Checked<u64>) -> Check {
    Check { name, body: Body::Value(body) }
}

/// When a group runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// With the local APIC in xAPIC mode.
    First,
    /// With the local APIC in x2APIC mode.
    X2Apic,
    /// Behind all others: the local APIC does not come back from it on every machine.
    Last,
}

/// Checks of one subject.
struct Group {
    phase: Phase,
    /// Whether the machine has what the group is about.
    needs: fn() -> Checked,
    /// Brings the subject's device to rest, before and behind each check.
    rest: fn(),
    checks: &'static [Check],
}

impl Group {
    const fn new(checks: &'static [Check]) -> Self {
        Self { phase: Phase::First, needs: || Ok(()), rest: || {}, checks }
    }

    const fn needing(self, needs: fn() -> Checked) -> Self {
        Self { needs, ..self }
    }

    const fn resting(self, rest: fn()) -> Self {
        Self { rest, ..self }
    }

    const fn in_phase(self, phase: Phase) -> Self {
        Self { phase, ..self }
    }
}

/// Every group, in the order they run within their phases.
const GROUPS: &[&Group] = &[
    &pic::GROUP,
    &pit::GROUP,
    &rtc::GROUP,
    &ioapic::GROUP,
    &hpet::GROUP,
    &firmware::GROUP,
    &platform::GROUP,
    &pci::GROUP,
    &pci_function::GROUP,
    &port_strings::GROUP,
    &lapic::GROUP_XAPIC,
    &lapic_timer::GROUP_XAPIC,
    &apic_mode::GROUP_XAPIC,
    &msrs::GROUP,
    &controls::GROUP,
    &xsaves::GROUP,
    &protection::GROUP,
    &mmio::GROUP,
    &mmio_pages::GROUP,
    &mmio_branches::GROUP,
    &mmio_watch::GROUP,
    &steps::GROUP,
    &several::GROUP_XAPIC,
    &several::GROUP_X2APIC,
    &lapic::GROUP_X2APIC,
    &lapic_timer::GROUP_X2APIC,
    &apic_mode::GROUP_X2APIC,
    &apic_mode::GROUP_LAST,
];

/// Expects a general-protection fault with no error code.
fn gp(provoked: Provoked) -> Checked {
    fault(provoked, exception::GP, 0)
}

/// Expects an exception as a fault: RIP at the instruction.
fn fault(provoked: Provoked, vector: u64, error: u64) -> Checked {
    let trap = expect_fault("exception", provoked, vector)?;
    expect("error code", trap.error, error)?;
    Ok(expect("RIP", trap.rip_offset.cast_unsigned(), 0u64)?)
}

/// Expects no exception.
fn fault_free(provoked: Provoked) -> Checked {
    match provoked {
        Ok(()) => Ok(()),
        Err(trap) => Ok(expect("no exception, but", trap.vector, u64::MAX)?),
    }
}

/// Lets interrupts in for an instruction.
fn interrupt_flag() {
    enable_interrupts();
    disable_interrupts();
}

/// Runs the checks that the command line asks for.
pub(crate) fn run(line: &CommandLine, rsdp: Option<u64>, newest: Mode) {
    let mut wanted = Wanted {
        only: line.value_of("only").unwrap_or(""),
        after: line.value_of("after").filter(|name| !name.is_empty()),
    };
    firmware::remember(rsdp);
    clock::calibrate();
    rest::remember();
    report!("suite: begin");
    phase(Phase::First, &mut wanted);
    if newest == Mode::X2Apic && apic::has_x2apic() {
        apic::choose_mode(newest);
        apic::start();
        phase(Phase::X2Apic, &mut wanted);
        phase(Phase::Last, &mut wanted);
    }
    report!("suite: done");
    flush();
}

/// Which checks the command line asks for.
struct Wanted<'a> {
    only: &'a str,
    /// Not before this one was passed by.
    after: Option<&'a str>,
}

impl Wanted<'_> {
    /// Asked of each check in its turn.
    fn has(&mut self, name: &str) -> bool {
        if let Some(after) = self.after {
            if after == name {
                self.after = None;
            }
            return false;
        }
        self.only.split(',').any(|prefix| name.starts_with(prefix))
    }
}

fn phase(phase: Phase, wanted: &mut Wanted<'_>) {
    for group in GROUPS.iter().filter(|group| group.phase == phase) {
        let mut there = None;
        for check in group.checks.iter().filter(|check| wanted.has(check.name)) {
            let there = *there.get_or_insert_with(|| (group.needs)());
            run_one(group, check, there);
        }
    }
}

/// Runs one check between two rests, and prints its line.
fn run_one(group: &Group, check: &Check, there: Checked) {
    use core::fmt::Write as _;
    // The name is there before anything can happen to it.
    let _ = write!(crate::console::Console, "check {}: ", check.name);
    flush();
    let mut outcome = None;
    let left = guard::run(&mut || {
        // Behind the switches of mode nothing may touch the local APIC.
        if group.phase != Phase::Last {
            rest::all();
        }
        (group.rest)();
        outcome = Some(there.and_then(|()| match check.body {
            Body::Verdict(body) => body().map(|()| None),
            Body::Value(body) => body().map(Some),
        }));
    });
    let settled = guard::run(&mut || {
        (group.rest)();
        if group.phase != Phase::Last {
            rest::all();
            smp::stop_others();
        }
    });
    match (left, outcome) {
        (Ok(()), Some(Ok(None))) => report!("pass"),
        (Ok(()), Some(Ok(Some(value)))) => report!("value {value:#x}"),
        (Ok(()), Some(Err(Stop::Skipped(why)))) => report!("skip {why}"),
        (Ok(()), Some(Err(Stop::Failed(Failure { what, got, want })))) => {
            report!("fail {what} got {got:#x} want {want:#x}");
        }
        (Ok(()), None) => report!("fail nothing came of it"),
        (Err(Left::Trapped(Trap { vector, error, cr2, .. }, rip)), _) => {
            report!("fail exception {vector} error {error:#x} rip {rip:#x} cr2 {cr2:#x}");
        }
        (Err(Left::Panicked), _) => {}
    }
    if settled.is_err() {
        report!("suite: {} left the machine without rest", check.name);
    }
}
