//! The calls, one by one.

use super::machine::{capped, of_class, on_cores, weighing};
use crate::*;
use arch::Tsc;

const SLICE: u64 = 8192;
const A: EntityId = EntityId(0);
const B: EntityId = EntityId(1);
const C: EntityId = EntityId(2);
const ZERO: CoreId = CoreId(0);
const ONE: CoreId = CoreId(1);

fn scheduler(cores: u32) -> Scheduler {
    let scheduler = Scheduler::new(cores, Params { slice: Tsc(SLICE), period: Tsc(0) });
    for core in 0..cores {
        scheduler.online(CoreId(core));
        assert_eq!(scheduler.pick(CoreId(core), Tsc(0)), idle());
    }
    for id in [A, B, C] {
        scheduler.add(id, Spec::default()).expect("free");
    }
    scheduler
}

fn idle() -> Decision {
    Decision::Idle { until: Tsc::NEVER }
}

fn run(id: EntityId, until: u64) -> Decision {
    Decision::Run { id, until: Tsc(until) }
}

fn forever(id: EntityId) -> Decision {
    Decision::Run { id, until: Tsc::NEVER }
}

/// Lets whoever is next run for as long as it may, for `limit` at most.
fn turn(scheduler: &Scheduler, core: CoreId, now: &mut Tsc, limit: u64) -> EntityId {
    let Decision::Run { id, until } = scheduler.pick(core, *now) else { panic!("somebody is runnable") };
    assert!(until > *now, "a turn is not empty");
    let ran = (until - *now).min(Tsc(limit));
    *now = *now + ran;
    scheduler.charge(core, id, ran, *now);
    id
}

#[test]
fn who_is_added_sleeps_until_it_is_woken() {
    let scheduler = scheduler(1);
    assert_eq!(scheduler.place_of(A), Some(Place::Asleep));
    assert_eq!(scheduler.pick(ZERO, Tsc(1)), idle());
    assert_eq!(scheduler.wake(A, Tsc(2)), Some(ZERO), "it idles");
    assert_eq!(scheduler.place_of(A), Some(Place::Waiting(ZERO)));
    assert_eq!(scheduler.pick(ZERO, Tsc(3)), forever(A));
    assert_eq!(scheduler.place_of(A), Some(Place::Running(ZERO)));
    scheduler.block(ZERO, A, Tsc(4));
    assert_eq!(scheduler.place_of(A), Some(Place::Asleep));
    assert_eq!(scheduler.pick(ZERO, Tsc(5)), idle());
    assert_eq!(scheduler.take_kick(), None);
}

#[test]
fn waking_twice_and_blocking_twice_change_nothing() {
    let scheduler = scheduler(1);
    assert_eq!(scheduler.wake(A, Tsc(1)), Some(ZERO));
    assert_eq!(scheduler.wake(A, Tsc(2)), None);
    assert_eq!(scheduler.pick(ZERO, Tsc(3)), forever(A));
    assert_eq!(scheduler.wake(A, Tsc(4)), None);
    assert_eq!(scheduler.pick(ZERO, Tsc(5)), forever(A));
    scheduler.block(ZERO, A, Tsc(6));
    scheduler.block(ZERO, A, Tsc(7));
    scheduler.block(ZERO, B, Tsc(7));
    assert_eq!(scheduler.pick(ZERO, Tsc(8)), idle());
    assert_eq!(scheduler.times(A).expect("added").wake_delay.count(), 1);
}

#[test]
fn one_that_runs_alone_without_an_end_is_interrupted_when_another_comes() {
    let scheduler = scheduler(1);
    scheduler.wake(A, Tsc(0));
    assert_eq!(scheduler.pick(ZERO, Tsc(0)), forever(A));
    assert_eq!(scheduler.wake(B, Tsc(1000)), Some(ZERO));
    scheduler.charge(ZERO, A, Tsc(1000), Tsc(1000));
    assert!(
        matches!(scheduler.pick(ZERO, Tsc(1000)), Decision::Run { id: A, until } if until <= Tsc(1000 + SLICE / 2))
    );
    assert_eq!(scheduler.wake(C, Tsc(1001)), None, "its turn ends anyway");
}

