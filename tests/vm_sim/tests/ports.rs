//! Port accesses: widths, merging, the console, power.

use arch::{Cr4Flags, Exception, Gpr, Port, Width};
use proptest::prelude::*;
use vm_sim::{Machine, Step};
use vmm::{CpuState, Direction, IoExit, Leave, StopReason, VcpuBackend, VmExit};

const WIDTHS: [Width; 3] = [Width::One, Width::Two, Width::Four];

#[test]
fn an_input_merges_into_rax_by_its_width() {
    let before = 0x1122_3344_5566_7788;
    for (width, after) in
        [(Width::One, 0x1122_3344_5566_77ff), (Width::Two, 0x1122_3344_5566_ffff), (Width::Four, 0xffff_ffff)]
    {
        let mut machine = Machine::default();
        machine.cpu_mut().gprs_mut().set(Gpr::Rax, before);
        assert_eq!(machine.input(0x5000, width), after, "{width:?}");
    }
}

#[test]
fn an_output_leaves_rax_alone_and_moves_rip() {
    for width in WIDTHS {
        let mut machine = Machine::default();
        let exit = IoExit::new(Port(0x80), width, Direction::Out, false);
        let step = Step::exit(VmExit::Io(exit)).length(1).set(Gpr::Rax, 0xdead_beef_dead_beef);
        assert_eq!(machine.execute(step).advanced, 1);
        assert_eq!(machine.cpu().gprs().get(Gpr::Rax), 0xdead_beef_dead_beef);
    }
}

#[test]
fn what_the_guest_writes_to_com1_reaches_the_console() {
    let mut machine = Machine::default();
    for byte in b"Linux version 6.1" {
        machine.outb(0x3f8, *byte);
    }
    assert_eq!(machine.console_output(), b"Linux version 6.1");
    machine.cpu_mut().gprs_mut().set(Gpr::Rax, 0);
    machine.output(0x3f8, Width::One, 0xabcd_ef41);
    assert_eq!(machine.console_output(), b"A", "AL alone counts");
}

#[test]
fn what_is_typed_reaches_the_guest_in_order() {
    let mut machine = Machine::default();
    machine.type_in(b"ls\n");
    let mut line = Vec::new();
    while machine.inb(0x3fd) & 1 != 0 {
        line.push(machine.inb(0x3f8));
    }
    assert_eq!(line, b"ls\n");
}

#[test]
fn a_console_that_nobody_reads_blocks_nothing() {
    let mut machine = Machine::default();
    for _ in 0..2 * bus::Pipe::CAPACITY {
        machine.outb(0x3f8, b'x');
    }
    assert_eq!(machine.inb(0x3fd) & 0x20, 0, "the transmitter is full");
    assert_eq!(machine.console_output().len(), bus::Pipe::CAPACITY);
    machine.cpu_mut().elapse(2_000_000);
    assert_ne!(machine.inb(0x3fd) & 0x20, 0, "the transmitter is free again");
}

#[test]
fn a_breakpoint_on_a_port_traps_behind_the_access() {
    const ON_PORT: u64 = 0b10 << 16 | 1;
    for (cr4, port, dr6) in [
        (Cr4Flags::DEBUGGING_EXTENSIONS, 0x80, Some(0b0001)),
        (Cr4Flags::DEBUGGING_EXTENSIONS, 0x81, None),
        (Cr4Flags::empty(), 0x80, None),
    ] {
        let mut machine = Machine::default();
        let cpu = machine.cpu_mut();
        let state = cpu.save();
        cpu.restore(&CpuState { cr4: state.cr4 | cr4, breakpoints: [0x80, 0, 0, 0], dr7: ON_PORT, ..state });
        let access = IoExit::new(Port(port), Width::One, Direction::Out, false);
        let executed = machine.execute(Step::exit(VmExit::Io(access)).length(1));
        let trap = dr6.map(|dr6| Exception::Debug { dr6 });
        assert_eq!((executed.fault, executed.advanced), (trap, 1), "{port:#x}");
    }
}

#[test]
fn outs_writes_a_string_from_memory() {
    let mut machine = Machine::default();
    let text = b"hello from OUTS";
    memory::GuestMemory::write(&machine.vm.memory, arch::Gpa::new(0x3_0000), text).expect("RAM");
    machine.write_code(&[0xf3, 0x6e]);
    let exit = IoExit::new(Port(0x3f8), Width::One, Direction::Out, true);
    let step = Step::exit(VmExit::Io(exit))
        .set(Gpr::Rdx, 0x3f8)
        .set(Gpr::Rsi, 0x3_0000)
        .set(Gpr::Rcx, text.len() as u64);
    let executed = machine.execute(step);
    assert_eq!((executed.fault, executed.advanced), (None, 2));
    assert_eq!(machine.console_output(), text);
    let gprs = machine.cpu().gprs();
    assert_eq!((gprs.get(Gpr::Rcx), gprs.get(Gpr::Rsi)), (0, 0x3_0000 + text.len() as u64));
}

#[test]
fn ins_fills_memory_from_a_port() {
    let mut machine = Machine::default();
    machine.write_code(&[0xf3, 0x6d]);
    let exit = IoExit::new(Port(0x5000), Width::Four, Direction::In, true);
    let step = Step::exit(VmExit::Io(exit)).set(Gpr::Rdx, 0x5000).set(Gpr::Rdi, 0x3_0000).set(Gpr::Rcx, 4);
    assert_eq!(machine.execute(step).fault, None);
    let mut bytes = [0; 17];
    memory::GuestMemory::read(&machine.vm.memory, arch::Gpa::new(0x3_0000), &mut bytes).expect("RAM");
    assert_eq!(bytes[..16], [0xff; 16]);
    assert_eq!(bytes[16], 0);
}

#[test]
fn a_write_that_ends_the_machine_says_how() {
    let cases = [
        (0x604, Width::Two, 5 << 10 | 1 << 13, StopReason::PowerOff),
        (0xcf9, Width::One, 0x06, StopReason::Reset),
        (0x92, Width::One, 1, StopReason::Reset),
        (0x64, Width::One, 0xfe, StopReason::Reset),
        (0xf4, Width::Four, 0x10, StopReason::DebugExit { status: 0x21 }),
    ];
    for (port, width, value, reason) in cases {
        let mut machine = Machine::default();
        let exit = IoExit::new(Port(port), width, Direction::Out, false);
        let executed = machine.execute(Step::exit(VmExit::Io(exit)).set(Gpr::Rax, value));
        assert_eq!(executed.leave, Leave::Stopped(reason), "{port:#x}");
        assert_eq!(machine.play([]), Leave::Stopped(reason), "and stays stopped");
        assert!(!machine.poll());
        assert!(reason.is_orderly());
    }
}

proptest! {
    #[test]
    fn every_port_answers_at_every_width(port in any::<u16>(), rax in any::<u64>()) {
        for width in WIDTHS {
            let mut machine = Machine::default();
            machine.cpu_mut().gprs_mut().set(Gpr::Rax, rax);
            let after = machine.input(port, width);
            match width {
                Width::One => prop_assert_eq!(after >> 8, rax >> 8),
                Width::Two => prop_assert_eq!(after >> 16, rax >> 16),
                Width::Four | Width::Eight => prop_assert_eq!(after >> 32, 0),
            }
        }
    }
}
