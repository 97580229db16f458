//! The rarer instructions on general-purpose registers.

use crate::Emulated;
use crate::fixture::{DATA, DEVICE, PAGE_TABLE, Rig, Seen};
use arch::{Exception, Gpr, RFlags, SegmentRegister, Width};

fn device() -> Rig {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DEVICE);
    rig
}

#[test]
fn movbe_swaps_both_ways() {
    let mut rig = device();
    rig.set(Gpr::Rax, 0x1122_3344_5566_7788);
    rig.done(&[0x0f, 0x38, 0xf1, 0x07]); // movbe [rdi], eax
    rig.done(&[0x66, 0x0f, 0x38, 0xf1, 0x07]); // movbe [rdi], ax
    rig.done(&[0x48, 0x0f, 0x38, 0xf1, 0x07]); // movbe [rdi], rax
    let writes = [
        Seen::Write(DEVICE, Width::Four, 0x8877_6655),
        Seen::Write(DEVICE, Width::Two, 0x8877),
        Seen::Write(DEVICE, Width::Eight, 0x8877_6655_4433_2211),
    ];
    assert_eq!(rig.seen(), writes);
    rig.answer(&[0x0102_0304]).done(&[0x0f, 0x38, 0xf0, 0x07]); // movbe eax, [rdi]
    assert_eq!(rig.get(Gpr::Rax), 0x0403_0201);
}

#[test]
fn selectors_are_stored_as_words() {
    let mut rig = device();
    rig.cpu.segments[SegmentRegister::Gs as usize].selector = 0x1234;
    rig.done(&[0x8c, 0x2f]); // mov [rdi], gs
    rig.done(&[0x48, 0x8c, 0x2f]); // mov [rdi], gs, with REX.W
    assert_eq!(rig.seen(), [Seen::Write(DEVICE, Width::Two, 0x1234); 2]);
    rig.set(Gpr::Rax, u64::MAX).done(&[0x8c, 0xe8]); // mov eax, gs
    assert_eq!(rig.get(Gpr::Rax), 0x1234);
}

#[test]
fn conditions_choose_what_is_set_and_moved() {
    let mut rig = device();
    rig.cpu.rflags |= RFlags::ZERO_FLAG;
    rig.done(&[0x0f, 0x94, 0x07]); // sete [rdi]
    rig.done(&[0x0f, 0x95, 0x07]); // setne [rdi]
    assert_eq!(rig.seen(), [Seen::Write(DEVICE, Width::One, 1), Seen::Write(DEVICE, Width::One, 0)]);
    rig.set(Gpr::Rax, u64::MAX).answer(&[5, 6]);
    rig.done(&[0x0f, 0x45, 0x07]); // cmovne eax, [rdi]
    assert_eq!(rig.get(Gpr::Rax), 0xffff_ffff, "read and cleared above all the same");
    rig.done(&[0x0f, 0x44, 0x07]); // cmove eax, [rdi]
    assert_eq!(rig.get(Gpr::Rax), 6);
    assert_eq!(rig.seen(), [Seen::Read(DEVICE, Width::Four); 2]);
}

#[test]
fn shifts_change_memory() {
    let mut rig = device();
    rig.set(Gpr::Rcx, 4).answer(&[0x8000_0001, 0x10, 0x8000_0001, 0x0f]);
    rig.done(&[0xd1, 0x27]); // shl dword [rdi], 1
    assert!(rig.cpu.rflags.contains(RFlags::CARRY_FLAG));
    rig.done(&[0xd2, 0x2f]); // shr byte [rdi], cl
    rig.done(&[0xc1, 0x07, 4]); // rol dword [rdi], 4
    rig.done(&[0xc0, 0x0f, 4]); // ror byte [rdi], 4
    let writes: Vec<Seen> = rig.seen().into_iter().filter(|seen| matches!(seen, Seen::Write(..))).collect();
    let wanted = [
        Seen::Write(DEVICE, Width::Four, 2),
        Seen::Write(DEVICE, Width::One, 1),
        Seen::Write(DEVICE, Width::Four, 0x18),
        Seen::Write(DEVICE, Width::One, 0xf0),
    ];
    assert_eq!(writes, wanted);
    rig.set(Gpr::Rax, 0xabcd_0000).answer(&[0x1234]);
    rig.done(&[0x0f, 0xa4, 0x07, 16]); // shld [rdi], eax, 16
    assert_eq!(rig.seen()[1], Seen::Write(DEVICE, Width::Four, 0x1234_abcd));
}