#[test]
fn turn_lasts_as_long_over_several_exits() {
    let scheduler = scheduler(1);
    scheduler.wake(A, Tsc(0));
    scheduler.wake(B, Tsc(0));
    assert_eq!(scheduler.pick(ZERO, Tsc(0)), run(A, SLICE / 2));
    scheduler.charge(ZERO, A, Tsc(1000), Tsc(1000));
    assert_eq!(
        scheduler.pick(ZERO, Tsc(1500)),
        run(A, 500 + SLICE / 2),
        "what the hypervisor takes is not its"
    );
    scheduler.charge(ZERO, A, Tsc(SLICE / 2 - 1000), Tsc(500 + SLICE / 2));
    assert_eq!(scheduler.pick(ZERO, Tsc(500 + SLICE / 2)), run(B, 500 + SLICE));
}

#[test]
fn second_goes_to_the_core_that_idles_and_the_third_to_one_of_the_busy() {
    let scheduler = scheduler(2);
    assert_eq!(scheduler.wake(A, Tsc(0)), Some(ZERO));
    assert_eq!(scheduler.wake(B, Tsc(0)), Some(ONE), "core 0 was told already");
    assert_eq!(scheduler.pick(ONE, Tsc(1)), run(B, 8201), "A waits still, and would be next");
    assert_eq!(scheduler.pick(ZERO, Tsc(1)), forever(A));
    assert!(scheduler.wake(C, Tsc(2)).is_some());
}

#[test]
fn who_wakes_goes_back_to_its_core_if_that_idles() {
    let scheduler = scheduler(2);
    scheduler.wake(A, Tsc(0));
    assert_eq!(scheduler.pick(ZERO, Tsc(1)), forever(A));
    scheduler.wake(B, Tsc(1));
    assert_eq!(scheduler.pick(ONE, Tsc(1)), forever(B));
    for (core, id) in [(ZERO, A), (ONE, B)] {
        scheduler.block(core, id, Tsc(2));
        assert_eq!(scheduler.pick(core, Tsc(2)), idle());
    }
    assert_eq!(scheduler.wake(B, Tsc(3)), Some(ONE));
    assert_eq!(scheduler.wake(A, Tsc(3)), Some(ZERO));
    assert_eq!(scheduler.times(A).expect("added").migrations, 0);
}

#[test]
fn core_that_runs_out_of_work_takes_somebody_who_waits_elsewhere_at_once() {
    let scheduler = scheduler(2);
    for id in [A, B, C] {
        scheduler.wake(id, Tsc(0));
    }
    let Decision::Run { id: on_zero, .. } = scheduler.pick(ZERO, Tsc(1)) else { panic!("busy") };
    let Decision::Run { id: on_one, .. } = scheduler.pick(ONE, Tsc(1)) else { panic!("busy") };
    let third = [A, B, C].into_iter().find(|id| *id != on_zero && *id != on_one).expect("three");
    let Some(Place::Waiting(home)) = scheduler.place_of(third) else { panic!("it waits") };
    let (other, blocked) = if home == ZERO { (ONE, on_one) } else { (ZERO, on_zero) };
    scheduler.block(other, blocked, Tsc(2));
    assert_eq!(scheduler.pick(other, Tsc(2)), forever(third));
    assert_eq!(scheduler.core_times(other).pulls, 1);
}

