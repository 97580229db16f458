//! Behaviour of the 16550A, register by register as a driver sees it.

use super::*;
use bus::{IrqBank, Pipe};
use proptest::prelude::*;

const THR: u16 = 0;
const RBR: u16 = 0;
const IER: u16 = 1;
const IIR: u16 = 2;
const FCR: u16 = 2;
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;
const MSR: u16 = 6;
const SCR: u16 = 7;

const T0: Nanos = Nanos(0);

struct Bench {
    uart: Uart,
    terminal: PipeEnd,
    lines: IrqBank,
}

fn bench() -> Bench {
    let (terminal, console) = Pipe::ends();
    let lines = IrqBank::new();
    let uart = Uart::new(console, lines.line(0));
    Bench { uart, terminal, lines }
}

/// A port with FIFOs on (trigger 8), OUT2 set and `interrupts` enabled.
fn driven(interrupts: u8) -> Bench {
    let mut b = bench();
    b.uart.write(FCR, 0x81, T0);
    b.uart.write(LCR, 0x03, T0);
    b.uart.write(MCR, 0x0b, T0);
    b.uart.write(IER, interrupts, T0);
    b
}

impl Bench {
    fn irq(&self) -> bool {
        self.lines.levels() & 1 != 0
    }

    fn fill_pipe(&mut self) {
        while self.uart.console.send(b'.') {}
    }

    fn drain_terminal(&self) -> Vec<u8> {
        core::iter::from_fn(|| self.terminal.receive()).collect()
    }

    fn type_in(&mut self, bytes: &[u8], now: Nanos) {
        for &byte in bytes {
            assert!(self.terminal.send(byte));
        }
        self.uart.poll(now);
    }
}

#[test]
fn transmitted_bytes_reach_the_terminal_and_thre_stays_set() {
    let mut b = bench();
    for byte in b"hello" {
        assert_eq!(b.uart.read(LSR, T0) & 0x60, 0x60);
        b.uart.write(THR, *byte, T0);
    }
    assert_eq!(b.drain_terminal(), b"hello");
}

#[test]
fn enabling_the_transmit_interrupt_raises_it_at_once() {
    let mut b = driven(0);
    assert!(!b.irq());
    b.uart.write(IER, 0x02, T0);
    assert!(b.irq());
    assert_eq!(b.uart.read(IIR, T0), 0xc2);
}

#[test]
fn reading_iir_clears_thre_and_writing_brings_it_back() {
    let mut b = driven(0x02);
    assert_eq!(b.uart.read(IIR, T0), 0xc2);
    assert!(!b.irq());
    assert_eq!(b.uart.read(IIR, T0), 0xc1);
    b.uart.write(THR, b'x', T0);
    assert!(b.irq());
    assert_eq!(b.uart.read(IIR, T0), 0xc2);
}

#[test]
fn each_write_makes_a_fresh_transmit_edge_even_without_an_iir_read() {
    let mut b = driven(0x02);
    let _seen = b.lines.take_changes();
    b.uart.write(THR, b'x', T0);
    let changes = b.lines.take_changes().expect("the line moved");
    assert_eq!((changes.level, changes.rose), (1, 1));
}

#[test]
fn off_and_on_again_reports_thre_again() {
    let mut b = driven(0x02);
    assert_eq!(b.uart.read(IIR, T0) & 0x0f, 0x02);
    b.uart.write(IER, 0, T0);
    b.uart.write(IER, 0x02, T0);
    assert_eq!(b.uart.read(IIR, T0) & 0x0f, 0x02);
}

#[test]
fn a_full_pipe_clears_thre_until_it_drains() {
    let mut b = driven(0x02);
    b.fill_pipe();
    assert_eq!(b.uart.read(IIR, T0) & 0x0f, 0x02);
    b.uart.write(THR, b'!', T0);
    assert_eq!(b.uart.read(LSR, T0) & 0x60, 0);
    assert!(!b.irq());
    assert_ne!(b.uart.next_deadline(), Nanos::NEVER);

    let later = b.uart.next_deadline();
    b.uart.advance(later);
    assert!(!b.irq() && b.uart.next_deadline() > later);

    assert_eq!(b.terminal.receive(), Some(b'.'));
    let later = b.uart.next_deadline();
    b.uart.advance(later);
    assert!(b.irq());
    assert_eq!(b.uart.next_deadline(), Nanos::NEVER);
    assert_eq!(b.uart.read(LSR, later) & 0x60, 0x60);
    assert_eq!(b.drain_terminal().last(), Some(&b'!'));
}

