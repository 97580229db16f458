//! BT, BTS, BTR, BTC.

use crate::fixture::{DATA, DEVICE, Rig, Seen};
use arch::{Gpr, RFlags, Width};

#[test]
fn an_immediate_offset_stays_in_the_operand() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DATA);
    rig.done(&[0x0f, 0xba, 0x2f, 35]); // bts dword [rdi], 35
    assert_eq!(rig.peek(DATA), 1 << 3);
    assert!(!rig.cpu.rflags.contains(RFlags::CARRY_FLAG));
    rig.done(&[0x0f, 0xba, 0x27, 3]); // bt dword [rdi], 3
    assert!(rig.cpu.rflags.contains(RFlags::CARRY_FLAG));
    assert_eq!(rig.peek(DATA), 1 << 3);
}

#[test]
fn a_register_offset_reaches_beyond_the_operand_both_ways() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DATA + 8).set(Gpr::Rax, 0xffff_ffff);
    rig.poke(DATA, u64::MAX);
    rig.done(&[0x0f, 0xb3, 0x07]); // btr [rdi], eax (bit -1)
    assert_eq!(rig.peek(DATA), u64::MAX >> 1);
    assert!(rig.cpu.rflags.contains(RFlags::CARRY_FLAG));
    rig.set(Gpr::Rax, 64 + 5);
    rig.done(&[0xf0, 0x48, 0x0f, 0xbb, 0x07]); // lock btc [rdi], rax
    assert_eq!(rig.peek(DATA + 16), 1 << 5);
    assert!(!rig.cpu.rflags.contains(RFlags::CARRY_FLAG));
}

#[test]
fn other_flags_stay() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DATA);
    rig.cpu.rflags |= RFlags::ZERO_FLAG | RFlags::CARRY_FLAG;
    rig.done(&[0x0f, 0xba, 0x27, 3]); // bt dword [rdi], 3
    assert_eq!(rig.cpu.rflags, RFlags::ZERO_FLAG | RFlags::from_bits_retain(2));
}

#[test]
fn bt_of_a_device_writes_nothing() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DEVICE).answer(&[8]);
    rig.done(&[0x0f, 0xba, 0x27, 3]); // bt dword [rdi], 3
    assert_eq!(rig.seen(), [Seen::Read(DEVICE, Width::Four)]);
    assert!(rig.cpu.rflags.contains(RFlags::CARRY_FLAG));
}
