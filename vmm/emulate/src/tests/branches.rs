//! Near branches through device memory, and with a stack there.

use crate::Emulated;
use crate::fixture::{CODE, DATA, DEVICE, PAGE_TABLE, Rig, STACK, Seen};
use arch::{Exception, Gpr, SegmentRegister, Width};

const GP: Emulated = Emulated::Fault(Exception::GeneralProtection(0));

fn at(next_rip: u64) -> Emulated {
    Emulated::Done { next_rip }
}

#[test]
fn a_jump_goes_where_the_device_says() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DEVICE).answer(&[u64::MAX, 0x1_2345_6789]);
    assert_eq!(rig.run(&[0xff, 0x27]), at(u64::MAX)); // jmp [rdi]
    // An operand-size prefix says nothing in 64-bit mode.
    assert_eq!(rig.run(&[0x66, 0xff, 0x27]), at(0x1_2345_6789));
    assert_eq!(rig.seen(), [Seen::Read(DEVICE, Width::Eight); 2]);
    assert_eq!(rig.cpu.rip, CODE, "the caller moves it");
}

#[test]
fn a_jump_to_no_canonical_address_is_refused_before_it_is_made() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DEVICE).answer(&[1 << 47]);
    assert_eq!(rig.run(&[0xff, 0x27]), GP);
}

#[test]
fn a_jump_beyond_the_limit_is_refused() {
    let mut rig = Rig::protected();
    rig.cpu.segments[SegmentRegister::Cs as usize].limit = 0x1_ffff;
    rig.set(Gpr::Rdi, DEVICE).answer(&[0x1_ffff, 0x2_0000, 0xabcd_1234]);
    assert_eq!(rig.run(&[0xff, 0x27]), at(0x1_ffff));
    assert_eq!(rig.run(&[0xff, 0x27]), GP);
    assert_eq!(rig.run(&[0x66, 0xff, 0x27]), at(0x1234), "16 bits of it");
}

#[test]
fn a_call_leaves_the_way_back_on_the_stack() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DEVICE).answer(&[0x7000]);
    assert_eq!(rig.run(&[0xff, 0x57, 0x10]), at(0x7000)); // call [rdi+16]
    assert_eq!((rig.get(Gpr::Rsp), rig.peek(STACK - 8)), (STACK - 8, CODE + 3));
    assert_eq!(rig.seen(), [Seen::Read(DEVICE + 16, Width::Eight)]);
    rig.poke(PAGE_TABLE + (STACK >> 12) * 8, 0);
    rig.set(Gpr::Rsp, STACK + 8);
    let fault = Exception::PageFault { error_code: 2, address: STACK };
    assert_eq!(rig.run(&[0xff, 0x57, 0x10]), Emulated::Fault(fault));
    assert_eq!(rig.get(Gpr::Rsp), STACK + 8);
    assert_eq!(rig.seen(), [], "the device is left alone");
}

#[test]
fn a_call_that_is_refused_leaves_the_stack() {
    let mut rig = Rig::long();
    rig.poke(STACK - 8, 0x55);
    rig.set(Gpr::Rdi, DEVICE).answer(&[1 << 63]);
    assert_eq!(rig.run(&[0xff, 0x17]), GP); // call [rdi]
    assert_eq!((rig.get(Gpr::Rsp), rig.peek(STACK - 8)), (STACK, 0x55));
}

#[test]
fn a_16_bit_call_pushes_a_word() {
    let mut rig = Rig::real();
    rig.set(Gpr::Rbx, DATA);
    rig.poke(DATA, 0x1234_5678);
    assert_eq!(rig.run(&[0xff, 0x17]), at(0x5678)); // call [bx]
    assert_eq!((rig.get(Gpr::Rsp), rig.peek(STACK - 2) & 0xffff), (STACK - 2, CODE + 2));
}

#[test]
fn a_stack_in_device_memory_takes_calls_and_returns() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rsp, DEVICE + 0x100).answer(&[0x6000, 0x6001]);
    assert_eq!(rig.run(&[0xe8, 0xfb, 0x0f, 0, 0]), at(CODE + 0x1000)); // call
    assert_eq!(rig.seen(), [Seen::Write(DEVICE + 0xf8, Width::Eight, CODE + 5)]);
    assert_eq!(rig.run(&[0xc3]), at(0x6000)); // ret
    assert_eq!(rig.get(Gpr::Rsp), DEVICE + 0x100);
    assert_eq!(rig.run(&[0xc2, 0x10, 0]), at(0x6001)); // ret 16
    assert_eq!(rig.get(Gpr::Rsp), DEVICE + 0x118);
    assert_eq!(
        rig.seen(),
        [Seen::Read(DEVICE + 0xf8, Width::Eight), Seen::Read(DEVICE + 0x100, Width::Eight)]
    );
}

#[test]
fn a_far_jump_is_not_emulated() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DEVICE);
    assert!(matches!(rig.run(&[0xff, 0x2f]), Emulated::Unsupported { length: 2, .. })); // jmp far [rdi]
    assert_eq!(rig.seen(), []);
}
