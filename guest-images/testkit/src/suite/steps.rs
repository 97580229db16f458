//! Single steps, over what the processor does by itself and over what a hypervisor does in its place; the debug registers;
//! and what blocks a debug exception.
//!
//! Source: SDM Vol. 3B, "Debug Exceptions", "Single-Step Exception Condition"; Vol. 3A, "Masking Exceptions and Interrupts
//! When Switching Stacks".

use super::{Check, Checked, Group, check, fault, fault_free, gp, value};
use crate::console::SCRATCH;
use crate::machine::control::{self, cr4};
use crate::machine::cpu::Mmio;
use crate::machine::pages::{self, Place};
use crate::machine::snippet::{Registers, Snippet, run};
use crate::machine::snippets as s;
use crate::programs::{exception, expect, expect_fault};

pub(super) const GROUP: Group = Group::new(CHECKS).resting(pages::reset);

const CHECKS: &[Check] = &[
    check("step.nop", || steps(s::STEP_NOP, 1)),
    check("step.mmio-load", || steps(s::STEP_MMIO_LOAD, 1)),
    check("step.mmio-store", || steps(s::STEP_MMIO_STORE, 1)),
    check("step.mmio-xchg", || steps(s::STEP_XCHG_MMIO, 1)),
    check("step.cpuid", || steps(s::STEP_CPUID, 1)),
    check("step.rdmsr", || steps(s::STEP_RDMSR, 1)),
    check("step.in", || steps(s::STEP_IN, 1)),
    check("step.out", || steps(s::STEP_OUT, 1)),
    check("step.mov-cr4", || steps(s::STEP_MOV_CR4, 1)),
    check("step.mov-cr8", || steps(s::STEP_MOV_CR8, 1)),
    check("step.wbinvd", || steps(s::STEP_WBINVD, 1)),
    check("step.invlpg", || steps(s::STEP_INVLPG, 1)),
    check("step.rdtsc", || steps(s::STEP_RDTSC, 1)),
    check("step.pause", || steps(s::STEP_PAUSE, 1)),
    check("step.sti", || steps(s::STEP_STI, 1)),
    check("step.rep-ins-each-time", rep_ins),
    check("step.rep-movs-mmio-each-time", rep_movs),
    check("step.mov-ss-delays", || steps(s::STEP_MOV_SS, 1)),
    check("step.mov-ss-then-cpuid", || steps(s::STEP_MOV_SS_CPUID, 1)),
    check("step.mov-ss-then-mmio", || steps(s::STEP_MOV_SS_MMIO, 1)),
    check("step.popf-clearing-traps-once", popf),
    check("step.fault-comes-first", || {
        let trap = expect_fault("UD2", run(s::STEP_UD, &mut registers()), exception::UD)?;
        Ok(expect("RIP", trap.rip_offset.cast_unsigned(), s::STEP_UD.length() - 2)?)
    }),
    check("step.int3-comes-first", || {
        Ok(expect_fault("INT3", run(s::STEP_INT3, &mut registers()), exception::BP).map(drop)?)
    }),
    check("step.handler-flags-are-clear", handler_flags),
    check("step.dr6-single-step", dr6_step),
    check("debug.dr6-fixed-bits", || {
        Ok(expect("DR6", control::try_dr6(0, u64::MAX).unwrap_or(0), 0xffff_0ff0u64)?)
    }),
    check("debug.dr6-upper-half-gp", || gp(control::try_dr6(1 << 32, 0).map(drop))),
    check("debug.dr7-fixed-bits", || {
        Ok(expect("DR7", control::try_dr7(0, u64::MAX).unwrap_or(0), 0x400u64)?)
    }),
    check("debug.dr7-upper-half-gp", || gp(control::try_dr7(1 << 32, 0).map(drop))),
    check("debug.addresses-read-back", addresses),
    check("debug.dr4-is-dr6", dr4),
    check("debug.dr4-with-de-ud", dr4_with_de),
    check("debug.execution-breakpoint-is-fault", execution),
    check("debug.execution-breakpoint-resume-flag", resume_flag),
    check("debug.write-breakpoint-is-trap", || data(0b01, s::PUT_AL, 1)),
    check("debug.write-breakpoint-ignores-load", || data(0b01, s::TOUCH, 0)),
    check("debug.access-breakpoint-on-load", || data(0b11, s::TOUCH, 1)),
    check("debug.access-breakpoint-on-store", || data(0b11, s::PUT_AL, 1)),
    check("debug.breakpoint-elsewhere", elsewhere),
    check("debug.io-breakpoint-on-in", || io(s::IN_AL)),
    check("debug.io-breakpoint-on-out", || io(s::OUT_AL)),
    check("debug.io-breakpoint-on-ins", || io(s::INSB)),
    check("debug.io-breakpoint-on-outs", || io(s::OUTSB)),
    check("debug.general-detect", general_detect),
    check("debug.mov-ss-delays-data-breakpoint", || data(0b11, s::MOV_SS_LOADED, 1)),
    check("debug.int1-is-trap", || {
        let trap = expect_fault("INT1", run(s::INT1, &mut registers()), exception::DB)?;
        Ok(expect("RIP", trap.rip_offset.cast_unsigned(), 1u64)?)
    }),
    check("debug.int1-leaves-dr6", || {
        control::write_dr6(0xffff_0ff0);
        run(s::INT1, &mut registers()).ok();
        Ok(expect("DR6", control::read_dr6(), 0xffff_0ff0u64)?)
    }),
    check("debug.int3-is-trap", || {
        let trap = expect_fault("INT3", run(s::INT3, &mut registers()), exception::BP)?;
        Ok(expect("RIP", trap.rip_offset.cast_unsigned(), 1u64)?)
    }),
    value("debug.dr6-behind-icebp-step", || {
        run(s::STEP_NOP, &mut registers()).ok();
        Ok(control::read_dr6())
    }),
];

