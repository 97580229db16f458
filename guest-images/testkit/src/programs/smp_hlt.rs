//! Sleep and wake-up: pairs of CPUs wake each other in turn, each about to fall asleep when the other's interrupt comes.
//!
//! Source: SDM Vol. 2, "HLT", "STI".

use core::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use super::random::Random;
use super::{Verdict, expect_within};
use crate::apic::{self, IPI_VECTOR, TIMER_VECTOR, TimerMode};
use crate::ipi::{self, Kind};
use crate::machine::cpu::{pause, rdtsc, wait_for_interrupt};
use crate::machine::percpu::{self, PerCpu};
use crate::{options, smp};

/// Counts between two ticks of the timer that ends a sleep from which nobody wakes.
const TICK: u32 = 200_000_000;
/// Ticks after which a wake-up is given up.
const TICKS: u64 = 8;
/// Most rounds of dawdling before the other one is woken: as long as it takes to fall asleep, and some more.
const DAWDLE: u64 = 120;

/// Whether each pair is done, and when its follower last answered: by the leader's number.
static IS_OVER: [AtomicBool; percpu::MAX] = [const { AtomicBool::new(false) }; percpu::MAX];
static ANSWERED: [AtomicU64; percpu::MAX] = [const { AtomicU64::new(0) }; percpu::MAX];

/// Pairs of neighbours: the even one leads, the odd one follows.
pub(super) fn smp_hlt() -> Verdict {
    smp::start_others()?;
    for (is_over, answered) in IS_OVER.iter().zip(&ANSWERED) {
        is_over.store(false, Relaxed);
        answered.store(0, Relaxed);
    }
    smp::all_at_once(take_part, take_part)
}

fn take_part() -> Verdict {
    let this = percpu::this();
    let other = this.index() ^ 1;
    if other >= smp::count() {
        return Ok(());
    }
    let other = percpu::of(other);
    if this.index() < other.index() {
        // The first interrupt would be counted before the follower counts.
        smp::wait_until(|| ANSWERED[this.index()].load(Acquire) > 0);
        apic::set_timer(TimerMode::Periodic);
        apic::arm_count(TICK);
        let verdict = lead(this, other);
        apic::stop_timer();
        IS_OVER[this.index()].store(true, Release);
        wake(other);
        verdict
    } else {
        follow(this, other);
        Ok(())
    }
}

fn wake(cpu: &PerCpu) {
    ipi::send(smp::only(cpu), Kind::Fixed(IPI_VECTOR));
}

/// Sleeps until this CPU has handled more than `seen` interrupts of the other one, or until `is_enough`.
fn sleep(this: &PerCpu, seen: u64, is_enough: impl Fn() -> bool) {
    while this.interrupts(IPI_VECTOR) == seen && !is_enough() {
        wait_for_interrupt();
    }
}

fn dawdle(random: &mut Random) {
    for _ in 0..random.below(DAWDLE) {
        pause();
    }
}

fn lead(this: &PerCpu, other: &PerCpu) -> Verdict {
    let rounds = options::ROUNDS.get();
    let mut random = Random::new(1 + this.index() as u64);
    for round in 0..rounds {
        let (seen, ticks) = (this.interrupts(IPI_VECTOR), this.interrupts(TIMER_VECTOR));
        wake(other);
        let ticks_since = || this.interrupts(TIMER_VECTOR) - ticks;
        sleep(this, seen, || ticks_since() >= TICKS);
        if this.interrupts(IPI_VECTOR) == seen {
            return expect_within("rounds without a lost wake-up", round, rounds, rounds);
        }
        // An answer long ago that shows when the timer comes was not what woke.
        let late = rdtsc().saturating_sub(ANSWERED[this.index()].load(Acquire));
        if ticks_since() > 0 {
            expect_within("ticks from an answer to waking", late, 0, u64::from(TICK) / 2)?;
        }
        dawdle(&mut random);
    }
    Ok(())
}

fn follow(this: &PerCpu, leader: &PerCpu) {
    let mut random = Random::new(1 + this.index() as u64);
    let is_over = &IS_OVER[leader.index()];
    let mut seen = this.interrupts(IPI_VECTOR);
    ANSWERED[leader.index()].store(rdtsc(), Release);
    loop {
        sleep(this, seen, || is_over.load(Acquire));
        if is_over.load(Acquire) {
            return;
        }
        seen = this.interrupts(IPI_VECTOR);
        dawdle(&mut random);
        ANSWERED[leader.index()].store(rdtsc(), Release);
        wake(leader);
    }
}
