//! Behaviour of the 8254, mode by mode, in ticks.

use super::*;
use bus::IrqBank;
use proptest::prelude::*;

struct Bench {
    pit: Pit,
    lines: IrqBank,
}

fn bench() -> Bench {
    let lines = IrqBank::new();
    let pit = Pit::new(lines.line(0));
    Bench { pit, lines }
}

/// The first moment of a tick.
fn at(tick: i64) -> Nanos {
    time_of(tick)
}

impl Bench {
    /// Programs `counter` at `now`, binary, both bytes.
    fn program(&mut self, counter: u16, mode: u8, count: u16, now: Nanos) {
        let number = u8::try_from(counter).expect("three counters");
        self.pit.write(3, number << 6 | 0x30 | mode << 1, now);
        for byte in count.to_le_bytes() {
            self.pit.write(counter, byte, now);
        }
    }

    fn count(&mut self, counter: u16, now: Nanos) -> u16 {
        u16::from_le_bytes([self.pit.read(counter, now), self.pit.read(counter, now)])
    }

    fn out2(&self, now: Nanos) -> bool {
        self.pit.read_control_b(now) & 0x20 != 0
    }

    fn irq(&self) -> bool {
        self.lines.levels() & 1 != 0
    }

    /// Whether the interrupt line rose since the last call.
    fn ticked(&self) -> bool {
        self.lines.take_changes().is_some_and(|changes| changes.rose & 1 != 0)
    }
}

#[test]
fn before_it_is_programmed_nothing_happens() {
    let mut b = bench();
    assert_eq!(b.pit.next_deadline(), Nanos::NEVER);
    b.pit.advance(Nanos(1 << 50));
    assert!(!b.irq());
}

#[test]
fn mode_0_raises_out_one_tick_after_the_count_ran_down() {
    let mut b = bench();
    b.program(0, 0, 100, at(1000));
    assert!(!b.irq());
    assert_eq!(b.pit.next_deadline(), at(1101));
    b.pit.advance(Nanos(at(1101).0 - 1));
    assert!(!b.irq());
    b.pit.advance(at(1101));
    assert!(b.irq());
    assert_eq!(b.pit.next_deadline(), Nanos::NEVER);
}

#[test]
fn mode_0_counts_on_through_zero() {
    let mut b = bench();
    b.program(0, 0, 10, at(0));
    assert_eq!(b.count(0, at(4)), 7);
    assert_eq!(b.count(0, at(11)), 0);
    assert_eq!(b.count(0, at(13)), 0xfffe);
}

#[test]
fn mode_0_first_byte_stops_counting_and_lowers_out() {
    let mut b = bench();
    b.program(0, 0, 10, at(0));
    b.pit.advance(at(20));
    assert!(b.irq());
    b.pit.write(0, 5, at(20));
    assert!(!b.irq());
    assert_eq!(b.pit.next_deadline(), Nanos::NEVER);
    b.pit.write(0, 0, at(30));
    assert_eq!(b.pit.next_deadline(), at(36));
}

#[test]
fn mode_0_gate_holds_the_count() {
    let mut b = bench();
    b.pit.write_control_b(1, at(0));
    b.program(2, 0, 100, at(0));
    b.pit.write_control_b(0, at(41));
    assert_eq!(b.count(2, at(500)), 60);
    assert!(!b.out2(at(500)));
    b.pit.write_control_b(1, at(1000));
    assert_eq!(b.count(2, at(1010)), 50);
    assert!(!b.out2(at(1059)));
    assert!(b.out2(at(1060)));
}

#[test]
fn mode_1_is_triggered_and_retriggered_by_the_gate() {
    let mut b = bench();
    b.program(2, 1, 50, at(0));
    assert!(b.out2(at(100)));
    b.pit.write_control_b(1, at(100));
    assert!(!b.out2(at(101)) && !b.out2(at(150)) && b.out2(at(151)));
    b.pit.write_control_b(0, at(120));
    assert!(!b.out2(at(121)));
    b.pit.write_control_b(1, at(130));
    assert!(!b.out2(at(180)) && b.out2(at(181)));
}

#[test]
fn mode_2_interrupts_once_a_period() {
    let mut b = bench();
    b.program(0, 2, 11932, at(0));
    let _edge_of_programming = b.ticked();
    for period in 1..=5 {
        let deadline = b.pit.next_deadline();
        assert_eq!(deadline, at(1 + period * 11932));
        b.pit.advance(Nanos(deadline.0 - 1));
        assert!(!b.ticked());
        b.pit.advance(deadline);
        assert!(b.ticked() && b.irq());
    }
}

#[test]
fn mode_2_output_is_low_for_the_last_tick() {
    let mut b = bench();
    b.pit.write_control_b(1, at(0));
    b.program(2, 2, 10, at(0));
    let out: Vec<bool> = (1..=20).map(|tick| b.out2(at(tick))).collect();
    let period = [true, true, true, true, true, true, true, true, true, false];
    assert_eq!(out, [period, period].concat());
    assert_eq!(b.count(2, at(1)), 10);
    assert_eq!(b.count(2, at(10)), 1);
    assert_eq!(b.count(2, at(11)), 10);
}