const MEMORY: Place = Place::page(1);

fn registers() -> Registers {
    Registers {
        rax: 0x55,
        rdx: u64::from(SCRATCH),
        rdi: Mmio::Nothing.base() as u64,
        rsi: MEMORY.address(),
        rcx: 3,
        ..Registers::ZERO
    }
}

/// The trap comes with RIP so many bytes before the end.
fn steps(snippet: Snippet, before_end: u64) -> Checked {
    let trap = expect_fault("step", run(snippet, &mut registers()), exception::DB)?;
    expect("error code", trap.error, 0u64)?;
    expect("RIP", trap.rip_offset.cast_unsigned(), snippet.length() - before_end)?;
    Ok(expect("DR6.BS", control::read_dr6() >> 14 & 1, 1u64)?)
}

/// The trap comes after the first unit, RIP still at the instruction of `length` bytes.
fn first_unit(snippet: Snippet, registers: &mut Registers, length: u64) -> Checked {
    let trap = expect_fault("step", run(snippet, registers), exception::DB)?;
    expect("RIP at the instruction", trap.rip_offset.cast_unsigned(), snippet.length() - 1 - length)?;
    Ok(expect("RCX", registers.rcx, 2u64)?)
}

fn rep_ins() -> Checked {
    first_unit(s::STEP_REP_INSB, &mut Registers { rdi: MEMORY.address(), ..registers() }, 2)
}

fn rep_movs() -> Checked {
    let registers = &mut Registers { rsi: Mmio::Nothing.base() as u64, rdi: MEMORY.address(), ..registers() };
    first_unit(s::STEP_REP_MOVSD, registers, 2)?;
    Ok(expect("memory", pages::peek(1, 0), 0xffff_ffffu64)?)
}

/// POPF that clears the flag is itself still stepped over.
fn popf() -> Checked {
    let trap = expect_fault("step", run(s::STEP_POPF, &mut registers()), exception::DB)?;
    Ok(expect("RIP", trap.rip_offset.cast_unsigned(), s::STEP_POPF.length() - 1)?)
}