#[test]
fn a_full_transmit_fifo_loses_what_comes_after() {
    let mut b = driven(0);
    b.fill_pipe();
    for byte in 0..20 {
        b.uart.write(THR, byte, T0);
    }
    let _dots = b.drain_terminal();
    b.uart.poll(T0);
    assert_eq!(b.drain_terminal(), (0..16).collect::<Vec<_>>());
}

#[test]
fn received_data_interrupts_at_the_trigger_level() {
    let mut b = driven(0x01);
    b.type_in(b"1234567", T0);
    assert!(!b.irq());
    b.type_in(b"8", T0);
    assert!(b.irq());
    assert_eq!(b.uart.read(IIR, T0), 0xc4);
    assert_eq!(b.uart.read(RBR, T0), b'1');
    assert!(!b.irq());
}

#[test]
fn below_the_trigger_level_silence_raises_the_timeout() {
    let mut b = driven(0x01);
    b.type_in(b"a", T0);
    assert_eq!(b.uart.read(IIR, T0), 0xc1);
    let deadline = b.uart.next_deadline();
    // Four characters of ten bits at 115200 baud.
    assert_eq!(deadline, Nanos(40 * 1_000_000_000 / 115_200));
    b.uart.advance(Nanos(deadline.0 - 1));
    assert!(!b.irq());
    b.uart.advance(deadline);
    assert!(b.irq());
    assert_eq!(b.uart.read(IIR, deadline), 0xcc);
    assert_eq!(b.uart.read(RBR, deadline), b'a');
    assert!(!b.irq());
    assert_eq!(b.uart.next_deadline(), Nanos::NEVER);
}

#[test]
fn input_waits_in_the_pipe_when_the_fifo_is_full_and_none_is_lost() {
    let mut b = driven(0x01);
    let sent: Vec<u8> = (0..100).collect();
    b.type_in(&sent, T0);
    let mut got = Vec::new();
    while b.uart.read(LSR, T0) & 1 != 0 {
        got.push(b.uart.read(RBR, T0));
    }
    assert_eq!(got, sent);
    assert_eq!(b.uart.read(LSR, T0) & 0x02, 0);
}

#[test]
fn without_fifos_every_byte_interrupts_and_iir_says_no_fifos() {
    let mut b = bench();
    b.uart.write(MCR, 0x08, T0);
    b.uart.write(IER, 0x01, T0);
    b.type_in(b"ab", T0);
    assert!(b.irq());
    assert_eq!(b.uart.read(IIR, T0), 0x04);
    assert_eq!((b.uart.read(RBR, T0), b.uart.read(RBR, T0)), (b'a', b'b'));
    assert!(!b.irq());
}

#[test]
fn out2_gates_the_interrupt_line() {
    let mut b = driven(0x02);
    assert!(b.irq());
    b.uart.write(MCR, 0x03, T0);
    assert!(!b.irq());
    assert_eq!(b.uart.read(IIR, T0), 0xc2);
}

#[test]
fn loopback_connects_modem_outputs_to_inputs() {
    let mut b = bench();
    assert_eq!(b.uart.read(MSR, T0), 0xb0);
    b.uart.write(MCR, 0x1a, T0);
    // RTS and OUT2 on: CTS stays, DSR falls, DCD stays.
    assert_eq!(b.uart.read(MSR, T0), 0x92);
    assert_eq!(b.uart.read(MSR, T0), 0x90);
    b.uart.write(MCR, 0x1e, T0);
    b.uart.write(MCR, 0x1a, T0);
    // OUT1 off again: ring indicator's trailing edge.
    assert_eq!(b.uart.read(MSR, T0), 0x94);
}

#[test]
fn loopback_returns_data_and_keeps_it_from_the_terminal() {
    let mut b = driven(0);
    b.uart.write(MCR, 0x1b, T0);
    b.uart.write(THR, 0x5a, T0);
    assert_eq!(b.uart.read(LSR, T0) & 1, 1);
    assert_eq!(b.uart.read(RBR, T0), 0x5a);
    assert_eq!(b.drain_terminal(), b"");
}

#[test]
fn loopback_can_overrun_and_reading_lsr_clears_the_error() {
    let mut b = driven(0x04);
    b.uart.write(MCR, 0x1b, T0);
    for byte in 0..17 {
        b.uart.write(THR, byte, T0);
    }
    assert_eq!(b.uart.read(IIR, T0), 0xc6);
    assert_eq!(b.uart.read(LSR, T0) & 0x03, 0x03);
    assert_eq!(b.uart.read(LSR, T0) & 0x02, 0);
    assert_eq!(b.uart.read(RBR, T0), 0);
}

