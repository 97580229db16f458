//! Instructions on device memory: a load of every form from where nothing answers, so all ones; a change of every form to a
//! register that keeps 32 bits (the local APIC's initial count); strings.
//!
//! Source: SDM Vol. 2, on each instruction.

use super::{Check, Checked, Group, check, fault, fault_free, gp};
use crate::apic;
use crate::machine::control::{self, cr0, cr4};
use crate::machine::cpu::{Mmio, cpuid};
use crate::machine::pages::{self, Place};
use crate::machine::snippet::{Registers, Snippet, run};
use crate::machine::snippets as s;
use crate::programs::{exception, expect};

pub(super) const GROUP: Group = Group::new(CHECKS).resting(rest);

/// Arithmetic flags.
const CF: u64 = 1;
const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
const ZF: u64 = 1 << 6;
const SF: u64 = 1 << 7;
const OF: u64 = 1 << 11;
const DF: u64 = 1 << 10;
/// What RAX is before a load.
const BEFORE: u64 = 0x1122_3344_5566_7788;
const ONES: u64 = u64::MAX;
/// The register that keeps what is written.
const KEEPS: u16 = 0x380;

const CHECKS: &[Check] = &[
    check("mmio.load-al", || load(s::LOAD_AL, 0x1122_3344_5566_77ff)),
    check("mmio.load-ah", || load(s::LOAD_AH, 0x1122_3344_5566_ff88)),
    check("mmio.load-ax", || load(s::LOAD_AX, 0x1122_3344_5566_ffff)),
    check("mmio.load-eax-clears-upper-half", || load(s::LOAD_EAX, 0xffff_ffff)),
    check("mmio.load-rax", || load(s::LOAD_RAX, ONES)),
    check("mmio.load-bh", || load(s::LOAD_BH, 0xff)),
    check("mmio.load-sil", || load(s::LOAD_SIL, MEMORY.address() | 0xff)),
    check("mmio.load-r9d", || load(s::LOAD_R9D, 0xffff_ffff)),
    check("mmio.load-absolute", || load(s::LOAD_MOFFS, 0xffff_ffff)),
    check("mmio.load-scaled-index", || load(s::LOAD_SIB, 0xffff_ffff)),
    check("mmio.load-negative-displacement", || load(s::LOAD_NEGATIVE, 0xffff_ffff)),
    check("mmio.load-32-bit-address", || load(s::LOAD_ADDRESS_32, 0xffff_ffff)),
    check("mmio.load-fs", || load(s::LOAD_FS, 0xffff_ffff)),
    check("mmio.movzx-eax-byte", || load(s::MOVZX_8, 0xff)),
    check("mmio.movzx-eax-word", || load(s::MOVZX_16, 0xffff)),
    check("mmio.movzx-rax-byte", || load(s::MOVZX_64, 0xff)),
    check("mmio.movzx-ax-byte", || load(s::MOVZX_AX, 0x1122_3344_5566_00ff)),
    check("mmio.movsx-eax-byte", || load(s::MOVSX_8, 0xffff_ffff)),
    check("mmio.movsx-eax-word", || load(s::MOVSX_16, 0xffff_ffff)),
    check("mmio.movsx-rax-byte", || load(s::MOVSX_64, ONES)),
    check("mmio.movsx-rax-word", || load(s::MOVSX_16_64, ONES)),
    check("mmio.movsxd-rax", || load(s::MOVSXD, ONES)),
    check("mmio.movbe-eax", || load(s::MOVBE_32, 0xffff_ffff)),
    check("mmio.lodsb", || load(s::LODSB, 0x1122_3344_5566_77ff)),
    check("mmio.lodsw", || load(s::LODSW, 0x1122_3344_5566_ffff)),
    check("mmio.lodsd", || load(s::LODSD, 0xffff_ffff)),
    check("mmio.lodsq", || load(s::LODSQ, ONES)),
    check("mmio.cmovz-taken", || load(s::CMOVZ_TAKEN, 0xffff_ffff)),
    check("mmio.cmovnz-not-taken-clears-upper-half", || load(s::CMOVNZ_NOT_TAKEN, 0x5566_7788)),
    check("mmio.imul-eax", || load(s::IMUL_LOAD, 0xaa99_8878)),
    check("mmio.imul-three-operands", || load(s::IMUL_LOAD_3, 0xffff_fffb)),
    check("mmio.mul", || load(s::MUL_LOAD, 0xaa99_8878)),
    check("mmio.popcnt", || load(s::POPCNT_LOAD, 32)),
    check("mmio.bsf", || load(s::BSF_LOAD, 0)),
    check("mmio.bsr", || load(s::BSR_LOAD, 31)),
    check("mmio.push", || load(s::PUSH_LOAD, ONES)),
    check("mmio.pop", || load(s::POP_STORE, BEFORE)),
    check("mmio.xadd-loads", || load(s::XADD_LOAD, 0xffff_ffff)),
    check("mmio.xchg-al", || load(s::XCHG_LOAD_8, 0x1122_3344_5566_77ff)),
    check("mmio.xchg-ax", || load(s::XCHG_LOAD_16, 0x1122_3344_5566_ffff)),
    check("mmio.xchg-eax", || load(s::XCHG_LOAD_32, 0xffff_ffff)),
    check("mmio.xchg-rax", || load(s::XCHG_LOAD_64, ONES)),
    check("mmio.cmpxchg-unequal", || load(s::CMPXCHG_FAILS, 0xffff_ffff)),
    check("mmio.cmpxchg-equal", || load(s::CMPXCHG_EQUAL, 0xffff_ffff)),
    check("mmio.lock-cmpxchg-rax", || load(s::LOCK_CMPXCHG_64, ONES)),
    check("mmio.cmpxchg8b-loads", || wide(s::CMPXCHG8B, 0xffff_ffff)),
    check("mmio.cmpxchg16b-loads", || wide(s::CMPXCHG16B, ONES)),
    check("mmio.jump-through", || jump_through(s::JUMP_THROUGH)),
    check("mmio.call-through", || jump_through(s::CALL_THROUGH)),
    check("mmio.sse-movdqu", || vector(s::SSE_MOVDQU, ONES)),
    check("mmio.sse-movaps", || vector(s::SSE_MOVAPS, ONES)),
    check("mmio.sse-movd", || vector(s::SSE_MOVD, 0xffff_ffff)),
    check("mmio.sse-movq", || vector(s::SSE_MOVQ, ONES)),
    check("mmio.sse-movss", || vector(s::SSE_MOVSS, 0xffff_ffff)),
    check("mmio.sse-movsd", || vector(s::SSE_MOVSD, 0)),
    check("mmio.sse-movhps", || vector(s::SSE_MOVHPS, ONES)),
    check("mmio.sse-movntdqa", || vector(s::SSE_MOVNTDQA, ONES)),
    check("mmio.sse-store", || vector(s::SSE_STORE, BEFORE)),
    check("mmio.sse-store-nontemporal", || vector(s::SSE_STORE_NT, BEFORE)),
    check("mmio.sse-misaligned-gp", || {
        sse()?;
        gp(run(s::SSE_UNALIGNED_ALIGNED, &mut at_nothing()))
    }),
    check("mmio.sse-with-task-switched-nm", || {
        sse()?;
        fault_free(control::change_cr0(cr0::TS, 0))?;
        fault(run(s::SSE_MOVDQU, &mut at_nothing()), exception::NM, 0)
    }),
    check("mmio.add-flags", || flags(s::ADD_LOAD, 0x8000_0000, 0x7fff_ffff, CF | OF | PF)),
    check("mmio.add-byte-flags", || flags(s::ADD_LOAD_8, 1, 0, CF | ZF | AF | PF)),
    check("mmio.sub-flags", || flags(s::SUB_LOAD, 0, 1, CF | AF)),
    check("mmio.adc-flags", || flags(s::ADC_LOAD, 0, 0, CF | ZF | AF | PF)),
    check("mmio.sbb-flags", || flags(s::SBB_LOAD, 0, 0, CF | ZF | AF | PF)),
    check("mmio.cmp-equal", || flags(s::CMP_LOAD, 0xffff_ffff, 0xffff_ffff, ZF | PF)),
    check("mmio.cmp-below", || flags(s::CMP_LOAD, 1, 1, CF | AF)),
    check("mmio.cmp-reversed", || flags(s::CMP_LOAD_REVERSED, 1, 1, SF)),
    check("mmio.cmp-immediate", || flags(s::CMP_LOAD_IMMEDIATE, 0, 0, ZF | PF)),
    check("mmio.cmp-byte", || flags(s::CMP_LOAD_8, 0, 0, SF)),
    check("mmio.cmp-64-bits", || flags(s::CMP_LOAD_64, ONES, ONES, ZF | PF)),
    check("mmio.and-flags", || logic(s::AND_LOAD, 0x8000_0001, 0x8000_0001, SF)),
    check("mmio.or-flags", || logic(s::OR_LOAD, 0, 0xffff_ffff, SF | PF)),
    check("mmio.xor-flags", || logic(s::XOR_LOAD, 0xffff_ffff, 0, ZF | PF)),
    check("mmio.test-flags", || logic(s::TEST_LOAD, 0x8000_0000, 0x8000_0000, SF | PF)),
    check("mmio.test-immediate", || logic(s::TEST_LOAD_IMMEDIATE, 0, 0, SF | PF)),
    check("mmio.test-byte", || logic(s::TEST_LOAD_8, 0, 0, SF)),
    check("mmio.bt-immediate", || carry(s::BT_IMMEDIATE)),
    check("mmio.bt-register-reaches-beyond", || carry(s::BT_REGISTER)),
    check("mmio.bt-negative-offset", || carry(s::BT_NEGATIVE)),
    check("mmio.scasb", || string(s::SCASB, 0, 1, 0, 0xff)),
    check("mmio.scasd", || string(s::SCASD, 0, 4, 0, 0xffff_ffff)),
    check("mmio.scasq", || string(s::SCASQ, 0, 8, 0, ONES)),
    check("mmio.scasd-backwards", || string(s::SCASD, DF, -4, 0, 0xffff_ffff)),
    check("mmio.cmpsd", || string(s::CMPSD, 0, 4, 4, 0)),
    check("mmio.cmpsd-backwards", || string(s::CMPSD, DF, -4, -4, 0)),
    check("mmio.store-eax", || change(s::STORE_EAX, 1, 0x1234_5678, 0x1234_5678)),
    check("mmio.store-immediate", || change(s::STORE_IMMEDIATE, 1, 0, 0x1234_5678)),
    check("mmio.store-r9d", || change(s::STORE_R9D, 1, 0x1234_5678, 0x1234_5678)),
    check("mmio.store-movnti", || change(s::STORE_MOVNTI, 1, 0x1234_5678, 0x1234_5678)),
    check("mmio.store-movbe", || change(s::STORE_MOVBE, 1, 0x1234_5678, 0x7856_3412)),
    check("mmio.store-sse-movd", || {
        sse()?;
        change(s::SSE_STORE_MOVD, 1, 0x1234_5678, 0x1234_5678)
    }),
    check("mmio.store-sse-movss", || {
        sse()?;
        change(s::SSE_STORE_MOVSS, 1, 0x1234_5678, 0x1234_5678)
    }),
    check("mmio.store-stosd", || change(s::STOSD, 1, 0x1234_5678, 0x1234_5678)),
    check("mmio.rmw-xchg", || exchange(s::STORE_XCHG, 0x1111, 0x2222, 0x2222)),
    check("mmio.rmw-add", || change(s::ADD_STORE, 0x1000, 0x234, 0x1234)),
    check("mmio.rmw-add-immediate", || change(s::ADD_STORE_IMMEDIATE, 0x1000, 0, 0x1010)),
    check("mmio.rmw-adc", || change(s::ADC_STORE, 0x1000, 0x234, 0x1235)),
    check("mmio.rmw-sub", || change(s::SUB_STORE, 0x1000, 1, 0xfff)),
    check("mmio.rmw-sbb", || change(s::SBB_STORE, 0x1000, 1, 0xffe)),
    check("mmio.rmw-and", || change(s::AND_STORE, 0xff00_ff00, 0x0ff0_0ff0, 0x0f00_0f00)),
    check("mmio.rmw-or", || change(s::OR_STORE, 0xff00_0000, 0x0ff0, 0xff00_0ff0)),
    check("mmio.rmw-xor", || change(s::XOR_STORE, 0xff00_ff00, 0x0ff0_0ff0, 0xf0f0_f0f0)),
    check("mmio.rmw-inc", || change(s::INC_STORE, 0x1000, 0, 0x1001)),
    check("mmio.rmw-dec", || change(s::DEC_STORE, 0x1000, 0, 0xfff)),
    check("mmio.rmw-not", || change(s::NOT_STORE, 0xffff_0000, 0, 0xffff)),
    check("mmio.rmw-neg", || change(s::NEG_STORE, 0x1000, 0, 0xffff_f000)),
    check("mmio.rmw-shl", || change(s::SHL_STORE, 0x1234, 0, 0x12340)),
    check("mmio.rmw-shr", || change(s::SHR_STORE, 0x1234, 0, 0x123)),
    check("mmio.rmw-sar", || change(s::SAR_STORE, 0x8000_0000, 0, 0xf800_0000)),
    check("mmio.rmw-rol", || change(s::ROL_STORE, 0x1234_5678, 0, 0x3456_7812)),
    check("mmio.rmw-shld", || change(s::SHLD_STORE, 0x1234_5678, 0x9abc_def0, 0x3456_789a)),
    check("mmio.rmw-bts", || change(s::BTS_STORE, 0x1000, 0, 0x1008)),
    check("mmio.rmw-btr", || change(s::BTR_STORE, 0x1008, 0, 0x1000)),
    check("mmio.rmw-btc", || change(s::BTC_STORE, 0x1008, 0, 0x1000)),
    check("mmio.rmw-xadd", || exchange(s::XADD_STORE, 0x1000, 0x234, 0x1234)),
    check("mmio.rmw-cmpxchg-equal", || exchange(s::CMPXCHG_STORE, 0x1000, 0x1000, 0x77)),
    check("mmio.rmw-cmpxchg-unequal", || exchange(s::CMPXCHG_STORE, 0x1000, 0x2000, 0x1000)),
    check("mmio.lock-add", || change(s::LOCK_ADD, 0x1000, 0x234, 0x1234)),
    check("mmio.lock-or", || change(s::LOCK_OR, 0xff00_0000, 0x0ff0, 0xff00_0ff0)),
    check("mmio.lock-and", || change(s::LOCK_AND, 0xff00_ff00, 0x0ff0_0ff0, 0x0f00_0f00)),
    check("mmio.lock-xor", || change(s::LOCK_XOR, 0xff00_ff00, 0x0ff0_0ff0, 0xf0f0_f0f0)),
    check("mmio.lock-sub", || change(s::LOCK_SUB, 0x1000, 1, 0xfff)),
    check("mmio.lock-inc", || change(s::LOCK_INC, 0x1000, 0, 0x1001)),
    check("mmio.lock-dec", || change(s::LOCK_DEC, 0x1000, 0, 0xfff)),
    check("mmio.lock-not", || change(s::LOCK_NOT, 0xffff_0000, 0, 0xffff)),
    check("mmio.lock-neg", || change(s::LOCK_NEG, 0x1000, 0, 0xffff_f000)),
    check("mmio.lock-bts", || change(s::LOCK_BTS, 0x1000, 0, 0x1008)),
    check("mmio.lock-btr", || change(s::LOCK_BTR, 0x1008, 0, 0x1000)),
    check("mmio.lock-btc", || change(s::LOCK_BTC, 0x1008, 0, 0x1000)),
    check("mmio.lock-xadd", || exchange(s::LOCK_XADD, 0x1000, 0x234, 0x1234)),
    check("mmio.lock-cmpxchg-equal", || exchange(s::LOCK_CMPXCHG, 0x1000, 0x1000, 0x77)),
    check("mmio.lock-cmpxchg-unequal", || exchange(s::LOCK_CMPXCHG, 0x1000, 0x2000, 0x1000)),
    check("mmio.lock-mov-ud", || fault(run(s::LOCK_ILLEGAL, &mut at_keeper(0)), exception::UD, 0)),
    check("mmio.setcc", || load(s::SETC_STORE, BEFORE)),
    check("mmio.movsd-to-memory", || move_string(s::MOVSD, Direction::ToMemory, 1, 4, 0)),
    check("mmio.movsd-from-memory", movsd_to_device),
    check("mmio.rep-movsb-to-memory", || move_string(s::REP_MOVSB, Direction::ToMemory, 37, 37, 0)),
    check("mmio.rep-movsw-to-memory", || move_string(s::REP_MOVSW, Direction::ToMemory, 37, 74, 0)),
    check("mmio.rep-movsd-to-memory", || move_string(s::REP_MOVSD, Direction::ToMemory, 37, 148, 0)),
    check("mmio.rep-movsq-to-memory", || move_string(s::REP_MOVSQ, Direction::ToMemory, 37, 296, 0)),
    check("mmio.rep-movsd-backwards", || move_string(s::REP_MOVSD, Direction::ToMemory, 37, 148, DF)),
    check("mmio.rep-movsb-of-half-a-page", || move_string(s::REP_MOVSB, Direction::ToMemory, 2048, 2048, 0)),
    check("mmio.rep-movsd-from-memory", || move_string(s::REP_MOVSD, Direction::FromMemory, 64, 256, 0)),
    check("mmio.rep-movsd-32-bit-address", || {
        move_string(s::REP_MOVSD_ADDRESS_32, Direction::ToMemory, 37, 148, 0)
    }),
    check("mmio.rep-of-zero-does-nothing", rep_zero),
    check("mmio.rep-stosb", || store_string(s::REP_STOSB, 100, 100, 0)),
    check("mmio.rep-stosd", || store_string(s::REP_STOSD, 100, 400, 0)),
    check("mmio.rep-stosq", || store_string(s::REP_STOSQ, 100, 800, 0)),
    check("mmio.rep-stosd-backwards", || store_string(s::REP_STOSD, 100, -400, DF)),
    check("mmio.rep-lodsd", rep_lodsd),
    check("mmio.repe-scasb-runs-through", || scan(s::REPE_SCASB, 0xff, 50, 0, 50)),
    check("mmio.repne-scasb-stops-at-once", || scan(s::REPNE_SCASB, 0xff, 50, 49, 1)),
    check("mmio.repe-scasb-stops-at-once", || scan(s::REPE_SCASB, 0x55, 50, 49, 1)),
    check("mmio.repne-scasb-runs-through", || scan(s::REPNE_SCASB, 0x55, 50, 0, 50)),
    check("mmio.repe-cmpsb-stops-in-the-middle", compare_strings),
    check("mmio.repne-cmpsb-runs-on", compare_strings_unequal),
    check("mmio.rep-movsd-same-register", same_register),
    check("mmio.ioapic-index-byte-store", ioapic_index),
];

