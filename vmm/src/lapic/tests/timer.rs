//! Behaviours of the timer. Its clock runs at one hundredth of the TSC here.

use super::*;

const VECTOR: u32 = 0xec;
const PERIODIC: u32 = 1 << 17;
const TSC_DEADLINE: u32 = 2 << 17;
const MASKED: u32 = 1 << 16;
const DIVIDE_BY_1: u32 = 0b1011;

fn at(apic: &mut LocalApic, now: u64, offset: u16, value: u32) {
    assert_eq!(apic.write_mmio(offset, Width::Four, value.into(), Tsc(now)), Effect::None);
}

fn current(apic: &mut LocalApic, now: u64) -> u64 {
    apic.read_mmio(CURRENT, Width::Four, Tsc(now))
}

/// Takes the timer's interrupt if it is there.
fn take(apic: &mut LocalApic) -> bool {
    let Some(vector) = apic.pending_vector() else { return false };
    assert_eq!(u32::from(vector.0), VECTOR);
    apic.acknowledge(vector);
    assert_eq!(apic.end_of_interrupt(), Effect::None);
    true
}

fn timer(mode: u32) -> LocalApic {
    let mut apic = apic();
    at(&mut apic, 0, DIVIDE, DIVIDE_BY_1);
    at(&mut apic, 0, LVT_TIMER, VECTOR | mode);
    apic
}

#[test]
fn one_shot_counts_down_fires_once_and_stops() {
    let mut apic = timer(0);
    at(&mut apic, 1000, INITIAL, 50);
    assert_eq!(apic.timer_deadline(), Some(Tsc(6000)));
    assert_eq!(current(&mut apic, 1000), 50);
    assert_eq!(current(&mut apic, 1100), 49);
    assert_eq!(current(&mut apic, 5999), 1);
    apic.advance(Tsc(5999));
    assert!(!take(&mut apic));
    apic.advance(Tsc(6000));
    assert!(take(&mut apic));
    assert_eq!((apic.timer_deadline(), current(&mut apic, 7000)), (None, 0));
    apic.advance(Tsc(100_000));
    assert!(!take(&mut apic));
}

#[test]
fn the_divisor_slows_the_count() {
    for (code, divisor) in [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)] {
        let mut apic = timer(0);
        at(&mut apic, 0, DIVIDE, code);
        at(&mut apic, 0, INITIAL, 10);
        assert_eq!(apic.timer_deadline(), Some(Tsc(1000 * divisor)), "code {code}");
    }
}

#[test]
fn a_new_divisor_goes_on_from_the_count() {
    let mut apic = timer(0);
    at(&mut apic, 0, INITIAL, 100);
    at(&mut apic, 4000, DIVIDE, 0);
    assert_eq!(current(&mut apic, 4000), 60);
    assert_eq!(apic.timer_deadline(), Some(Tsc(4000 + 60 * 200)));
}

#[test]
fn periodic_keeps_its_phase_when_looked_at_late() {
    let mut apic = timer(PERIODIC);
    at(&mut apic, 0, INITIAL, 1000);
    apic.advance(Tsc(100_050));
    assert!(take(&mut apic));
    assert_eq!(apic.timer_deadline(), Some(Tsc(200_000)));
    apic.advance(Tsc(1_000_000_000_000_000_050));
    assert!(take(&mut apic), "many missed periods are one interrupt");
    assert!(!take(&mut apic));
    assert_eq!(apic.timer_deadline(), Some(Tsc(1_000_000_000_000_100_000)));
    assert_eq!(current(&mut apic, 1_000_000_000_000_050_000), 500);
}

#[test]
fn periods_do_not_drift() {
    // 3 timer ticks in 10 TSC ticks: 100000 ticks are 333333 1/3 TSC ticks.
    let mut apic = LocalApic::new(Config { timer_rate: rate(3, 10), ..config() });
    write(&mut apic, SVR, 0x1ff);
    at(&mut apic, 0, DIVIDE, DIVIDE_BY_1);
    at(&mut apic, 0, LVT_TIMER, VECTOR | PERIODIC);
    at(&mut apic, 0, INITIAL, 100_000);
    for period in 1..=3000u64 {
        let deadline = apic.timer_deadline().expect("it runs");
        assert!(deadline.0.abs_diff(period * 1_000_000 / 3) <= 1, "period {period}: {deadline:?}");
        apic.advance(deadline);
        assert!(take(&mut apic));
    }
}

#[test]
fn short_periods_are_stretched() {
    let mut apic = timer(PERIODIC);
    at(&mut apic, 0, INITIAL, 1);
    assert_eq!(apic.timer_deadline(), Some(Tsc(50_000)));
    assert_eq!(current(&mut apic, 10), 1);
    apic.advance(Tsc(50_000));
    assert_eq!(apic.timer_deadline(), Some(Tsc(100_000)));
}

#[test]
fn an_initial_count_of_zero_stops() {
    let mut apic = timer(PERIODIC);
    at(&mut apic, 0, INITIAL, 1000);
    at(&mut apic, 10, INITIAL, 0);
    assert_eq!((apic.timer_deadline(), current(&mut apic, 20)), (None, 0));
}

#[test]
fn a_masked_timer_counts_silently() {
    let mut apic = timer(PERIODIC | MASKED);
    at(&mut apic, 0, INITIAL, 1000);
    assert_eq!(apic.timer_deadline(), None, "nobody needs to wake for it");
    assert_eq!(current(&mut apic, 250_000), 500);
    at(&mut apic, 260_000, LVT_TIMER, VECTOR | PERIODIC);
    assert!(!take(&mut apic), "what ran out while masked is lost");
    assert_eq!(apic.timer_deadline(), Some(Tsc(300_000)));
}

