//! Arithmetic and logic on memory.

use crate::fixture::{DATA, DEVICE, Rig, Seen};
use arch::{Gpr, RFlags, Width};

const CF: RFlags = RFlags::CARRY_FLAG;
const ZF: RFlags = RFlags::ZERO_FLAG;
const SF: RFlags = RFlags::SIGN_FLAG;
const PF: RFlags = RFlags::PARITY_FLAG;
const AF: RFlags = RFlags::AUXILIARY_CARRY_FLAG;
const OF: RFlags = RFlags::OVERFLOW_FLAG;
const IF: RFlags = RFlags::INTERRUPT_FLAG;

/// Runs `code` with [rdi] = `memory` and RAX = `rax`; returns memory, RAX and the flags, of which IF was set
/// before and all status flags of `before`.
fn on_ram(code: &[u8], memory: u64, rax: u64, before: RFlags) -> (u64, u64, RFlags) {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DATA).set(Gpr::Rax, rax);
    rig.poke(DATA, memory);
    rig.cpu.rflags |= before | IF;
    rig.done(code);
    assert!(rig.cpu.rflags.contains(IF | RFlags::from_bits_retain(2)), "other flags stay");
    (rig.peek(DATA), rig.get(Gpr::Rax), rig.cpu.rflags - IF - RFlags::from_bits_retain(2))
}

#[test]
fn add_carries_out_of_its_width_only() {
    let (memory, _, flags) = on_ram(&[0x01, 0x07], 0xdead_beef_ffff_ffff, 1, OF); // add [rdi], eax
    assert_eq!((memory, flags), (0xdead_beef_0000_0000, CF | ZF | PF | AF));
    let (memory, _, flags) = on_ram(&[0x00, 0x07], 0x117f, 1, RFlags::empty()); // add [rdi], al
    assert_eq!((memory, flags), (0x1180, OF | SF | AF));
}

#[test]
fn add_to_a_register_from_memory() {
    let (memory, rax, flags) = on_ram(&[0x03, 0x07], 5, 0xffff_ffff_0000_0002, CF); // add eax, [rdi]
    assert_eq!((memory, rax, flags), (5, 7, RFlags::empty()));
}

#[test]
fn adc_and_sbb_take_the_carry_in() {
    let (memory, _, flags) = on_ram(&[0x83, 0x17, 0], 0xffff_ffff, 0, CF); // adc dword [rdi], 0
    assert_eq!((memory, flags), (0, CF | ZF | PF | AF));
    let (memory, _, flags) = on_ram(&[0x19, 0x07], 0, 0xffff_ffff, CF); // sbb [rdi], eax
    assert_eq!((memory, flags), (0, CF | ZF | PF | AF));
}

#[test]
fn sub_and_cmp_set_the_same_flags_and_cmp_writes_nothing() {
    let (memory, _, flags) = on_ram(&[0x83, 0x2f, 5], 3, 0, RFlags::empty()); // sub dword [rdi], 5
    assert_eq!((memory, flags), (0xffff_fffe, CF | SF | AF));
    let (memory, _, flags) = on_ram(&[0x83, 0x3f, 5], 3, 0, RFlags::empty()); // cmp dword [rdi], 5
    assert_eq!((memory, flags), (3, CF | SF | AF));
    let (_, _, flags) = on_ram(&[0x3b, 0x07], 3, 3, CF); // cmp eax, [rdi]
    assert_eq!(flags, ZF | PF);
}

#[test]
fn logic_clears_carry_and_overflow() {
    let all = CF | OF | AF;
    let (memory, _, flags) = on_ram(&[0x83, 0x27, 0x0f], 0xf5, 0, all); // and dword [rdi], 0x0f
    assert_eq!((memory, flags), (0x5, PF));
    let (memory, _, flags) = on_ram(&[0x08, 0x07], 0x01, 0x80, all); // or [rdi], al
    assert_eq!((memory, flags), (0x81, SF | PF));
    let (memory, _, flags) = on_ram(&[0xf0, 0x48, 0x31, 0x07], 7, 7, all); // lock xor [rdi], rax
    assert_eq!((memory, flags), (0, ZF | PF));
    let (memory, _, flags) = on_ram(&[0xf6, 0x07, 0x80], 0x180, 0, all); // test byte [rdi], 0x80
    assert_eq!((memory, flags), (0x180, SF));
}