fn rest() {
    pages::reset();
    apic::stop_timer();
}

const MEMORY: Place = Place::page(1);

fn nothing() -> u64 {
    Mmio::Nothing.base() as u64
}

fn at_nothing() -> Registers {
    Registers { rax: BEFORE, rdi: nothing() + 0x400, rsi: MEMORY.address(), ..Registers::ZERO }
}

/// A load of all ones leaves this in RAX.
fn load(snippet: Snippet, rax: u64) -> Checked {
    let mut registers = Registers { rdi: nothing(), ..at_nothing() };
    fault_free(run(snippet, &mut registers))?;
    Ok(expect("RAX", registers.rax, rax)?)
}

/// A compare and exchange of twice the width, which is unequal.
fn wide(snippet: Snippet, half: u64) -> Checked {
    let mut registers = at_nothing();
    fault_free(run(snippet, &mut registers))?;
    expect("low half", registers.rax, half)?;
    expect("high half", registers.rdx, half)?;
    Ok(expect("ZF", registers.flags & ZF, 0u64)?)
}

fn jump_through(snippet: Snippet) -> Checked {
    let trap = crate::programs::expect_fault("jump", run(snippet, &mut at_nothing()), exception::PF)?;
    Ok(expect("to all ones", trap.cr2, ONES)?)
}

