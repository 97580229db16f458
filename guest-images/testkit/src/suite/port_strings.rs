//! Port instructions of every size, alone and as strings, through the guest's own paging.
//!
//! Source: SDM Vol. 2, "IN", "OUT", "INS/INSB/INSW/INSD", "OUTS/OUTSB/OUTSW/OUTSD".

use super::{Check, Checked, Group, check, fault_free};
use crate::machine::cpu::in8;
use crate::machine::pages::{self, Place};
use crate::machine::snippet::{Registers, Snippet, run};
use crate::machine::snippets as s;
use crate::programs::expect;

pub(super) const GROUP: Group = Group::new(CHECKS).resting(pages::reset);

const CHECKS: &[Check] = &[
    check("ports.in-al-keeps-upper-bits", || port_in(s::IN_AL, 0x1122_3344_5566_77ff)),
    check("ports.in-ax-keeps-upper-bits", || port_in(s::IN_AX, 0x1122_3344_5566_ffff)),
    check("ports.in-eax-clears-upper-half", || port_in(s::IN_EAX, 0xffff_ffff)),
    check("ports.in-immediate", || {
        let mut registers = Registers { rax: u64::MAX, ..Registers::ZERO };
        fault_free(run(s::IN_IMMEDIATE, &mut registers))?;
        Ok(expect("upper bits", registers.rax >> 8, u64::MAX >> 8)?)
    }),
    check("ports.insb", || port_string(s::INSB, 1, 1, 0)),
    check("ports.insw", || port_string(s::INSW, 2, 1, 0)),
    check("ports.insd", || port_string(s::INSD, 4, 1, 0)),
    check("ports.insd-backwards", || port_string(s::INSD, 4, 1, DF)),
    check("ports.rep-insb", || port_string(s::REP_INSB, 1, 50, 0)),
    check("ports.rep-insw", || port_string(s::REP_INSW, 2, 50, 0)),
    check("ports.rep-insd", || port_string(s::REP_INSD, 4, 50, 0)),
    check("ports.rep-insw-backwards", || port_string(s::REP_INSW, 2, 50, DF)),
    check("ports.rep-insb-of-a-page", || port_string(s::REP_INSB, 1, 4096, 0)),
    check("ports.rep-insb-of-zero", || port_string(s::REP_INSB, 1, 0, 0)),
    check("ports.rep-outsb-order", outs_order),
    check("ports.rep-outsw", || outs(s::REP_OUTSW, 2)),
    check("ports.rep-outsd", || outs(s::REP_OUTSD, 4)),
    check("ports.ins-into-absent-page", ins_absent),
    check("ports.ins-into-read-only-page", ins_read_only),
    check("ports.outs-from-absent-page", outs_absent),
    check("ports.ins-sets-dirty", ins_dirty),
    check("ports.ins-across-pages", ins_across),
];

const DF: u64 = 1 << 10;
/// A port where nothing answers.
const NOTHING: u64 = 0x2468;

fn port_in(snippet: Snippet, rax: u64) -> Checked {
    let mut registers = Registers { rax: 0x1122_3344_5566_7788, rdx: NOTHING, ..Registers::ZERO };
    fault_free(run(snippet, &mut registers))?;
    Ok(expect("RAX", registers.rax, rax)?)
}

/// Takes `count` units of all ones to the middle of memory.
fn port_string(snippet: Snippet, unit: i64, count: u64, flags: u64) -> Checked {
    let place = Place::page(2);
    let start =
        Registers { rdx: NOTHING, rcx: count, rdi: place.address(), flags: 2 | flags, ..Registers::ZERO };
    let mut registers = start;
    fault_free(run(snippet, &mut registers))?;
    let units = i64::try_from(count).unwrap_or(0);
    let moved = if flags & DF == 0 { unit * units } else { -unit * units };
    expect("RDI", registers.rdi, start.rdi.wrapping_add_signed(moved))?;
    if count > 0 {
        let first = pages::peek(2, 0);
        let ones = u64::MAX >> (64 - 8 * unit.min(8));
        expect("memory", first & ones, ones)?;
    } else {
        expect("memory", pages::peek(2, 0), 0u64)?;
    }
    if count > 1 {
        expect("RCX", registers.rcx, 0u64)?;
    }
    Ok(())
}

/// The last of several bytes to a register that keeps one is what it keeps.
fn outs_order() -> Checked {
    pages::poke(2, 0, &[1, 2, 3, 4, 0x77]);
    let mut registers = Registers { rdx: 0x3ff, rcx: 5, rsi: Place::page(2).address(), ..Registers::ZERO };
    fault_free(run(s::REP_OUTSB, &mut registers))?;
    expect("scratch", in8(0x3ff), 0x77u8)?;
    expect("RCX", registers.rcx, 0u64)?;
    Ok(expect("RSI", registers.rsi, Place::page(2).plus(5).address())?)
}

fn outs(snippet: Snippet, unit: i64) -> Checked {
    let mut registers = Registers { rdx: NOTHING, rcx: 30, rsi: Place::page(2).address(), ..Registers::ZERO };
    fault_free(run(snippet, &mut registers))?;
    expect("RCX", registers.rcx, 0u64)?;
    Ok(expect("RSI", registers.rsi, Place::page(2).plus(30 * unit).address())?)
}

/// A string from a port to the last four bytes before `page`, which is refused with this error code.
fn refused(snippet: Snippet, error: u64) -> Checked {
    let end = Place::page(4);
    let start = end.plus(-4).address();
    let mut registers = Registers { rdx: NOTHING, rcx: 10, rdi: start, rsi: start, ..Registers::ZERO };
    let trap = crate::programs::expect_fault(
        "string",
        run(snippet, &mut registers),
        crate::programs::exception::PF,
    )?;
    expect("error code", trap.error, error)?;
    expect("address", trap.cr2, end.address())?;
    Ok(expect("RCX", registers.rcx, 6u64)?)
}

fn ins_absent() -> Checked {
    pages::map(4, pages::Shown::Memory(4), 0);
    refused(s::REP_INSB, 2)
}

fn ins_read_only() -> Checked {
    pages::map(4, pages::Shown::Memory(4), pages::PRESENT);
    refused(s::REP_INSB, 3)
}

fn outs_absent() -> Checked {
    pages::map(4, pages::Shown::Memory(4), 0);
    refused(s::REP_OUTSB, 0)
}

fn ins_dirty() -> Checked {
    pages::map(4, pages::Shown::Memory(4), pages::PRESENT | pages::WRITABLE);
    let mut registers = Registers { rdx: NOTHING, rdi: Place::page(4).address(), ..Registers::ZERO };
    fault_free(run(s::INSB, &mut registers))?;
    Ok(expect("dirty and accessed", pages::flags(4) & 0x60, 0x60u64)?)
}

fn ins_across() -> Checked {
    let mut registers = Registers { rdx: NOTHING, rdi: Place::page(4).plus(-2).address(), ..Registers::ZERO };
    fault_free(run(s::INSD, &mut registers))?;
    expect("before", pages::peek(3, 4088) >> 48, 0xffffu64)?;
    Ok(expect("behind", pages::peek(4, 0), 0xffffu64)?)
}
