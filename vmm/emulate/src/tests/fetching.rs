//! How instruction bytes are found, and that stale ones are never used.

use crate::Emulated;
use crate::fixture::{CODE, DATA, DEVICE, PAGE_TABLE, Rig, Seen};
use arch::{Exception, Gpa, Gpr, SegmentRegister, Width};
use memory::GuestMemory;

/// mov dword [rdi], 0x12345678
const STORE: [u8; 6] = [0xc7, 0x07, 0x78, 0x56, 0x34, 0x12];

fn at_page_end(on_first_page: u64) -> Rig {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DEVICE);
    rig.cpu.rip = CODE + 0x1000 - on_first_page;
    rig
}

#[test]
fn an_instruction_across_pages_is_put_together() {
    let mut rig = at_page_end(3);
    // The second linear page lies elsewhere in physical memory.
    rig.poke(PAGE_TABLE + 9 * 8, 0xd000 | 0x63);
    rig.memory.write(Gpa::new(CODE + 0xffd), &STORE[..3]).expect("RAM");
    rig.memory.write(Gpa::new(0xd000), &STORE[3..]).expect("RAM");
    for _ in 0..2 {
        assert_eq!(rig.step(), Emulated::Done { next_rip: CODE + 0x1003 });
        assert_eq!(rig.seen(), [Seen::Write(DEVICE, Width::Four, 0x1234_5678)]);
    }
}

#[test]
fn the_second_page_faults_only_if_it_is_needed() {
    let mut rig = at_page_end(3);
    rig.poke(PAGE_TABLE + 9 * 8, 0);
    rig.memory.write(Gpa::new(CODE + 0xffd), &STORE[..3]).expect("RAM");
    let fault = Exception::PageFault { error_code: 0x10, address: CODE + 0x1000 };
    assert_eq!(rig.step(), Emulated::Fault(fault));
    rig.memory.write(Gpa::new(CODE + 0xffd), &[0x8b, 0x47, 0x20]).expect("RAM"); // mov eax, [rdi+0x20]
    assert_eq!(rig.step(), Emulated::Done { next_rip: CODE + 0x1000 });
}

#[test]
fn a_page_without_execute_right_faults() {
    let mut rig = at_page_end(0x100);
    let entry = PAGE_TABLE + 8 * 8;
    rig.poke(entry, rig.peek(entry) | (1 << 63));
    let fault = Exception::PageFault { error_code: 0x11, address: CODE + 0xf00 };
    assert_eq!(rig.run(&STORE), Emulated::Fault(fault));
}

#[test]
fn changed_code_is_noticed() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DEVICE).set(Gpr::Rax, 1);
    rig.done(&[0x89, 0x07]); // mov [rdi], eax
    rig.done(&[0x89, 0x07]);
    rig.set(Gpr::Rdi, DEVICE + 8);
    rig.done(&[0x88, 0x07]); // mov [rdi], al
    rig.done(&[0x48, 0x89, 0x07]); // mov [rdi], rax
    let widths: Vec<_> = rig.seen().into_iter().collect();
    assert_eq!(
        widths,
        [
            Seen::Write(DEVICE, Width::Four, 1),
            Seen::Write(DEVICE, Width::Four, 1),
            Seen::Write(DEVICE + 8, Width::One, 1),
            Seen::Write(DEVICE + 8, Width::Eight, 1),
        ]
    );
}

#[test]
fn the_same_bytes_mean_something_else_in_another_mode() {
    let mut rig = Rig::protected();
    rig.set(Gpr::Rax, 0x1122_3344).set(Gpr::Rbx, DATA).set(Gpr::Rdi, DATA);
    rig.done(&[0x89, 0x07]); // 32-bit: mov [edi], eax
    assert_eq!(rig.peek(DATA), 0x1122_3344);
    rig.poke(DATA, 0);
    rig.cpu.segments[SegmentRegister::Cs as usize].access_rights = 0x809b;
    rig.done(&[0x89, 0x07]); // 16-bit: mov [bx], ax
    assert_eq!(rig.peek(DATA), 0x3344);
}

#[test]
fn a_shorter_instruction_over_a_cached_one_does_not_touch_the_next_page() {
    let mut rig = at_page_end(3);
    rig.run(&STORE);
    rig.seen();
    rig.poke(PAGE_TABLE + 9 * 8, 0);
    rig.memory.write(Gpa::new(CODE + 0xffd), &[0x8b, 0x47, 0x20]).expect("RAM"); // mov eax, [rdi+0x20]
    assert_eq!(rig.step(), Emulated::Done { next_rip: CODE + 0x1000 });
}

#[test]
fn fetching_stops_at_the_limit_of_cs() {
    let mut rig = Rig::protected();
    rig.cpu.segments[SegmentRegister::Cs as usize].limit = 0x8002;
    let denied = Emulated::Fault(Exception::GeneralProtection(0));
    assert_eq!(rig.run(&STORE), denied);
    rig.set(Gpr::Rdi, DATA).done(&[0x89, 0x07]); // mov [edi], eax
    rig.cpu.rip = 0x8003;
    assert_eq!(rig.step(), denied);
}

#[test]
fn code_outside_of_ram_is_reported() {
    let mut rig = Rig::long();
    rig.cpu.rip = DEVICE + 4;
    assert_eq!(rig.step(), Emulated::FetchOutsideRam(Gpa::new(DEVICE + 4)));
}

#[test]
fn an_invalid_or_endless_instruction_faults() {
    let mut rig = Rig::long();
    rig.set(Gpr::Rdi, DATA);
    assert_eq!(rig.run(&[0x06]), Emulated::Fault(Exception::InvalidOpcode)); // push es: not in 64-bit mode
    assert_eq!(rig.run(&[0xf0, 0x89, 0x07]), Emulated::Fault(Exception::InvalidOpcode)); // lock mov
    let prefixes = [0x66; 16];
    assert_eq!(rig.run(&prefixes), Emulated::Fault(Exception::GeneralProtection(0)));
}