/// Has SSE instructions work until the next rest.
fn sse() -> Checked {
    fault_free(control::change_cr0(cr0::MP, cr0::EM | cr0::TS))?;
    fault_free(control::change_cr4(cr4::OSFXSR | cr4::OSXMMEXCPT, 0))
}

fn vector(snippet: Snippet, rax: u64) -> Checked {
    sse()?;
    let mut registers = at_nothing();
    fault_free(run(snippet, &mut registers))?;
    Ok(expect("RAX", registers.rax, rax)?)
}

const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;

/// An operation with all ones leaves this in RAX and these flags.
fn flags(snippet: Snippet, before: u64, after: u64, flags: u64) -> Checked {
    let mut registers = Registers { rax: before, ..at_nothing() };
    fault_free(run(snippet, &mut registers))?;
    expect("RAX", registers.rax, after)?;
    Ok(expect("flags", registers.flags & ARITHMETIC, flags)?)
}

/// The same, where AF is undefined.
fn logic(snippet: Snippet, before: u64, after: u64, flags: u64) -> Checked {
    let mut registers = Registers { rax: before, ..at_nothing() };
    fault_free(run(snippet, &mut registers))?;
    expect("RAX", registers.rax, after)?;
    Ok(expect("flags", registers.flags & ARITHMETIC & !AF, flags)?)
}

