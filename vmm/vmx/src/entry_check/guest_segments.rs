//! SDM Vol. 3C, "Checks on Guest Segment Registers".

use super::checker::Checker;
use crate::VmcsAccess;
use arch::{Cr0Flags, Segment, SegmentRegister};

/// A rule about a segment register, with the register's name in front.
macro_rules! of {
    ($register:expr, $rule:literal) => {
        match $register {
            SegmentRegister::Es => concat!("guest ES ", $rule),
            SegmentRegister::Cs => concat!("guest CS ", $rule),
            SegmentRegister::Ss => concat!("guest SS ", $rule),
            SegmentRegister::Ds => concat!("guest DS ", $rule),
            SegmentRegister::Fs => concat!("guest FS ", $rule),
            SegmentRegister::Gs => concat!("guest GS ", $rule),
            SegmentRegister::Ldtr => concat!("guest LDTR ", $rule),
            SegmentRegister::Tr => concat!("guest TR ", $rule),
        }
    };
}

/// Type: accessed.
const ACCESSED: u32 = 1;
/// Type: readable code, or writable data.
const READABLE: u32 = 1 << 1;
/// Type: code.
const CODE: u32 = 1 << 3;
/// A code or data segment, where 0 is a system segment.
const NOT_SYSTEM: u32 = 1 << 4;
const PRESENT: u32 = 1 << 7;
const GRANULARITY: u32 = 1 << 15;
/// Accessed read-write data: the type of a real-mode CS.
const READ_WRITE_DATA: u32 = 3;
/// A 32-bit or 64-bit TSS in use.
const BUSY_TSS: u32 = 11;
/// A 16-bit TSS in use.
const BUSY_TSS_16: u32 = 3;
const LDT: u32 = 2;
/// The access rights of every segment in virtual-8086 mode.
const VIRTUAL_8086_RIGHTS: u32 = 0xf3;

/// The code and data segment registers, in the manual's order.
const CODE_AND_DATA: [SegmentRegister; 6] = [
    SegmentRegister::Cs,
    SegmentRegister::Ss,
    SegmentRegister::Ds,
    SegmentRegister::Es,
    SegmentRegister::Fs,
    SegmentRegister::Gs,
];

const fn segment_type(segment: &Segment) -> u32 {
    segment.access_rights & 0xf
}

const fn rpl(segment: &Segment) -> u8 {
    (segment.selector & 3) as u8
}

pub(super) fn check<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    checker.section("Checks on Guest Segment Registers");
    selectors(checker);
    bases(checker);
    for register in CODE_AND_DATA {
        let segment = checker.segment(register);
        if checker.is_virtual_8086() {
            virtual_8086(checker, register, &segment);
        } else if register == SegmentRegister::Cs || !segment.is_unusable() {
            shape(checker, register, &segment);
        }
    }
    if !checker.is_virtual_8086() {
        code_segment(checker);
        stack_segment(checker);
        data_segments(checker);
    }
    task_register(checker);
    local_descriptor_table(checker);
}

fn selectors<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let task = checker.segment(SegmentRegister::Tr);
    checker.rule("guest TR selector: TI must be 0", task.selector, task.selector & 4 == 0);
    let table = checker.segment(SegmentRegister::Ldtr);
    if !table.is_unusable() {
        checker.rule("guest LDTR selector: TI must be 0", table.selector, table.selector & 4 == 0);
    }
    if !checker.is_virtual_8086() && !checker.has_unrestricted_guest() {
        let (stack, code) = (checker.segment(SegmentRegister::Ss), checker.segment(SegmentRegister::Cs));
        let rule = "guest SS selector: RPL must equal that of CS";
        checker.rule(rule, stack.selector, rpl(&stack) == rpl(&code));
    }
}

