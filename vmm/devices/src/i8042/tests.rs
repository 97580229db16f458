//! Behaviour of the keyboard controller as firmware and operating systems program it.

use super::*;
use bus::IrqBank;
use proptest::prelude::*;

const RESET: Option<PowerRequest> = Some(PowerRequest::Reset);

struct Bench {
    controller: I8042,
    lines: IrqBank,
}

fn bench() -> Bench {
    let lines = IrqBank::new();
    Bench { controller: I8042::new(lines.line(1), lines.line(12)), lines }
}

impl Bench {
    fn command(&mut self, value: u8) -> Option<PowerRequest> {
        self.controller.write(I8042Port::Command, value)
    }

    fn send(&mut self, value: u8) -> Option<PowerRequest> {
        self.controller.write(I8042Port::Data, value)
    }

    fn status(&mut self) -> u8 {
        self.controller.read(I8042Port::Command)
    }

    /// The next byte, if one waits.
    fn next(&mut self) -> Option<u8> {
        (self.status() & 1 != 0).then(|| self.controller.read(I8042Port::Data))
    }

    fn all(&mut self) -> Vec<u8> {
        core::iter::from_fn(|| self.next()).collect()
    }

    /// Writes the command byte.
    fn control(&mut self, value: u8) {
        self.command(0x60);
        self.send(value);
    }

    /// The interrupt lines that rose since the last call.
    fn rose(&self) -> u32 {
        self.lines.take_changes().map_or(0, |changes| changes.rose)
    }
}

#[test]
fn self_test_and_interface_tests_pass() {
    let mut b = bench();
    for (command, answer) in
        [(0xaa, 0x55), (0xab, 0x00), (0xa9, 0x00), (0xa4, 0xf1), (0xc0, 0x80), (0xe0, 0x00)]
    {
        assert_eq!(b.command(command), None);
        assert_eq!(b.all(), [answer], "{command:#x}");
    }
    assert_eq!(b.status(), 0x1c);
}

#[test]
fn the_status_tells_commands_from_data_and_the_two_ports_apart() {
    let mut b = bench();
    b.command(0xd3);
    assert_eq!(b.status(), 0x1c);
    b.send(0x5a);
    assert_eq!(b.status(), 0x35);
    assert_eq!(b.next(), Some(0x5a));
    assert_eq!(b.status(), 0x14);
    // The last byte stays readable.
    assert_eq!(b.controller.read(I8042Port::Data), 0x5a);
}

#[test]
fn the_command_byte_and_the_memory_read_as_written() {
    let mut b = bench();
    b.control(0xff);
    b.command(0x20);
    assert_eq!(b.next(), Some(0x77));
    b.command(0x7f);
    b.send(0xa5);
    b.command(0x3f);
    assert_eq!(b.next(), Some(0xa5));
}

#[test]
fn clearing_the_system_bit_shows_in_the_status_until_the_self_test() {
    let mut b = bench();
    b.control(0x60);
    assert_eq!(b.status() & 4, 0);
    b.command(0xaa);
    assert_eq!(b.status() & 4, 4);
}

#[test]
fn a_key_is_translated_and_interrupts_once_a_byte() {
    let mut b = bench();
    b.control(0x61);
    assert!(b.controller.keys(&[0x1c, 0xf0, 0x1c]));
    assert_eq!(b.rose(), 1 << 1);
    assert_eq!(b.next(), Some(0x1e));
    assert_eq!(b.rose(), 1 << 1);
    assert_eq!(b.next(), Some(0x9e));
    assert_eq!((b.rose(), b.lines.levels(), b.next()), (0, 0, None));
}

#[test]
fn untranslated_keys_come_as_they_are() {
    let mut b = bench();
    b.control(0x00);
    assert!(b.controller.keys(&[0xe0, 0xf0, 0x75]));
    assert_eq!(b.all(), [0xe0, 0xf0, 0x75]);
    assert_eq!(b.rose(), 0);
}

#[test]
fn a_keyboard_that_is_off_keeps_its_keys() {
    let mut b = bench();
    b.command(0xad);
    assert!(b.controller.keys(&[0x1c]));
    assert_eq!(b.next(), None);
    b.command(0xae);
    assert_eq!(b.next(), Some(0x1e));
}

#[test]
fn keys_that_do_not_fit_are_refused_whole_and_an_overrun_is_told() {
    let mut b = bench();
    b.control(0x10);
    for _ in 0..15 {
        assert!(b.controller.keys(&[0x1c]));
    }
    assert!(!b.controller.keys(&[0xf0, 0x1c]));
    assert!(!b.controller.keys(&[0x1c]));
    b.command(0xae);
    assert_eq!(b.all(), [[0x1c; 15].as_slice(), &[0x00]].concat());
    assert!(b.controller.keys(&[0x1c]));
}