fn carry(snippet: Snippet) -> Checked {
    let mut registers = at_nothing();
    fault_free(run(snippet, &mut registers))?;
    Ok(expect("CF", registers.flags & CF, CF)?)
}

/// A string instruction moves its pointers by so much and finds both sides equal.
fn string(snippet: Snippet, direction: u64, rdi: i64, rsi: i64, rax: u64) -> Checked {
    let start = Registers { rax, rsi: nothing() + 0x800, flags: 2 | direction, ..at_nothing() };
    let mut registers = start;
    fault_free(run(snippet, &mut registers))?;
    expect("RDI", registers.rdi, start.rdi.wrapping_add_signed(rdi))?;
    expect("RSI", registers.rsi, start.rsi.wrapping_add_signed(rsi))?;
    Ok(expect("equal", registers.flags & ARITHMETIC, ZF | PF)?)
}

/// RDI at the register that keeps what is written.
fn at_keeper(rax: u64) -> Registers {
    let rdi = Mmio::LocalApic.base() as u64 + u64::from(KEEPS);
    Registers { rax, rcx: 0x77, rdi, rsi: MEMORY.address(), ..Registers::ZERO }
}

/// An instruction changes the register's content.
fn change(snippet: Snippet, before: u32, rax: u64, after: u32) -> Checked {
    apic::write(KEEPS, before);
    fault_free(run(snippet, &mut at_keeper(rax)))?;
    Ok(expect("register", apic::read(KEEPS), after)?)
}

