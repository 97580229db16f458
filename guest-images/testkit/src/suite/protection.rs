//! Paging, segments, rings and other code widths.
//!
//! Source: SDM Vol. 3A, "Paging", "Protection", "Exception and Interrupt Reference"; Vol. 1, "I/O Permission Bit Map".

use super::{Check, Checked, Group, Stop, check, fault, fault_free, gp};
use crate::machine::control::{self, cr0, cr4};
use crate::machine::cpu::{cpuid, in8};
use crate::machine::pages::{
    self, ACCESSED, DIRTY, NO_EXECUTE, PRESENT, Place, RESERVED, Shown, USER, WRITABLE,
};
use crate::machine::snippet::{Registers, Snippet, World, run, run_in};
use crate::machine::snippets as s;
use crate::machine::task::{self, Ports};
use crate::machine::trap::Trap;
use crate::programs::{exception, expect, expect_fault};

pub(super) const GROUP: Group = Group::new(CHECKS).resting(rest);

const CHECKS: &[Check] = &[
    check("paging.load-sets-accessed", || bits(s::TOUCH, PRESENT | WRITABLE, ACCESSED)),
    check("paging.store-sets-dirty", || bits(s::PUT_AL, PRESENT | WRITABLE, ACCESSED | DIRTY)),
    check("paging.store-sets-dirty-when-accessed", || {
        bits(s::PUT_AL, PRESENT | WRITABLE | ACCESSED, ACCESSED | DIRTY)
    }),
    check("paging.table-entry-accessed-not-dirty", table_accessed),
    check("paging.refused-store-leaves-dirty-clear", || {
        map(PRESENT);
        refused(run(s::PUT_AL, &mut at_page()), 3)?;
        Ok(expect("dirty", pages::flags(PAGE) & DIRTY, 0u64)?)
    }),
    check("paging.absent-load", || faults(s::TOUCH, 0, 0)),
    check("paging.absent-store", || faults(s::PUT_AL, 0, 2)),
    check("paging.read-only-store", || faults(s::PUT_AL, PRESENT, 3)),
    check("paging.read-only-store-without-wp", || {
        map(PRESENT);
        fault_free(control::change_cr0(0, cr0::WP))?;
        fault_free(run(s::PUT_AL, &mut at_page()))?;
        Ok(expect("memory", pages::peek(FRAME, 0) & 0xff, 0x55u64)?)
    }),
    check("paging.reserved-bit", || faults(s::TOUCH, PRESENT | WRITABLE | RESERVED, 9)),
    check("paging.reserved-bit-store", || faults(s::PUT_AL, PRESENT | WRITABLE | RESERVED, 0xb)),
    check("paging.table-read-only", || {
        pages::map_table(PRESENT | USER);
        refused(run(s::PUT_AL, &mut at_page()), 3)
    }),
    check("paging.table-absent", || {
        pages::map_table(0);
        refused(run(s::TOUCH, &mut at_page()), 0)
    }),
    check("paging.table-reserved-bit", || {
        pages::map_table(PRESENT | WRITABLE | USER | RESERVED);
        refused(run(s::TOUCH, &mut at_page()), 9)
    }),
    check("paging.execute-disable", || {
        map(PRESENT | WRITABLE | NO_EXECUTE);
        fetch_refused(run_in(World::Kernel64, s::NOP, place(), &mut stacked()), 0x11)
    }),
    check("paging.execute-disable-allows-load", || bits(s::TOUCH, PRESENT | WRITABLE | NO_EXECUTE, ACCESSED)),
    check("paging.table-execute-disable", || {
        pages::map_table(PRESENT | WRITABLE | USER | NO_EXECUTE);
        fetch_refused(run_in(World::Kernel64, s::NOP, place(), &mut stacked()), 0x11)
    }),
    check("paging.execute", || fault_free(run_in(World::Kernel64, s::NOP, place(), &mut stacked()))),
    check("paging.absent-fetch", || {
        let result = run_in(World::Kernel64, s::NOP, place(), &mut stacked());
        fault_free(result)?;
        map(0);
        fetch_refused(run_in(World::Kernel64, s::NOP, place(), &mut stacked()), 0x10)
    }),
    check("paging.invlpg-shows-new-frame", || {
        pages::poke(FRAME, 0, &[0x11]);
        pages::poke(FRAME + 1, 0, &[0x22]);
        let mut registers = at_page();
        fault_free(run(s::TOUCH, &mut registers))?;
        pages::map(PAGE, Shown::Memory(FRAME + 1), PRESENT | WRITABLE);
        fault_free(run(s::TOUCH, &mut registers))?;
        Ok(expect("byte", registers.rax & 0xff, 0x22u64)?)
    }),
    check("paging.load-across-into-absent", || {
        pages::map(PAGE + 1, Shown::Memory(FRAME + 1), 0);
        let mut registers = Registers { rdi: place().plus(4092).address(), ..at_page() };
        let trap = expect_fault("load", run(s::LOAD_RAX, &mut registers), exception::PF)?;
        Ok(expect("address", trap.cr2, place().plus(4096).address())?)
    }),
    check("user.reads-own-page", || user_access(s::TOUCH, PRESENT | WRITABLE | USER, None)),
    check("user.supervisor-page-load", || user_access(s::TOUCH, PRESENT | WRITABLE, Some(5))),
    check("user.supervisor-page-store", || user_access(s::PUT_AL, PRESENT | WRITABLE, Some(7))),
    check("user.read-only-page-store", || user_access(s::PUT_AL, PRESENT | USER, Some(7))),
    check("user.absent-page-load", || user_access(s::TOUCH, 0, Some(4))),
    check("user.absent-page-store", || user_access(s::PUT_AL, 0, Some(6))),
    check("user.supervisor-page-fetch", || {
        pages::map(CODE, Shown::Memory(CODE_FRAME), PRESENT | WRITABLE);
        let trap = expect_fault("fetch", user(s::NOP, 0), exception::PF)?;
        Ok(expect("error code", trap.error, 0x15u64)?)
    }),
    check("user.hlt-gp", || user_gp(s::HLT)),
    check("user.cli-gp", || user_gp(s::CLI)),
    check("user.sti-gp", || user_gp(s::STI)),
    check("user.mov-cr0-gp", || user_gp(s::READ_CR0)),
    check("user.mov-dr7-gp", || user_gp(s::READ_DR7)),
    check("user.rdmsr-gp", || user_gp(s::RDMSR)),
    check("user.wrmsr-gp", || user_gp(s::WRMSR)),
    check("user.lgdt-gp", || user_gp(s::LGDT)),
    check("user.ltr-gp", || user_gp(s::LTR)),
    check("user.invlpg-gp", || user_gp(s::INVLPG)),
    check("user.invd-gp", || user_gp(s::INVD)),
    check("user.wbinvd-gp", || user_gp(s::WBINVD)),
    check("user.clts-gp", || user_gp(s::CLTS)),
    check("user.lmsw-gp", || user_gp(s::LMSW)),
    check("user.swapgs-gp", || user_gp(s::SWAPGS)),
    check("user.xsetbv-gp", || user_gp_or_ud(s::XSETBV)),
    check("user.in-gp", || user_gp(s::IN_AL)),
    check("user.out-gp", || user_gp(s::OUT_AL)),
    check("user.insb-gp", || user_gp(s::INSB)),
    check("user.outsb-gp", || user_gp(s::OUTSB)),
    check("user.in-with-permission", || {
        let mut registers = user_registers(place());
        task::install();
        task::permit(Ports::Only(0x3ff));
        crate::machine::cpu::out8(0x3ff, 0x5a);
        registers.rdx = 0x3ff;
        let result = run_in(World::User64, s::IN_AL, Place::page(CODE as u64), &mut registers);
        task::permit(Ports::Forbidden);
        fault_free(result)?;
        Ok(expect("scratch", registers.rax & 0xff, in8(0x3ff))?)
    }),
    check("user.word-in-needs-both-permissions", || {
        let mut registers = Registers { rdx: 0x3ff, ..user_registers(place()) };
        task::permit(Ports::Only(0x3ff));
        let result = run_in(World::User64, s::IN_AX, Place::page(CODE as u64), &mut registers);
        task::permit(Ports::Forbidden);
        gp(result)
    }),
    check("user.in-with-iopl", || {
        let mut registers = Registers { rdx: 0x3ff, flags: 2 | 3 << 12, ..user_registers(place()) };
        fault_free(run_in(World::User64, s::IN_AL, Place::page(CODE as u64), &mut registers))
    }),
    check("user.cli-with-iopl", || {
        let mut registers = Registers { flags: 2 | 3 << 12, ..user_registers(place()) };
        fault_free(run_in(World::User64, s::CLI, Place::page(CODE as u64), &mut registers))
    }),
    check("user.popf-keeps-iopl-and-if", || {
        let mut registers = user_registers(place());
        fault_free(run_in(World::User64, s::POPF_ALL, Place::page(CODE as u64), &mut registers))?;
        Ok(expect("IOPL and IF", registers.rax & (3 << 12 | 1 << 9), 0u64)?)
    }),
    check("user.int-of-kernel-gate-gp", || {
        let trap = expect_fault("INT", user(s::INT_80, 0), exception::GP)?;
        Ok(expect("error code", trap.error, 0x80u64 * 8 + 2)?)
    }),
    check("user.int3-of-kernel-gate-gp", || {
        let trap = expect_fault("INT3", user(s::INT3, 0), exception::GP)?;
        Ok(expect("error code", trap.error, 3u64 * 8 + 2)?)
    }),
    check("user.rdtsc-with-tsd-gp", || {
        fault_free(control::change_cr4(cr4::TSD, 0))?;
        user_gp(s::RDTSC)
    }),
    check("user.rdtsc", || fault_free(user(s::RDTSC, 0))),
    check("user.rdtscp-with-tsd-gp", || {
        fault_free(control::change_cr4(cr4::TSD, 0))?;
        user_gp(s::RDTSCP)
    }),
    check("user.rdpmc-without-pce-gp", || user_gp(s::RDPMC)),
    check("user.cpuid", || fault_free(user(s::CPUID, 0))),
    check("user.umip-sgdt", || {
        if cpuid(7, 0).ecx >> 2 & 1 == 0 {
            return Err(Stop::Skipped("no UMIP"));
        }
        fault_free(control::change_cr4(cr4::UMIP, 0))?;
        user_gp(s::SMSW)
    }),
    check("user.smsw-without-umip", || fault_free(user(s::SMSW, 0))),
    check("user.alignment-check", || {
        fault_free(control::change_cr0(cr0::AM, 0))?;
        let mut registers =
            Registers { flags: 2 | AC, ..user_registers(Place::page(CODE as u64 + 1).plus(1)) };
        fault(run_in(World::User64, s::LOAD_EAX, Place::page(CODE as u64), &mut registers), 17, 0)
    }),
    check("user.alignment-without-am", || {
        fault_free(control::change_cr0(0, cr0::AM))?;
        let mut registers =
            Registers { flags: 2 | AC, ..user_registers(Place::page(CODE as u64 + 1).plus(1)) };
        fault_free(run_in(World::User64, s::LOAD_EAX, Place::page(CODE as u64), &mut registers))
    }),
    check("kernel.alignment-is-not-checked", || {
        fault_free(control::change_cr0(cr0::AM, 0))?;
        let mut registers = Registers { flags: 2 | AC, rdi: place().plus(1).address(), ..Registers::ZERO };
        fault_free(run(s::LOAD_EAX, &mut registers))
    }),
    check("smep.fetch-from-user-page", || {
        feature(cpuid(7, 0).ebx >> 7, "no SMEP")?;
        map(PRESENT | WRITABLE | USER);
        fault_free(control::change_cr4(cr4::SMEP, 0))?;
        fetch_refused(run_in(World::Kernel64, s::NOP, place(), &mut stacked()), 0x11)
    }),
    check("smep.off", || {
        map(PRESENT | WRITABLE | USER);
        fault_free(run_in(World::Kernel64, s::NOP, place(), &mut stacked()))
    }),
    check("smap.load-from-user-page", || smap(s::TOUCH, 2, Some(1))),
    check("smap.store-to-user-page", || smap(s::PUT_AL, 2, Some(3))),
    check("smap.with-ac", || smap(s::TOUCH, 2 | AC, None)),
    check("pku.access-disable", || pku(s::PKU_LOAD, 0b01, Some(0x21))),
    check("pku.write-disable-store", || pku(s::PKU_STORE, 0b10, Some(0x23))),
    check("pku.write-disable-load", || pku(s::PKU_LOAD, 0b10, None)),
    check("segments.data-of-missing-selector", || selector(s::MOV_DS, 0x1230, exception::GP, 0x1230)),
    check("segments.data-not-present", || selector(s::MOV_DS, 0x18, exception::NP, 0x18)),
    check("segments.data-execute-only", || selector(s::MOV_DS, 0x68, exception::GP, 0x68)),
    check("segments.data-system-descriptor", || selector(s::MOV_DS, 0x38, exception::GP, 0x38)),
    check("segments.data-of-ldt-without-ldt", || selector(s::MOV_DS, 0x0c, exception::GP, 0x0c)),
    check("segments.data-null-is-fine", || fault_free(run(s::MOV_DS, &mut Registers::ZERO.clone()))),
    check("segments.stack-not-present", || selector(s::MOV_SS, 0x18, exception::SS, 0x18)),
    check("segments.stack-read-only", || selector(s::MOV_SS, 0x60, exception::GP, 0x60)),
    check("segments.stack-of-ring-3", || selector(s::MOV_SS, 0x33, exception::GP, 0x30)),
    check("segments.stack-null-is-fine-in-ring-0", || {
        fault_free(run(s::MOV_SS, &mut Registers::ZERO.clone()))
    }),
    check("segments.code-with-l-and-d", || selector(s::FAR_RETURN, 0x80, exception::GP, 0x80)),
    check("segments.code-null", || selector(s::FAR_RETURN, 0, exception::GP, 0)),
    check("segments.code-is-data", || selector(s::FAR_RETURN, 0x10, exception::GP, 0x10)),
    check("segments.code-missing", || selector(s::FAR_RETURN, 0x1230, exception::GP, 0x1230)),
    check("segments.ltr-busy", || {
        task::install();
        selector(s::LTR, 0x38, exception::GP, 0x38)
    }),
    check("segments.ltr-null", || selector(s::LTR, 0, exception::GP, 0)),
    check("segments.lldt-of-data", || selector(s::LLDT, 0x10, exception::GP, 0x10)),
    check("segments.lldt-null-is-fine", || fault_free(run(s::LLDT, &mut Registers::ZERO.clone()))),
    check("segments.lar-of-data", || {
        let mut registers = Registers { rcx: 0x10, ..Registers::ZERO };
        fault_free(run(s::LAR, &mut registers))?;
        expect("ZF", registers.flags & 0x40, 0x40u64)?;
        Ok(expect("rights", registers.rax & 0xff00, 0x9300u64)?)
    }),
    check("segments.lar-of-missing", || {
        let mut registers = Registers { rax: 0x77, rcx: 0x1230, ..Registers::ZERO };
        fault_free(run(s::LAR, &mut registers))?;
        expect("ZF", registers.flags & 0x40, 0u64)?;
        Ok(expect("unchanged", registers.rax, 0x77u64)?)
    }),
    check("segments.lsl-of-small", || {
        let mut registers = Registers { rcx: 0x78, ..Registers::ZERO };
        fault_free(run(s::LSL, &mut registers))?;
        Ok(expect("limit", registers.rax, 0xffu64)?)
    }),
    check("segments.verw-of-read-only", || {
        let mut registers = Registers { rcx: 0x60, flags: 0x42, ..Registers::ZERO };
        fault_free(run(s::VERW, &mut registers))?;
        Ok(expect("ZF", registers.flags & 0x40, 0u64)?)
    }),
    check("segments.int-without-gate-of-vector", || fault_free(run(s::INT_80, &mut Registers::ZERO.clone()))),
    check("canonical.load-gp", || {
        gp(run(s::TOUCH, &mut Registers { rdi: NON_CANONICAL, ..Registers::ZERO }))
    }),
    check("canonical.store-gp", || {
        gp(run(s::PUT_AL, &mut Registers { rdi: NON_CANONICAL, ..Registers::ZERO }))
    }),
    check("canonical.stack-ss", || {
        fault(run(s::LOAD_RBP, &mut Registers { rbp: NON_CANONICAL, ..Registers::ZERO }), exception::SS, 0)
    }),
    check("canonical.jump-gp", || {
        Ok(expect_fault(
            "jump",
            run(s::JUMP, &mut Registers { rdi: NON_CANONICAL, ..Registers::ZERO }),
            exception::GP,
        )
        .map(drop)?)
    }),
    check("canonical.load-across-the-edge", || {
        gp(run(s::LOAD_RAX, &mut Registers { rdi: 0x7fff_ffff_fffc, ..Registers::ZERO })).or_else(|_| {
            // The first part is absent: either comes first.
            Ok(expect_fault(
                "load",
                run(s::LOAD_RAX, &mut Registers { rdi: 0x7fff_ffff_fffc, ..Registers::ZERO }),
                exception::PF,
            )
            .map(drop)?)
        })
    }),
    check("canonical.invlpg-is-fine", || {
        fault_free(run(s::INVLPG, &mut Registers { rdi: NON_CANONICAL, ..Registers::ZERO }))
    }),
    check("compatible.runs-32-bit-code", || {
        let mut registers = Registers { rax: 0xffff_ffff, ..compatible() };
        fault_free(run_in(World::Compatible32, s::C32_INC, place(), &mut registers))?;
        Ok(expect("EAX wraps", registers.rax & 0xffff_ffff, 0u64)?)
    }),
    check("compatible.aam", || {
        let mut registers = Registers { rax: 0x63, ..compatible() };
        fault_free(run_in(World::Compatible32, s::C32_AAM, place(), &mut registers))?;
        Ok(expect("AX", registers.rax & 0xffff, 0x0909u64)?)
    }),
    check("compatible.aam-by-zero-de", || {
        Ok(expect_fault(
            "AAM",
            run_in(World::Compatible32, s::C32_AAM_0, place(), &mut compatible()),
            exception::DE,
        )
        .map(drop)?)
    }),
    check("compatible.into-of", || {
        Ok(expect_fault("INTO", run_in(World::Compatible32, s::C32_INTO, place(), &mut compatible()), 4)
            .map(drop)?)
    }),
    check("compatible.bound-br", || {
        pages::poke(1, 0, &[0, 0, 0, 0, 10, 0, 0, 0]);
        let mut registers = Registers { rax: 11, rdi: Place::page(1).address(), ..compatible() };
        fault(run_in(World::Compatible32, s::C32_BOUND, place(), &mut registers), 5, 0)
    }),
    check("compatible.mmio-load", || {
        let mut registers =
            Registers { rdi: crate::machine::cpu::Mmio::Nothing.base() as u64, ..compatible() };
        fault_free(run_in(World::Compatible32, s::C32_LOAD, place(), &mut registers))?;
        Ok(expect("EAX", registers.rax & 0xffff_ffff, 0xffff_ffffu64)?)
    }),
    check("compatible.mmio-displacement-wraps-at-4g", || {
        let mut registers = Registers { rdi: 0xf000_0000, ..compatible() };
        fault_free(run_in(World::Compatible32, s::C32_LOAD_WRAP, place(), &mut registers))?;
        Ok(expect("EAX", registers.rax & 0xffff_ffff, 0xffff_ffffu64)?)
    }),
    check("compatible.in", || {
        let mut registers = Registers { rdx: 0x2468, ..compatible() };
        fault_free(run_in(World::Compatible32, s::C32_IN, place(), &mut registers))?;
        Ok(expect("EAX", registers.rax & 0xffff_ffff, 0xffff_ffffu64)?)
    }),
    check("compatible.segment-limit-gp", || {
        let mut registers = Registers { rax: 0x78, rdi: 0x100, ..compatible() };
        gp_anywhere(run_in(World::Compatible32, s::C32_LIMIT, place(), &mut registers))
    }),
    check("compatible.segment-limit-straddled-gp", || {
        let mut registers = Registers { rax: 0x78, rdi: 0xfd, ..compatible() };
        gp_anywhere(run_in(World::Compatible32, s::C32_LIMIT, place(), &mut registers))
    }),
    check("compatible.read-only-segment-gp", || {
        let mut registers = Registers { rax: 0x60, rdi: Place::page(1).address(), ..compatible() };
        gp_anywhere(run_in(World::Compatible32, s::C32_STORE_FS, place(), &mut registers))
    }),
    check("compatible.null-segment-gp", || {
        let mut registers = Registers { rax: 0, rdi: Place::page(1).address(), ..compatible() };
        gp_anywhere(run_in(World::Compatible32, s::C32_LIMIT, place(), &mut registers))
    }),
    check("compatible.mmio-read-only-segment-gp", || {
        let mut registers =
            Registers { rax: 0x60, rdi: crate::machine::cpu::Mmio::Nothing.base() as u64, ..compatible() };
        gp_anywhere(run_in(World::Compatible32, s::C32_STORE_FS, place(), &mut registers))
    }),
    check("compatible.ring-3-runs", || {
        map(PRESENT | WRITABLE | USER);
        pages::map(PAGE + 1, Shown::Memory(FRAME + 1), PRESENT | WRITABLE | USER);
        fault_free(run_in(World::User32, s::C32_INC, place(), &mut Registers::ZERO.clone()))
    }),
    check("compatible.16-bit-code", || {
        let mut registers =
            Registers { rax: 0xffff, rsp: Place::page(6).plus(2048).offset(), ..Registers::ZERO };
        fault_free(run_in(World::Compatible16, s::C16_INC, place(), &mut registers))?;
        Ok(expect("AX wraps", registers.rax & 0xffff_ffff, 0u64)?)
    }),
];

