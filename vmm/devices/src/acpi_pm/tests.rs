//! Behaviour of the ACPI fixed hardware.

use super::*;
use bus::IrqBank;
use proptest::prelude::*;

const STATUS: u16 = 0;
const ENABLE: u16 = 2;
const CONTROL: u16 = 4;
const TIMER: u16 = 8;
const GENERAL: u16 = 12;
const T0: Nanos = Nanos(0);
const SECOND: u64 = 1_000_000_000;

struct Bench {
    pm: AcpiPm,
    lines: IrqBank,
}

fn bench(width: TimerWidth) -> Bench {
    let lines = IrqBank::new();
    Bench { pm: AcpiPm::new(width, lines.line(0)), lines }
}

impl Bench {
    fn sci(&self) -> bool {
        self.lines.levels() & 1 != 0
    }
}

#[test]
fn the_timer_counts_3_579_545_a_second_in_its_width() {
    let mut b = bench(TimerWidth::Bits32);
    assert_eq!(b.pm.read(TIMER, Width::Four, Nanos(SECOND)), 3_579_545);
    assert_eq!(b.pm.read(TIMER, Width::Four, Nanos(10 * SECOND)), 35_795_450);
    let mut b = bench(TimerWidth::Bits24);
    assert_eq!(b.pm.read(TIMER, Width::Four, Nanos(10 * SECOND)), 35_795_450 & 0xff_ffff);
    b.pm.write(TIMER, Width::Four, 0, Nanos(10 * SECOND));
    assert_eq!(b.pm.read(TIMER, Width::Four, Nanos(10 * SECOND)), 35_795_450 & 0xff_ffff);
}

#[test]
fn the_timer_event_comes_whenever_the_top_bit_changes() {
    let mut b = bench(TimerWidth::Bits24);
    b.pm.write(ENABLE, Width::Two, 1, T0);
    for half in 1..4 {
        let deadline = b.pm.next_deadline();
        assert_eq!(deadline, CLOCK.time_of(half << 23));
        b.pm.advance(Nanos(deadline.0 - 1));
        assert!(!b.sci());
        b.pm.advance(deadline);
        assert!(b.sci());
        assert_eq!(b.pm.next_deadline(), Nanos::NEVER);
        assert_eq!(b.pm.read(STATUS, Width::Two, deadline), 1);
        b.pm.write(STATUS, Width::Two, 1, deadline);
        assert!(!b.sci());
    }
}

#[test]
fn without_enable_the_status_sets_and_nothing_interrupts() {
    let mut b = bench(TimerWidth::Bits24);
    assert_eq!(b.pm.next_deadline(), Nanos::NEVER);
    assert_eq!(b.pm.read(STATUS, Width::Two, Nanos(3 * SECOND)), 1);
    assert!(!b.sci());
    b.pm.write(ENABLE, Width::Two, 1, Nanos(3 * SECOND));
    assert!(b.sci());
}

#[test]
fn the_power_button_raises_the_sci_until_its_status_is_cleared() {
    let mut b = bench(TimerWidth::Bits32);
    b.pm.write(ENABLE, Width::Two, 1 << 8, T0);
    b.pm.press_power_button();
    assert!(b.sci());
    assert_eq!(b.pm.read(STATUS, Width::Four, T0), 1 << 24 | 1 << 8);
    b.pm.write(STATUS, Width::Two, 1, T0);
    assert!(b.sci());
    b.pm.write(STATUS, Width::Two, 1 << 8, T0);
    assert!(!b.sci());
}

#[test]
fn writing_enables_alone_clears_no_status_and_the_reverse() {
    let mut b = bench(TimerWidth::Bits32);
    b.pm.press_power_button();
    b.pm.write(ENABLE + 1, Width::One, 0xff, T0);
    assert_eq!(b.pm.read(ENABLE, Width::Two, T0), 0x0700);
    assert_eq!(b.pm.read(STATUS, Width::Two, T0), 1 << 8);
    b.pm.write(STATUS + 1, Width::One, 1, T0);
    assert_eq!(b.pm.read(STATUS, Width::Four, T0), 0x0700 << 16);
}

#[test]
fn sleep_type_5_with_sleep_enable_is_power_off_and_others_are_nothing() {
    let mut b = bench(TimerWidth::Bits32);
    assert_eq!(b.pm.write(CONTROL, Width::Two, 5 << 10, T0), None);
    assert_eq!(b.pm.write(CONTROL, Width::Two, 3 << 10 | 1 << 13, T0), None);
    assert_eq!(b.pm.write(CONTROL, Width::Two, 5 << 10 | 1 << 13, T0), Some(PowerRequest::Off));
    assert_eq!(b.pm.write(CONTROL + 1, Width::One, (5 << 10 | 1 << 13) >> 8, T0), Some(PowerRequest::Off));
}

#[test]
fn acpi_mode_is_on_and_the_control_register_does_not_change_it() {
    let mut b = bench(TimerWidth::Bits32);
    assert_eq!(b.pm.read(CONTROL, Width::Two, T0), 1);
    b.pm.write(CONTROL, Width::Two, 0xffff & !(1 << 13), T0);
    assert_eq!(b.pm.read(CONTROL, Width::Two, T0), 0x1c03);
    b.pm.write(CONTROL, Width::Two, 0, T0);
    assert_eq!(b.pm.read(CONTROL, Width::Two, T0), 1);
}

