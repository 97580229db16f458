//! String instructions, REP and string port I/O.

use crate::fixture::{CODE, DATA, DEVICE, PAGE_TABLE, Rig, Seen};
use crate::{Emulated, REP_SLICE};
use arch::{Exception, Gpa, Gpr, RFlags, Width};
use memory::GuestMemory;

#[test]
fn stos_stores_and_steps_by_the_direction_flag() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DEVICE).set(Gpr::Rax, 7);
    rig.done(&[0xab]); // stosd
    assert_eq!(rig.get(Gpr::Rdi), DEVICE + 4);
    rig.cpu.rflags |= RFlags::DIRECTION_FLAG;
    rig.done(&[0xab]);
    assert_eq!(rig.get(Gpr::Rdi), DEVICE);
    assert_eq!(rig.seen(), [Seen::Write(DEVICE, Width::Four, 7), Seen::Write(DEVICE + 4, Width::Four, 7)]);
}

#[test]
fn lods_loads_the_accumulator() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rsi, DEVICE).set(Gpr::Rax, u64::MAX).answer(&[5]);
    rig.done(&[0xad]); // lodsd
    assert_eq!((rig.get(Gpr::Rax), rig.get(Gpr::Rsi)), (5, DEVICE + 4));
}

#[test]
fn rep_movs_copies_between_ram_and_device() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rsi, DATA).set(Gpr::Rdi, DEVICE).set(Gpr::Rcx, 2);
    rig.poke(DATA, 1);
    rig.poke(DATA + 8, 2);
    rig.done(&[0xf3, 0x48, 0xa5]); // rep movsq
    assert_eq!(rig.seen(), [Seen::Write(DEVICE, Width::Eight, 1), Seen::Write(DEVICE + 8, Width::Eight, 2)]);
    assert_eq!((rig.get(Gpr::Rcx), rig.get(Gpr::Rsi), rig.get(Gpr::Rdi)), (0, DATA + 16, DEVICE + 16));
}

#[test]
fn rep_with_a_zero_count_does_nothing() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, 0xdead_0000_0000_0000);
    rig.done(&[0xf3, 0xab]); // rep stosd
    assert!(rig.seen().is_empty());
}

#[test]
fn a_long_rep_goes_on_in_slices() {
    let mut rig = Rig::long();
    let slice = u64::from(REP_SLICE);
    rig.set(Gpr::Rdi, DEVICE).set(Gpr::Rcx, slice + 10);
    assert_eq!(rig.run(&[0xf3, 0xaa]), Emulated::Again); // rep stosb
    assert_eq!((rig.get(Gpr::Rcx), rig.get(Gpr::Rdi), rig.cpu.rip), (10, DEVICE + slice, CODE));
    assert_eq!(rig.step(), Emulated::Done { next_rip: CODE + 2 });
    assert_eq!((rig.get(Gpr::Rcx), rig.get(Gpr::Rdi)), (0, DEVICE + slice + 10));
    assert_eq!(rig.seen().len() as u64, slice + 10);
}

#[test]
fn a_single_step_ends_each_iteration() {
    let mut rig = Rig::long();
    rig.cpu.rflags |= RFlags::TRAP_FLAG;
    rig.set(Gpr::Rdi, DEVICE).set(Gpr::Rcx, 2);
    assert_eq!(rig.run(&[0xf3, 0xaa]), Emulated::Again); // rep stosb
    assert_eq!(rig.get(Gpr::Rcx), 1);
    assert_eq!(rig.step(), Emulated::Done { next_rip: CODE + 2 });
}

#[test]
fn a_fault_in_a_rep_keeps_the_iterations_before_it() {
    let mut rig = Rig::long();
    rig.poke(PAGE_TABLE + 10 * 8, 0);
    rig.set(Gpr::Rdi, DATA + 0xff8).set(Gpr::Rcx, 5).set(Gpr::Rax, 1);
    let fault = Exception::PageFault { error_code: 2, address: DATA + 0x1000 };
    assert_eq!(rig.run(&[0xf3, 0xab]), Emulated::Fault(fault)); // rep stosd
    assert_eq!((rig.get(Gpr::Rcx), rig.get(Gpr::Rdi)), (3, DATA + 0x1000));
    assert_eq!(rig.peek(DATA + 0xff8), 0x1_0000_0001);
}

#[test]
fn repe_cmps_stops_at_the_first_difference() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rsi, DATA).set(Gpr::Rdi, DEVICE).set(Gpr::Rcx, 8);
    rig.poke(DATA, 0x04_03_02_01);
    rig.answer(&[1, 2, 9]);
    rig.done(&[0xf3, 0xa6]); // repe cmpsb
    assert_eq!((rig.get(Gpr::Rcx), rig.get(Gpr::Rsi)), (5, DATA + 3));
    assert!(rig.cpu.rflags.contains(RFlags::CARRY_FLAG), "3 - 9 borrows");
}

