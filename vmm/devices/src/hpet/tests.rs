//! Behaviour of the high-precision event timer, through its registers.

use super::*;
use arch::Vector;
use bus::IrqBank;
use proptest::prelude::*;

const CONFIGURATION: u64 = 0x10;
const STATUS: u64 = 0x20;
const COUNTER: u64 = 0xf0;

const ON: u64 = 1 << 2;
const LEVEL: u64 = 1 << 1;
const PERIODIC: u64 = 1 << 3;
const VALUE_SET: u64 = 1 << 6;
const MODE_32: u64 = 1 << 8;
const MESSAGES: u64 = 1 << 14;

const WIDTHS: [Width; 4] = [Width::One, Width::Two, Width::Four, Width::Eight];

struct Bench {
    hpet: Hpet,
    lines: IrqBank,
}

fn bench() -> Bench {
    let lines = IrqBank::new();
    let wires = HpetLines {
        legacy: [0, 8].map(|number| lines.line(number)),
        routed: [16, 17, 18, 19].map(|number| lines.line(number)),
    };
    Bench { hpet: Hpet::new(wires), lines }
}

const fn config(timer: u64) -> u64 {
    0x100 + 0x20 * timer
}

const fn comparator(timer: u64) -> u64 {
    0x108 + 0x20 * timer
}

const fn route(pin: u64) -> u64 {
    pin << 9
}

/// The moment of a count, if the counter started at zero at time zero.
fn at(count: u64) -> Nanos {
    Nanos(count * TICK_NS)
}

impl Bench {
    fn get(&mut self, offset: u64, now: Nanos) -> u64 {
        self.hpet.read(offset, Width::Eight, now)
    }

    fn set(&mut self, offset: u64, value: u64, now: Nanos) {
        self.hpet.write(offset, Width::Eight, value, now);
    }

    /// A timer at `comparator`, and the counter on, at time zero.
    fn start(&mut self, timer: u64, configuration: u64, value: u64) {
        self.set(config(timer), configuration, at(0));
        self.set(comparator(timer), value, at(0));
        self.set(CONFIGURATION, 1, at(0));
    }

    /// The lines that rose since the last call.
    fn rose(&self) -> u32 {
        self.lines.take_changes().map_or(0, |changes| changes.rose)
    }

    fn level(&self, pin: u8) -> bool {
        self.lines.levels() & (1 << pin) != 0
    }
}

#[test]
fn capabilities_say_three_64_bit_timers_and_the_period() {
    let mut b = bench();
    assert_eq!(b.get(0, at(0)), 0x0098_9680_8086_a201);
    b.set(0, 0, at(0));
    assert_eq!(b.get(0, at(0)), 0x0098_9680_8086_a201);
    for timer in 0..3 {
        assert_eq!(b.get(config(timer), at(0)), 0x000f_0000_0000_8030);
        assert_eq!(b.get(comparator(timer), at(0)), u64::MAX);
    }
    assert_eq!(b.get(config(3), at(0)), 0);
}

#[test]
fn the_counter_runs_only_while_enabled_and_can_be_set() {
    let mut b = bench();
    assert_eq!(b.get(COUNTER, at(100)), 0);
    b.set(COUNTER, 0xffff_fff0, at(100));
    b.set(CONFIGURATION, 1, at(200));
    assert_eq!(b.get(COUNTER, at(220)), 0x1_0000_0004);
    b.set(CONFIGURATION, 0, at(230));
    assert_eq!(b.get(COUNTER, at(500)), 0x1_0000_000e);
    b.hpet.write(COUNTER + 4, Width::Four, 7, at(500));
    assert_eq!(b.get(COUNTER, at(500)), 0x7_0000_000e);
}

#[test]
fn a_one_shot_interrupts_once_when_the_counter_comes_to_it() {
    let mut b = bench();
    b.start(0, ON | route(16), 10_000);
    assert_eq!(b.hpet.next_deadline(), at(10_000));
    b.hpet.advance(at(9_999));
    assert_eq!(b.rose(), 0);
    b.hpet.advance(at(10_000));
    assert_eq!(b.rose(), 1 << 16);
    assert!(!b.level(16));
    b.hpet.advance(at(1 << 40));
    assert_eq!(b.rose(), 0);
    assert_eq!(b.get(STATUS, at(1 << 40)), 0);
}