#[test]
fn core_that_idles_is_told_when_one_begins_to_wait_that_it_may_run() {
    let scheduler = scheduler(2);
    // B may run on core 0 only, A anywhere.
    scheduler.set(B, on_cores(Spec::default(), &[0]), Tsc(0)).expect("added");
    scheduler.set(A, on_cores(Spec::default(), &[0]), Tsc(0)).expect("added");
    scheduler.wake(A, Tsc(0));
    assert_eq!(scheduler.pick(ZERO, Tsc(0)), forever(A));
    scheduler.set(A, Spec::default(), Tsc(1)).expect("added");
    scheduler.wake(B, Tsc(2));
    while scheduler.take_kick().is_some() {}
    assert_eq!(scheduler.pick(ONE, Tsc(2)), idle(), "A runs and B may not");
    let mut now = Tsc(2);
    while turn(&scheduler, ZERO, &mut now, SLICE) == A {}
    assert_eq!(scheduler.take_kick(), Some(ONE));
    assert_eq!(scheduler.take_kick(), None);
    assert_eq!(scheduler.pick(ONE, now), forever(A));
}

#[test]
fn latency_class_interrupts_soon_and_normal_ones_a_little_later() {
    for (class, guard) in [(Class::Latency, SLICE / 32), (Class::Normal, SLICE / 16)] {
        let scheduler = scheduler(1);
        scheduler.set(C, of_class(weighing(100), class), Tsc(0)).expect("added");
        scheduler.wake(A, Tsc(0));
        scheduler.wake(B, Tsc(0));
        let mut now = Tsc(0);
        for _ in 0..100 {
            turn(&scheduler, ZERO, &mut now, SLICE);
        }
        let start = now;
        let Decision::Run { .. } = scheduler.pick(ZERO, now) else { panic!("busy") };
        assert_eq!(scheduler.wake(C, now), Some(ZERO), "it has not run for long");
        let running = turn(&scheduler, ZERO, &mut now, SLICE);
        assert_ne!(running, C);
        assert_eq!(now - start, Tsc(guard));
        assert_eq!(turn(&scheduler, ZERO, &mut now, SLICE), C);
    }
}

#[test]
fn who_runs_is_not_removed_and_others_are() {
    let scheduler = scheduler(1);
    scheduler.wake(A, Tsc(0));
    scheduler.wake(B, Tsc(0));
    assert!(matches!(scheduler.pick(ZERO, Tsc(0)), Decision::Run { id: A, .. }));
    assert_eq!(scheduler.remove(A), Err(RemoveError::Running(ZERO)));
    assert_eq!(scheduler.remove(B), Ok(()));
    assert_eq!(scheduler.remove(B), Err(RemoveError::Unknown(B)));
    assert_eq!(scheduler.remove(EntityId(u32::MAX)), Err(RemoveError::Unknown(EntityId(u32::MAX))));
    assert_eq!(scheduler.remove(C), Ok(()));
    assert_eq!((scheduler.times(B), scheduler.spec(C), scheduler.place_of(C)), (None, None, None));
    scheduler.charge(ZERO, A, Tsc(5), Tsc(5));
    scheduler.block(ZERO, A, Tsc(5));
    assert_eq!(scheduler.remove(A), Ok(()));
    assert_eq!(scheduler.wake(A, Tsc(6)), None);
    assert_eq!(scheduler.pick(ZERO, Tsc(6)), idle());
    scheduler.add(A, Spec::default()).expect("free again");
    assert_eq!(scheduler.times(A), Some(Times::default()));
}

#[test]
fn what_is_wrong_is_said() {
    let scheduler = scheduler(2);
    let nowhere = on_cores(Spec::default(), &[2, 77]);
    let large = EntityId(4096);
    assert_eq!(scheduler.add(A, Spec::default()), Err(AddError::Taken(A)));
    assert_eq!(scheduler.add(large, Spec::default()), Err(AddError::TooLarge(large)));
    assert_eq!(scheduler.add(EntityId(3), nowhere), Err(AddError::NoCore(EntityId(3))));
    assert_eq!(scheduler.set(A, nowhere, Tsc(0)), Err(SetError::NoCore(A)));
    assert_eq!(scheduler.set(EntityId(3), Spec::default(), Tsc(0)), Err(SetError::Unknown(EntityId(3))));
    assert_eq!(scheduler.spec(A), Some(Spec::default()), "nothing was changed");
    assert_eq!(std::format!("{}", AddError::NoCore(A)), "the host has none of the cores of vCPU number 0");
    // Cores that are not there do nothing.
    assert_eq!(scheduler.pick(CoreId(9), Tsc(0)), idle());
    scheduler.online(CoreId(9));
    scheduler.charge(CoreId(9), A, Tsc(1), Tsc(1));
    assert_eq!(scheduler.core_times(CoreId(9)), CoreTimes::default());
}

