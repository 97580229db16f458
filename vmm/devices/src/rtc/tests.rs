//! Behaviour of the clock, register by register as an operating system reads and sets it.

use super::*;
use bus::IrqBank;
use proptest::prelude::*;

/// 2026-11-20 21:29:22 UTC, a Friday.
const START: u64 = 1_795_210_162;
const SECOND: u64 = SECOND_NS;

const A: u8 = 0x0a;
const B: u8 = 0x0b;
const C: u8 = 0x0c;
const D: u8 = 0x0d;

struct Bench {
    rtc: Rtc,
    lines: IrqBank,
}

fn bench() -> Bench {
    let lines = IrqBank::new();
    let sizes = MemorySizes { below_4g: 512 << 20, above_4g: 1 << 30 };
    Bench { rtc: Rtc::new(lines.line(0), START, sizes), lines }
}

impl Bench {
    fn get(&mut self, index: u8, now: u64) -> u8 {
        self.rtc.write(0, index, Nanos(now));
        self.rtc.read(1, Nanos(now))
    }

    fn set(&mut self, index: u8, value: u8, now: u64) {
        self.rtc.write(0, index, Nanos(now));
        self.rtc.write(1, value, Nanos(now));
    }

    /// Century, year, month, day, hour, minute, second.
    fn time(&mut self, now: u64) -> [u8; 7] {
        [0x32, 9, 8, 7, 4, 2, 0].map(|index| self.get(index, now))
    }

    fn irq(&self) -> bool {
        self.lines.levels() & 1 != 0
    }
}

#[test]
fn the_wall_clock_is_shown_in_decimal_digits() {
    let mut b = bench();
    assert_eq!(b.time(0), [0x20, 0x26, 0x11, 0x20, 0x21, 0x29, 0x22]);
    assert_eq!(b.get(6, 0), 6);
}

#[test]
fn time_passes_with_machine_time() {
    let mut b = bench();
    assert_eq!(b.get(0, SECOND - 1), 0x22);
    assert_eq!(b.get(0, SECOND), 0x23);
    // Two and a half hours and some: into the next day.
    assert_eq!(b.time(SECOND * 9100), [0x20, 0x26, 0x11, 0x21, 0x00, 0x01, 0x02]);
}

#[test]
fn binary_and_twelve_hour_formats_apply_when_the_bytes_are_set() {
    let mut b = bench();
    b.set(B, 0x84, 0);
    for (index, value) in [(0x32, 19), (9, 99), (8, 12), (7, 31), (4, 0x80 | 11), (2, 59), (0, 59), (6, 6)] {
        b.set(index, value, 0);
    }
    b.set(B, 0x04, 0);
    assert_eq!(b.time(SECOND), [20, 0, 1, 1, 12, 0, 0]);
    assert_eq!(b.get(6, SECOND), 7);
}

#[test]
fn while_set_is_on_the_registers_stand_still_and_hold_anything() {
    let mut b = bench();
    b.set(B, 0x82, 0);
    assert_eq!(b.time(5 * SECOND), [0x20, 0x26, 0x11, 0x20, 0x21, 0x29, 0x22]);
    b.set(0, 0xee, 5 * SECOND);
    assert_eq!(b.get(0, 6 * SECOND), 0xee);
    assert_eq!(b.get(A, 7 * SECOND - 1) & 0x80, 0);
}

#[test]
fn nonsense_is_clamped_when_the_clock_runs_again() {
    let mut b = bench();
    b.set(B, 0x82, 0);
    for index in [0x32, 9, 8, 7, 6, 4, 2, 0] {
        b.set(index, 0xff, 0);
    }
    b.set(B, 0x02, 0);
    assert_eq!(b.time(1), [0x99, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59]);
    let _far = b.time(1 << 62);
}

#[test]
fn after_a_divider_reset_the_first_update_comes_in_half_a_second() {
    let mut b = bench();
    let now = 7 * SECOND + 123;
    b.set(A, 0x76, now);
    b.set(0, 0x10, now);
    b.set(A, 0x26, now);
    assert_eq!(b.get(0, now + SECOND / 2 - 1), 0x10);
    assert_eq!(b.get(0, now + SECOND / 2), 0x11);
    assert_eq!(b.get(0, now + SECOND + SECOND / 2), 0x12);
}

