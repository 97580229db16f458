//! PUSH and POP.

use crate::Emulated;
use crate::fixture::{DATA, DEVICE, PAGE_TABLE, Rig, STACK, Seen};
use arch::{Exception, Gpr, Width};

#[test]
fn push_moves_device_memory_to_the_stack() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DEVICE).answer(&[0x1122_3344_5566_7788, 0xabcd]);
    rig.done(&[0xff, 0x37]); // push qword [rdi]
    assert_eq!(rig.get(Gpr::Rsp), STACK - 8);
    assert_eq!(rig.peek(STACK - 8), 0x1122_3344_5566_7788);
    rig.done(&[0x66, 0xff, 0x37]); // push word [rdi]
    assert_eq!(rig.get(Gpr::Rsp), STACK - 10);
    assert_eq!(rig.seen()[1], Seen::Read(DEVICE, Width::Two));
}

#[test]
fn pop_moves_the_stack_to_device_memory() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DEVICE);
    rig.poke(STACK, 0x55);
    rig.done(&[0x8f, 0x07]); // pop qword [rdi]
    assert_eq!(rig.get(Gpr::Rsp), STACK + 8);
    assert_eq!(rig.seen(), [Seen::Write(DEVICE, Width::Eight, 0x55)]);
}

#[test]
fn rsp_in_the_address_is_old_for_push_and_new_for_pop() {
    let mut rig = Rig::long();
    rig.poke(STACK, 0x11);
    rig.done(&[0xff, 0x34, 0x24]); // push qword [rsp]
    assert_eq!(rig.peek(STACK - 8), 0x11);
    rig.done(&[0x8f, 0x44, 0x24, 8]); // pop qword [rsp+8]
    assert_eq!(rig.peek(STACK + 8), 0x11);
    assert_eq!(rig.get(Gpr::Rsp), STACK);
}

#[test]
fn pop_to_rsp_takes_the_value() {
    let mut rig = Rig::long();
    rig.poke(STACK, 0x1234);
    rig.done(&[0x5c]); // pop rsp
    assert_eq!(rig.get(Gpr::Rsp), 0x1234);
}

#[test]
fn a_fault_leaves_the_stack_pointer() {
    let mut rig = Rig::long();
    rig.poke(PAGE_TABLE + 9 * 8, 0);
    rig.set(Gpr::Rdi, DATA);
    let fault = Exception::PageFault { error_code: 2, address: DATA };
    assert_eq!(rig.run(&[0x8f, 0x07]), Emulated::Fault(fault)); // pop qword [rdi]
    assert_eq!(rig.get(Gpr::Rsp), STACK);
}

#[test]
fn a_16_bit_stack_pointer_wraps_and_keeps_its_upper_bits() {
    let mut rig = Rig::real();
    rig.set(Gpr::Rbx, DATA).set(Gpr::Rsp, 0x7777_0000);
    rig.poke(DATA, 0x4321);
    rig.done(&[0xff, 0x37]); // push word [bx]
    assert_eq!(rig.get(Gpr::Rsp), 0x7777_fffe);
    assert_eq!(rig.peek(0xfff8) >> 48, 0x4321);
    rig.set(Gpr::Rsp, 1);
    assert_eq!(rig.run(&[0xff, 0x37]), Emulated::Fault(Exception::StackFault(0)));
}

#[test]
fn a_32_bit_stack_takes_doublewords() {
    let mut rig = Rig::protected();
    rig.set(Gpr::Rdi, DEVICE).answer(&[0x99]);
    rig.done(&[0xff, 0x37]); // push dword [edi]
    assert_eq!(rig.get(Gpr::Rsp), STACK - 4);
    rig.done(&[0x8f, 0x07]); // pop dword [edi]
    assert_eq!(rig.seen(), [Seen::Read(DEVICE, Width::Four), Seen::Write(DEVICE, Width::Four, 0x99)]);
}