#[test]
fn one_whose_cores_are_all_offline_waits_for_them() {
    let scheduler = Scheduler::new(2, Params::default());
    scheduler.add(A, on_cores(Spec::default(), &[1])).expect("free");
    scheduler.online(ZERO);
    assert_eq!(scheduler.wake(A, Tsc(0)), None);
    assert_eq!(scheduler.place_of(A), Some(Place::Stranded));
    assert_eq!(scheduler.pick(ZERO, Tsc(1)), idle());
    scheduler.online(ONE);
    scheduler.online(ONE);
    assert_eq!(scheduler.place_of(A), Some(Place::Waiting(ONE)));
    assert_eq!(scheduler.pick(ONE, Tsc(7)), forever(A));
    assert_eq!(scheduler.times(A).expect("added").waited, Tsc(7), "since it woke");
    assert_eq!(scheduler.cores_online().len(), 2);
}

#[test]
fn stranded_ones_can_be_blocked_changed_and_removed() {
    let stranded = || {
        let scheduler = Scheduler::new(2, Params::default());
        scheduler.online(ZERO);
        scheduler.add(A, on_cores(Spec::default(), &[1])).expect("free");
        scheduler.wake(A, Tsc(0));
        scheduler
    };
    let scheduler = stranded();
    scheduler.block(ZERO, A, Tsc(1));
    assert_eq!(scheduler.place_of(A), Some(Place::Asleep));
    let scheduler = stranded();
    assert_eq!(scheduler.remove(A), Ok(()));
    let scheduler = stranded();
    assert_eq!(scheduler.set(A, Spec::default(), Tsc(1)), Ok(None), "core 0 is about to ask");
    assert_eq!(scheduler.pick(ZERO, Tsc(1)), forever(A));
}

#[test]
fn running_one_that_may_not_stay_moves_at_the_next_question() {
    let scheduler = scheduler(2);
    scheduler.wake(A, Tsc(0));
    assert_eq!(scheduler.pick(ZERO, Tsc(0)), forever(A));
    assert_eq!(scheduler.set(A, on_cores(Spec::default(), &[1]), Tsc(5)), Ok(Some(ZERO)));
    while scheduler.take_kick().is_some() {}
    scheduler.charge(ZERO, A, Tsc(6), Tsc(6));
    assert_eq!(scheduler.pick(ZERO, Tsc(6)), idle());
    assert_eq!(scheduler.take_kick(), Some(ONE));
    assert_eq!(scheduler.pick(ONE, Tsc(7)), forever(A));
    let times = scheduler.times(A).expect("added");
    assert_eq!((times.ran, times.waited, times.migrations), (Tsc(6), Tsc(1), 1));
}

#[test]
fn ticks_that_are_charged_late_are_charged_all_the_same() {
    let scheduler = scheduler(1);
    scheduler.wake(A, Tsc(0));
    scheduler.pick(ZERO, Tsc(0));
    // Another core blocks it, as a pause does; its core notices later.
    scheduler.block(ONE, A, Tsc(10));
    assert_eq!(scheduler.take_kick(), Some(ZERO));
    scheduler.charge(ZERO, A, Tsc(30), Tsc(30));
    assert_eq!(scheduler.pick(ZERO, Tsc(30)), idle());
    scheduler.wake(A, Tsc(40));
    scheduler.pick(ZERO, Tsc(41));
    assert_eq!(scheduler.times(A).expect("added").ran, Tsc(30));
}

