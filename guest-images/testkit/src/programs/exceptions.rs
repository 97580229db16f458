//! Exceptions with their error codes, RIP and CR2; XSETBV and the control registers.
//!
//! Source: SDM Vol. 3A, "Exception and Interrupt Reference"; Vol. 2, "XSETBV"; Vol. 3A, "Control Registers".

use super::{Verdict, exception::*, expect, expect_fault};
use crate::apic::{self, TimerMode};
use crate::machine::cpu::{
    self, Switch, cpuid, disable_interrupts, enable_interrupts, rdtsc, set_osxsave, xgetbv,
};
use crate::machine::provoke::{self, Provoked};

/// A fault leaves RIP at the instruction and has this error code.
fn fault(what: &'static str, provoked: Provoked, vector: u64, error: u64) -> Verdict {
    let trap = expect_fault(what, provoked, vector)?;
    expect(what, trap.error, error)?;
    expect(what, trap.rip_offset.cast_unsigned(), 0u64)
}

/// A page fault reports the address as well.
fn page_fault(what: &'static str, provoked: Provoked, error: u64, address: u64) -> Verdict {
    let trap = expect_fault(what, provoked, PF)?;
    expect(what, trap.error, error)?;
    expect(what, trap.cr2, address)
}

/// Error code bits of a page fault: page present, write, reserved bit, instruction fetch.
const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const RESERVED: u64 = 8;
const FETCH: u64 = 16;

/// The exceptions that a program in ring 0 can raise.
pub(super) fn exceptions() -> Verdict {
    fault("#DE by zero", provoke::divide_by_zero(), DE, 0)?;
    fault("#DE overflow", provoke::divide_overflow(), DE, 0)?;
    fault("#UD", provoke::undefined(), UD, 0)?;
    fault("#UD syscall", provoke::syscall_disabled(), UD, 0)?;
    fault("#NM", provoke::float_with_task_switched(), NM, 0)?;
    fault("#GP load", provoke::load_non_canonical(), GP, 0)?;
    fault("#GP lgdt", provoke::lgdt_non_canonical(), GP, 0)?;
    fault(
        "#GP selector",
        provoke::load_segment(provoke::MISSING_SELECTOR),
        GP,
        u64::from(provoke::MISSING_SELECTOR),
    )?;
    fault(
        "#NP selector",
        provoke::load_segment(provoke::ABSENT_SELECTOR),
        NP,
        u64::from(provoke::ABSENT_SELECTOR),
    )?;
    // Traps: RIP is behind the instruction. INT3 is one byte; the single-stepped NOP ends the first 11 bytes.
    let trap = expect_fault("#BP", provoke::breakpoint(), BP)?;
    expect("#BP rip", trap.rip_offset.cast_unsigned(), 1u64)?;
    let trap = expect_fault("#DB", provoke::single_step(), DB)?;
    expect("#DB error code", trap.error, 0u64)?;
    page_fault("#PF load", provoke::load_unmapped(), 0, provoke::UNMAPPED)?;
    page_fault("#PF store", provoke::store_unmapped(), WRITE, provoke::UNMAPPED)?;
    page_fault("#PF fetch", provoke::fetch_unmapped(), FETCH, provoke::UNMAPPED)?;
    page_fault("#PF read-only", provoke::store_read_only(), PRESENT | WRITE, provoke::SPARE_PAGE)?;
    page_fault("#PF no-execute", provoke::fetch_no_execute(), PRESENT | FETCH, provoke::SPARE_PAGE)
}

/// Exceptions while a timer runs out at every point of their delivery, which under a hypervisor means an exit there: each
/// is delivered once, and returns to where it came from.
pub(super) fn exceptions_under_timer() -> Verdict {
    const ROUNDS: u64 = 3_000;
    disable_interrupts();
    apic::set_timer(if apic::has_deadline() { TimerMode::Deadline } else { TimerMode::OneShot });
    for round in 0..ROUNDS {
        // From before the exception to behind its handler's return.
        let ticks = round % 300;
        if apic::has_deadline() {
            apic::arm_deadline(rdtsc() + ticks);
        } else {
            apic::arm_count(u32::try_from(ticks).unwrap_or(0) + 1);
        }
        let (provoked, drift) = provoke::undefined_with_stack_drift();
        expect("stack behind the handler", drift, 0u64)?;
        expect_fault("#UD under a timer", provoked, UD)?;
    }
    apic::stop_timer();
    // What the timer left waiting is taken here.
    enable_interrupts();
    disable_interrupts();
    Ok(())
}