const PAGE: usize = 4;
const FRAME: usize = 4;
const CODE: usize = 6;
const CODE_FRAME: usize = 6;
const AC: u64 = 1 << 18;
const NON_CANONICAL: u64 = 0x8000_0000_0000_0000;

fn rest() {
    pages::reset();
    task::install();
    task::permit(Ports::Forbidden);
    // Code and stack of ring 3.
    pages::map(CODE, Shown::Memory(CODE_FRAME), PRESENT | WRITABLE | USER);
    pages::map(CODE + 1, Shown::Memory(CODE_FRAME + 1), PRESENT | WRITABLE | USER);
}

fn place() -> Place {
    Place::page(PAGE as u64)
}

fn map(flags: u64) {
    pages::map(PAGE, Shown::Memory(FRAME), flags);
}

fn at_page() -> Registers {
    Registers { rax: 0x55, rdi: place().address(), ..Registers::ZERO }
}

/// With a stack where it may be used.
fn stacked() -> Registers {
    Registers { rsp: Place::page(6).plus(2048).address(), ..Registers::ZERO }
}

fn compatible() -> Registers {
    stacked()
}

fn feature(bits: u32, without: &'static str) -> Checked {
    if bits & 1 == 0 { Err(Stop::Skipped(without)) } else { Ok(()) }
}

