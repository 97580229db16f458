//! How long who wakes waits for its first turn, and who waits for its next.

use super::load::{Load, MS, Random, SECOND, US};
use super::machine::{IPI, Machine, SLICE, assert_close, of_class, weighing};
use crate::Class;
use std::vec::Vec;

/// Weights that differ by a factor of a hundred, hogs beside all kinds of sleepers.
fn wild(cores: u32, seed: u64) -> Machine {
    let mut machine = Machine::new(cores);
    machine.random = Random::new(seed);
    machine.checks_delays = true;
    for index in 0..u64::from(cores) * 10 {
        let weight = [100, 10, 500, 1000, 33][(index % 5) as usize];
        let load = match index % 8 {
            0 | 1 => Load::Hog,
            2 | 3 => Load::Random { work: 300 * US, sleep: 5 * MS },
            4 => Load::Random { work: 5 * MS, sleep: 20 * MS },
            5 => Load::Periodic { period: 10 * MS, work: 500 * US },
            6 => Load::Burst { work: 300 * MS, sleep: 500 * MS },
            _ => Load::Random { work: 20 * US, sleep: 100 * US },
        };
        machine.add(load, weighing(weight));
    }
    machine
}

#[test]
fn nobody_waits_longer_than_guaranteed() {
    for (cores, seed) in [(1, 1), (2, 2), (2, 3), (3, 4), (4, 5), (4, 6), (8, 7)] {
        let mut machine = wild(cores, seed);
        machine.run_for(6 * SECOND);
        for vcpu in &machine.vcpus {
            assert!(vcpu.worst_permille <= 1000, "{cores} cores: {vcpu:?}");
            assert!(vcpu.wakes > 0);
        }
    }
}

#[test]
fn hogs_beside_all_kinds_of_sleepers_share_by_weight() {
    let mut machine = wild(4, 9);
    machine.checks_delays = false;
    machine.run_for(20 * SECOND);
    machine.settle();
    let hogs: Vec<_> = machine.vcpus.iter().filter(|vcpu| vcpu.load == Load::Hog).collect();
    let weight: u64 = hogs.iter().map(|vcpu| u64::from(vcpu.spec.weight.get())).sum();
    let ran: u64 = hogs.iter().map(|vcpu| vcpu.ran).sum();
    for hog in &hogs {
        let own = u64::from(hog.spec.weight.get());
        assert_close(&std::format!("{:?} of weight {own}", hog.id), hog.ran, ran * own / weight, 10);
    }
}

#[test]
fn latency_class_that_sleeps_enough_runs_almost_at_once() {
    for sleepers in [1, 2, 6] {
        let mut machine = Machine::new(2);
        for _ in 0..10 {
            machine.hog(100);
        }
        for _ in 0..5 {
            machine.add(Load::Random { work: 200 * US, sleep: 3 * MS }, weighing(100));
        }
        let load = Load::Random { work: 50 * US, sleep: 10 * MS };
        let latency: Vec<usize> =
            (0..sleepers).map(|_| machine.add(load, of_class(weighing(100), Class::Latency))).collect();
        // Not those that all come at once at the beginning.
        machine.run_for(SECOND);
        machine.count_anew();
        machine.run_for(20 * SECOND);
        let bound = machine.params.latency_bound(sleepers - 1).0 + IPI;
        for vcpu in latency.into_iter().map(|index| &machine.vcpus[index]) {
            assert!(vcpu.wakes > 1000);
            assert!(vcpu.worst <= bound, "{} us is more than {} us", vcpu.worst / US, bound / US);
            let delays = machine.scheduler.times(vcpu.id).expect("added").wake_delay;
            let typical = delays.quantile(900).0;
            assert!(typical <= SLICE / 16, "typically {} us", typical / US);
        }
    }
}

#[test]
fn latency_class_gets_no_more_than_its_share() {
    // One that never sleeps, and one that asks for far more than its share in short pieces.
    for load in [Load::Hog, Load::Random { work: 100 * US, sleep: 20 * US }] {
        let mut machine = Machine::new(1);
        for _ in 0..4 {
            machine.hog(100);
        }
        let greedy = machine.add(load, of_class(weighing(100), Class::Latency));
        machine.run_for(20 * SECOND);
        let greedy = machine.ran(greedy);
        assert!(greedy <= 20 * SECOND / 5 * 1002 / 1000, "{} ms", greedy / MS);
        for hog in 0..4 {
            assert!(machine.ran(hog) >= 20 * SECOND / 5 * 998 / 1000);
        }
    }
}

#[test]
fn sleeping_and_waking_all_the_time_wins_nothing() {
    for load in [
        Load::Random { work: 700 * US, sleep: US },
        Load::Periodic { period: 5 * MS, work: 4 * MS },
        Load::Burst { work: 50 * MS, sleep: MS },
        Load::Random { work: 10 * US, sleep: 2 * US },
    ] {
        let mut machine = Machine::new(2);
        let sly: Vec<usize> = (0..3).map(|_| machine.add(load, weighing(100))).collect();
        let hogs: Vec<usize> = (0..3).map(|_| machine.hog(100)).collect();
        machine.run_for(5 * SECOND);
        let most = sly.into_iter().map(|index| machine.ran(index)).max().expect("three");
        let least = hogs.into_iter().map(|index| machine.ran(index)).min().expect("three");
        assert!(most * 995 <= least * 1000, "{load:?}: {} ms against {} ms", most / MS, least / MS);
    }
}

#[test]
fn who_runs_keeps_the_core_a_while_when_others_wake() {
    let mut machine = Machine::new(1);
    machine.hog(100);
    for _ in 0..5 {
        machine.add(Load::Random { work: US, sleep: 20 * US }, weighing(100));
    }
    machine.run_for(SECOND);
    let switches = machine.scheduler.core_times(crate::CoreId(0)).switches;
    // At most all of them in a row after each turn of the hog that is as short as may be.
    assert!(switches <= SECOND / (SLICE / 16) * 7, "{switches} switches");
}

#[test]
fn hogs_of_any_weight_keep_running() {
    let mut machine = Machine::new(2);
    for weight in [1, 5, 20, 100, 400, 1000, 3, 60, 250, 700] {
        machine.hog(weight);
    }
    machine.run_for(SECOND);
    machine.count_anew();
    machine.run_for(20 * SECOND);
    for vcpu in &machine.vcpus {
        assert!(
            vcpu.worst_wait <= 12 * SLICE,
            "weight {}: {} us",
            vcpu.spec.weight.get(),
            vcpu.worst_wait / US
        );
    }
}