#[test]
fn inc_and_dec_keep_the_carry() {
    let (memory, _, flags) = on_ram(&[0xff, 0x07], 0xffff_ffff, 0, RFlags::empty()); // inc dword [rdi]
    assert_eq!((memory, flags), (0, ZF | PF | AF));
    let (memory, _, flags) = on_ram(&[0xf0, 0xff, 0x0f], 0x8000_0000, 0, CF); // lock dec dword [rdi]
    assert_eq!((memory, flags), (0x7fff_ffff, CF | OF | PF | AF));
}

#[test]
fn not_changes_no_flag_and_neg_sets_carry_unless_zero() {
    let (memory, _, flags) = on_ram(&[0xf7, 0x17], 0x0f, 0, CF | AF); // not dword [rdi]
    assert_eq!((memory, flags), (0xffff_fff0, CF | AF));
    let (memory, _, flags) = on_ram(&[0x66, 0xf7, 0x1f], 0x8000, 0, RFlags::empty()); // neg word [rdi]
    assert_eq!((memory, flags), (0x8000, CF | OF | SF | PF));
    let (_, _, flags) = on_ram(&[0x66, 0xf7, 0x1f], 0, 0, CF);
    assert_eq!(flags, ZF | PF);
}

#[test]
fn read_modify_write_of_a_device_reads_once_and_writes_once() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DEVICE).answer(&[0xf0]);
    rig.done(&[0x83, 0x0f, 0x0f]); // or dword [rdi], 0x0f
    assert_eq!(rig.seen(), [Seen::Read(DEVICE, Width::Four), Seen::Write(DEVICE, Width::Four, 0xff)]);
    rig.answer(&[0xf0]).done(&[0x83, 0x3f, 5]); // cmp dword [rdi], 5
    assert_eq!(rig.seen(), [Seen::Read(DEVICE, Width::Four)]);
}

#[test]
fn cmpxchg_exchanges_when_equal_and_loads_when_not() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DATA).set(Gpr::Rax, 0xaaaa_0000_0000_0005).set(Gpr::Rcx, 9);
    rig.poke(DATA, 5);
    rig.done(&[0xf0, 0x0f, 0xb1, 0x0f]); // lock cmpxchg [rdi], ecx
    assert_eq!((rig.peek(DATA), rig.get(Gpr::Rax)), (9, 0xaaaa_0000_0000_0005));
    assert!(rig.cpu.rflags.contains(ZF));
    rig.done(&[0xf0, 0x0f, 0xb1, 0x0f]);
    assert_eq!((rig.peek(DATA), rig.get(Gpr::Rax)), (9, 9));
    assert!(rig.cpu.rflags.contains(CF) && !rig.cpu.rflags.contains(ZF), "5 - 9 borrows");
}

#[test]
fn cmpxchg8b_compares_the_pair() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DATA).set(Gpr::Rdx, 1).set(Gpr::Rax, 2).set(Gpr::Rcx, 3).set(Gpr::Rbx, 4);
    rig.cpu.rflags |= CF;
    rig.poke(DATA, 0x1_0000_0002);
    rig.done(&[0xf0, 0x0f, 0xc7, 0x0f]); // lock cmpxchg8b [rdi]
    assert_eq!(rig.peek(DATA), 0x3_0000_0004);
    assert!(rig.cpu.rflags.contains(ZF | CF));
    rig.done(&[0xf0, 0x0f, 0xc7, 0x0f]);
    assert_eq!((rig.get(Gpr::Rdx), rig.get(Gpr::Rax)), (3, 4));
    assert!(!rig.cpu.rflags.contains(ZF));
}

#[test]
fn xadd_returns_the_old_value() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DATA).set(Gpr::Rcx, 0xffff_ffff_ffff_ffff);
    rig.poke(DATA, 3);
    rig.done(&[0xf0, 0x0f, 0xc1, 0x0f]); // lock xadd [rdi], ecx
    assert_eq!((rig.peek(DATA), rig.get(Gpr::Rcx)), (2, 3));
    assert_eq!(rig.cpu.rflags & (CF | ZF | AF), CF | AF);
}
