//! Hundreds of vCPUs of all kinds for a long time.

use super::load::{Load, MS, Random, SECOND, US};
use super::machine::{Machine, assert_close, capped, of_class, on_cores, weighing};
use crate::{Class, CoreId, Place};
use std::vec::Vec;

fn load(random: &mut Random) -> Load {
    match random.below(8) {
        0 => Load::Hog,
        1 | 2 => Load::Random { work: 200 * US, sleep: 20 * MS },
        3 => Load::Random { work: 3 * MS, sleep: 100 * MS },
        4 => Load::Periodic { period: 10 * MS, work: 100 * US },
        5 => Load::Periodic { period: 33 * MS, work: MS },
        6 => Load::Burst { work: 200 * MS, sleep: 2 * SECOND },
        _ => Load::Random { work: 50 * US, sleep: 5 * MS },
    }
}

#[test]
fn three_hundred_of_all_kinds_share_eight_cores() {
    let mut random = Random::new(11);
    let mut machine = Machine::new(8);
    machine.checks_delays = true;
    for _ in 0..300 {
        let weight = [50, 100, 100, 100, 200, 400][random.below(6) as usize];
        let mut spec = weighing(weight);
        match random.below(10) {
            0 => spec = capped(spec, 2 + random.below(30) as u32),
            1 => spec = of_class(spec, Class::Latency),
            2 => spec = on_cores(spec, &[random.below(7) as u32]),
            3 => spec = on_cores(spec, &[1, 3, 5]),
            4 => spec = on_cores(spec, &[0, 1, 2, 3]),
            _ => {}
        }
        machine.add(load(&mut random), spec);
    }
    let alone = machine.add(Load::Hog, of_class(weighing(100), Class::Exclusive));
    machine.run_for(SECOND);
    machine.count_anew();
    machine.run_for(20 * SECOND);
    machine.settle();
    assert_eq!(machine.vcpus[alone].ran, 20 * SECOND);
    for vcpu in &machine.vcpus {
        assert!(vcpu.worst_permille <= 1000, "{vcpu:?}");
        assert!(vcpu.ran > 0, "{vcpu:?} starves");
        if let Some(cap) = vcpu.spec.cap {
            let most = 20 * SECOND * u64::from(cap.percent()) / 100 + 10 * MS;
            assert!(vcpu.ran <= most, "{vcpu:?} exceeds its cap");
        }
    }
    // Hogs without a cap that may run anywhere all get the same for their weights.
    let plain = |spec: &crate::Spec| {
        spec.cap.is_none() && spec.class == Class::Normal && spec.cores == crate::CoreMask::ALL
    };
    let hogs: Vec<_> = machine.vcpus.iter().filter(|v| v.load == Load::Hog && plain(&v.spec)).collect();
    assert!(hogs.len() > 10);
    let weight: u64 = hogs.iter().map(|vcpu| u64::from(vcpu.spec.weight.get())).sum();
    let ran: u64 = hogs.iter().map(|vcpu| vcpu.ran).sum();
    for hog in &hogs {
        let own = u64::from(hog.spec.weight.get());
        assert_close(&std::format!("{:?} of weight {own}", hog.id), hog.ran, ran * own / weight, 10);
    }
}

#[test]
fn five_hundred_hogs_share_sixteen_cores() {
    let mut random = Random::new(21);
    let mut machine = Machine::new(16);
    let weights: Vec<u32> = (0..500).map(|_| 50 + random.below(200) as u32).collect();
    for weight in &weights {
        machine.hog(*weight);
    }
    machine.run_for(2 * SECOND);
    machine.count_anew();
    machine.run_for(60 * SECOND);
    let all: u64 = weights.iter().copied().map(u64::from).sum();
    for (index, weight) in weights.iter().enumerate() {
        let ran = machine.ran(index);
        assert_close(
            &std::format!("{index} of {weight}"),
            ran,
            16 * 60 * SECOND * u64::from(*weight) / all,
            5,
        );
    }
}

#[test]
fn sixty_four_cores_find_work_for_each_other() {
    let mut machine = Machine::new(64);
    for _ in 0..96 {
        machine.hog(100);
    }
    machine.run_for(SECOND);
    machine.count_anew();
    machine.run_for(20 * SECOND);
    for index in 0..96 {
        let ran = machine.ran(index);
        assert_close("two thirds", ran, 20 * SECOND * 2 / 3, 10);
    }
}

#[test]
fn light_loads_wait_for_nobody() {
    // Eight cores, twenty that want a tenth of a core each: they seldom meet.
    let mut machine = Machine::new(8);
    for _ in 0..20 {
        machine.add(Load::Random { work: MS, sleep: 9 * MS }, weighing(100));
    }
    machine.run_for(100 * SECOND);
    for vcpu in &machine.vcpus {
        let delays = machine.scheduler.times(vcpu.id).expect("added").wake_delay;
        assert!(delays.quantile(990).0 <= 8 * US, "{delays:?}");
    }
    let idle: u64 = (0..8).map(|core| machine.scheduler.core_times(CoreId(core)).idle.0).sum();
    assert!(idle >= 8 * 100 * SECOND * 6 / 10, "cores idle when there is nothing to do");
}

#[test]
fn changes_of_everything_at_run_time_disturb_nobody() {
    let mut random = Random::new(31);
    let mut machine = Machine::new(4);
    for _ in 0..60 {
        machine.add(load(&mut random), weighing(100));
    }
    let watched: Vec<usize> = (0..4).map(|_| machine.hog(100)).collect();
    for _ in 0..3000 {
        machine.run_for(random.below(4 * MS));
        let vcpu = random.below(60) as usize;
        let mut spec = weighing(1 + random.below(1000) as u32);
        if random.below(3) == 0 {
            spec = on_cores(spec, &[random.below(4) as u32, random.below(4) as u32]);
        }
        if random.below(5) == 0 {
            spec = capped(spec, 1 + random.below(100) as u32);
        }
        spec = of_class(
            spec,
            [Class::Normal, Class::Latency, Class::Normal, Class::Exclusive][random.below(4) as usize],
        );
        machine.set(vcpu, spec);
    }
    for vcpu in 0..60 {
        machine.set(vcpu, weighing(100));
    }
    machine.run_for(SECOND);
    machine.count_anew();
    machine.run_for(20 * SECOND);
    for vcpu in &machine.vcpus {
        let place = machine.scheduler.place_of(vcpu.id);
        assert!(!matches!(place, Some(Place::Held(_) | Place::Stranded)), "{vcpu:?}");
    }
    let hogs: Vec<u64> =
        machine.vcpus.iter().filter(|vcpu| vcpu.load == Load::Hog).map(|vcpu| vcpu.ran).collect();
    let (least, most) = (hogs.iter().min().expect("four"), hogs.iter().max().expect("four"));
    assert_close("the least of the hogs", *least, *most, 10);
    assert!(watched.len() == 4);
}
