//! Who gets how much.

use super::load::{Load, MS, Random, SECOND};
use super::machine::{Machine, assert_close, capped, of_class, on_cores, weighing};
use crate::{Class, CoreId};
use std::vec;
use std::vec::Vec;

/// What hogs of these weights deserve of `cores` cores in `time`, when each may run anywhere: by weight, but nobody more
/// than a core.
fn deserved(weights: &[u32], cores: u64, time: u64) -> Vec<u64> {
    let mut part: Vec<Option<f64>> = vec![None; weights.len()];
    let (mut rest, mut weight): (f64, f64) = (cores as f64, weights.iter().map(|w| f64::from(*w)).sum());
    loop {
        let feasible = |w: u32| f64::from(w) * rest <= weight;
        let Some(index) = (0..weights.len()).find(|i| part[*i].is_none() && !feasible(weights[*i])) else {
            break;
        };
        part[index] = Some(1.0);
        rest -= 1.0;
        weight -= f64::from(weights[index]);
    }
    let share = |(part, w): (&Option<f64>, &u32)| part.unwrap_or(f64::from(*w) * rest / weight);
    part.iter().zip(weights).map(share).map(|share| (share * time as f64) as u64).collect()
}

fn check_shares(cores: u32, weights: &[u32], warm_up: u64, time: u64, permille: u64) {
    let mut machine = Machine::new(cores);
    for weight in weights {
        machine.hog(*weight);
    }
    machine.run_for(warm_up);
    machine.count_anew();
    machine.run_for(time);
    for (index, expected) in deserved(weights, cores.into(), time).into_iter().enumerate() {
        let what = std::format!("{index} of {weights:?} on {cores}");
        let ran = machine.ran(index);
        assert_close(&what, ran, expected, permille);
    }
}

#[test]
fn three_equal_hogs_share_two_cores_alike() {
    check_shares(2, &[100; 3], 0, 2 * SECOND, 5);
    check_shares(2, &[100; 3], 0, 20 * SECOND, 1);
}

#[test]
fn shares_follow_weights_over_several_cores() {
    for (cores, weights) in [
        (1, &[10, 50, 100, 333, 1000][..]),
        (2, &[100, 200, 300]),
        (2, &[100, 100, 100, 100, 150]),
        (2, &[300, 200, 100, 77, 33]),
        (3, &[100; 4]),
        (3, &[100, 100, 100, 50, 25, 125]),
        (4, &[100, 200, 300, 400, 100, 200, 300, 400, 50, 50]),
        (4, &[100; 7]),
        (8, &[100, 130, 170, 220, 290, 370, 480, 100, 130, 170, 220, 290, 370, 480]),
    ] {
        check_shares(cores, weights, 0, 60 * SECOND, 1);
    }
}

#[test]
fn who_deserves_more_than_a_core_gets_one_and_the_others_share_the_rest() {
    for (cores, weights) in [
        (2, &[10_000, 100, 100][..]),
        (2, &[10_000, 100, 300, 100]),
        (4, &[5_000, 9_000, 100, 100, 100, 150]),
        (3, &[1, 1, 10_000, 10_000]),
        (2, &[100, 99]),
        (4, &[1, 10_000]),
    ] {
        check_shares(cores, weights, SECOND, 60 * SECOND, 1);
    }
}

#[test]
fn random_weights_are_kept() {
    let mut random = Random::new(3);
    for _ in 0..12 {
        let cores = 1 + random.below(6) as u32;
        let count = cores as u64 + random.below(12);
        let weights: Vec<u32> = (0..count).map(|_| 50 + random.below(400) as u32).collect();
        check_shares(cores, &weights, 5 * SECOND, 50 * SECOND, 2);
    }
}

#[test]
fn who_may_run_on_some_cores_only_gets_what_these_have() {
    // Three pinned to core 0; one anywhere; core 1 is its own then.
    let mut machine = Machine::new(2);
    for _ in 0..3 {
        machine.add(Load::Hog, on_cores(weighing(100), &[0]));
    }
    let free = machine.hog(100);
    machine.run_for(100 * MS);
    machine.count_anew();
    machine.run_for(10 * SECOND);
    for vcpu in 0..3 {
        let ran = machine.ran(vcpu);
        assert_close("pinned", ran, 10 * SECOND / 3, 2);
    }
    let ran = machine.ran(free);
    assert_close("free", ran, 10 * SECOND, 2);
}

#[test]
fn overlapping_masks_share_what_they_have_in_common() {
    // Cores 0 and 1; a on 0, b on 1, c, d, e on both: all five equal, two fifths each.
    let mut machine = Machine::new(2);
    machine.add(Load::Hog, on_cores(weighing(100), &[0]));
    machine.add(Load::Hog, on_cores(weighing(100), &[1]));
    for _ in 0..3 {
        machine.hog(100);
    }
    machine.run_for(20 * SECOND);
    for vcpu in 0..5 {
        let ran = machine.ran(vcpu);
        assert_close("each", ran, 20 * SECOND * 2 / 5, 2);
    }
}