/// The handler runs without the flag, and its return brings back what it leaves: this one clears it.
fn handler_flags() -> Checked {
    let mut registers = registers();
    run(s::STEP_NOP, &mut registers).ok();
    Ok(expect("TF", registers.flags >> 8 & 1, 0u64)?)
}

fn dr6_step() -> Checked {
    control::write_dr6(0xffff_0ff0);
    run(s::STEP_NOP, &mut registers()).ok();
    Ok(expect("DR6", control::read_dr6(), 0xffff_4ff0u64)?)
}

fn addresses() -> Checked {
    for number in 0..4 {
        let address = 0xffff_8000_1234_5670 + u64::from(number);
        control::set_breakpoint(number, address);
        expect("address", control::breakpoint(number), address)?;
    }
    Ok(())
}

fn dr4() -> Checked {
    let mut registers = registers();
    fault_free(run(s::READ_DR4, &mut registers))?;
    Ok(expect("DR4", registers.rax, control::read_dr6())?)
}

fn dr4_with_de() -> Checked {
    fault_free(control::change_cr4(cr4::DE, 0))?;
    fault(run(s::READ_DR4, &mut registers()), exception::UD, 0)
}

const FIXED: u64 = 1 << 10;

/// Runs with breakpoint 0 at `address` of this kind; also DR6 behind it.
fn watched(
    address: u64,
    kind: u64,
    snippet: Snippet,
    registers: &mut Registers,
) -> (Result<(), crate::machine::trap::Trap>, u64) {
    control::write_dr6(0xffff_0ff0);
    control::set_breakpoint(0, address);
    control::watch(FIXED | 1 | kind << 16);
    let result = run(snippet, registers);
    let status = control::read_dr6();
    control::watch(FIXED);
    (result, status)
}

fn execution() -> Checked {
    let snippet = s::NOPS;
    let (result, status) = watched(snippet.address() + 1, 0, snippet, &mut registers());
    let trap = expect_fault("breakpoint", result, exception::DB)?;
    expect("RIP at the instruction", trap.rip_offset.cast_unsigned(), 1u64)?;
    Ok(expect("DR6", status & 0xf, 1u64)?)
}

/// With RF set, the first instruction does not hit.
fn resume_flag() -> Checked {
    let snippet = s::RESUME;
    let (result, _) = watched(snippet.address() + snippet.length() - 1, 0, snippet, &mut registers());
    fault_free(result)
}

fn data(kind: u64, snippet: Snippet, times: u64) -> Checked {
    let mut registers = Registers { rdi: MEMORY.address(), ..registers() };
    let (result, status) = watched(MEMORY.address(), kind, snippet, &mut registers);
    if times == 0 {
        return fault_free(result);
    }
    let trap = expect_fault("breakpoint", result, exception::DB)?;
    expect("RIP behind the instruction", trap.rip_offset.cast_unsigned(), snippet.length())?;
    Ok(expect("DR6", status & 0xf, 1u64)?)
}

fn elsewhere() -> Checked {
    let mut registers = Registers { rdi: MEMORY.address(), ..registers() };
    fault_free(watched(MEMORY.address() + 1, 0b11, s::PUT_AL, &mut registers).0)
}

fn io(snippet: Snippet) -> Checked {
    fault_free(control::change_cr4(cr4::DE, 0))?;
    let mut registers = Registers { rdi: MEMORY.address(), ..registers() };
    let (result, status) = watched(u64::from(SCRATCH), 0b10, snippet, &mut registers);
    let trap = expect_fault("breakpoint", result, exception::DB)?;
    expect("RIP behind the instruction", trap.rip_offset.cast_unsigned(), snippet.length())?;
    Ok(expect("DR6", status & 0xf, 1u64)?)
}

fn general_detect() -> Checked {
    control::write_dr6(0xffff_0ff0);
    control::watch(FIXED | 1 << 13);
    let result = run(s::READ_DR6, &mut registers());
    let status = control::read_dr6();
    let trap = expect_fault("access", result, exception::DB)?;
    expect("RIP at the instruction", trap.rip_offset.cast_unsigned(), 0u64)?;
    Ok(expect("DR6.BD", status >> 13 & 1, 1u64)?)
}