#[test]
fn a_comparator_that_is_passed_already_waits_for_the_counter_to_come_around() {
    let mut b = bench();
    b.start(0, ON | MODE_32 | route(16), u64::MAX);
    b.set(comparator(0), 50, at(100));
    assert_eq!(b.hpet.next_deadline(), at((1 << 32) + 50));
    b.hpet.advance(at((1 << 32) + 50));
    assert_eq!(b.rose(), 1 << 16);
    // With all 64 bits that takes longer than the machine lives.
    b.set(config(0), ON | route(16), at((1 << 32) + 60));
    assert_eq!(b.hpet.next_deadline(), Nanos::NEVER);
}

#[test]
fn a_periodic_timer_takes_comparator_and_period_one_after_the_other() {
    let mut b = bench();
    b.set(config(1), ON | PERIODIC | VALUE_SET | route(17), at(0));
    b.set(comparator(1), 30_000, at(0));
    assert_eq!(b.get(config(1), at(0)) & VALUE_SET, 0);
    b.set(comparator(1), 10_000, at(0));
    b.set(CONFIGURATION, 1, at(0));
    assert_eq!(b.get(comparator(1), at(0)), 30_000);
    for match_at in [30_000, 40_000, 50_000] {
        assert_eq!(b.hpet.next_deadline(), at(match_at));
        b.hpet.advance(at(match_at));
        assert_eq!(b.rose(), 1 << 17);
        assert_eq!(b.get(comparator(1), at(match_at)), match_at + 10_000);
    }
}

#[test]
fn value_set_with_one_write_is_comparator_and_period() {
    let mut b = bench();
    b.start(0, ON | PERIODIC | VALUE_SET | route(16), 10_000);
    b.hpet.advance(at(10_000));
    assert_eq!(b.get(comparator(0), at(10_000)), 20_000);
}

#[test]
fn a_64_bit_comparator_can_be_set_in_halves() {
    let mut b = bench();
    for (half, value) in [(0, 0x1234_5678), (4, 0x9a)] {
        b.set(config(0), PERIODIC | VALUE_SET, at(0));
        b.hpet.write(comparator(0) + half, Width::Four, value, at(0));
    }
    assert_eq!(b.get(comparator(0), at(0)), 0x9a_1234_5678);
    b.set(config(1), MODE_32, at(0));
    b.hpet.write(comparator(1) + 4, Width::Four, 1, at(0));
    b.hpet.write(comparator(1), Width::Eight, u64::MAX - 1, at(0));
    assert_eq!(b.get(comparator(1), at(0)), 0xffff_fffe);
}

#[test]
fn missed_periods_are_one_interrupt_and_the_phase_is_kept() {
    let mut b = bench();
    b.set(config(0), ON | PERIODIC | VALUE_SET | route(16), at(0));
    b.set(comparator(0), 10_000, at(0));
    b.set(CONFIGURATION, 1, at(0));
    b.hpet.advance(at(1_000_000_005));
    assert_eq!(b.rose(), 1 << 16);
    assert_eq!(b.hpet.next_deadline(), at(1_000_010_000));
}

#[test]
fn a_tiny_period_does_not_flood() {
    let mut b = bench();
    b.start(0, ON | PERIODIC | VALUE_SET | route(16), 1);
    let mut now = at(1);
    for _ in 0..100 {
        b.hpet.advance(now);
        let deadline = b.hpet.next_deadline();
        assert!(deadline >= now + MINIMUM_TICK);
        now = deadline;
    }
}

#[test]
fn a_level_stays_until_its_status_is_cleared() {
    let mut b = bench();
    b.start(2, ON | LEVEL | route(19), 500);
    b.hpet.advance(at(500));
    assert!(b.level(19));
    assert_eq!(b.get(STATUS, at(501)), 1 << 2);
    b.set(STATUS, 0b11, at(502));
    assert!(b.level(19));
    b.set(STATUS, 1 << 2, at(503));
    assert!(!b.level(19));
    assert_eq!(b.get(STATUS, at(503)), 0);
}

#[test]
fn without_its_enable_a_level_shows_in_the_status_only() {
    let mut b = bench();
    b.start(2, LEVEL | route(19), 500);
    assert_eq!(b.hpet.next_deadline(), Nanos::NEVER);
    assert_eq!(b.get(STATUS, at(600)), 1 << 2);
    assert!(!b.level(19));
    b.set(config(2), ON | LEVEL | route(19), at(600));
    assert!(b.level(19));
}

