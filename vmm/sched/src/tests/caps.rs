//! Caps.

use super::load::{Load, MS, SECOND, US};
use super::machine::{Machine, SLICE, assert_close, capped, of_class, on_cores, weighing};
use crate::{Cap, Class, CoreId, Place, Spec};
use std::vec;
use std::vec::Vec;

const PERIOD: u64 = 2 * SLICE;

/// Runs the machine and finds that no vCPU with a cap exceeds it by more than an allowance in any stretch of periods.
fn run_and_check_caps(machine: &mut Machine, time: u64) {
    let count = machine.vcpus.len();
    let mut history: Vec<Vec<u64>> = vec![vec![0]; count];
    for _ in 0..time / PERIOD {
        machine.run_for(PERIOD);
        for (index, ran) in history.iter_mut().enumerate() {
            let now = machine.ran(index);
            ran.push(now);
        }
    }
    for (vcpu, ran) in machine.vcpus.iter().zip(&history) {
        let Some(cap) = vcpu.spec.cap else { continue };
        let allowance = PERIOD * u64::from(cap.percent()) / 100;
        for periods in [1, 2, 3, 10, 100, ran.len() - 1] {
            let most = ran.windows(periods + 1).map(|window| window[periods] - window[0]).max().unwrap_or(0);
            let allowed = allowance * (periods as u64 + 1) + machine.overhead;
            assert!(most <= allowed, "{periods} periods: {} us of {} us", most / US, allowed / US);
        }
    }
}

#[test]
fn capped_hogs_on_idle_cores_get_their_caps_and_no_more() {
    let mut machine = Machine::new(5);
    for percent in [1, 10, 25, 50, 99] {
        machine.add(Load::Hog, capped(weighing(100), percent));
    }
    run_and_check_caps(&mut machine, 10 * SECOND);
    for index in 0..5 {
        let percent = u64::from(machine.vcpus[index].spec.cap.map_or(0, Cap::percent));
        let ran = machine.ran(index);
        assert_close(&std::format!("{percent} percent"), ran, 10 * SECOND * percent / 100, 2);
    }
}

#[test]
fn capped_hogs_on_busy_cores_get_the_lesser_of_share_and_cap_and_the_others_the_rest() {
    let mut machine = Machine::new(2);
    // 2 cores for 6: a third each; the two with caps leave their rest to the others.
    let capped: Vec<usize> =
        [10, 20].map(|percent| machine.add(Load::Hog, capped(weighing(100), percent))).into();
    let free: Vec<usize> = (0..4).map(|_| machine.hog(100)).collect();
    run_and_check_caps(&mut machine, 20 * SECOND);
    for (index, percent) in capped.into_iter().zip([10, 20]) {
        let ran = machine.ran(index);
        assert_close("capped", ran, 20 * SECOND * percent / 100, 10);
    }
    for index in free {
        let ran = machine.ran(index);
        assert_close("free", ran, 20 * SECOND * 170 / 100 / 4, 5);
    }
}

#[test]
fn sleepers_with_caps_stay_below_them() {
    let mut machine = Machine::new(2);
    for percent in [5, 15, 40] {
        machine.add(Load::Random { work: 300 * US, sleep: 200 * US }, capped(weighing(100), percent));
        machine.add(Load::Burst { work: 40 * MS, sleep: 100 * MS }, capped(weighing(300), percent));
        let latency = of_class(capped(weighing(100), percent), Class::Latency);
        machine.add(Load::Periodic { period: 3 * MS, work: 2 * MS }, latency);
    }
    machine.hog(100);
    run_and_check_caps(&mut machine, 10 * SECOND);
}

#[test]
fn turns_that_end_late_are_paid_back() {
    let mut machine = Machine::new(1);
    machine.overhead = 30 * US;
    let vcpu = machine.add(Load::Hog, capped(weighing(100), 20));
    run_and_check_caps(&mut machine, 10 * SECOND);
    let ran = machine.ran(vcpu);
    assert!(ran <= 10 * SECOND * 20 / 100 + PERIOD);
}

#[test]
fn a_cap_that_changes_holds_from_now_on() {
    let mut machine = Machine::new(1);
    let vcpu = machine.hog(100);
    machine.run_for(SECOND);
    machine.set(vcpu, capped(weighing(100), 30));
    machine.run_for(PERIOD);
    machine.count_anew();
    machine.run_for(5 * SECOND);
    let ran = machine.ran(vcpu);
    assert_close("30 percent", ran, 5 * SECOND * 30 / 100, 10);
    machine.set(vcpu, Spec::default());
    machine.run_for(PERIOD);
    machine.count_anew();
    machine.run_for(SECOND);
    let ran = machine.ran(vcpu);
    assert_close("no cap", ran, SECOND, 1);
}

#[test]
fn one_that_is_held_says_so_and_goes_to_a_core_that_idles_when_it_is_let_go() {
    let mut machine = Machine::new(2);
    let held = machine.add(Load::Hog, on_cores(capped(weighing(100), 10), &[0]));
    machine.add(Load::Hog, on_cores(weighing(100), &[0]));
    machine.run_for(SECOND / 2);
    let id = machine.vcpus[held].id;
    assert_eq!(machine.scheduler.place_of(id), Some(Place::Held(CoreId(0))));
    machine.set(held, capped(weighing(100), 10));
    machine.run_for(SECOND / 2);
    let times = machine.scheduler.times(id).expect("added");
    assert_eq!(times.migrations, 1);
    let all = times.ran.0 + times.held.0 + times.waited.0;
    assert!((SECOND - PERIOD..=SECOND).contains(&all), "{times:?}");
}