#[test]
fn the_keyboard_answers_its_commands() {
    let mut b = bench();
    for (sent, answer) in [
        ([0xff].as_slice(), [0xfa, 0xaa].as_slice()),
        (&[0xf2], &[0xfa, 0xab, 0x41]),
        (&[0xee], &[0xee]),
        (&[0xed, 0x07], &[0xfa, 0xfa]),
        (&[0xf3, 0x20], &[0xfa, 0xfa]),
        (&[0xf0, 0x00], &[0xfa, 0xfa, 0x02]),
        (&[0xf0, 0x01], &[0xfa, 0xfa]),
        (&[0xf0, 0x00], &[0xfa, 0xfa, 0x01]),
        (&[0xf0, 0x03], &[0xfa, 0xfe]),
        (&[0xf5], &[0xfa]),
        (&[0xf6], &[0xfa]),
        (&[0xf4], &[0xfa]),
        (&[0x12], &[0xfe]),
        // Instead of the argument comes a command.
        (&[0xed, 0xee], &[0xfa, 0xee]),
    ] {
        // Scan code set 2's numbers would be translated too.
        let translated = sent[0] != 0xf0;
        b.control(if translated { 0x40 } else { 0x00 });
        let mut got = Vec::new();
        for &byte in sent {
            b.send(byte);
            got.extend(b.all());
        }
        assert_eq!(got, answer, "{sent:x?}");
    }
}

#[test]
fn the_keyboard_repeats_itself_when_asked() {
    let mut b = bench();
    b.send(0xee);
    assert_eq!(b.all(), [0xee]);
    b.send(0xfe);
    assert_eq!(b.all(), [0xee]);
}

#[test]
fn a_keyboard_told_to_be_silent_reports_no_keys() {
    let mut b = bench();
    b.send(0xf5);
    assert_eq!(b.all(), [0xfa]);
    assert!(b.controller.keys(&[0x1c]));
    assert_eq!(b.next(), None);
    b.send(0xf4);
    assert_eq!(b.all(), [0xfa]);
    assert!(b.controller.keys(&[0x1c]));
    assert_eq!(b.next(), Some(0x1e));
}

#[test]
fn scan_code_set_1_of_the_keyboard_itself_works_too() {
    let mut b = bench();
    b.control(0x00);
    b.send(0xf0);
    b.send(0x01);
    assert_eq!(b.all(), [0xfa, 0xfa]);
    assert!(b.controller.keys(&[0x1c, 0xf0, 0x1c]));
    assert_eq!(b.all(), [0x1e, 0x9e]);
}

#[test]
fn the_second_port_loops_back_with_its_interrupt_and_has_no_device() {
    let mut b = bench();
    b.control(0x42);
    b.command(0xd3);
    b.send(0x5a);
    assert_eq!(b.rose(), 1 << 12);
    assert_eq!((b.status() & 0x61, b.next()), (0x21, Some(0x5a)));
    b.command(0xd4);
    b.send(0xff);
    assert_eq!((b.status() & 0x61, b.next()), (0x61, Some(0xfe)));
    b.command(0xa7);
    b.command(0x20);
    assert_eq!(b.next(), Some(0x62));
}

#[test]
fn pulses_of_the_reset_line_and_a_low_output_port_reset() {
    for command in 0..=0xff {
        let expected = if command >= 0xf0 && command & 1 == 0 { RESET } else { None };
        assert_eq!(bench().command(command), expected, "{command:#x}");
    }
    for value in 0..=0xff {
        let mut b = bench();
        b.command(0xd1);
        assert_eq!(b.send(value), if value & 1 == 0 { RESET } else { None });
    }
}

#[test]
fn the_output_port_shows_a20_as_it_was_set() {
    let mut b = bench();
    let port = |b: &mut Bench| {
        b.command(0xd0);
        b.next()
    };
    assert_eq!(port(&mut b), Some(0x03));
    b.command(0xd1);
    b.send(0xdd);
    assert_eq!(port(&mut b), Some(0x01));
    b.command(0xdf);
    assert_eq!(port(&mut b), Some(0x03));
    b.command(0xdd);
    assert_eq!(port(&mut b), Some(0x01));
}

#[derive(Clone, Debug)]
enum Step {
    Read(I8042Port),
    Write(I8042Port, u8),
    Keys(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let port = || prop::sample::select(vec![I8042Port::Data, I8042Port::Command]);
    let value = prop_oneof![
        any::<u8>(),
        prop::sample::select(vec![
            0x60, 0x20, 0xd1, 0xd2, 0xd3, 0xd4, 0xae, 0xed, 0xf0, 0xf2, 0xf3, 0xf4, 0xff
        ])
    ];
    prop_oneof![
        port().prop_map(Step::Read),
        (port(), value).prop_map(|(port, value)| Step::Write(port, value)),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Step::Keys),
    ]
}

fn take(b: &mut Bench, step: &Step) -> (u8, bool, Option<PowerRequest>, u32, u32) {
    let (mut read, mut taken, mut request) = (0, false, None);
    match step {
        Step::Read(port) => read = b.controller.read(*port),
        Step::Write(port, value) => request = b.controller.write(*port, *value),
        Step::Keys(codes) => taken = b.controller.keys(codes),
    }
    (read, taken, request, b.lines.levels(), b.rose())
}

proptest! {
    #[test]
    fn any_accesses_are_survived_and_a_restored_controller_goes_on_the_same(
        before in prop::collection::vec(step(), 0..60),
        after in prop::collection::vec(step(), 0..60),
    ) {
        let mut original = bench();
        for step in &before {
            let _seen = take(&mut original, step);
        }
        let mut copy = bench();
        copy.controller.restore(&original.controller.save());
        prop_assert_eq!(copy.lines.levels(), original.lines.levels());
        let _restored = copy.rose();
        for step in &after {
            prop_assert_eq!(take(&mut original, step), take(&mut copy, step));
        }
        prop_assert_eq!(original.controller.save(), copy.controller.save());
    }
}