#[test]
fn the_smi_command_port_leaves_and_enters_acpi_mode() {
    let mut b = bench(TimerWidth::Bits32);
    b.pm.write(ENABLE, Width::Two, 1 << 8, T0);
    b.pm.write_command(0, 0xf0);
    assert_eq!((b.pm.read_command(0), b.pm.read(CONTROL, Width::Two, T0)), (0xf0, 0));
    b.pm.press_power_button();
    assert!(!b.sci());
    b.pm.write_command(1, 0xf1);
    assert_eq!((b.pm.read_command(1), b.pm.read(CONTROL, Width::Two, T0)), (0xf1, 0));
    b.pm.write_command(0, 0xf1);
    assert!(b.sci());
    assert_eq!(b.pm.read(CONTROL, Width::Two, T0), 1);
    b.pm.write_command(0, 0x55);
    assert_eq!(b.pm.read(CONTROL, Width::Two, T0), 1);
}

#[test]
fn general_purpose_events_raise_the_sci_while_enabled() {
    let mut b = bench(TimerWidth::Bits32);
    b.pm.raise_general_event(3);
    assert!(!b.sci());
    assert_eq!(b.pm.read(GENERAL, Width::Four, T0), 1 << 3);
    b.pm.write(GENERAL + 2, Width::One, 1 << 3, T0);
    assert!(b.sci());
    b.pm.raise_general_event(12);
    b.pm.write(GENERAL, Width::Two, 1 << 3, T0);
    assert!(!b.sci());
    assert_eq!(b.pm.read(GENERAL, Width::Four, T0), 1 << 19 | 1 << 12);
    b.pm.write(GENERAL, Width::Four, 0xff00_1000, T0);
    assert_eq!(b.pm.read(GENERAL, Width::Four, T0), 0xff00_0000);
}

#[test]
fn every_width_and_offset_reads_the_bytes_that_are_there() {
    let mut b = bench(TimerWidth::Bits32);
    let now = Nanos(SECOND);
    b.pm.write(ENABLE, Width::Two, 0x0101, now);
    b.pm.write(GENERAL + 2, Width::Two, 0xa5c3, now);
    let bytes: Vec<u8> =
        [0, 4, 8, 12].iter().flat_map(|&block| b.pm.read(block, Width::Four, now).to_le_bytes()).collect();
    for (width, count) in [(Width::One, 1), (Width::Two, 2), (Width::Four, 4)] {
        for offset in 0..16_u16 {
            let mut expected = [0; 4];
            for (place, byte) in expected.iter_mut().enumerate().take(count) {
                let at = usize::from(offset) + place;
                // Past the end of its 4-byte block an access reads ones.
                *byte = if at / 4 == usize::from(offset) / 4 { bytes[at] } else { 0xff };
            }
            assert_eq!(b.pm.read(offset, width, now), u32::from_le_bytes(expected), "{width:?} {offset}");
        }
    }
}

#[test]
fn reset_clears_events_and_the_timer_runs_on() {
    let mut b = bench(TimerWidth::Bits32);
    b.pm.write(ENABLE, Width::Two, 1 << 8, T0);
    b.pm.press_power_button();
    b.pm.reset(Nanos(SECOND));
    assert!(!b.sci());
    assert_eq!(b.pm.read(STATUS, Width::Four, Nanos(SECOND)), 0);
    assert_eq!(b.pm.read(TIMER, Width::Four, Nanos(SECOND)), 3_579_545);
}

#[derive(Clone, Debug)]
enum Step {
    Read(u16, Width),
    Write(u16, Width, u32),
    Button,
    General(u8),
    Command(u16, u8),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let width = || prop::sample::select(vec![Width::One, Width::Two, Width::Four]);
    prop_oneof![
        (0_u16..16, width()).prop_map(|(offset, width)| Step::Read(offset, width)),
        (0_u16..16, width(), any::<u32>())
            .prop_map(|(offset, width, value)| Step::Write(offset, width, value)),
        Just(Step::Button),
        any::<u8>().prop_map(Step::General),
        (0_u16..2, prop::sample::select(vec![0xf0, 0xf1, 0]))
            .prop_map(|(offset, value)| Step::Command(offset, value)),
        prop_oneof![0_u64..1 << 20, 0_u64..1 << 40, 0_u64..1 << 58].prop_map(Step::Wait),
    ]
}

fn take(b: &mut Bench, step: &Step, now: &mut Nanos) -> (u32, Option<PowerRequest>, bool, Nanos) {
    let (mut read, mut request) = (0, None);
    match *step {
        Step::Read(offset, width) => read = b.pm.read(offset, width, *now),
        Step::Write(offset, width, value) => request = b.pm.write(offset, width, value, *now),
        Step::Button => b.pm.press_power_button(),
        Step::General(number) => b.pm.raise_general_event(number),
        Step::Command(offset, value) => {
            b.pm.write_command(offset, value);
            read = u32::from(b.pm.read_command(offset));
        }
        Step::Wait(ns) => {
            *now = *now + Nanos(ns);
            b.pm.advance(*now);
            assert!(b.pm.next_deadline() > *now);
        }
    }
    (read, request, b.sci(), b.pm.next_deadline())
}

proptest! {
    #[test]
    fn any_accesses_are_survived_and_a_restored_block_goes_on_the_same(
        wide: bool,
        before in prop::collection::vec(step(), 0..60),
        after in prop::collection::vec(step(), 0..60),
    ) {
        let width = if wide { TimerWidth::Bits32 } else { TimerWidth::Bits24 };
        let mut original = bench(width);
        let mut now = T0;
        for step in &before {
            let _seen = take(&mut original, step, &mut now);
        }
        let mut copy = bench(width);
        copy.pm.restore(&original.pm.save());
        prop_assert_eq!(copy.sci(), original.sci());
        let mut copy_now = now;
        for step in &after {
            prop_assert_eq!(take(&mut original, step, &mut now), take(&mut copy, step, &mut copy_now));
        }
        prop_assert_eq!(original.pm.save(), copy.pm.save());
    }
}
