//! Real threads in place of cores, all at once.

use super::load::Random;
use crate::*;
use arch::Tsc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::vec::Vec;

const CORES: u32 = 4;
const ENTITIES: u32 = 24;
const NOBODY: u32 = u32::MAX;
const TURNS: u64 = 30_000;

/// What the test knows of an entity.
#[derive(Debug)]
struct Witness {
    /// The core that runs it.
    on: AtomicU32,
    /// Whether somebody has woken it since it was told to sleep.
    is_wanted: AtomicBool,
    runs: AtomicU64,
}

#[derive(Debug)]
struct Host {
    scheduler: Scheduler,
    witnesses: Vec<Witness>,
    clock: AtomicU64,
    /// Cores that were told to ask again.
    pending: Vec<AtomicBool>,
    kicks: AtomicU64,
}

impl Host {
    fn new() -> Self {
        let params = Params { slice: Tsc(4096), ..Params::default() };
        let witness = || Witness {
            on: AtomicU32::new(NOBODY),
            is_wanted: AtomicBool::new(false),
            runs: AtomicU64::new(0),
        };
        Self {
            scheduler: Scheduler::new(CORES, params),
            witnesses: (0..ENTITIES).map(|_| witness()).collect(),
            clock: AtomicU64::new(1),
            pending: (0..CORES).map(|_| AtomicBool::new(false)).collect(),
            kicks: AtomicU64::new(0),
        }
    }

    fn now(&self) -> Tsc {
        Tsc(self.clock.fetch_add(97, Ordering::Relaxed))
    }