#[test]
fn products_go_where_they_belong() {
    let mut rig = device();
    rig.set(Gpr::Rax, 0xffff_ffff_8000_0000).set(Gpr::Rdx, u64::MAX).answer(&[4, 0x10, 3, 5, 0xff]);
    rig.done(&[0xf7, 0x27]); // mul dword [rdi]
    assert_eq!((rig.get(Gpr::Rdx), rig.get(Gpr::Rax)), (2, 0));
    assert!(rig.cpu.rflags.contains(RFlags::CARRY_FLAG | RFlags::OVERFLOW_FLAG));
    rig.set(Gpr::Rax, 0x5555_5520).done(&[0xf6, 0x27]); // mul byte [rdi]
    assert_eq!(rig.get(Gpr::Rax), 0x5555_0200, "in AX");
    rig.set(Gpr::Rcx, 7).done(&[0x0f, 0xaf, 0x0f]); // imul ecx, [rdi]
    assert_eq!(rig.get(Gpr::Rcx), 21);
    assert!(!rig.cpu.rflags.contains(RFlags::CARRY_FLAG));
    rig.done(&[0x6b, 0x0f, 0xfe]); // imul ecx, [rdi], -2
    assert_eq!(rig.get(Gpr::Rcx), 0xffff_fff6);
    rig.done(&[0x66, 0x69, 0x0f, 0x00, 0x80]); // imul cx, [rdi], -32768
    assert_eq!(rig.get(Gpr::Rcx), 0xffff_8000);
}

#[test]
fn a_division_that_has_no_result_changes_nothing() {
    let mut rig = device();
    rig.set(Gpr::Rdx, 1).set(Gpr::Rax, 5).answer(&[10, 1, 0]);
    rig.done(&[0xf7, 0x37]); // div dword [rdi]
    assert_eq!((rig.get(Gpr::Rax), rig.get(Gpr::Rdx)), (0x1999_999a, 1));
    for _ in 0..2 {
        let before = rig.cpu.clone();
        assert_eq!(rig.run(&[0xf7, 0x37]), Emulated::Fault(Exception::DivideError));
        assert_eq!(rig.cpu, before);
    }
    rig.set(Gpr::Rax, 0xfff9).answer(&[2]).done(&[0xf6, 0x3f]); // idiv byte [rdi]: -7 / 2
    assert_eq!(rig.get(Gpr::Rax), 0xfffd, "-3, remainder -1");
}

#[test]
fn bit_scans_of_zero_leave_the_destination() {
    let mut rig = device();
    rig.set(Gpr::Rax, 0x77_0000_0077).answer(&[0, 0x100, 0x100, 0, 0xff]);
    rig.done(&[0x0f, 0xbc, 0x07]); // bsf eax, [rdi]
    assert_eq!(rig.get(Gpr::Rax), 0x77_0000_0077);
    assert!(rig.cpu.rflags.contains(RFlags::ZERO_FLAG));
    rig.done(&[0x0f, 0xbc, 0x07]);
    assert_eq!(rig.get(Gpr::Rax), 8);
    rig.done(&[0x0f, 0xbd, 0x07]); // bsr eax, [rdi]
    assert_eq!(rig.get(Gpr::Rax), 8);
    rig.done(&[0xf3, 0x0f, 0xbc, 0x07]); // tzcnt eax, [rdi]
    assert_eq!(rig.get(Gpr::Rax), 32);
    rig.done(&[0xf3, 0x0f, 0xb8, 0x07]); // popcnt eax, [rdi]
    assert_eq!(rig.get(Gpr::Rax), 8);
}