/// An instruction changes the register's content and takes the old one to RAX.
fn exchange(snippet: Snippet, before: u32, rax: u64, after: u32) -> Checked {
    apic::write(KEEPS, before);
    let mut registers = at_keeper(rax);
    fault_free(run(snippet, &mut registers))?;
    expect("register", apic::read(KEEPS), after)?;
    Ok(expect("RAX", registers.rax, before)?)
}

fn movsd_to_device() -> Checked {
    pages::poke(1, 0, &0x1234_5678u32.to_le_bytes());
    change(s::MOVSD, 1, 0, 0x1234_5678)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToMemory,
    FromMemory,
}

/// Moves `count` units, `bytes` in all, between memory and where nothing answers.
fn move_string(snippet: Snippet, direction: Direction, count: u64, bytes: i64, flags: u64) -> Checked {
    let (memory, device) = (MEMORY.plus(2048).address(), nothing() + 0x800);
    let unit = bytes / i64::try_from(count).unwrap_or(1);
    let (rsi, rdi) = match direction {
        Direction::ToMemory => (device, memory),
        Direction::FromMemory => (memory, device),
    };
    let start = Registers { rsi, rdi, rcx: count, flags: 2 | flags, ..Registers::ZERO };
    let mut registers = start;
    fault_free(run(snippet, &mut registers))?;
    let moved = if flags & DF == 0 { bytes } else { -bytes };
    expect("RSI", registers.rsi, start.rsi.wrapping_add_signed(moved))?;
    expect("RDI", registers.rdi, start.rdi.wrapping_add_signed(moved))?;
    if count > 1 {
        expect("RCX", registers.rcx, 0u64)?;
    }
    let written = if direction == Direction::ToMemory { bytes } else { 0 };
    // What was written is all ones, and nothing beside it.
    let first = if flags & DF == 0 { 2048 } else { 2048 + unit - written };
    for at in 0..4096i64 {
        let is_written = (first..first + written).contains(&at);
        let at = usize::try_from(at).unwrap_or(0);
        if at <= 4088 {
            let byte = pages::peek(1, at) & 0xff;
            expect("byte of memory", byte, if is_written { 0xffu64 } else { 0 })?;
        }
    }
    Ok(())
}