fn bases<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    for register in SegmentRegister::ALL {
        let segment = checker.segment(register);
        let base = segment.base;
        match register {
            SegmentRegister::Tr | SegmentRegister::Fs | SegmentRegister::Gs => {
                checker.rule(of!(register, "base must be canonical"), base, checker.is_canonical(base));
            }
            SegmentRegister::Ldtr if segment.is_unusable() => {}
            SegmentRegister::Ldtr => {
                checker.rule(of!(register, "base must be canonical"), base, checker.is_canonical(base));
            }
            SegmentRegister::Ss | SegmentRegister::Ds | SegmentRegister::Es if segment.is_unusable() => {}
            SegmentRegister::Cs | SegmentRegister::Ss | SegmentRegister::Ds | SegmentRegister::Es => {
                checker.no_bits(of!(register, "base: bits 63:32 must be 0"), base >> 32 << 32);
            }
        }
    }
}

fn virtual_8086<V: VmcsAccess>(checker: &mut Checker<'_, V>, register: SegmentRegister, segment: &Segment) {
    checker.rule(
        of!(register, "base must be the selector times 16 in virtual-8086 mode"),
        segment.base,
        segment.base == u64::from(segment.selector) << 4,
    );
    checker.rule(
        of!(register, "limit must be 0xffff in virtual-8086 mode"),
        segment.limit,
        segment.limit == 0xffff,
    );
    checker.rule(
        of!(register, "access rights must be 0xf3 in virtual-8086 mode"),
        segment.access_rights,
        segment.access_rights == VIRTUAL_8086_RIGHTS,
    );
}

/// What holds for any usable code or data segment.
fn shape<V: VmcsAccess>(checker: &mut Checker<'_, V>, register: SegmentRegister, segment: &Segment) {
    let rights = segment.access_rights;
    checker.rule(of!(register, "access rights: S must be 1"), rights, rights & NOT_SYSTEM != 0);
    checker.rule(of!(register, "access rights: P must be 1"), rights, rights & PRESENT != 0);
    checker.no_bits(of!(register, "access rights: bits 11:8 must be 0"), rights & 0xf00);
    let reserved = rights & 0xfffe_0000;
    checker.no_bits(of!(register, "access rights: bits 31:17 must be 0"), reserved);
    granularity(checker, register, segment);
}

fn granularity<V: VmcsAccess>(checker: &mut Checker<'_, V>, register: SegmentRegister, segment: &Segment) {
    let (limit, in_pages) = (segment.limit, segment.access_rights & GRANULARITY != 0);
    checker.rule(
        of!(register, "limit: G must be 0 unless bits 11:0 are all 1"),
        limit,
        !in_pages || limit & 0xfff == 0xfff,
    );
    checker.rule(
        of!(register, "limit: G must be 1 if any of bits 31:20 is 1"),
        limit,
        in_pages || limit & 0xfff0_0000 == 0,
    );
}

fn code_segment<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let (code, stack) = (checker.segment(SegmentRegister::Cs), checker.segment(SegmentRegister::Ss));
    let rights = code.access_rights;
    let unrestricted = checker.has_unrestricted_guest();
    let accessed_code = matches!(segment_type(&code), 9 | 11 | 13 | 15);
    let allowed = accessed_code || unrestricted && segment_type(&code) == READ_WRITE_DATA;
    checker.rule(
        "guest CS access rights: the type must be accessed code (or 3 for an unrestricted guest)",
        rights,
        allowed,
    );
    match segment_type(&code) {
        READ_WRITE_DATA if unrestricted => {
            checker.rule("guest CS access rights: DPL must be 0 with type 3", rights, code.dpl() == 0);
        }
        9 | 11 => checker.rule(
            "guest CS access rights: DPL of non-conforming code must equal that of SS",
            rights,
            code.dpl() == stack.dpl(),
        ),
        13 | 15 => checker.rule(
            "guest CS access rights: DPL of conforming code must not exceed that of SS",
            rights,
            code.dpl() <= stack.dpl(),
        ),
        _ => {}
    }
    if checker.is_ia32e() && code.is_long() {
        checker.rule("guest CS access rights: D must be 0 with L", rights, !code.is_default_32());
    }
}

