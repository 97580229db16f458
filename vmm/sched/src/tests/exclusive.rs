//! Cores of one's own.

use super::load::{Load, MS, SECOND, US};
use super::machine::{Machine, assert_close, of_class, on_cores, weighing};
use crate::{Class, CoreId, Exclusivity, Place, Spec};

fn exclusive() -> Spec {
    of_class(weighing(100), Class::Exclusive)
}

fn own_core(machine: &Machine, vcpu: usize) -> CoreId {
    match machine.scheduler.exclusivity(machine.vcpus[vcpu].id) {
        Some(Exclusivity::Own(core)) => core,
        other => panic!("{other:?}"),
    }
}

#[test]
fn exclusive_hog_has_its_core_without_ticks_and_the_others_share_the_rest() {
    let mut machine = Machine::new(3);
    let hogs: [usize; 4] = [100, 100, 100, 100].map(|weight| machine.hog(weight));
    machine.run_for(100 * MS);
    let alone = machine.add(Load::Hog, exclusive());
    machine.run_for(100 * MS);
    machine.count_anew();
    let core = own_core(&machine, alone);
    let (turns, _) = machine.turns_of(core.index());
    machine.run_for(10 * SECOND);
    assert_eq!(machine.turns_of(core.index()).0, turns, "nothing interrupts it");
    assert_eq!(machine.runs(core.index()), Some(alone));
    assert_eq!(machine.ran(alone), 10 * SECOND);
    for hog in hogs {
        let ran = machine.ran(hog);
        assert_close("hog", ran, 5 * SECOND, 2);
    }
}

#[test]
fn core_stays_its_own_while_it_sleeps_and_it_runs_at_once_when_it_wakes() {
    let mut machine = Machine::new(2);
    for _ in 0..5 {
        machine.hog(100);
        machine.add(Load::Random { work: 50 * US, sleep: MS }, weighing(100));
    }
    machine.run_for(50 * MS);
    let alone = machine.add(Load::Random { work: 100 * US, sleep: MS }, exclusive());
    machine.run_for(50 * MS);
    machine.count_anew();
    machine.run_for(2 * SECOND);
    assert!(machine.vcpus[alone].worst <= super::machine::IPI, "{}", machine.vcpus[alone].worst);
    assert!(machine.vcpus[alone].wakes > 1000);
    let core = own_core(&machine, alone);
    for vcpu in machine.vcpus.iter().take(10) {
        let place = machine.scheduler.place_of(vcpu.id);
        assert!(place != Some(Place::Running(core)) && place != Some(Place::Waiting(core)));
    }
}

#[test]
fn last_core_of_the_host_is_not_given_away() {
    let mut machine = Machine::new(2);
    let first = machine.add(Load::Hog, exclusive());
    let second = machine.add(Load::Hog, exclusive());
    machine.run_for(MS);
    own_core(&machine, first);
    let id = machine.vcpus[second].id;
    assert_eq!(machine.scheduler.exclusivity(id), Some(Exclusivity::Refused));
    machine.hog(100);
    machine.run_for(10 * SECOND);
    let ran = machine.ran(second);
    assert_close("like a normal one", ran, 5 * SECOND, 5);
    let mut single = Machine::new(1);
    let only = single.add(Load::Hog, exclusive());
    single.run_for(MS);
    assert_eq!(single.scheduler.exclusivity(single.vcpus[only].id), Some(Exclusivity::Refused));
    assert_eq!(single.scheduler.exclusivity(crate::EntityId(77)), None);
}

#[test]
fn those_who_may_run_nowhere_else_stay_and_share_it() {
    let mut machine = Machine::new(2);
    let pinned = machine.add(Load::Hog, on_cores(weighing(100), &[1]));
    let alone = machine.add(Load::Hog, on_cores(exclusive(), &[1]));
    let free = machine.hog(100);
    machine.run_for(100 * MS);
    let id = machine.vcpus[alone].id;
    assert_eq!(machine.scheduler.exclusivity(id), Some(Exclusivity::Shared(CoreId(1))));
    assert_eq!(machine.scheduler.exclusivity(machine.vcpus[pinned].id), None);
    machine.count_anew();
    machine.run_for(10 * SECOND);
    for (vcpu, expected) in [(pinned, 5), (alone, 5), (free, 10)] {
        let ran = machine.ran(vcpu);
        assert_close("each", ran, expected * SECOND, 2);
    }
    // Once the other may go, it goes.
    machine.set(pinned, weighing(100));
    machine.run_for(100 * MS);
    assert_eq!(own_core(&machine, alone), CoreId(1));
    machine.count_anew();
    machine.run_for(SECOND);
    assert_eq!(machine.ran(alone), SECOND);
}

#[test]
fn core_is_taken_where_it_disturbs_least() {
    let mut machine = Machine::new(3);
    machine.add(Load::Hog, on_cores(weighing(100), &[0]));
    machine.add(Load::Hog, on_cores(weighing(100), &[2]));
    let alone = machine.add(Load::Hog, exclusive());
    machine.run_for(MS);
    assert_eq!(own_core(&machine, alone), CoreId(1));
}

#[test]
fn core_that_is_given_up_is_used_by_others_and_by_the_next_who_wants_one() {
    let mut machine = Machine::new(2);
    let alone = machine.add(Load::Hog, exclusive());
    for _ in 0..3 {
        machine.hog(100);
    }
    let next = machine.add(Load::Hog, exclusive());
    machine.run_for(100 * MS);
    own_core(&machine, alone);
    machine.set(alone, weighing(100));
    machine.run_for(100 * MS);
    own_core(&machine, next);
    machine.set(next, weighing(100));
    machine.run_for(100 * MS);
    machine.count_anew();
    machine.run_for(10 * SECOND);
    for vcpu in 0..5 {
        let ran = machine.ran(vcpu);
        assert_close("each", ran, 4 * SECOND, 2);
    }
}

#[test]
fn several_exclusive_ones_come_and_go_beside_a_crowd() {
    let mut machine = Machine::new(4);
    for index in 0..40 {
        let load = if index % 2 == 0 { Load::Hog } else { Load::Random { work: MS, sleep: 2 * MS } };
        machine.add(load, weighing(100));
    }
    let proud: [usize; 3] = [0; 3].map(|_| machine.add(Load::Random { work: MS, sleep: MS }, exclusive()));
    for round in 0..60 {
        let vcpu = proud[round % 3];
        machine.set(vcpu, if round % 2 == 0 { weighing(100) } else { exclusive() });
        machine.run_for(20 * MS);
    }
    for vcpu in proud {
        machine.set(vcpu, weighing(100));
    }
    machine.run_for(50 * MS);
    machine.count_anew();
    machine.run_for(4 * SECOND);
    let hogs = machine.vcpus.iter().filter(|vcpu| vcpu.load == Load::Hog);
    let (least, most) =
        hogs.fold((u64::MAX, 0), |(least, most), vcpu| (vcpu.ran.min(least), vcpu.ran.max(most)));
    assert_close("the least of the hogs", least, most, 20);
}