#[test]
fn waiting_time_is_what_others_took() {
    let scheduler = scheduler(1);
    scheduler.wake(A, Tsc(0));
    scheduler.wake(B, Tsc(0));
    let mut now = Tsc(0);
    for _ in 0..5 {
        turn(&scheduler, ZERO, &mut now, SLICE);
    }
    // A, B, A, B, A: B waited once before each of its two turns, A before its second and third.
    let waited = |id| scheduler.times(id).expect("added").waited;
    assert_eq!((waited(A), waited(B)), (Tsc(SLICE), Tsc(SLICE)));
    assert_eq!(scheduler.core_times(ZERO).switches, 5);
}

#[test]
fn idle_time_is_counted() {
    let scheduler = scheduler(1);
    assert_eq!(scheduler.core_times(ZERO).idle_since, Some(Tsc(0)));
    scheduler.wake(A, Tsc(100));
    scheduler.pick(ZERO, Tsc(150));
    let times = scheduler.core_times(ZERO);
    assert_eq!((times.idle, times.idle_since), (Tsc(150), None));
}

#[test]
fn saved_ones_come_back_as_they_were() {
    let scheduler = scheduler(1);
    let spec = capped(of_class(weighing(300), Class::Latency), 70);
    scheduler.set(A, spec, Tsc(0)).expect("added");
    scheduler.wake(A, Tsc(0));
    let mut now = Tsc(1);
    turn(&scheduler, ZERO, &mut now, 100);
    let saved = scheduler.save(A).expect("added");
    assert_eq!((saved.spec, saved.times.ran), (spec, Tsc(100)));
    let other = Scheduler::new(1, Params::default());
    other.restore(B, &saved).expect("free");
    assert_eq!(other.save(B), Some(saved));
    assert_eq!(other.place_of(B), Some(Place::Asleep));
}

#[test]
fn clock_that_stands_still_starves_nobody() {
    let scheduler = scheduler(1);
    for id in [A, B, C] {
        scheduler.wake(id, Tsc(7));
    }
    let mut turns = [0; 3];
    for _ in 0..300 {
        let Decision::Run { id, .. } = scheduler.pick(ZERO, Tsc(7)) else { panic!("busy") };
        scheduler.charge(ZERO, id, Tsc(SLICE / 8), Tsc(7));
        turns[id.index()] += 1;
    }
    assert!(turns.into_iter().all(|turns| turns >= 80), "{turns:?}");
}

#[test]
fn clock_that_jumps_starves_nobody_for_long() {
    let scheduler = scheduler(1);
    scheduler.set(C, capped(Spec::default(), 20), Tsc(0)).expect("added");
    for id in [A, B, C] {
        scheduler.wake(id, Tsc(1 << 40));
    }
    let mut now = Tsc(1 << 40);
    for jump in [1u64 << 50, 1 << 20, 1 << 62, 3, u64::MAX - 1, 1 << 41] {
        let Decision::Run { id, .. } = scheduler.pick(ZERO, now) else { panic!("busy") };
        // The turn ends after the jump.
        let before = now;
        now = Tsc(jump);
        scheduler.charge(ZERO, id, now - before, now);
        scheduler.wake(A, now);
        let mut ran = [0u64; 3];
        for _ in 0..4000 {
            match scheduler.pick(ZERO, now) {
                Decision::Run { id, .. } => {
                    now = now + Tsc(SLICE / 8);
                    scheduler.charge(ZERO, id, Tsc(SLICE / 8), now);
                    ran[id.index()] += 1;
                }
                Decision::Idle { .. } => panic!("two have no cap"),
            }
        }
        assert!(ran[0] > 1000 && ran[1] > 1000, "after the jump to {jump}: {ran:?}");
    }
}

