//! Simulations: a core that runs whom the scheduler says.

use super::*;
use arch::Tsc;
use proptest::prelude::*;

const SLICE: Tsc = Tsc(10_000);
const A: EntityId = EntityId(0);
const B: EntityId = EntityId(1);
const C: EntityId = EntityId(2);

fn weight(weight: u32) -> Weight {
    Weight::new(weight).expect("in range")
}

fn scheduler(weights: &[u32]) -> Scheduler {
    let mut scheduler = Scheduler::new(SLICE);
    for (id, &number) in (0..).map(EntityId).zip(weights) {
        scheduler.add(id, weight(number)).expect("free");
        scheduler.wake(id, Tsc(0)).expect("added");
    }
    scheduler
}

/// Lets whoever is picked run for at most `limit`, and returns who it was.
fn run_once(scheduler: &mut Scheduler, now: &mut Tsc, limit: Tsc) -> EntityId {
    let Decision::Run { id, until } = scheduler.pick(*now) else { panic!("somebody is runnable") };
    assert!(until > *now, "a turn is not empty");
    let ran = (until - *now).min(limit);
    *now = *now + ran;
    scheduler.charge(id, ran).expect("it ran");
    id
}

fn ran(scheduler: &Scheduler, id: EntityId) -> u64 {
    scheduler.ran(id).expect("added").0
}

/// `part` is within one percent of `expected`.
fn assert_close(part: u64, expected: u64) {
    assert!(part.abs_diff(expected) * 100 <= expected, "{part} is not within 1% of {expected}");
}

#[test]
fn nobody_runnable_is_idle() {
    let mut scheduler = Scheduler::new(SLICE);
    assert_eq!(scheduler.pick(Tsc(0)), Decision::Idle);
    scheduler.add(A, Weight::DEFAULT).expect("free");
    assert_eq!(scheduler.pick(Tsc(0)), Decision::Idle, "added is not awake");
    scheduler.wake(A, Tsc(0)).expect("added");
    assert_eq!(scheduler.pick(Tsc(5)), Decision::Run { id: A, until: Tsc(10_005) });
    scheduler.block(A).expect("added");
    assert_eq!(scheduler.pick(Tsc(6)), Decision::Idle);
}

#[test]
fn a_turn_lasts_one_slice_over_several_exits() {
    let mut scheduler = scheduler(&[100, 100]);
    assert_eq!(scheduler.pick(Tsc(0)), Decision::Run { id: A, until: Tsc(10_000) });
    scheduler.charge(A, Tsc(4_000)).expect("added");
    assert_eq!(scheduler.pick(Tsc(4_500)), Decision::Run { id: A, until: Tsc(10_500) });
    scheduler.charge(A, Tsc(6_000)).expect("added");
    assert_eq!(scheduler.pick(Tsc(10_500)), Decision::Run { id: B, until: Tsc(20_500) });
}

#[test]
fn shares_follow_weights_within_one_percent() {
    let weights = [1, 50, 100, 333, 1000];
    let mut scheduler = scheduler(&weights);
    let mut now = Tsc(0);
    while now.0 < 2_000_000_000 {
        run_once(&mut scheduler, &mut now, SLICE);
    }
    for (id, number) in (0..).map(EntityId).zip(weights) {
        assert_close(ran(&scheduler, id), now.0 * u64::from(number) / 1484);
    }
}

#[test]
fn one_that_yields_early_gets_its_share_all_the_same() {
    let mut scheduler = scheduler(&[100, 100]);
    let mut now = Tsc(0);
    // B exits after a tenth of each slice, but stays runnable.
    while now.0 < 100_000_000 {
        let Decision::Run { id, .. } = scheduler.pick(now) else { panic!("busy") };
        let limit = if id == B { Tsc(1_000) } else { SLICE };
        run_once(&mut scheduler, &mut now, limit);
    }
    assert_close(ran(&scheduler, A), now.0 / 2);
}

#[test]
fn a_long_sleeper_does_not_starve_the_others() {
    let mut scheduler = scheduler(&[100, 100]);
    let mut now = Tsc(0);
    scheduler.block(B).expect("added");
    for _ in 0..100_000 {
        run_once(&mut scheduler, &mut now, SLICE);
    }
    scheduler.wake(B, now).expect("added");
    let before = ran(&scheduler, A);
    let start = now;
    while (now - start).0 < 20 * SLICE.0 {
        run_once(&mut scheduler, &mut now, SLICE);
    }
    let share = ran(&scheduler, A) - before;
    assert!(share >= 9 * SLICE.0, "the head start is one slice: A ran {share}");
}

#[test]
fn sleeping_and_waking_all_the_time_wins_nothing() {
    let mut scheduler = scheduler(&[100, 100]);
    let mut now = Tsc(0);
    while now.0 < 200_000_000 {
        let id = run_once(&mut scheduler, &mut now, Tsc(700));
        if id == B {
            scheduler.block(B).expect("added");
            scheduler.wake(B, now).expect("added");
        }
    }
    assert_close(ran(&scheduler, B), now.0 / 2);
}

#[test]
fn a_waking_entity_that_is_behind_gets_the_core_soon_but_not_at_once() {
    let mut scheduler = scheduler(&[100, 100]);
    let mut now = Tsc(0);
    scheduler.block(B).expect("added");
    for _ in 0..10 {
        run_once(&mut scheduler, &mut now, SLICE);
    }
    assert_eq!(run_once(&mut scheduler, &mut now, Tsc(100)), A);
    scheduler.wake(B, now).expect("added");
    assert_eq!(scheduler.pick(now), Decision::Run { id: A, until: now + Tsc(SLICE.0 / 8 - 100) });
    assert_eq!(run_once(&mut scheduler, &mut now, SLICE), A);
    assert_eq!(run_once(&mut scheduler, &mut now, SLICE), B);
}