/// The access goes through and sets these bits of the entry.
fn bits(snippet: Snippet, flags: u64, set: u64) -> Checked {
    map(flags);
    fault_free(run(snippet, &mut at_page()))?;
    Ok(expect("bits", pages::flags(PAGE) & (ACCESSED | DIRTY), set)?)
}

fn table_accessed() -> Checked {
    pages::map_table(PRESENT | WRITABLE | USER);
    fault_free(run(s::PUT_AL, &mut at_page()))?;
    Ok(expect("bits", pages::table_flags() & (ACCESSED | DIRTY), ACCESSED)?)
}

/// A page fault at the page, with this error code.
fn refused(result: Result<(), Trap>, error: u64) -> Checked {
    let trap = expect_fault("access", result, exception::PF)?;
    expect("error code", trap.error, error)?;
    Ok(expect("address", trap.cr2, place().address())?)
}

fn faults(snippet: Snippet, flags: u64, error: u64) -> Checked {
    map(flags);
    refused(run(snippet, &mut at_page()), error)
}

fn fetch_refused(result: Result<(), Trap>, error: u64) -> Checked {
    refused(result, error)
}

fn user_registers(at: Place) -> Registers {
    Registers { rax: 0x55, rdx: 0x3ff, rdi: at.address(), rsi: at.address(), ..Registers::ZERO }
}