    fn tell(&self, core: Option<CoreId>) {
        let more = core::iter::from_fn(|| self.scheduler.take_kick());
        for core in core.into_iter().chain(more) {
            self.pending[core.index()].store(true, Ordering::SeqCst);
            self.kicks.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn wake(&self, id: EntityId) {
        self.witnesses[id.index()].is_wanted.store(true, Ordering::SeqCst);
        let core = self.scheduler.wake(id, self.now());
        self.tell(core);
    }

    /// A core's turn. Says whether it ran anybody.
    fn turn(&self, core: CoreId, random: &mut Random, ends: Ends) -> bool {
        let now = self.now();
        let decision = self.scheduler.pick(core, now);
        self.tell(None);
        let Decision::Run { id, until } = decision else { return false };
        assert!(until > now);
        let witness = &self.witnesses[id.index()];
        let before = witness.on.swap(core.0, Ordering::SeqCst);
        assert_eq!(before, NOBODY, "{id:?} runs on {core:?} and on core {before}");
        witness.runs.fetch_add(1, Ordering::Relaxed);
        for _ in 0..random.below(60) {
            core::hint::spin_loop();
        }
        let after = self.now();
        let sleeps = match ends {
            Ends::Sleeping => true,
            Ends::Mixed => random.below(3) == 0,
        };
        let before = witness.on.swap(NOBODY, Ordering::SeqCst);
        assert_eq!(before, core.0);
        self.scheduler.charge(core, id, after - now, after);
        if random.below(8) == 0 {
            self.scheduler.step_aside(core, after);
            self.tell(None);
        }
        if sleeps {
            witness.is_wanted.store(false, Ordering::SeqCst);
            self.scheduler.block(core, id, after);
            // Who woke it in between wanted it to run.
            if witness.is_wanted.load(Ordering::SeqCst) {
                self.wake(id);
            }
        }
        true
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ends {
    Mixed,
    Sleeping,
}

fn random_spec(random: &mut Random, id: u32) -> Spec {
    let mut cores: CoreMask = (0..CORES).map(CoreId).filter(|_| random.below(3) > 0).collect();
    if cores.is_empty() {
        cores = CoreMask::single(CoreId(id % CORES));
    }
    let class = match random.below(8) {
        0 => Class::Latency,
        1 => Class::Exclusive,
        _ => Class::Normal,
    };
    let cap = if random.below(4) == 0 { Cap::new(20 + random.below(80) as u32) } else { None };
    Spec { weight: Weight::new(1 + random.below(500) as u32).expect("in range"), cap, cores, class }
}

/// Runs everybody who is runnable once more, on one thread, and finds that nobody was lost.
fn check_nobody_is_lost(host: &Host, awake: impl Fn(EntityId) -> bool) {
    let mut random = Random::new(5);
    let missing = |host: &Host| {
        let wanted = (0..ENTITIES).map(EntityId).filter(|id| awake(*id));
        wanted.filter(|id| host.scheduler.place_of(*id) != Some(Place::Asleep)).collect::<Vec<_>>()
    };
    for _ in 0..20_000 {
        for core in (0..CORES).map(CoreId) {
            host.turn(core, &mut random, Ends::Sleeping);
        }
        host.clock.fetch_add(500, Ordering::Relaxed);
        if missing(host).is_empty() {
            break;
        }
    }
    assert_eq!(missing(host), Vec::new(), "everybody runs to its end");
    for core in (0..CORES).map(CoreId) {
        let queue = host.scheduler.unit(core).expect("it exists").queue.lock();
        assert_eq!((queue.runnable(), queue.weight, queue.held.len()), (0, 0, 0), "{core:?} is empty");
    }
    assert!(host.scheduler.waiting.is_empty());
}

#[test]
fn threads_that_wake_run_and_block_lose_nobody_and_run_nobody_twice() {
    let host = Host::new();
    for id in 0..ENTITIES {
        host.scheduler.add(EntityId(id), Spec::default()).expect("free");
    }
    std::thread::scope(|scope| {
        for core in 0..CORES {
            let host = &host;
            scope.spawn(move || {
                let mut random = Random::new(u64::from(core) + 10);
                host.scheduler.online(CoreId(core));
                for _ in 0..TURNS {
                    host.turn(CoreId(core), &mut random, Ends::Mixed);
                    if random.below(2) == 0 {
                        host.wake(EntityId(random.below(ENTITIES.into()) as u32));
                    }
                }
            });
        }
    });
    for id in (0..ENTITIES).map(EntityId) {
        let witness = &host.witnesses[id.index()];
        let is_asleep = host.scheduler.place_of(id) == Some(Place::Asleep);
        assert!(!is_asleep || !witness.is_wanted.load(Ordering::SeqCst), "{id:?} was woken and sleeps");
        assert!(witness.runs.load(Ordering::Relaxed) > 0);
    }
    check_nobody_is_lost(&host, |_| true);
}

#[test]
fn threads_that_also_change_block_and_remove_each_other_keep_the_books() {
    let host = Host::new();
    for id in 0..ENTITIES {
        host.scheduler.add(EntityId(id), Spec::default()).expect("free");
    }
    std::thread::scope(|scope| {
        for core in 0..CORES {
            let host = &host;
            scope.spawn(move || {
                let mut random = Random::new(u64::from(core) + 90);
                host.scheduler.online(CoreId(core));
                for _ in 0..TURNS / 3 {
                    let now = host.now();
                    // Nobody watches who runs: others may block it at any time.
                    if let Decision::Run { id, .. } = host.scheduler.pick(CoreId(core), now) {
                        let after = host.now();
                        host.scheduler.charge(CoreId(core), id, after - now, after);
                        if random.below(3) == 0 {
                            host.scheduler.block(CoreId(core), id, after);
                        }
                    }
                    host.tell(None);
                    let number = random.below(ENTITIES.into()) as u32;
                    let other = EntityId(number);
                    match random.below(12) {
                        0 => {
                            let spec = random_spec(&mut random, number);
                            if let Ok(kick) = host.scheduler.set(other, spec, host.now()) {
                                host.tell(kick);
                            }
                        }
                        1 => host.scheduler.block(CoreId(core), other, host.now()),
                        2 => {
                            if host.scheduler.remove(other).is_ok() {
                                let spec = random_spec(&mut random, number);
                                // Another thread may have been first.
                                let _ = host.scheduler.add(other, spec);
                            }
                        }
                        3 => {
                            host.scheduler.times(other);
                            host.scheduler.exclusivity(other);
                        }
                        _ => host.wake(other),
                    }
                }
            });
        }
    });
    // Everybody may run anywhere again, and wants to.
    for id in (0..ENTITIES).map(EntityId) {
        let _ = host.scheduler.add(id, Spec::default());
        let kick = host.scheduler.set(id, Spec::default(), host.now()).expect("it is there");
        host.tell(kick);
        host.wake(id);
    }
    check_nobody_is_lost(&host, |_| true);
    assert!(host.scheduler.owned.is_empty());
}