#[test]
fn groups_of_cores_that_have_nothing_in_common_do_not_disturb_each_other() {
    // One light hog alone on core 1 races ahead in virtual time; three on cores 0 and 2.
    let mut machine = Machine::new(3);
    machine.add(Load::Hog, on_cores(weighing(1), &[1]));
    for _ in 0..3 {
        machine.add(Load::Hog, on_cores(weighing(1000), &[0, 2]));
    }
    machine.run_for(20 * SECOND);
    let alone = machine.ran(0);
    assert_close("alone", alone, 20 * SECOND, 1);
    for vcpu in 1..4 {
        let ran = machine.ran(vcpu);
        assert_close("each", ran, 20 * SECOND * 2 / 3, 2);
    }
}

#[test]
fn new_weights_count_from_now_on() {
    let mut machine = Machine::new(2);
    for _ in 0..4 {
        machine.hog(100);
    }
    machine.run_for(SECOND);
    machine.set(3, weighing(300));
    machine.count_anew();
    machine.run_for(20 * SECOND);
    for (vcpu, weight) in [(0, 1), (1, 1), (2, 1), (3, 3)] {
        let ran = machine.ran(vcpu);
        assert_close("each", ran, 2 * 20 * SECOND * weight / 6, 2);
    }
}

#[test]
fn new_cores_count_from_now_on() {
    let mut machine = Machine::new(2);
    for _ in 0..4 {
        machine.add(Load::Hog, on_cores(weighing(100), &[0]));
    }
    machine.run_for(10 * SECOND);
    assert_eq!(machine.runs(1), None);
    for vcpu in 1..4 {
        machine.set(vcpu, weighing(100));
    }
    machine.run_for(100 * MS);
    machine.count_anew();
    machine.run_for(20 * SECOND);
    for vcpu in 0..4 {
        let ran = machine.ran(vcpu);
        assert_close("each", ran, 10 * SECOND, 2);
    }
}

#[test]
fn who_was_alone_for_long_neither_pays_for_it_nor_profits() {
    // A light one and a heavy one have a core each for long; then two more come.
    let mut machine = Machine::new(2);
    machine.hog(10);
    machine.hog(1000);
    machine.run_for(100 * SECOND);
    machine.hog(1000);
    machine.hog(10);
    machine.run_for(100 * MS);
    machine.count_anew();
    machine.run_for(SECOND);
    for (vcpu, expected) in [(0, 10), (3, 10), (1, 990), (2, 990)] {
        let ran = machine.ran(vcpu);
        assert_close("after 100 ms", ran, expected * MS, 200);
    }
    machine.run_for(20 * SECOND);
    machine.count_anew();
    machine.run_for(60 * SECOND);
    for (vcpu, weight) in [(0, 10), (3, 10), (1, 1000), (2, 1000)] {
        let ran = machine.ran(vcpu);
        assert_close("in the end", ran, 120 * SECOND * weight / 2020, 5);
    }
}

#[test]
fn core_that_had_nobody_to_give_once_is_asked_again() {
    let mut machine = Machine::new(2);
    for weight in [100, 200, 300, 400, 500] {
        machine.hog(weight);
    }
    // What a core shows and what it has differ for a moment now and then; in the simulation they do not.
    for (core, other) in [(0, 1), (1, 0)] {
        let unit = machine.scheduler.unit(CoreId(core)).expect("it exists");
        unit.queue.lock().refused = Some(CoreId(other));
    }
    machine.run_for(SECOND);
    machine.count_anew();
    machine.run_for(20 * SECOND);
    for vcpu in 0..5 {
        let ran = machine.ran(vcpu);
        assert_close("each", ran, 2 * 20 * SECOND * (vcpu as u64 + 1) / 15, 2);
    }
}

#[test]
fn machines_of_the_example_get_what_it_says() {
    // guest-images/many.toml: the shell sleeps nearly always, the others never.
    let mut machine = Machine::new(2);
    let shell = Load::Random { work: 50_000, sleep: 20 * MS };
    machine.add(shell, of_class(weighing(100), Class::Latency));
    for weight in [200, 200, 100, 200, 100] {
        machine.hog(weight);
    }
    let held = machine.add(Load::Hog, capped(weighing(200), 20));
    machine.run_for(SECOND);
    machine.count_anew();
    machine.run_for(20 * SECOND);
    let shell = machine.ran(0);
    let rest = 2 * 20 * SECOND - shell - 20 * SECOND / 5;
    for (vcpu, weight) in [(1, 2), (2, 2), (3, 1), (4, 2), (5, 1)] {
        let ran = machine.ran(vcpu);
        assert_close("each", ran, rest * weight / 8, 10);
    }
    let ran = machine.ran(held);
    assert_close("the capped one", ran, 20 * SECOND / 5, 10);
}