/// Two that QEMU's TCG has wrong, in a program of their own: a non-canonical address is #SS, not #GP, through the stack
/// segment, and a reserved bit is reported for a page that is present.
pub(super) fn fault_details() -> Verdict {
    let trap = expect_fault("#SS", provoke::load_non_canonical_stack(), SS)?;
    expect("#SS error code", trap.error, 0u64)?;
    page_fault("#PF reserved", provoke::load_reserved_bit(), PRESENT | RESERVED, provoke::SPARE_PAGE)
}

/// XSETBV refuses what the manual refuses, and accepts what CPUID offers.
pub(super) fn xsetbv_checks() -> Verdict {
    set_osxsave(Switch::Off);
    expect("OSXSAVE follows CR4 (off)", cpuid(1, 0).ecx >> 27 & 1, 0u32)?;
    fault("xsetbv without OSXSAVE", cpu::xsetbv(0, 1), UD, 0)?;
    set_osxsave(Switch::On);
    expect("OSXSAVE follows CR4 (on)", cpuid(1, 0).ecx >> 27 & 1, 1u32)?;
    let reset = xgetbv(0).unwrap_or(u64::MAX);
    expect("XCR0 at reset", reset, 1u64)?;
    fault("x87 bit clear", cpu::xsetbv(0, 0), GP, 0)?;
    fault("AVX without SSE", cpu::xsetbv(0, 0b101), GP, 0)?;
    fault("unsupported bit", cpu::xsetbv(0, 1 << 62 | 1), GP, 0)?;
    fault("reserved bit 63", cpu::xsetbv(0, 1 << 63 | 1), GP, 0)?;
    fault("XCR1", cpu::xsetbv(1, 1), GP, 0)?;
    expect("XCR0 unchanged by refusals", xgetbv(0).unwrap_or(u64::MAX), 1u64)?;
    let leaf = cpuid(0xd, 0);
    let supported = u64::from(leaf.edx) << 32 | u64::from(leaf.eax);
    if supported & 0b11 == 0b11 {
        expect("SSE accepted", u64::from(cpu::xsetbv(0, 0b11).is_ok()), 1u64)?;
        expect("XCR0 reads back", xgetbv(0).unwrap_or(u64::MAX), 0b11u64)?;
    }
    if supported & 0b111 == 0b111 {
        expect("AVX accepted", u64::from(cpu::xsetbv(0, 0b111).is_ok()), 1u64)?;
        expect("CPUID size follows XCR0", cpuid(0xd, 0).ebx, 832u32)?;
    }
    expect("XCR0 back", u64::from(cpu::xsetbv(0, 1).is_ok()), 1u64)?;
    expect("CPUID size of x87 and SSE", cpuid(0xd, 0).ebx, 576u32)
}

/// [`xsetbv_checks`] where the CPU has XSAVE; CR4.OSXSAVE is off again afterwards.
pub(super) fn xsetbv() -> Verdict {
    if cpuid(1, 0).ecx & 1 << 26 == 0 {
        return Ok(());
    }
    let verdict = xsetbv_checks();
    set_osxsave(Switch::Off);
    verdict
}

/// Control registers refuse reserved bits and impossible combinations.
pub(super) fn control_registers() -> Verdict {
    let reserved = expect_fault("CR4 reserved bit", provoke::set_cr4_reserved(), GP)?;
    expect("CR4 reserved bit: error code", reserved.error, 0u64)?;
    let protection = expect_fault("CR0.PG without PE", provoke::clear_protection(), GP)?;
    expect("CR0.PG without PE: error code", protection.error, 0u64)?;
    if cpuid(1, 0).ecx & 1 << 5 == 0 {
        fault("CR4.VMXE without VMX", provoke::set_vmxe(), GP, 0)?;
    }
    Ok(())
}