#[test]
fn update_in_progress_warns_before_each_second() {
    let mut b = bench();
    assert_eq!(b.get(A, SECOND - 244_001), 0x26);
    assert_eq!(b.get(A, SECOND - 244_000), 0xa6);
    assert_eq!(b.get(A, SECOND - 1), 0xa6);
    assert_eq!(b.get(A, SECOND), 0x26);
}

#[test]
fn the_update_interrupt_comes_each_second_until_c_is_read() {
    let mut b = bench();
    assert_eq!(b.rtc.next_deadline(), Nanos::NEVER);
    b.set(B, 0x12, 100);
    assert_eq!(b.rtc.next_deadline(), Nanos(SECOND));
    b.rtc.advance(Nanos(SECOND));
    assert!(b.irq());
    assert_eq!(b.rtc.next_deadline(), Nanos::NEVER);
    assert_eq!(b.get(C, SECOND) & 0x90, 0x90);
    assert!(!b.irq());
    assert_eq!(b.get(C, SECOND), 0);
    assert_eq!(b.rtc.next_deadline(), Nanos(2 * SECOND));
}

#[test]
fn the_periodic_interrupt_has_the_programmed_rate() {
    let mut b = bench();
    b.set(A, 0x2f, 0);
    b.set(B, 0x42, 0);
    for half in 1..5 {
        let deadline = b.rtc.next_deadline();
        assert_eq!(deadline, Nanos(half * SECOND / 2));
        b.rtc.advance(deadline);
        assert!(b.irq());
        assert_eq!(b.get(C, deadline.0) & 0xc0, 0xc0);
    }
    b.set(A, 0x23, 2 * SECOND);
    assert_eq!(b.rtc.next_deadline(), Nanos(2 * SECOND + 122_071));
    b.set(A, 0x20, 2 * SECOND);
    assert_eq!(b.rtc.next_deadline(), Nanos::NEVER);
}

#[test]
fn the_alarm_goes_off_at_its_time() {
    let mut b = bench();
    for (index, value) in [(5, 0x21), (3, 0x30), (1, 0x00)] {
        b.set(index, value, 0);
    }
    b.set(B, 0x22, 0);
    assert_eq!(b.rtc.next_deadline(), Nanos(38 * SECOND));
    b.rtc.advance(Nanos(38 * SECOND));
    assert!(b.irq());
    assert_eq!(b.get(C, 38 * SECOND) & 0xa0, 0xa0);
    assert_eq!(b.rtc.next_deadline(), Nanos((38 + 86_400) * SECOND));
}

#[test]
fn flags_set_without_enables_and_do_not_interrupt() {
    let mut b = bench();
    assert_eq!(b.get(C, 10 * SECOND), 0x50);
    assert!(!b.irq());
}

#[test]
fn a_jump_far_ahead_is_one_interrupt() {
    let mut b = bench();
    b.set(B, 0x72, 0);
    b.rtc.advance(Nanos(1 << 60));
    assert!(b.irq());
    assert_eq!(b.get(C, 1 << 60) & 0xd0, 0xd0);
    assert!(!b.irq());
    assert!(b.rtc.next_deadline() > Nanos(1 << 60));
}

#[test]
fn setting_the_set_bit_clears_the_update_interrupt_enable() {
    let mut b = bench();
    b.set(B, 0x92, 0);
    assert_eq!(b.get(B, 0), 0x82);
}

#[test]
fn d_says_the_battery_is_good_and_c_and_d_are_read_only() {
    let mut b = bench();
    b.set(C, 0xff, 0);
    b.set(D, 0, 0);
    assert_eq!((b.get(C, 0), b.get(D, 0)), (0, 0x80));
}

#[test]
fn memory_keeps_bytes_and_reports_the_ram() {
    let mut b = bench();
    b.set(0x50, 0xab, 0);
    b.set(0xff, 0xcd, 0);
    assert_eq!((b.get(0x50, 0), b.get(0x7f, 0)), (0xab, 0xcd));
    assert_eq!((b.get(0x15, 0), b.get(0x16, 0)), (0x80, 0x02));
    assert_eq!((b.get(0x17, 0), b.get(0x18, 0)), (0xff, 0xff));
    assert_eq!((b.get(0x34, 0), b.get(0x35, 0)), (0x00, 0x1f));
    assert_eq!((b.get(0x5b, 0), b.get(0x5c, 0)), (0x00, 0x40));
    let sum: u16 = (0x10..=0x2d).map(|index| u16::from(b.get(index, 0))).sum();
    assert_eq!([b.get(0x2e, 0), b.get(0x2f, 0)], sum.to_be_bytes());
}