#[test]
fn an_expiry_just_before_masking_is_not_lost() {
    let mut apic = timer(0);
    at(&mut apic, 0, INITIAL, 10);
    at(&mut apic, 1001, LVT_TIMER, VECTOR | MASKED);
    assert!(take(&mut apic));
}

#[test]
fn tsc_deadline_fires_when_reached_and_disarms() {
    let mut apic = timer(TSC_DEADLINE);
    let deadline = |apic: &mut LocalApic, now| apic.read_msr(Msr::TSC_DEADLINE, Tsc(now));
    assert_eq!(apic.write_msr(Msr::TSC_DEADLINE, 5000, Tsc(100)), Ok(Effect::None));
    assert_eq!((apic.timer_deadline(), deadline(&mut apic, 200)), (Some(Tsc(5000)), Ok(5000)));
    apic.advance(Tsc(4999));
    assert!(!take(&mut apic));
    assert_eq!(deadline(&mut apic, 5000), Ok(0));
    apic.advance(Tsc(5000));
    assert!(take(&mut apic));
    assert_eq!(apic.timer_deadline(), None);
}

#[test]
fn a_deadline_in_the_past_fires_at_once() {
    let mut apic = timer(TSC_DEADLINE);
    apic.set_tsc_deadline(Tsc(5), Tsc(100));
    assert!(take(&mut apic));
    assert_eq!(apic.timer_deadline(), None);
}

#[test]
fn zero_disarms_the_deadline() {
    let mut apic = timer(TSC_DEADLINE);
    apic.set_tsc_deadline(Tsc(5000), Tsc(100));
    apic.set_tsc_deadline(Tsc(0), Tsc(200));
    assert_eq!(apic.timer_deadline(), None);
    apic.advance(Tsc(6000));
    assert!(!take(&mut apic));
}

#[test]
fn a_new_deadline_does_not_swallow_one_that_passed() {
    let mut apic = timer(TSC_DEADLINE);
    apic.set_tsc_deadline(Tsc(5000), Tsc(100));
    apic.set_tsc_deadline(Tsc(9000), Tsc(5001));
    assert!(take(&mut apic));
    assert_eq!(apic.timer_deadline(), Some(Tsc(9000)));
}

#[test]
fn each_mode_ignores_the_registers_of_the_other() {
    let mut apic = timer(TSC_DEADLINE);
    at(&mut apic, 0, INITIAL, 10);
    assert_eq!((apic.timer_deadline(), current(&mut apic, 1)), (None, 0));
    let mut apic = timer(0);
    apic.set_tsc_deadline(Tsc(5000), Tsc(0));
    assert_eq!((apic.timer_deadline(), apic.tsc_deadline(Tsc(1))), (None, Tsc(0)));
    let mut plain = LocalApic::new(Config { features: Features::X2APIC, ..config() });
    assert_eq!(plain.read_msr(Msr::TSC_DEADLINE, NOW), Err(GeneralProtection));
    assert_eq!(plain.write_msr(Msr::TSC_DEADLINE, 1, NOW), Err(GeneralProtection));
}

#[test]
fn leaving_or_entering_deadline_mode_disarms_and_periodic_goes_on() {
    let mut apic = timer(0);
    at(&mut apic, 0, INITIAL, 1000);
    at(&mut apic, 1, LVT_TIMER, VECTOR | PERIODIC);
    assert_eq!(apic.timer_deadline(), Some(Tsc(100_000)));
    at(&mut apic, 2, LVT_TIMER, VECTOR | TSC_DEADLINE);
    assert_eq!(apic.timer_deadline(), None);
    apic.set_tsc_deadline(Tsc(5000), Tsc(3));
    at(&mut apic, 4, LVT_TIMER, VECTOR);
    assert_eq!(apic.timer_deadline(), None);
    at(&mut apic, 5, LVT_TIMER, VECTOR | 3 << 17);
    at(&mut apic, 5, INITIAL, 1000);
    assert_eq!(apic.timer_deadline(), None, "the reserved mode stands still");
}

#[test]
fn a_jump_of_the_tsc_moves_counts_but_no_deadline() {
    let mut apic = timer(0);
    at(&mut apic, 0, INITIAL, 100);
    apic.tsc_jumped(Tsc(4000), Tsc(1_000_000));
    assert_eq!(apic.timer_deadline(), Some(Tsc(1_006_000)));
    let mut apic = timer(TSC_DEADLINE);
    apic.set_tsc_deadline(Tsc(5000), Tsc(0));
    apic.tsc_jumped(Tsc(4000), Tsc(1_000_000));
    assert_eq!(apic.timer_deadline(), Some(Tsc(5000)));
    apic.advance(Tsc(1_000_001));
    assert!(take(&mut apic));
}

#[test]
fn extreme_rates_and_times_do_not_overflow() {
    for rate in [rate(1, u64::MAX), rate(u64::MAX, 1)] {
        let mut apic = LocalApic::new(Config { timer_rate: rate, shortest_period: Tsc(0), ..config() });
        write(&mut apic, SVR, 0x1ff);
        at(&mut apic, 0, DIVIDE, 10);
        at(&mut apic, 0, LVT_TIMER, VECTOR | PERIODIC);
        at(&mut apic, u64::MAX - 1, INITIAL, u32::MAX);
        apic.advance(Tsc::NEVER);
        current(&mut apic, u64::MAX);
        assert!(apic.timer_deadline().is_some());
        apic.tsc_jumped(Tsc::NEVER, Tsc(0));
        at(&mut apic, 0, DIVIDE, 11);
    }
}
