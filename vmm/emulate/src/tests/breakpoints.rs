//! Breakpoints on data and ports.

use crate::fixture::{CODE, DATA, DEVICE, Rig, STACK, Seen};
use crate::{Access, Emulated, KnownTranslation};
use arch::{Cr4Flags, Exception, Gpa, Gpr, Gva, Width};

/// Breakpoint 0 is on, 4 bytes long, on writes.
const WRITES: u64 = 1 | 0b1101 << 16;
/// The same on reads and writes.
const ACCESSES: u64 = 1 | 0b1111 << 16;
/// Breakpoint 1 is on, one byte long, on a port.
const PORT: u64 = 1 << 2 | 0b0010 << 20;

fn rig(dr7: u64, addresses: [u64; 4]) -> Rig {
    let mut rig = Rig::long();
    (rig.cpu.dr7, rig.cpu.breakpoints) = (dr7, addresses);
    rig.set(Gpr::Rdi, DEVICE).set(Gpr::Rsi, DATA);
    rig
}

#[test]
fn a_move_meets_a_breakpoint_also_when_it_was_seen_before() {
    let mut rig = rig(WRITES, [DEVICE, 0, 0, 0]);
    let (gva, gpa) = (Gva::new(DEVICE), Gpa::new(DEVICE));
    rig.known = Some(KnownTranslation { gva, gpa, access: Access::Write });
    for _ in 0..3 {
        rig.done(&[0x89, 0x07]); // mov [rdi], eax
        assert_eq!(core::mem::take(&mut rig.cpu.met), 1);
    }
    rig.done(&[0x8b, 0x07]); // mov eax, [rdi]
    assert_eq!(rig.cpu.met, 0, "a read");
    rig.cpu.dr7 = 0x400;
    rig.done(&[0x89, 0x07]);
    assert_eq!(rig.cpu.met, 0, "no breakpoint is enabled");
}

#[test]
fn both_operands_are_looked_at() {
    let mut rig = rig(ACCESSES | ACCESSES << 2 | 0b1111 << 20, [STACK - 8, DEVICE, 0, 0]);
    rig.done(&[0xff, 0x37]); // push qword [rdi]
    assert_eq!(rig.cpu.met, 0b11);
}

#[test]
fn wide_accesses_count_whole() {
    let mut rig = rig(ACCESSES, [DEVICE + 12, 0, 0, 0]);
    rig.done(&[0xf3, 0x0f, 0x6f, 0x07]); // movdqu xmm0, [rdi]
    assert_eq!(rig.cpu.met, 1);
}

#[test]
fn a_repeated_instruction_stops_behind_the_element() {
    let mut rig = rig(WRITES, [DEVICE + 8, 0, 0, 0]);
    rig.set(Gpr::Rcx, 5);
    assert_eq!(rig.run(&[0xf3, 0xa5]), Emulated::Again); // rep movsd
    assert_eq!((rig.cpu.met, rig.get(Gpr::Rcx), rig.get(Gpr::Rdi)), (1, 2, DEVICE + 12));
    rig.cpu.met = 0;
    assert_eq!(rig.step(), Emulated::Done { next_rip: CODE + 2 });
    assert_eq!((rig.cpu.met, rig.get(Gpr::Rcx)), (0, 0));
}

#[test]
fn the_last_element_ends_the_instruction_too() {
    let mut rig = rig(WRITES, [DEVICE + 8, 0, 0, 0]);
    rig.set(Gpr::Rcx, 3);
    rig.done(&[0xf3, 0xa5]);
    assert_eq!(rig.cpu.met, 1);
}

#[test]
fn what_faults_meets_nothing() {
    let mut rig = rig(ACCESSES, [DATA, 0, 0, 0]);
    rig.poke(DATA, 0);
    rig.set(Gpr::Rax, 1);
    assert_eq!(rig.run(&[0xf7, 0x36]), Emulated::Fault(Exception::DivideError)); // div dword [rsi]
    assert_eq!(rig.cpu.met, 0);
}

#[test]
fn port_strings_meet_breakpoints_on_ports_where_the_operating_system_has_them() {
    let mut rig = rig(PORT, [0, 0x80, 0, 0]);
    rig.set(Gpr::Rdx, 0x80).set(Gpr::Rdi, DATA).set(Gpr::Rcx, 3).answer(&[0xff]);
    rig.done(&[0x6c]); // insb
    assert_eq!(rig.cpu.met, 0, "CR4.DE is clear");
    rig.cpu.cr4 |= Cr4Flags::DEBUGGING_EXTENSIONS;
    assert_eq!(rig.run(&[0xf3, 0x6e]), Emulated::Again); // rep outsb
    assert_eq!((rig.cpu.met, rig.get(Gpr::Rcx)), (0b10, 2));
    assert_eq!(rig.seen(), [Seen::In(0x80, Width::One), Seen::Out(0x80, Width::One, 0xff)]);
}