#[test]
fn the_index_port_is_write_only() {
    let mut b = bench();
    b.rtc.write(0, 4, Nanos(0));
    assert_eq!(b.rtc.read(0, Nanos(0)), 0xff);
}

#[test]
fn reset_keeps_time_and_memory_and_stops_interrupts() {
    let mut b = bench();
    b.set(0x40, 7, 0);
    b.set(B, 0x12, 0);
    b.rtc.advance(Nanos(SECOND));
    b.rtc.reset(Nanos(SECOND));
    assert!(!b.irq());
    assert_eq!((b.get(0x40, SECOND), b.get(0, SECOND), b.get(B, SECOND)), (7, 0x23, 0x02));
}

#[test]
fn restored_it_shows_the_same_time_and_interrupts_at_the_same_time() {
    let mut b = bench();
    b.set(B, 0x12, 5);
    b.set(0, 0x50, 5);
    let mut copy = bench();
    copy.rtc.restore(&b.rtc.save());
    assert_eq!(copy.rtc.next_deadline(), b.rtc.next_deadline());
    assert_eq!(copy.time(3 * SECOND), b.time(3 * SECOND));
}

#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    Set(u8, u8),
    Wait(u64),
}

fn index() -> impl Strategy<Value = u8> {
    prop_oneof![4 => 0_u8..14, 1 => Just(0x32), 1 => any::<u8>()]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        index().prop_map(Step::Get),
        (index(), any::<u8>()).prop_map(|(index, value)| Step::Set(index, value)),
        prop_oneof![0_u64..200_000, 0..2 * SECOND, 0_u64..1 << 55].prop_map(Step::Wait),
    ]
}

fn take(b: &mut Bench, step: &Step, now: &mut u64) -> (u8, bool, Nanos) {
    let mut read = 0;
    match *step {
        Step::Get(index) => read = b.get(index, *now),
        Step::Set(index, value) => b.set(index, value, *now),
        Step::Wait(ns) => {
            *now = now.saturating_add(ns);
            b.rtc.advance(Nanos(*now));
            assert!(b.rtc.next_deadline() > Nanos(*now));
        }
    }
    (read, b.irq(), b.rtc.next_deadline())
}

proptest! {
    #[test]
    fn any_accesses_are_survived_and_a_restored_clock_goes_on_the_same(
        before in prop::collection::vec(step(), 0..80),
        after in prop::collection::vec(step(), 0..80),
    ) {
        let mut original = bench();
        let mut now = 0;
        for step in &before {
            let _seen = take(&mut original, step, &mut now);
        }
        let mut copy = bench();
        copy.rtc.restore(&original.rtc.save());
        prop_assert_eq!(copy.irq(), original.irq());
        let mut copy_now = now;
        for step in &after {
            prop_assert_eq!(take(&mut original, step, &mut now), take(&mut copy, step, &mut copy_now));
        }
        prop_assert_eq!(original.rtc.save(), copy.rtc.save());
    }

    /// Waking exactly at the deadline, something is due; a nanosecond before, nothing is.
    #[test]
    fn a_deadline_is_the_first_moment_that_interrupts(b_register in 0_u8..8, rate in 0_u8..16, start in 0..3 * SECOND) {
        let mut b = bench();
        b.set(A, 0x20 | rate, 0);
        b.set(1, 0xff, 0);
        b.set(3, 0xff, 0);
        b.set(5, 0xff, 0);
        b.set(B, b_register << 4 | 2, start);
        let _old = b.get(C, start);
        let deadline = b.rtc.next_deadline();
        if deadline != Nanos::NEVER {
            b.rtc.advance(Nanos(deadline.0 - 1));
            prop_assert!(!b.irq());
            b.rtc.advance(deadline);
            prop_assert!(b.irq());
        }
    }
}