fn rep_zero() -> Checked {
    let start = Registers { rsi: nothing(), rdi: MEMORY.address(), rcx: 0, ..Registers::ZERO };
    let mut registers = start;
    fault_free(run(s::REP_MOVSD, &mut registers))?;
    expect("RSI", registers.rsi, start.rsi)?;
    Ok(expect("memory", pages::peek(1, 0), 0u64)?)
}

fn store_string(snippet: Snippet, count: u64, bytes: i64, flags: u64) -> Checked {
    let start = Registers { rdi: nothing() + 0x800, rcx: count, flags: 2 | flags, ..Registers::ZERO };
    let mut registers = start;
    fault_free(run(snippet, &mut registers))?;
    expect("RCX", registers.rcx, 0u64)?;
    Ok(expect("RDI", registers.rdi, start.rdi.wrapping_add_signed(bytes))?)
}

fn rep_lodsd() -> Checked {
    let start = Registers { rax: BEFORE, rsi: nothing(), rcx: 20, ..Registers::ZERO };
    let mut registers = start;
    fault_free(run(s::REP_LODSD, &mut registers))?;
    expect("RAX", registers.rax, 0xffff_ffffu64)?;
    Ok(expect("RSI", registers.rsi, start.rsi + 80)?)
}

/// Scans for AL; so many are left, and so far it came.
fn scan(snippet: Snippet, al: u64, count: u64, left: u64, came: u64) -> Checked {
    let start = Registers { rax: al, rdi: nothing(), rcx: count, ..Registers::ZERO };
    let mut registers = start;
    fault_free(run(snippet, &mut registers))?;
    expect("RCX", registers.rcx, left)?;
    Ok(expect("RDI", registers.rdi, start.rdi + came)?)
}