#[test]
fn cmpxchg16b_takes_aligned_memory_alone() {
    let mut rig = device();
    rig.set(Gpr::Rdx, 1).set(Gpr::Rax, 2).set(Gpr::Rcx, 3).set(Gpr::Rbx, 4).answer(&[2, 1, 8, 9]);
    let code = [0xf0, 0x48, 0x0f, 0xc7, 0x0f]; // lock cmpxchg16b [rdi]
    rig.done(&code);
    assert!(rig.cpu.rflags.contains(RFlags::ZERO_FLAG));
    let seen = [
        Seen::Read(DEVICE, Width::Eight),
        Seen::Read(DEVICE + 8, Width::Eight),
        Seen::Write(DEVICE, Width::Eight, 4),
        Seen::Write(DEVICE + 8, Width::Eight, 3),
    ];
    assert_eq!(rig.seen(), seen);
    rig.done(&code);
    assert_eq!((rig.get(Gpr::Rdx), rig.get(Gpr::Rax)), (9, 8));
    assert!(!rig.cpu.rflags.contains(RFlags::ZERO_FLAG));
    rig.set(Gpr::Rdi, DEVICE + 8);
    assert_eq!(rig.run(&code), Emulated::Fault(Exception::GeneralProtection(0)));
}

#[test]
fn cache_line_flushes_check_a_read_and_do_nothing() {
    let mut rig = device();
    rig.done(&[0x0f, 0xae, 0x3f]); // clflush [rdi]
    rig.done(&[0x66, 0x0f, 0xae, 0x3f]); // clflushopt [rdi]
    rig.done(&[0x66, 0x0f, 0xae, 0x37]); // clwb [rdi]
    assert!(rig.seen().is_empty());
    rig.poke(PAGE_TABLE + 9 * 8, 0);
    rig.set(Gpr::Rdi, DATA);
    let fault = Exception::PageFault { error_code: 0, address: DATA };
    assert_eq!(rig.run(&[0x0f, 0xae, 0x3f]), Emulated::Fault(fault));
}

#[test]
fn segment_prefixes_without_a_meaning_are_ignored_in_64_bit_mode() {
    let mut rig = device();
    rig.set(Gpr::Rdi, 1 << 47).set(Gpr::Rbp, 1 << 47).set(Gpr::Rsi, 1 << 47);
    let (gp, ss) = (Exception::GeneralProtection(0), Exception::StackFault(0));
    assert_eq!(rig.run(&[0x36, 0x8b, 0x07]), Emulated::Fault(gp)); // mov eax, ss:[rdi]
    assert_eq!(rig.run(&[0x3e, 0x8b, 0x45, 0]), Emulated::Fault(ss)); // mov eax, ds:[rbp]
    assert_eq!(rig.run(&[0x36, 0xac]), Emulated::Fault(gp)); // lods ss:[rsi]
    let mut rig = Rig::protected();
    rig.set(Gpr::Rdi, DEVICE);
    rig.cpu.segments[SegmentRegister::Ss as usize].limit = 0xffff;
    assert_eq!(rig.run(&[0x36, 0x8b, 0x07]), Emulated::Fault(ss)); // mov eax, ss:[edi]
}

#[test]
fn absolute_addresses_have_the_size_of_the_mode() {
    let mut rig = device();
    rig.set(Gpr::Rax, 0x55);
    let mut code = vec![0xa2]; // mov [moffs64], al
    code.extend(DEVICE.to_le_bytes());
    rig.done(&code);
    assert_eq!(rig.seen(), [Seen::Write(DEVICE, Width::One, 0x55)]);
    rig.answer(&[0x1234]).done(&[0x67, 0xa1, 0, 0, 0xe0, 0xfe]); // mov eax, [moffs32]
    assert_eq!(rig.get(Gpr::Rax), 0x1234);
    let mut rig = Rig::real();
    rig.set(Gpr::Rax, 7).done(&[0xa3, 0x00, 0x90]); // mov [moffs16], ax
    assert_eq!(rig.peek(0x9000), 7);
}
