//! Guest segment registers.

use super::{
    Case, NOT_CANONICAL, Subject, assert_allowed, assert_each_breaks_its_rules, case, long, protected, real,
    restricted, virtual_8086,
};
use crate::field::{self, SEGMENTS};
use arch::{Segment, SegmentRegister};

const CODE_AND_DATA: [(&str, SegmentRegister); 6] = [
    ("ES", SegmentRegister::Es),
    ("CS", SegmentRegister::Cs),
    ("SS", SegmentRegister::Ss),
    ("DS", SegmentRegister::Ds),
    ("FS", SegmentRegister::Fs),
    ("GS", SegmentRegister::Gs),
];
const DATA: [(&str, SegmentRegister); 4] = [
    ("ES", SegmentRegister::Es),
    ("DS", SegmentRegister::Ds),
    ("FS", SegmentRegister::Fs),
    ("GS", SegmentRegister::Gs),
];
/// Real mode has a usable LDTR.
const SYSTEM: [(&str, SegmentRegister); 2] = [("LDTR", SegmentRegister::Ldtr), ("TR", SegmentRegister::Tr)];

fn flip_rights(register: SegmentRegister, bits: u32) -> impl Fn(&mut Subject) {
    move |subject| subject.flip(SEGMENTS[register as usize].access_rights, bits)
}

fn set_rights(register: SegmentRegister, rights: u32) -> impl Fn(&mut Subject) {
    move |subject| subject.set(SEGMENTS[register as usize].access_rights, rights)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = selectors_and_bases();
    cases.extend(virtual_8086_segments());
    cases.extend(shapes());
    cases.extend(code());
    cases.extend(stack_and_data());
    cases.extend(system());
    cases
}

fn selectors_and_bases() -> Vec<Case> {
    let mut cases = vec![
        case(real, "guest TR selector: TI must be 0", |s| s.flip(field::GUEST_TR_SELECTOR, 4u64)),
        case(real, "guest LDTR selector: TI must be 0", |s| s.flip(field::GUEST_LDTR_SELECTOR, 4u64)),
        case(restricted, "guest SS selector: RPL must equal that of CS", |s| {
            s.flip(field::GUEST_CS_SELECTOR, 3u64);
        }),
    ];
    for (name, register) in CODE_AND_DATA.into_iter().chain(SYSTEM) {
        let base = SEGMENTS[register as usize].base;
        let (rule, value) = match register {
            SegmentRegister::Fs | SegmentRegister::Gs | SegmentRegister::Ldtr | SegmentRegister::Tr => {
                (format!("guest {name} base must be canonical"), NOT_CANONICAL)
            }
            SegmentRegister::Es | SegmentRegister::Cs | SegmentRegister::Ss | SegmentRegister::Ds => {
                (format!("guest {name} base: bits 63:32 must be 0"), 1 << 32)
            }
        };
        cases.push(case(real, rule, move |s| s.set(base, value)));
    }
    cases
}

fn virtual_8086_segments() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, register) in CODE_AND_DATA {
        let fields = &SEGMENTS[register as usize];
        let rule = |what: &str| format!("guest {name} {what} in virtual-8086 mode");
        cases.push(case(virtual_8086, rule("base must be the selector times 16"), |s| s.set(fields.base, 0)));
        let wrong_limit = |s: &mut Subject| s.set(fields.limit, 0xfffe);
        cases.push(case(virtual_8086, rule("limit must be 0xffff"), wrong_limit));
        cases.push(case(virtual_8086, rule("access rights must be 0xf3"), set_rights(register, 0x93)));
    }
    cases
}

fn shapes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, register) in CODE_AND_DATA {
        let rule = |what: &str| format!("guest {name} {what}");
        let limit = SEGMENTS[register as usize].limit;
        cases.push(case(long, rule("access rights: S must be 1"), flip_rights(register, 1 << 4)));
        cases.push(case(long, rule("access rights: P must be 1"), flip_rights(register, 1 << 7)));
        cases.push(case(long, rule("access rights: bits 11:8 must be 0"), flip_rights(register, 1 << 8)));
        cases.push(case(long, rule("access rights: bits 31:17 must be 0"), flip_rights(register, 1 << 17)));
        cases.push(case(long, rule("limit: G must be 0 unless bits 11:0 are all 1"), move |s| {
            s.set(limit, 0xffff_fffe);
        }));
        let wants_pages = rule("limit: G must be 1 if any of bits 31:20 is 1");
        cases.push(case(long, wants_pages, flip_rights(register, 1 << 15)));
    }
    cases
}

fn code() -> Vec<Case> {
    let kind = "guest CS access rights: the type must be accessed code (or 3 for an unrestricted guest)";
    vec![
        case(long, kind, set_rights(SegmentRegister::Cs, 0xa09a)),
        case(protected, kind, set_rights(SegmentRegister::Cs, 0xc097)),
        case(restricted, kind, set_rights(SegmentRegister::Cs, 0xc093)),
        case(
            real,
            "guest CS access rights: DPL must be 0 with type 3",
            set_rights(SegmentRegister::Cs, 0xf3),
        ),
        case(
            long,
            "guest CS access rights: DPL of non-conforming code must equal that of SS",
            set_rights(SegmentRegister::Cs, 0xa0f9),
        ),
        case(
            long,
            "guest CS access rights: DPL of conforming code must not exceed that of SS",
            set_rights(SegmentRegister::Cs, 0xa0bf),
        ),
        case(long, "guest CS access rights: D must be 0 with L", set_rights(SegmentRegister::Cs, 0xe09b)),
    ]
}