#[test]
fn mode_2_takes_a_new_count_at_the_end_of_the_period() {
    let mut b = bench();
    b.program(0, 2, 1000, at(0));
    for byte in 200_u16.to_le_bytes() {
        b.pit.write(0, byte, at(500));
    }
    assert_eq!(b.count(0, at(900)), 101);
    assert_eq!(b.pit.next_deadline(), at(1001));
    b.pit.advance(at(1001));
    assert_eq!(b.pit.next_deadline(), at(1201));
}

#[test]
fn mode_2_gate_restarts_the_period() {
    let mut b = bench();
    b.pit.write_control_b(1, at(0));
    b.program(2, 2, 10, at(0));
    b.pit.write_control_b(0, at(10));
    assert!(b.out2(at(10)));
    b.pit.write_control_b(1, at(15));
    assert_eq!(b.count(2, at(16)), 10);
}

#[test]
fn mode_3_is_high_for_the_longer_half() {
    let mut b = bench();
    b.pit.write_control_b(1, at(0));
    for (count, high) in [(10, 5), (11, 6), (2, 1), (3, 2)] {
        b.program(2, 3, count, at(0));
        let out: Vec<bool> = (1..=i64::from(count)).map(|tick| b.out2(at(tick))).collect();
        assert_eq!(out.iter().filter(|level| **level).count(), high, "count {count}");
        assert!(out[..high].iter().all(|level| *level));
    }
}

#[test]
fn mode_3_counts_down_by_two() {
    let mut b = bench();
    b.pit.write_control_b(1, at(0));
    b.program(2, 3, 100, at(0));
    assert_eq!(b.count(2, at(1)), 100);
    assert_eq!(b.count(2, at(11)), 80);
    assert_eq!(b.count(2, at(51)), 100);
    assert_eq!(b.count(2, at(100)), 2);
}

#[test]
fn mode_3_takes_a_new_count_at_the_half_period() {
    let mut b = bench();
    b.pit.write_control_b(1, at(0));
    b.program(2, 3, 100, at(0));
    for byte in 20_u16.to_le_bytes() {
        b.pit.write(2, byte, at(11));
    }
    // High until 51, then low for 10, high for 10, low again.
    let levels: Vec<bool> = [50, 51, 60, 61, 70, 71].map(|tick| b.out2(at(tick))).into();
    assert_eq!(levels, [true, false, false, true, true, false]);
}

#[test]
fn mode_4_strobes_once() {
    let mut b = bench();
    b.program(0, 4, 100, at(0));
    let _edge_of_programming = b.ticked();
    assert_eq!(b.pit.next_deadline(), at(102));
    b.pit.advance(at(102));
    assert!(b.ticked());
    assert_eq!(b.pit.next_deadline(), Nanos::NEVER);
}

#[test]
fn mode_5_strobes_after_a_trigger() {
    let mut b = bench();
    b.program(2, 5, 30, at(0));
    assert!(b.out2(at(100)));
    b.pit.write_control_b(1, at(100));
    assert!(b.out2(at(130)) && !b.out2(at(131)) && b.out2(at(132)));
}

#[test]
fn a_latched_count_stays_until_it_is_read_whole() {
    let mut b = bench();
    b.program(0, 2, 0x1234, at(0));
    b.pit.write(3, 0x00, at(1));
    b.pit.write(3, 0x00, at(100));
    assert_eq!(b.count(0, at(200)), 0x1234);
    assert_eq!(b.count(0, at(1 + 0x34)), 0x1200);
}

#[test]
fn read_back_gives_status_then_count() {
    let mut b = bench();
    b.program(0, 2, 0x1000, at(0));
    b.pit.write(3, 0xc2, at(1));
    assert_eq!(b.pit.read(0, at(50)), 0xb4);
    assert_eq!(b.count(0, at(60)), 0x1000);
}

#[test]
fn status_shows_a_count_that_is_not_loaded_yet() {
    let mut b = bench();
    b.pit.write(3, 0x34, at(0));
    b.pit.write(3, 0xe2, at(1));
    assert_eq!(b.pit.read(0, at(1)), 0xf4);
    b.pit.write(0, 0, at(1));
    b.pit.write(0, 1, at(1));
    b.pit.write(3, 0xe2, at(3));
    assert_eq!(b.pit.read(0, at(3)), 0xb4);
}

#[test]
fn single_byte_access_reads_and_writes_that_byte() {
    let mut b = bench();
    b.pit.write(3, 0x24, at(0));
    b.pit.write(0, 0x12, at(0));
    assert_eq!(b.pit.read(0, at(1)), 0x12);
    assert_eq!(b.pit.next_deadline(), at(1 + 0x1200));
    b.pit.write(3, 0x14, at(10));
    b.pit.write(0, 0x80, at(10));
    assert_eq!((b.pit.read(0, at(11)), b.pit.read(0, at(12))), (0x80, 0x7f));
}