#[test]
fn repne_scas_stops_at_the_first_match() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DEVICE).set(Gpr::Rcx, 8).set(Gpr::Rax, 3).answer(&[1, 2, 3]);
    rig.done(&[0xf2, 0xae]); // repne scasb
    assert_eq!((rig.get(Gpr::Rcx), rig.get(Gpr::Rdi)), (5, DEVICE + 3));
    assert!(rig.cpu.rflags.contains(RFlags::ZERO_FLAG));
}

#[test]
fn a_32_bit_address_size_uses_and_clears_upper_halves() {
    let mut rig = Rig::long();
    let junk = 0xffff_ffff_0000_0000;
    rig.set(Gpr::Rdi, junk | DEVICE).set(Gpr::Rcx, junk | 1).set(Gpr::Rax, 1);
    rig.done(&[0x67, 0xf3, 0xab]); // rep stos dword [edi]
    assert_eq!((rig.get(Gpr::Rdi), rig.get(Gpr::Rcx)), (DEVICE + 4, 0));
    assert_eq!(rig.seen().len(), 1);
}

#[test]
fn rep_outs_writes_the_port() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rsi, DATA).set(Gpr::Rdx, 0xffff_03f8).set(Gpr::Rcx, 3);
    rig.memory.write(Gpa::new(DATA), b"abc").expect("RAM");
    rig.done(&[0xf3, 0x6e]); // rep outsb
    assert_eq!(rig.seen(), b"abc".map(|byte| Seen::Out(0x3f8, Width::One, u32::from(byte))));
    rig.done(&[0x66, 0x6f]); // outsw
    assert_eq!(rig.seen(), [Seen::Out(0x3f8, Width::Two, 0)]);
}

#[test]
fn outs_obeys_a_segment_override() {
    let mut rig = Rig::long();
    rig.cpu.segments[arch::SegmentRegister::Gs as usize].base = 1;
    rig.set(Gpr::Rsi, DATA).set(Gpr::Rdx, 0x80).set(Gpr::Rcx, 1);
    rig.poke(DATA, 0x2211);
    rig.done(&[0x65, 0xf3, 0x6e]); // rep outsb gs:[rsi]
    assert_eq!(rig.seen(), [Seen::Out(0x80, Width::One, 0x22)]);
}

#[test]
fn rep_ins_fills_memory_from_the_port() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DATA).set(Gpr::Rdx, 0x1f0).set(Gpr::Rcx, 2).answer(&[0x11, 0x22]);
    rig.done(&[0xf3, 0x6c]); // rep insb
    assert_eq!(rig.peek(DATA), 0x2211);
    assert_eq!(rig.seen(), [Seen::In(0x1f0, Width::One); 2]);
}

#[test]
fn ins_to_an_unmapped_page_does_not_read_the_port() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, 0x4000_0000).set(Gpr::Rdx, 0x60);
    let fault = Exception::PageFault { error_code: 2, address: 0x4000_0000 };
    assert_eq!(rig.run(&[0x6c]), Emulated::Fault(fault)); // insb
    assert!(rig.seen().is_empty());
}

#[test]
fn ports_need_privilege_or_the_bitmap() {
    let mut rig = Rig::long();
    rig.enter_user_mode();
    rig.set(Gpr::Rsi, DATA).set(Gpr::Rdx, 9);
    let denied = Emulated::Fault(Exception::GeneralProtection(0));
    // The bitmap begins past the limit of the TSS: there is none.
    rig.memory.write(Gpa::new(0xc066), &0x68_u16.to_le_bytes()).expect("RAM");
    assert_eq!(rig.run(&[0x6e]), denied); // outsb
    // One whose bitmap denies all but ports 9 and 10.
    rig.cpu.segments[arch::SegmentRegister::Tr as usize].limit = 0x6b;
    rig.memory.write(Gpa::new(0xc068), &[0xff, 0b1111_1001, 0xff, 0xff]).expect("RAM");
    rig.done(&[0x6e]);
    rig.set(Gpr::Rdx, 10);
    assert_eq!(rig.run(&[0x66, 0x6f]), denied); // outsw: ports 10 and 11
    rig.set(Gpr::Rdx, 0x400);
    assert_eq!(rig.run(&[0x6e]), denied, "past the limit of the TSS");
    rig.cpu.rflags |= RFlags::IOPL_HIGH | RFlags::IOPL_LOW;
    rig.done(&[0x6e]);
}
