//! Breakpoints on the addresses of device memory, and on ports of string instructions.
//!
//! Source: SDM Vol. 3B, "Data Breakpoint and I/O Breakpoint Exception Conditions".

use super::{Check, Checked, Group, check, fault_free};
use crate::apic;
use crate::console::SCRATCH;
use crate::machine::control::{self, cr4};
use crate::machine::cpu::Mmio;
use crate::machine::pages::{self, Place};
use crate::machine::snippet::{Registers, Snippet, run};
use crate::machine::snippets as s;
use crate::machine::trap::Trap;
use crate::programs::{exception, expect, expect_fault};

pub(super) const GROUP: Group = Group::new(CHECKS).resting(rest);

const CHECKS: &[Check] = &[
    check("mmio-watch.access-breakpoint-on-load", || traps(ACCESSES, 0, s::LOAD_EAX, s::LOAD_EAX.length())),
    check("mmio-watch.access-breakpoint-on-store", || {
        traps(ACCESSES, 0, s::STORE_EAX, s::STORE_EAX.length())
    }),
    check("mmio-watch.write-breakpoint-ignores-load", || passes(WRITES, 0, s::LOAD_EAX)),
    check("mmio-watch.write-breakpoint-on-exchange", || {
        traps(WRITES, 0, s::STORE_XCHG, s::STORE_XCHG.length())
    }),
    check("mmio-watch.breakpoint-behind-the-access", || passes(ACCESSES, 4, s::LOAD_EAX)),
    check("mmio-watch.breakpoint-on-the-last-byte", || {
        traps(ACCESSES & ONE_BYTE, 7, s::LOAD_RAX, s::LOAD_RAX.length())
    }),
    check("mmio-watch.breakpoint-on-what-is-pushed", || traps(ACCESSES, 0, s::PUSH_LOAD, 2)),
    check("mmio-watch.store-is-done-again-and-again", || {
        // An instruction that was seen before takes another way through a hypervisor.
        for _ in 0..4 {
            fault_free(run(s::STORE_EAX, &mut registers()))?;
        }
        traps(WRITES, 0, s::STORE_EAX, s::STORE_EAX.length())
    }),
    check("mmio-watch.single-step-at-the-same-time", || {
        let (result, status) = watched(nothing(), WRITES, s::STEP_MMIO_STORE, &mut registers());
        expect_fault("both", result, exception::DB)?;
        Ok(expect("DR6", status & 0x400f, 0x4001u64)?)
    }),
    check("mmio-watch.repeated-store-stops-behind-the-element", || repeated(8, 0, 2)),
    check("mmio-watch.repeated-store-ends-with-the-last-element", || repeated(16, s::REP_STOSD.length(), 0)),
    check("mmio-watch.repeated-ins-stops-behind-the-element", || string(s::REP_INSB)),
    check("mmio-watch.repeated-outs-stops-behind-the-element", || string(s::REP_OUTSB)),
];

/// Breakpoint 0, four bytes long.
const WRITES: u64 = 0b1101 << 16;
const ACCESSES: u64 = 0b1111 << 16;
/// What leaves of them one byte.
const ONE_BYTE: u64 = !(0b1100 << 16);
const ON_PORT: u64 = 0b0010 << 16;
/// DR7 with breakpoint 0 enabled, and with none.
const ENABLED: u64 = OFF | 1;
const OFF: u64 = 1 << 10;

fn rest() {
    pages::reset();
    apic::stop_timer();
}

fn nothing() -> u64 {
    Mmio::Nothing.base() as u64
}

fn registers() -> Registers {
    Registers { rdi: nothing(), ..Registers::ZERO }
}

/// Runs with breakpoint 0 of `kind` at `address`; also DR6 behind it.
fn watched(address: u64, kind: u64, snippet: Snippet, registers: &mut Registers) -> (Result<(), Trap>, u64) {
    control::write_dr6(0xffff_0ff0);
    control::set_breakpoint(0, address);
    control::watch(ENABLED | kind);
    let result = run(snippet, registers);
    let status = control::read_dr6();
    control::watch(OFF);
    (result, status)
}

/// A breakpoint so many bytes behind RDI ends the snippet with RIP so many behind its first byte.
fn traps(kind: u64, at: u64, snippet: Snippet, rip: u64) -> Checked {
    let (result, status) = watched(nothing() + at, kind, snippet, &mut registers());
    let trap = expect_fault("breakpoint", result, exception::DB)?;
    expect("RIP", trap.rip_offset.cast_unsigned(), rip)?;
    Ok(expect("DR6", status & 0x400f, 1u64)?)
}

fn passes(kind: u64, at: u64, snippet: Snippet) -> Checked {
    fault_free(watched(nothing() + at, kind, snippet, &mut registers()).0)
}

/// Five double words are stored, with a breakpoint on one.
fn repeated(at: u64, rip: u64, left: u64) -> Checked {
    let mut registers = Registers { rcx: 5, ..registers() };
    let (result, status) = watched(nothing() + at, WRITES, s::REP_STOSD, &mut registers);
    let trap = expect_fault("breakpoint", result, exception::DB)?;
    expect("RIP", trap.rip_offset.cast_unsigned(), rip)?;
    expect("RCX", registers.rcx, left)?;
    Ok(expect("DR6", status & 0x400f, 1u64)?)
}

/// Three bytes to or from a port with a breakpoint.
fn string(snippet: Snippet) -> Checked {
    fault_free(control::change_cr4(cr4::DE, 0))?;
    let memory = Place::page(1).address();
    let mut registers =
        Registers { rdx: u64::from(SCRATCH), rcx: 3, rsi: memory, rdi: memory, ..Registers::ZERO };
    let (result, status) = watched(u64::from(SCRATCH), ON_PORT, snippet, &mut registers);
    let trap = expect_fault("breakpoint", result, exception::DB)?;
    expect("RIP", trap.rip_offset.cast_unsigned(), 0u64)?;
    expect("RCX", registers.rcx, 2u64)?;
    Ok(expect("DR6", status & 0x400f, 1u64)?)
}