fn user(snippet: Snippet, flags: u64) -> Result<(), Trap> {
    let mut registers = Registers { flags: 2 | flags, ..user_registers(Place::page(CODE as u64 + 1)) };
    run_in(World::User64, snippet, Place::page(CODE as u64), &mut registers)
}

fn user_gp(snippet: Snippet) -> Checked {
    gp(user(snippet, 0))
}

/// Without XSAVE switched on it is another exception.
fn user_gp_or_ud(snippet: Snippet) -> Checked {
    crate::machine::cpu::set_osxsave(crate::machine::cpu::Switch::On);
    gp_anywhere(user(snippet, 0))
}

/// Ring 3 accesses the page, which has these flags.
fn user_access(snippet: Snippet, flags: u64, error: Option<u64>) -> Checked {
    map(flags);
    let mut registers = user_registers(place());
    let result = run_in(World::User64, snippet, Place::page(CODE as u64), &mut registers);
    match error {
        None => fault_free(result),
        Some(error) => refused(result, error),
    }
}

fn smap(snippet: Snippet, flags: u64, error: Option<u64>) -> Checked {
    feature(cpuid(7, 0).ebx >> 20, "no SMAP")?;
    map(PRESENT | WRITABLE | USER);
    fault_free(control::change_cr4(cr4::SMAP, 0))?;
    let result = run(snippet, &mut Registers { flags, ..at_page() });
    match error {
        None => fault_free(result),
        Some(error) => refused(result, error),
    }
}