fn stack_and_data() -> Vec<Case> {
    let kind = "guest SS access rights: the type must be accessed read-write data (3 or 7)";
    let data_code = "guest SS access rights: DPL must be 0 while the type of CS is 3";
    let not_conforming = "guest CS access rights: DPL of non-conforming code must equal that of SS";
    let real_mode = "guest SS access rights: DPL must be 0 while CR0.PE is 0";
    let mut cases = vec![
        case(long, kind, set_rights(SegmentRegister::Ss, 0xc091)),
        case(long, kind, set_rights(SegmentRegister::Ss, 0xc09b)),
        case(restricted, "guest SS access rights: DPL must equal the selector's RPL", |s| {
            set_rights(SegmentRegister::Ss, 0xc0f3)(s);
            set_rights(SegmentRegister::Cs, 0xc0fb)(s);
        }),
        case(protected, data_code, |s| {
            set_rights(SegmentRegister::Ss, 0xc0f3)(s);
            set_rights(SegmentRegister::Cs, 0xc093)(s);
        }),
        case(real, real_mode, set_rights(SegmentRegister::Ss, 0xf3)).also(not_conforming),
        // An unusable SS still has the privilege level.
        case(real, real_mode, set_rights(SegmentRegister::Ss, 0x1_0060)).also(not_conforming),
    ];
    for (name, register) in DATA {
        let rule = |what: &str| format!("guest {name} access rights: {what}");
        cases.push(case(long, rule("the type must be accessed"), set_rights(register, 0xc092)));
        cases.push(case(long, rule("code must be readable"), set_rights(register, 0xc099)));
        let selector = SEGMENTS[register as usize].selector;
        cases.push(case(restricted, rule("DPL must not be less than the selector's RPL"), move |s| {
            s.flip(selector, 3u64);
        }));
    }
    cases
}

fn system() -> Vec<Case> {
    let busy = "guest TR must be a busy TSS (in IA-32e mode, a 64-bit one)";
    let mut cases = vec![
        case(long, busy, set_rights(SegmentRegister::Tr, 0x89)),
        case(long, busy, set_rights(SegmentRegister::Tr, 0x83)),
        case(protected, busy, set_rights(SegmentRegister::Tr, 0x81)),
        case(
            long,
            "guest TR access rights: the unusable bit must be 0",
            set_rights(SegmentRegister::Tr, 0x1_008b),
        ),
        case(real, "guest LDTR must be an LDT (type 2)", set_rights(SegmentRegister::Ldtr, 0x83)),
    ];
    for (name, register) in SYSTEM {
        let rule = |what: &str| format!("guest {name} {what}");
        let limit = SEGMENTS[register as usize].limit;
        cases.push(case(real, rule("access rights: S must be 0"), flip_rights(register, 1 << 4)));
        cases.push(case(real, rule("access rights: P must be 1"), flip_rights(register, 1 << 7)));
        cases.push(case(real, rule("access rights: bits 11:8 must be 0"), flip_rights(register, 1 << 11)));
        cases.push(case(real, rule("access rights: bits 31:17 must be 0"), flip_rights(register, 1 << 31)));
        cases.push(case(real, rule("limit: G must be 0 unless bits 11:0 are all 1"), move |s| {
            s.set(limit, 0x67);
            flip_rights(register, 1 << 15)(s);
        }));
        cases.push(case(real, rule("limit: G must be 1 if any of bits 31:20 is 1"), move |s| {
            s.set(limit, 0x10_ffff);
        }));
    }
    cases
}

#[test]
fn each_segment_rule_is_named() {
    assert_each_breaks_its_rules(&cases());
}

#[test]
fn unusable_data_segments_are_not_checked() {
    assert_allowed(long, |s| {
        for (_, register) in DATA {
            let fields = &SEGMENTS[register as usize];
            s.set(fields.access_rights, Segment::UNUSABLE | 0xf00);
            s.set(fields.limit, 0x1234_5678);
        }
        s.set(SEGMENTS[0].base, u64::MAX / 2);
    });
    assert_allowed(long, |s| {
        s.set(field::GUEST_LDTR_BASE, NOT_CANONICAL);
        s.set(field::GUEST_LDTR_SELECTOR, 4);
    });
}

#[test]
fn a_process_of_a_64_bit_guest_is_allowed() {
    assert_allowed(long, |s| {
        s.set(field::GUEST_CS_SELECTOR, 0x33);
        set_rights(SegmentRegister::Cs, 0xa0fb)(s);
        s.set(field::GUEST_SS_SELECTOR, 0x2b);
        set_rights(SegmentRegister::Ss, 0xc0f3)(s);
        for (_, register) in DATA {
            set_rights(register, Segment::UNUSABLE)(s);
        }
        s.set(field::GUEST_FS_BASE, 0x7fff_ffff_f000);
    });
}

#[test]
fn a_16_bit_task_is_allowed_outside_ia32e_mode() {
    assert_allowed(protected, set_rights(SegmentRegister::Tr, 0x83));
}

#[test]
fn conforming_code_may_be_data_of_any_privilege() {
    assert_allowed(restricted, |s| {
        set_rights(SegmentRegister::Ds, 0xc09f)(s);
        s.set(field::GUEST_DS_SELECTOR, 3);
    });
}

#[test]
fn a_switch_to_protected_mode_may_keep_real_mode_segments() {
    assert_allowed(real, |s| s.flip(field::GUEST_CR0, 1u64));
}