fn compare_strings() -> Checked {
    pages::poke(1, 0, &[0xff; 10]);
    let start = Registers { rsi: MEMORY.address(), rdi: nothing(), rcx: 50, ..Registers::ZERO };
    let mut registers = start;
    fault_free(run(s::REPE_CMPSB, &mut registers))?;
    expect("RCX", registers.rcx, 39u64)?;
    expect("RSI", registers.rsi, start.rsi + 11)?;
    Ok(expect("flags of 0 - 0xff", registers.flags & ARITHMETIC, CF | AF)?)
}

fn compare_strings_unequal() -> Checked {
    pages::poke(1, 20, &[0xff]);
    let start = Registers { rsi: MEMORY.address(), rdi: nothing(), rcx: 50, ..Registers::ZERO };
    let mut registers = start;
    fault_free(run(s::REPNE_CMPSB, &mut registers))?;
    expect("RCX", registers.rcx, 29u64)?;
    Ok(expect("flags", registers.flags & ARITHMETIC, ZF | PF)?)
}

fn same_register() -> Checked {
    pages::poke(1, 0, &0x55u32.to_le_bytes());
    apic::write(KEEPS, 1);
    let mut registers = Registers { rcx: 1, ..at_keeper(0) };
    fault_free(run(s::REP_MOVSD, &mut registers))?;
    Ok(expect("register", apic::read(KEEPS), 0x55u32)?)
}

fn ioapic_index() -> Checked {
    let mut registers = Registers { rax: 1, rdi: Mmio::IoApic.base() as u64, ..Registers::ZERO };
    fault_free(run(s::STORE_EAX, &mut registers))?;
    expect("the version register's last entry", u64::from(Mmio::IoApic.read(0x10) >> 16 & 0xff >= 23), 1u64)?;
    expect("index", Mmio::IoApic.read(0) & 0xff, 1u32)?;
    // SSE4.1 and MOVBE were taken for granted above.
    Ok(expect("SSE4.1 and MOVBE", cpuid(1, 0).ecx & (1 << 19 | 1 << 22), 1u32 << 19 | 1 << 22)?)
}