fn stack_segment<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let (code, stack) = (checker.segment(SegmentRegister::Cs), checker.segment(SegmentRegister::Ss));
    let rights = stack.access_rights;
    if !stack.is_unusable() {
        checker.rule(
            "guest SS access rights: the type must be accessed read-write data (3 or 7)",
            rights,
            matches!(segment_type(&stack), 3 | 7),
        );
    }
    // The DPL of SS is the CPL: these hold for an unusable SS too.
    if !checker.has_unrestricted_guest() {
        checker.rule(
            "guest SS access rights: DPL must equal the selector's RPL",
            rights,
            stack.dpl() == rpl(&stack),
        );
    }
    if segment_type(&code) == READ_WRITE_DATA {
        let rule = "guest SS access rights: DPL must be 0 while the type of CS is 3";
        checker.rule(rule, rights, stack.dpl() == 0);
    }
    if !checker.cr0.contains(Cr0Flags::PROTECTED_MODE_ENABLE) {
        let rule = "guest SS access rights: DPL must be 0 while CR0.PE is 0";
        checker.rule(rule, rights, stack.dpl() == 0);
    }
}

fn data_segments<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    for register in [SegmentRegister::Ds, SegmentRegister::Es, SegmentRegister::Fs, SegmentRegister::Gs] {
        let segment = checker.segment(register);
        if segment.is_unusable() {
            continue;
        }
        let rights = segment.access_rights;
        let rule = of!(register, "access rights: the type must be accessed");
        checker.rule(rule, rights, rights & ACCESSED != 0);
        let rule = of!(register, "access rights: code must be readable");
        checker.rule(rule, rights, rights & CODE == 0 || rights & READABLE != 0);
        // Types 12 to 15 are conforming code, which any privilege level may read.
        if !checker.has_unrestricted_guest() && segment_type(&segment) <= 11 {
            let rule = of!(register, "access rights: DPL must not be less than the selector's RPL");
            checker.rule(rule, rights, segment.dpl() >= rpl(&segment));
        }
    }
}

fn task_register<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let task = checker.segment(SegmentRegister::Tr);
    let kind = segment_type(&task);
    let busy = kind == BUSY_TSS || kind == BUSY_TSS_16 && !checker.is_ia32e();
    checker.rule("guest TR must be a busy TSS (in IA-32e mode, a 64-bit one)", task.access_rights, busy);
    let rule = "guest TR access rights: the unusable bit must be 0";
    checker.rule(rule, task.access_rights, !task.is_unusable());
    system_segment(checker, SegmentRegister::Tr, &task);
}

fn local_descriptor_table<V: VmcsAccess>(checker: &mut Checker<'_, V>) {
    let table = checker.segment(SegmentRegister::Ldtr);
    if !table.is_unusable() {
        let rule = "guest LDTR must be an LDT (type 2)";
        checker.rule(rule, table.access_rights, segment_type(&table) == LDT);
        system_segment(checker, SegmentRegister::Ldtr, &table);
    }
}

/// What holds for TR, and for LDTR if it is usable.
fn system_segment<V: VmcsAccess>(checker: &mut Checker<'_, V>, register: SegmentRegister, segment: &Segment) {
    let rights = segment.access_rights;
    checker.rule(of!(register, "access rights: S must be 0"), rights, rights & NOT_SYSTEM == 0);
    checker.rule(of!(register, "access rights: P must be 1"), rights, rights & PRESENT != 0);
    checker.no_bits(of!(register, "access rights: bits 11:8 must be 0"), rights & 0xf00);
    let reserved = rights & 0xfffe_0000;
    checker.no_bits(of!(register, "access rights: bits 31:17 must be 0"), reserved);
    granularity(checker, register, segment);
}