#[test]
fn bounds_are_what_the_documentation_says() {
    let params = Params { slice: Tsc(SLICE), period: Tsc(0) };
    assert_eq!(params.delay_bound(1), Tsc(6 * SLICE));
    assert_eq!(params.delay_bound(8), Tsc(6 * SLICE));
    assert_eq!(params.delay_bound(32), Tsc(24 * SLICE));
    assert_eq!(params.latency_bound(0), Tsc(SLICE / 32));
    assert_eq!(params.latency_bound(3), Tsc(SLICE / 32 + 3 * SLICE / 8));
}

#[test]
fn a_core_that_does_something_else_gives_its_entity_to_one_that_idles() {
    let scheduler = scheduler(2);
    assert_eq!(scheduler.wake(A, Tsc(1)), Some(ZERO));
    assert_eq!(scheduler.pick(ZERO, Tsc(1)), forever(A));
    assert!(scheduler.step_aside(ZERO, Tsc(2)));
    assert_eq!(scheduler.place_of(A), Some(Place::Waiting(ONE)));
    assert_eq!(scheduler.take_kick(), Some(ONE));
    assert_eq!(scheduler.pick(ONE, Tsc(3)), forever(A));
    assert_eq!(scheduler.pick(ZERO, Tsc(4)), idle());
}

#[test]
fn a_core_that_does_something_else_keeps_who_has_nowhere_to_go() {
    let scheduler = scheduler(2);
    scheduler.set(A, on_cores(Spec::default(), &[0]), Tsc(0)).expect("there is such a core");
    assert_eq!(scheduler.wake(A, Tsc(1)), Some(ZERO));
    assert_eq!(scheduler.pick(ZERO, Tsc(1)), forever(A));
    assert!(!scheduler.step_aside(ZERO, Tsc(2)), "it may run here alone");
    assert_eq!(scheduler.wake(B, Tsc(3)), Some(ONE));
    assert_eq!(scheduler.pick(ONE, Tsc(3)), forever(B));
    scheduler.set(A, Spec::default(), Tsc(4)).expect("all cores are there");
    assert!(!scheduler.step_aside(ZERO, Tsc(5)), "no core idles");
    assert_eq!(scheduler.place_of(A), Some(Place::Running(ZERO)));
}

#[test]
fn a_core_that_does_something_else_tells_one_that_idles_of_who_waits() {
    let scheduler = scheduler(2);
    for id in [A, B] {
        scheduler.set(id, on_cores(Spec::default(), &[0]), Tsc(0)).expect("there is such a core");
        scheduler.wake(id, Tsc(1));
    }
    let Decision::Run { id, .. } = scheduler.pick(ZERO, Tsc(1)) else { panic!("two are runnable") };
    while scheduler.take_kick().is_some() {}
    let other = if id == A { B } else { A };
    scheduler.set(other, Spec::default(), Tsc(2)).expect("all cores are there");
    while scheduler.take_kick().is_some() {}
    scheduler.pick(ONE, Tsc(2));
    assert!(!scheduler.step_aside(ZERO, Tsc(3)), "who runs may run here alone");
    assert!(scheduler.place_of(other) != Some(Place::Waiting(ZERO)), "a core that idles takes who waits");
}

#[test]
fn who_wakes_goes_where_nobody_is_rather_than_take_a_core_from_somebody() {
    let scheduler = scheduler(2);
    assert_eq!(scheduler.wake(A, Tsc(1)), Some(ZERO));
    assert_eq!(scheduler.wake(B, Tsc(1)), Some(ONE));
    assert!(matches!(scheduler.pick(ONE, Tsc(1)), Decision::Run { id: B, .. }));
    let mut now = Tsc(1);
    turn(&scheduler, ZERO, &mut now, SLICE);
    scheduler.block(ZERO, A, now);
    // Core 0 does not ask yet, and so does not idle; C has paid nothing and would be next on core 1.
    scheduler.charge(ONE, B, now, now);
    scheduler.wake(C, now);
    assert_eq!(scheduler.place_of(C), Some(Place::Waiting(ZERO)));
}
