//! Real-address, protected and user mode: segments and rights.

use crate::Emulated;
use crate::fixture::{CODE, DATA, DEVICE, Rig, Seen};
use arch::{Cr0Flags, Exception, Gpr, RFlags, Segment, SegmentRegister, Width};

const GP: Emulated = Emulated::Fault(Exception::GeneralProtection(0));

#[test]
fn real_mode_adds_the_segment_base() {
    let mut rig = Rig::real();
    rig.cpu.segments[SegmentRegister::Ds as usize].base = DATA;
    rig.cpu.segments[SegmentRegister::Es as usize].base = 0xffff0;
    rig.set(Gpr::Rbx, 0xffff).set(Gpr::Rsi, 3).set(Gpr::Rax, 0xabcd);
    rig.done(&[0x89, 0x00]); // mov [bx+si], ax: wraps to 2
    assert_eq!(rig.peek(DATA) >> 16, 0xabcd);
    rig.poke(0x10_0000, 0x66);
    rig.set(Gpr::Rdi, 0x10);
    rig.done(&[0x26, 0x8a, 0x05]); // mov al, es:[di]: past 1 MiB
    assert_eq!(rig.get(Gpr::Rax), 0xab66);
}

#[test]
fn real_mode_checks_the_limit() {
    let mut rig = Rig::real();
    assert_eq!(rig.run(&[0xa3, 0xff, 0xff]), GP); // mov [0xffff], ax
    rig.set(Gpr::Rbx, 0x1_0000);
    assert_eq!(rig.run(&[0x67, 0x66, 0x8b, 0x03]), GP); // mov eax, [ebx]
    rig.cpu.segments[SegmentRegister::Ds as usize].limit = u32::MAX;
    rig.done(&[0x67, 0x66, 0x8b, 0x03]); // big real mode
}

#[test]
fn a_16_bit_rep_counts_cx_and_keeps_upper_bits() {
    let mut rig = Rig::real();
    rig.set(Gpr::Rdi, 0x1_0000 | DATA).set(Gpr::Rcx, 0x5_0002).set(Gpr::Rax, 0x41);
    rig.done(&[0xf3, 0xaa]); // rep stosb
    assert_eq!((rig.get(Gpr::Rcx), rig.get(Gpr::Rdi)), (0x5_0000, 0x1_0000 | (DATA + 2)));
    assert_eq!(rig.peek(DATA), 0x4141);
}

#[test]
fn the_instruction_pointer_leaves_a_16_bit_segment_into_its_limit() {
    let mut rig = Rig::real();
    rig.cpu.rip = 0xfffe;
    rig.set(Gpr::Rdi, DATA);
    assert_eq!(rig.run(&[0x90, 0xaa][1..]), Emulated::Done { next_rip: 0xffff }); // stosb
    rig.cpu.rip = 0xffff;
    assert_eq!(rig.run(&[0xaa]), Emulated::Done { next_rip: 0x1_0000 });
    rig.cpu.rip = 0x1_0000;
    assert_eq!(rig.step(), GP, "past the limit");
    rig.cpu.rip = 0xffff;
    assert_eq!(rig.run(&[0x89]), GP, "the second byte is past it");
    let mut rig = Rig::protected();
    rig.cpu.rip = 0x1_0000;
    rig.set(Gpr::Rdi, DATA);
    assert_eq!(rig.run(&[0xaa]), Emulated::Done { next_rip: 0x1_0001 });
}

#[test]
fn protected_mode_checks_type_limit_and_presence() {
    let mut rig = Rig::protected();
    rig.set(Gpr::Rdi, DATA);
    rig.done(&[0x89, 0x07]); // mov [edi], eax
    assert_eq!(rig.run(&[0x2e, 0x89, 0x07]), GP); // mov cs:[edi], eax
    rig.done(&[0x2e, 0x8b, 0x07]); // mov eax, cs:[edi]
    rig.cpu.segments[SegmentRegister::Cs as usize].access_rights = 0xc099; // execute-only
    assert_eq!(rig.run(&[0x2e, 0x8b, 0x07]), GP);
    rig.cpu.segments[SegmentRegister::Ds as usize].access_rights = 0xc091; // read-only
    assert_eq!(rig.run(&[0x89, 0x07]), GP);
    rig.done(&[0x8b, 0x07]); // mov eax, [edi]
    rig.cpu.segments[SegmentRegister::Ds as usize] = Segment::unusable();
    assert_eq!(rig.run(&[0x8b, 0x07]), GP);
    rig.cpu.segments[SegmentRegister::Ss as usize].limit = 0x9002;
    let stack_fault = Emulated::Fault(Exception::StackFault(0));
    assert_eq!(rig.run(&[0x36, 0x8b, 0x07]), stack_fault); // mov eax, ss:[edi]
}