/// Protection key 1 with these two bits, for an access of ring 0 to a user page.
fn pku(snippet: Snippet, bits: u64, error: Option<u64>) -> Checked {
    feature(cpuid(7, 0).ecx >> 3, "no protection keys")?;
    map(PRESENT | WRITABLE | USER | 1 << pages::KEY_SHIFT);
    fault_free(control::change_cr4(cr4::PKE, 0))?;
    let result = run(snippet, &mut Registers { rax: bits << 2, ..at_page() });
    // The snippet's own WRPKRU comes first.
    match (error, result) {
        (None, result) => fault_free(result),
        (Some(error), result) => {
            let trap = expect_fault("access", result, exception::PF)?;
            Ok(expect("error code", trap.error, error)?)
        }
    }
}

/// Loading the selector is an exception with this error code.
fn selector(snippet: Snippet, selector: u64, vector: u64, error: u64) -> Checked {
    let trap =
        expect_fault("selector", run(snippet, &mut Registers { rax: selector, ..Registers::ZERO }), vector)?;
    Ok(expect("error code", trap.error, error)?)
}

fn gp_anywhere(result: Result<(), Trap>) -> Checked {
    let trap = expect_fault("access", result, exception::GP)?;
    Ok(expect("error code", trap.error, 0u64)?)
}