#[test]
fn two_levels_share_a_pin() {
    let mut b = bench();
    b.start(0, ON | LEVEL | route(18), 10);
    b.start(1, ON | LEVEL | route(18), 10);
    b.hpet.advance(at(10));
    b.set(STATUS, 1, at(11));
    assert!(b.level(18));
    b.set(STATUS, 2, at(11));
    assert!(!b.level(18));
}

#[test]
fn messages_go_where_the_route_register_says() {
    let mut b = bench();
    b.hpet.write(0x114, Width::Four, 0xfee0_3000, at(0));
    b.hpet.write(0x110, Width::Four, 0x4041, at(0));
    b.start(0, ON | MESSAGES, 100);
    b.hpet.advance(at(100));
    assert_eq!(b.rose(), 0);
    assert!(b.hpet.has_message());
    let message = b.hpet.take_message().expect("it matched");
    assert_eq!((message.vector, message.destination), (Vector(0x41), bus::Destination::Physical(3)));
    assert_eq!(b.hpet.take_message(), None);
}

#[test]
fn messages_to_elsewhere_and_pins_that_cannot_be_are_nothing() {
    let mut b = bench();
    b.set(0x110, 0x1000_0000_0000_0041, at(0));
    b.start(0, ON | MESSAGES, 100);
    b.start(1, ON | route(3), 100);
    b.hpet.advance(at(100));
    assert!(!b.hpet.has_message());
    assert_eq!(b.rose(), 0);
}

#[test]
fn legacy_replacement_routes_timers_0_and_1_whatever_their_pins() {
    let mut b = bench();
    b.start(0, ON | route(16), 100);
    b.start(1, ON | LEVEL | route(17), 100);
    b.start(2, ON | route(18), 100);
    b.set(CONFIGURATION, 0xff, at(0));
    assert!(b.hpet.replaces_legacy());
    assert_eq!(b.get(CONFIGURATION, at(0)), 3);
    b.hpet.advance(at(100));
    assert_eq!(b.rose(), 1 << 0 | 1 << 8 | 1 << 18);
    assert_eq!(b.lines.levels(), 1 << 8);
}

#[test]
fn reads_of_any_size_at_any_offset_give_the_bytes_that_are_there() {
    let mut b = bench();
    let bytes: Vec<u8> = (0..HPET_BYTES / 8)
        .flat_map(|register| b.get(register * 8, at(0)).to_le_bytes())
        .chain([0xff; 8])
        .collect();
    for width in WIDTHS {
        for offset in 0..HPET_BYTES {
            let first = usize::try_from(offset).expect("a small offset");
            let mut expected = [0; 8];
            let count = usize::try_from(width.bytes()).expect("a few bytes");
            expected[..count].copy_from_slice(&bytes[first..first + count]);
            assert_eq!(
                b.hpet.read(offset, width, at(0)),
                u64::from_le_bytes(expected),
                "{width:?} {offset:#x}"
            );
        }
    }
}

#[test]
fn only_aligned_writes_of_4_and_8_bytes_do_anything() {
    for width in WIDTHS {
        for offset in 0..HPET_BYTES {
            let mut b = bench();
            b.hpet.write(offset, width, 0x0041_4141_4141_4141 & width.mask(), at(0));
            let acts = match width {
                Width::One | Width::Two => false,
                Width::Four | Width::Eight => {
                    offset % width.bytes() == 0
                        && matches!(
                            Register::at(offset),
                            Register::Configuration
                                | Register::Counter
                                | Register::TimerConfiguration(_)
                                | Register::Comparator(_)
                                | Register::MessageRoute(_)
                        )
                }
            };
            // The high halves of both kinds of configuration hold nothing that can be written.
            let acts = acts
                && !(offset & 4 != 0
                    && matches!(
                        Register::at(offset),
                        Register::Configuration | Register::TimerConfiguration(_)
                    ));
            assert_eq!(b.hpet.save() != bench().hpet.save(), acts, "{width:?} {offset:#x}");
        }
    }
}