#[test]
fn the_divisor_hides_behind_dlab_and_scratch_keeps_anything() {
    let mut b = bench();
    b.uart.write(LCR, 0x83, T0);
    b.uart.write(0, 0x34, T0);
    b.uart.write(1, 0x12, T0);
    assert_eq!((b.uart.read(0, T0), b.uart.read(1, T0)), (0x34, 0x12));
    b.uart.write(LCR, 0x03, T0);
    assert_eq!((b.uart.read(1, T0), b.uart.read(LCR, T0)), (0, 0x03));
    b.uart.write(SCR, 0xa5, T0);
    assert_eq!(b.uart.read(SCR, T0), 0xa5);
    assert_eq!(b.drain_terminal(), b"");
}

#[test]
fn ier_has_four_bits_and_status_registers_ignore_writes() {
    let mut b = bench();
    b.uart.write(IER, 0xff, T0);
    assert_eq!(b.uart.read(IER, T0), 0x0f);
    b.uart.write(LSR, 0xff, T0);
    b.uart.write(MSR, 0xff, T0);
    assert_eq!((b.uart.read(LSR, T0), b.uart.read(MSR, T0)), (0x60, 0xb0));
}

#[test]
fn clearing_the_receive_fifo_drops_its_bytes() {
    let mut b = driven(0x01);
    b.type_in(b"abcdefgh", T0);
    assert!(b.irq());
    b.uart.write(FCR, 0x83, T0);
    assert!(!b.irq());
    assert_eq!(b.uart.read(LSR, T0) & 1, 0);
}

#[test]
fn reset_lowers_the_line_and_forgets_registers() {
    let mut b = driven(0x02);
    b.uart.write(SCR, 1, T0);
    b.uart.reset();
    assert!(!b.irq());
    assert_eq!((b.uart.read(SCR, T0), b.uart.read(IIR, T0)), (0, 0x01));
}

#[test]
fn restored_in_mid_activity_the_interrupt_is_still_there() {
    let mut b = driven(0x03);
    b.type_in(b"abc", T0);
    assert_eq!(b.uart.read(IIR, T0), 0xc2);
    let state = b.uart.save();
    let mut copy = bench();
    copy.uart.restore(&state);
    assert_eq!(copy.uart.save(), state);
    let deadline = copy.uart.next_deadline();
    copy.uart.advance(deadline);
    assert!(copy.irq());
    assert_eq!(copy.uart.read(RBR, deadline), b'a');
}

#[derive(Clone, Debug)]
enum Step {
    Read(u16),
    Write(u16, u8),
    Type(u8),
    Look(usize),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u16..8).prop_map(Step::Read),
        (0_u16..8, any::<u8>()).prop_map(|(offset, value)| Step::Write(offset, value)),
        any::<u8>().prop_map(Step::Type),
        (0_usize..5000).prop_map(Step::Look),
        (0_u64..3_000_000).prop_map(Step::Wait),
    ]
}

/// Takes a step and tells everything that can be seen from outside.
fn take(b: &mut Bench, step: &Step, now: &mut Nanos) -> (u8, Vec<u8>, bool, Nanos) {
    let mut read = 0;
    let mut shown = Vec::new();
    match *step {
        Step::Read(offset) => read = b.uart.read(offset, *now),
        Step::Write(offset, value) => b.uart.write(offset, value, *now),
        Step::Type(byte) => {
            let _taken = b.terminal.send(byte);
            b.uart.poll(*now);
        }
        Step::Look(count) => shown = core::iter::from_fn(|| b.terminal.receive()).take(count).collect(),
        Step::Wait(ns) => {
            *now = *now + Nanos(ns);
            if *now >= b.uart.next_deadline() {
                b.uart.advance(*now);
                assert!(b.uart.next_deadline() > *now);
            }
        }
    }
    (read, shown, b.irq(), b.uart.next_deadline())
}

proptest! {
    #[test]
    fn any_accesses_are_survived_and_a_restored_port_goes_on_the_same(
        before in prop::collection::vec(step(), 0..60),
        after in prop::collection::vec(step(), 0..60),
    ) {
        let mut original = bench();
        let mut now = T0;
        for step in &before {
            let _seen = take(&mut original, step, &mut now);
        }
        // Input in the pipe is not the port's state: both continue with an empty pipe.
        while original.uart.console.receive().is_some() {}
        let _shown = original.drain_terminal();
        let mut copy = bench();
        copy.uart.restore(&original.uart.save());
        prop_assert_eq!(copy.irq(), original.irq());
        let mut copy_now = now;
        for step in &after {
            prop_assert_eq!(take(&mut original, step, &mut now), take(&mut copy, step, &mut copy_now));
        }
        prop_assert_eq!(original.uart.save(), copy.uart.save());
    }
}