#[test]
fn a_waking_entity_that_is_ahead_waits_its_turn() {
    let mut scheduler = scheduler(&[100, 100]);
    let mut now = Tsc(0);
    assert_eq!(run_once(&mut scheduler, &mut now, SLICE), A);
    scheduler.block(A).expect("added");
    assert_eq!(run_once(&mut scheduler, &mut now, Tsc(100)), B);
    scheduler.wake(A, now).expect("added");
    assert_eq!(scheduler.pick(now), Decision::Run { id: B, until: now + Tsc(SLICE.0 - 100) });
}

#[test]
fn waiting_time_is_what_others_took() {
    let mut scheduler = scheduler(&[100, 100]);
    let mut now = Tsc(0);
    for _ in 0..5 {
        run_once(&mut scheduler, &mut now, SLICE);
    }
    // A, B, A, B, A: B waited once before each of its two turns, A before its second and third.
    assert_eq!(scheduler.waited(A), Some(Tsc(2 * SLICE.0)));
    assert_eq!(scheduler.waited(B), Some(Tsc(2 * SLICE.0)));
}

#[test]
fn a_new_weight_counts_from_now_on() {
    let mut scheduler = scheduler(&[100, 100]);
    let mut now = Tsc(0);
    for _ in 0..1000 {
        run_once(&mut scheduler, &mut now, SLICE);
    }
    scheduler.set_weight(B, weight(300)).expect("added");
    let (before, start) = (ran(&scheduler, B), now);
    for _ in 0..4000 {
        run_once(&mut scheduler, &mut now, SLICE);
    }
    assert_close(ran(&scheduler, B) - before, (now - start).0 * 3 / 4);
}

#[test]
fn numbers_are_checked() {
    let mut scheduler = scheduler(&[100]);
    assert_eq!(scheduler.add(A, Weight::DEFAULT), Err(AddError::Taken(A)));
    let large = EntityId(MAX_ENTITIES);
    assert_eq!(scheduler.add(large, Weight::DEFAULT), Err(AddError::TooLarge(large)));
    assert_eq!(scheduler.wake(B, Tsc(0)), Err(UnknownEntity(B)));
    assert_eq!(scheduler.block(large), Err(UnknownEntity(large)));
    assert_eq!(scheduler.charge(B, Tsc(1)), Err(UnknownEntity(B)));
    assert_eq!(scheduler.ran(B), None);
    assert_eq!((Weight::new(0), Weight::new(10_001)), (None, None));
    scheduler.remove(A).expect("added");
    assert_eq!(scheduler.remove(A), Err(UnknownEntity(A)));
    assert_eq!(scheduler.pick(Tsc(0)), Decision::Idle);
}

#[test]
fn the_running_entity_may_go() {
    let mut scheduler = scheduler(&[100, 100, 100]);
    assert!(matches!(scheduler.pick(Tsc(0)), Decision::Run { id: A, .. }));
    scheduler.remove(A).expect("added");
    assert!(matches!(scheduler.pick(Tsc(0)), Decision::Run { id: B, .. }));
    scheduler.block(B).expect("added");
    scheduler.charge(B, Tsc(500)).expect("blocked ones can be charged");
    assert!(matches!(scheduler.pick(Tsc(500)), Decision::Run { id: C, .. }));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Run { limit: u64 },
    Wake(u32),
    Block(u32),
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_core_is_busy_exactly_when_somebody_is_runnable_and_nobody_starves(
        weights in prop::collection::vec(1u32..=1000, 1..8),
        steps in prop::collection::vec(
            prop_oneof![
                6 => (1u64..20_000).prop_map(|limit| Step::Run { limit }),
                1 => (0u32..8).prop_map(Step::Wake),
                1 => (0u32..8).prop_map(Step::Block),
            ],
            1..400,
        ),
    ) {
        let mut scheduler = scheduler(&weights);
        let count = weights.len();
        let mut runnable = vec![true; count];
        let mut now = Tsc(0);
        for step in steps {
            match step {
                Step::Run { limit } => match scheduler.pick(now) {
                    Decision::Idle => prop_assert!(!runnable.contains(&true)),
                    Decision::Run { id, until } => {
                        prop_assert!(runnable[id.0 as usize]);
                        prop_assert!(until > now && (until - now) <= SLICE);
                        run_once(&mut scheduler, &mut now, Tsc(limit));
                    }
                },
                Step::Wake(number) if (number as usize) < count => {
                    scheduler.wake(EntityId(number), now).expect("added");
                    runnable[number as usize] = true;
                }
                Step::Block(number) if (number as usize) < count => {
                    scheduler.block(EntityId(number)).expect("added");
                    runnable[number as usize] = false;
                }
                Step::Wake(number) => prop_assert!(scheduler.wake(EntityId(number), now).is_err()),
                Step::Block(number) => prop_assert!(scheduler.block(EntityId(number)).is_err()),
            }
        }
        // From any state, everybody who is runnable runs within a bounded time.
        let before: Vec<u64> = (0..).take(count).map(|id| ran(&scheduler, EntityId(id))).collect();
        let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        let lightest = u64::from(*weights.iter().min().expect("not empty"));
        let end = now + Tsc(SLICE.0 * (4 * total / lightest + 2 * weights.len() as u64));
        while runnable.contains(&true) && now < end {
            run_once(&mut scheduler, &mut now, SLICE);
        }
        for (index, id) in (0..).map(EntityId).take(count).enumerate() {
            prop_assert!(!runnable[index] || ran(&scheduler, id) > before[index], "{:?} starves", id);
        }
    }
}