#[test]
fn an_expand_down_segment_allows_what_is_above_its_limit() {
    let mut rig = Rig::protected();
    let data = &mut rig.cpu.segments[SegmentRegister::Ds as usize];
    data.access_rights = 0xc097;
    data.limit = 0x9fff;
    rig.set(Gpr::Rdi, 0xa000);
    rig.done(&[0x8b, 0x07]); // mov eax, [edi]
    rig.set(Gpr::Rdi, 0x9fff);
    assert_eq!(rig.run(&[0x8b, 0x07]), GP);
    rig.cpu.segments[SegmentRegister::Ds as usize].access_rights = 0x8097; // B clear: up to 0xffff
    rig.set(Gpr::Rdi, 0xfffd);
    assert_eq!(rig.run(&[0x8b, 0x07]), GP);
}

#[test]
fn protected_mode_reaches_devices_by_moffs_and_16_bit_addresses() {
    let mut rig = Rig::protected();
    rig.set(Gpr::Rax, 1);
    rig.done(&[0xa3, 0x20, 0, 0xe0, 0xfe]); // mov [0xfee00020], eax
    assert_eq!(rig.seen(), [Seen::Write(DEVICE + 0x20, Width::Four, 1)]);
    rig.set(Gpr::Rbx, 0xffff_0000 | DATA);
    rig.poke(DATA, 0x55);
    rig.done(&[0x67, 0x66, 0x8b, 0x07]); // mov ax, [bx]
    assert_eq!(rig.get(Gpr::Rax), 0x55);
}

#[test]
fn the_linear_address_wraps_at_4_gib_outside_of_64_bit_mode() {
    let mut rig = Rig::protected();
    rig.cpu.segments[SegmentRegister::Ds as usize].base = 0xffff_f000;
    rig.set(Gpr::Rdi, DATA + 0x1000);
    rig.poke(DATA, 0x1234);
    rig.done(&[0x8b, 0x07]); // mov eax, [edi]
    assert_eq!(rig.get(Gpr::Rax), 0x1234);
}

#[test]
fn a_user_access_to_a_supervisor_page_faults() {
    let mut rig = Rig::long();
    rig.enter_user_mode();
    let entry = crate::fixture::PAGE_TABLE + 9 * 8;
    rig.poke(entry, rig.peek(entry) & !4);
    rig.set(Gpr::Rdi, DATA);
    let fault = Exception::PageFault { error_code: 5, address: DATA };
    assert_eq!(rig.run(&[0x8b, 0x07]), Emulated::Fault(fault)); // mov eax, [rdi]
}

#[test]
fn alignment_is_checked_for_user_code_that_asks() {
    let mut rig = Rig::long();
    rig.enter_user_mode();
    rig.cpu.cr0 |= Cr0Flags::ALIGNMENT_MASK;
    rig.set(Gpr::Rdi, DATA + 1);
    rig.done(&[0x8b, 0x07]); // mov eax, [rdi]
    rig.cpu.rflags |= RFlags::ALIGNMENT_CHECK;
    assert_eq!(rig.run(&[0x8b, 0x07]), Emulated::Fault(Exception::AlignmentCheck));
    rig.set(Gpr::Rdi, DATA + 4).done(&[0x8b, 0x07]);
}

#[test]
fn compatibility_mode_uses_segments_and_32_bit_addresses() {
    let mut rig = Rig::long();
    rig.cpu.segments[SegmentRegister::Cs as usize].access_rights = 0xc09b;
    rig.cpu.segments[SegmentRegister::Ds as usize].base = 0x10;
    rig.set(Gpr::Rdi, 0xffff_ffff_0000_0000 | DEVICE);
    rig.done(&[0x89, 0x07]); // mov [edi], eax
    assert_eq!(rig.seen(), [Seen::Write(DEVICE + 0x10, Width::Four, 0)]);
    assert_eq!(rig.cpu.rip, CODE, "RIP is the caller's to move");
}