#[test]
fn reset_stops_everything() {
    let mut b = bench();
    b.start(0, ON | LEVEL | route(16), 10);
    b.hpet.advance(at(10));
    b.hpet.reset(at(20));
    assert_eq!(b.lines.levels(), 0);
    assert_eq!(b.hpet.next_deadline(), Nanos::NEVER);
    assert_eq!((b.get(COUNTER, at(50)), b.get(STATUS, at(50))), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Read(u64, Width),
    Write(u64, Width, u64),
    Wait(u64),
    Sleep,
    Take,
}

fn step() -> impl Strategy<Value = Step> {
    let width = || prop::sample::select(WIDTHS.to_vec());
    let offset = || {
        prop_oneof![0_u64..0x160, Just(0x10), Just(0x20), Just(0xf0), (0_u64..12).prop_map(|n| 0x100 + 8 * n)]
    };
    let value = || {
        prop_oneof![
            any::<u64>(),
            0_u64..100_000,
            any::<u16>().prop_map(|bits| u64::from(bits) | ON | route(16)),
            any::<u16>().prop_map(|vector| 0xfee0_0000_0000_0000 | u64::from(vector)),
        ]
    };
    prop_oneof![
        (offset(), width()).prop_map(|(offset, width)| Step::Read(offset, width)),
        (offset(), width(), value()).prop_map(|(offset, width, value)| Step::Write(offset, width, value)),
        (offset(), value()).prop_map(|(offset, value)| Step::Write(offset & !7, Width::Eight, value)),
        prop_oneof![0_u64..300, 0_u64..10_000_000, 0_u64..1 << 50].prop_map(Step::Wait),
        Just(Step::Sleep),
        Just(Step::Take),
    ]
}

type Seen = (u64, Option<InterruptMessage>, u32, u32, Nanos);

fn take(b: &mut Bench, step: &Step, now: &mut Nanos) -> Seen {
    let (mut read, mut message) = (0, None);
    match *step {
        Step::Read(offset, width) => read = b.hpet.read(offset, width, *now),
        Step::Write(offset, width, value) => b.hpet.write(offset, width, value, *now),
        Step::Wait(ns) => {
            *now = *now + Nanos(ns);
            b.hpet.advance(*now);
            assert!(b.hpet.next_deadline() > *now);
        }
        Step::Sleep if b.hpet.next_deadline() != Nanos::NEVER => {
            *now = (*now).max(b.hpet.next_deadline());
            b.hpet.advance(*now);
            assert!(b.hpet.next_deadline() > *now);
        }
        Step::Sleep => {}
        Step::Take => message = b.hpet.take_message(),
    }
    (read, message, b.lines.levels(), b.rose(), b.hpet.next_deadline())
}

proptest! {
    #[test]
    fn any_accesses_are_survived_and_a_restored_timer_goes_on_the_same(
        before in prop::collection::vec(step(), 0..80),
        after in prop::collection::vec(step(), 0..80),
    ) {
        let mut original = bench();
        let mut now = at(0);
        for step in &before {
            let _seen = take(&mut original, step, &mut now);
        }
        let mut copy = bench();
        copy.hpet.restore(&original.hpet.save());
        prop_assert_eq!(copy.lines.levels(), original.lines.levels());
        let _restored = copy.rose();
        let mut copy_now = now;
        for step in &after {
            prop_assert_eq!(take(&mut original, step, &mut now), take(&mut copy, step, &mut copy_now));
        }
        prop_assert_eq!(original.hpet.save(), copy.hpet.save());
    }

    /// Looking often changes nothing: matches are found whatever the steps in which time passes.
    #[test]
    fn matches_do_not_depend_on_how_often_one_looks(
        value in 1_u64..1000, period in 1_u64..300, wide: bool, looks in prop::collection::vec(1_u64..400, 1..20),
    ) {
        let (mut often, mut once) = (Timer::after_reset(), Timer::after_reset());
        for timer in [&mut often, &mut once] {
            timer.configure(PERIODIC | VALUE_SET | if wide { 0 } else { MODE_32 });
            timer.write_comparator(value, u64::MAX);
            timer.write_comparator(period, u64::MAX);
        }
        let mut count = 0;
        let mut matched = false;
        for look in looks {
            matched |= often.matches(count, look);
            count += look;
        }
        prop_assert_eq!(once.matches(0, count), matched);
        prop_assert_eq!(often.comparator(), once.comparator());
    }
}