#[test]
fn decimal_counting_reads_in_digits() {
    let mut b = bench();
    b.pit.write(3, 0x31, at(0));
    b.pit.write(0, 0x00, at(0));
    b.pit.write(0, 0x10, at(0));
    assert_eq!(b.count(0, at(2)), 0x0999);
    assert_eq!(b.pit.next_deadline(), at(1001));
}

#[test]
fn a_count_of_zero_is_the_longest() {
    let mut b = bench();
    b.program(0, 2, 0, at(0));
    assert_eq!(b.pit.next_deadline(), at(1 + 0x1_0000));
}

#[test]
fn missed_ticks_become_one_and_the_phase_is_kept() {
    let mut b = bench();
    b.program(0, 2, 1000, at(0));
    let _edge_of_programming = b.ticked();
    b.pit.advance(at(10_000_000_500));
    assert!(b.ticked());
    b.pit.advance(at(10_000_000_500));
    assert!(!b.ticked());
    assert_eq!(b.pit.next_deadline(), at(10_000_001_001));
}

#[test]
fn a_tiny_period_does_not_flood() {
    let mut b = bench();
    b.program(0, 2, 2, at(0));
    let mut now = at(10);
    for _ in 0..100 {
        b.pit.advance(now);
        let deadline = b.pit.next_deadline();
        assert!(deadline >= now + MINIMUM_TICK);
        now = deadline;
    }
}

#[test]
fn port_61_keeps_its_low_bits_and_toggles_refresh() {
    let mut b = bench();
    b.pit.write_control_b(0xff, Nanos(0));
    assert_eq!(b.pit.read_control_b(Nanos(0)) & 0xcf, 0x0f);
    assert_ne!(b.pit.read_control_b(Nanos(0)) & 0x10, b.pit.read_control_b(Nanos(REFRESH_NS)) & 0x10);
}

#[test]
fn restored_in_mid_period_it_ticks_at_the_same_time() {
    let mut b = bench();
    b.program(0, 2, 5000, at(7));
    b.pit.advance(at(6000));
    let mut copy = bench();
    copy.pit.restore(&b.pit.save());
    assert_eq!(copy.irq(), b.irq());
    assert_eq!(copy.pit.next_deadline(), at(10_008));
}

#[derive(Clone, Debug)]
enum Step {
    Read(u16),
    Write(u16, u8),
    ReadB,
    WriteB(u8),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u16..4).prop_map(Step::Read),
        (0_u16..4, any::<u8>()).prop_map(|(offset, value)| Step::Write(offset, value)),
        Just(Step::ReadB),
        any::<u8>().prop_map(Step::WriteB),
        prop_oneof![0_u64..3000, 0_u64..100_000_000, 0_u64..1 << 55].prop_map(Step::Wait),
    ]
}

fn take(b: &mut Bench, step: &Step, now: &mut Nanos) -> (u8, bool, bool, Nanos) {
    let mut read = 0;
    match *step {
        Step::Read(offset) => read = b.pit.read(offset, *now),
        Step::Write(offset, value) => b.pit.write(offset, value, *now),
        Step::ReadB => read = b.pit.read_control_b(*now),
        Step::WriteB(value) => b.pit.write_control_b(value, *now),
        Step::Wait(ns) => {
            *now = *now + Nanos(ns);
            b.pit.advance(*now);
            assert!(b.pit.next_deadline() > *now);
        }
    }
    (read, b.irq(), b.ticked(), b.pit.next_deadline())
}

proptest! {
    #[test]
    fn any_accesses_are_survived_and_a_restored_timer_goes_on_the_same(
        before in prop::collection::vec(step(), 0..80),
        after in prop::collection::vec(step(), 0..80),
    ) {
        let mut original = bench();
        let mut now = Nanos(0);
        for step in &before {
            let _seen = take(&mut original, step, &mut now);
        }
        let mut copy = bench();
        copy.pit.restore(&original.pit.save());
        let _restored = copy.ticked();
        let mut copy_now = now;
        for step in &after {
            prop_assert_eq!(take(&mut original, step, &mut now), take(&mut copy, step, &mut copy_now));
        }
        prop_assert_eq!(original.pit.save(), copy.pit.save());
    }

    /// The deadline is exactly the first moment at which the output, looked at tick by tick, has risen.
    #[test]
    fn the_next_rise_is_where_the_output_rises(
        mode in 0_u8..6, count in 2_u16..40, second in 2_u16..40, rewrite in 1_i64..60,
    ) {
        let mut counter = Counter::after_reset(true);
        counter.program(Mode::decode(mode << 1), Access::Low, Radix::Binary);
        let [low, _] = count.to_le_bytes();
        counter.write(low, 0);
        let [low, _] = second.to_le_bytes();
        for tick in 1..200 {
            if tick == rewrite {
                counter.write(low, tick);
            }
            let predicted = counter.next_rise(tick);
            let observed = (tick + 1..tick + 100)
                .find(|&later| counter.output(later) && !counter.output(later - 1));
            prop_assert_eq!(predicted, observed, "mode {} count {} at {}", mode, count, tick);
        }
    }
}
