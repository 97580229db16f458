//! Random calls on a few cores, against a model of who is awake and who runs where.

use super::load::Random;
use crate::*;
use arch::Tsc;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

const CORES: u32 = 3;
const ENTITIES: u32 = 7;
const SLICE: u64 = 4096;

#[derive(Clone, Copy, Debug)]
enum Step {
    Turn { core: u32, ran: u64 },
    Block { core: u32 },
    Wake(u32),
    BlockAny(u32),
    Set(u32, Spec),
    Replace(u32, Spec),
    Wait(u64),
}

fn specs() -> impl Strategy<Value = Spec> {
    let class = prop_oneof![4 => Just(Class::Normal), 2 => Just(Class::Latency), 1 => Just(Class::Exclusive)];
    let cap = prop_oneof![3 => Just(None), 1 => (1u32..=100).prop_map(Cap::new)];
    (1u32..=1000, cap, 1u32..8, class).prop_map(|(weight, cap, cores, class)| Spec {
        weight: Weight::new(weight).expect("in range"),
        cap,
        cores: (0..CORES).filter(|core| cores >> core & 1 == 1).map(CoreId).collect(),
        class,
    })
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..CORES, 0u64..6000).prop_map(|(core, ran)| Step::Turn { core, ran }),
        3 => (0..CORES).prop_map(|core| Step::Block { core }),
        5 => (0..ENTITIES).prop_map(Step::Wake),
        1 => (0..ENTITIES).prop_map(Step::BlockAny),
        2 => (0..ENTITIES, specs()).prop_map(|(id, spec)| Step::Set(id, spec)),
        1 => (0..ENTITIES, specs()).prop_map(|(id, spec)| Step::Replace(id, spec)),
        2 => (0u64..20_000).prop_map(Step::Wait),
    ]
}

#[derive(Debug)]
struct Model {
    scheduler: Scheduler,
    now: Tsc,
    awake: Vec<bool>,
    running: Vec<Option<EntityId>>,
    specs: Vec<Spec>,
    ran: Vec<u64>,
}

impl Model {
    fn new(specs: &[Spec]) -> Self {
        let params = Params { slice: Tsc(SLICE), ..Params::default() };
        let scheduler = Scheduler::new(CORES, params);
        for core in 0..CORES {
            scheduler.online(CoreId(core));
        }
        for (id, spec) in (0..).map(EntityId).zip(specs) {
            scheduler.add(id, *spec).expect("free");
        }
        Self {
            scheduler,
            now: Tsc(1),
            awake: vec![false; specs.len()],
            running: vec![None; CORES as usize],
            specs: specs.to_vec(),
            ran: vec![0; specs.len()],
        }
    }

    fn turn(&mut self, core: CoreId, ran: u64) {
        self.running[core.index()] = None;
        match self.scheduler.pick(core, self.now) {
            Decision::Idle { until } => assert!(until > self.now),
            Decision::Run { id, until } => {
                assert!(until > self.now);
                assert!(self.awake[id.index()], "{id:?} sleeps");
                assert!(!self.running.contains(&Some(id)), "{id:?} runs twice");
                assert!(self.specs[id.index()].cores.contains(core), "{id:?} may not run on {core:?}");
                self.running[core.index()] = Some(id);
                let ran = Tsc(ran).min(until - self.now);
                self.now = self.now + ran;
                self.scheduler.charge(core, id, ran, self.now);
                self.ran[id.index()] += ran.0;
            }
        }
    }

    fn block(&mut self, core: CoreId, id: EntityId) {
        self.scheduler.block(core, id, self.now);
        self.awake[id.index()] = false;
        for running in &mut self.running {
            if *running == Some(id) {
                *running = None;
            }
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Turn { core, ran } => self.turn(CoreId(core), ran),
            Step::Block { core } => {
                if let Some(id) = self.running[core as usize] {
                    self.block(CoreId(core), id);
                }
            }
            Step::Wake(id) => {
                let was_awake = self.awake[id as usize];
                // Some are found by a core that has nothing to do and asks then.
                let here = CoreId(id % CORES);
                let is_here = id & 4 == 0 && self.running[here.index()].is_none();
                let kick = if is_here {
                    self.scheduler.wake_here(here, EntityId(id), self.now)
                } else {
                    self.scheduler.wake(EntityId(id), self.now)
                };
                assert!(!was_awake || kick.is_none());
                self.awake[id as usize] = true;
                if is_here {
                    self.turn(here, 1);
                }
            }
            Step::BlockAny(id) => self.block(CoreId(0), EntityId(id)),
            Step::Set(id, spec) => {
                self.scheduler.set(EntityId(id), spec, self.now).expect("added");
                // Who runs where it may not may stay until its core asks.
                self.specs[id as usize] = spec;
            }
            Step::Replace(id, spec) => {
                let id = EntityId(id);
                match self.scheduler.remove(id) {
                    Err(RemoveError::Running(core)) => assert_eq!(self.running[core.index()], Some(id)),
                    Err(error) => panic!("{error}"),
                    Ok(()) => {
                        assert!(!self.running.contains(&Some(id)));
                        self.scheduler.add(id, spec).expect("free");
                        self.specs[id.index()] = spec;
                        self.awake[id.index()] = false;
                        self.ran[id.index()] = 0;
                    }
                }
            }
            Step::Wait(time) => self.now = self.now + Tsc(time),
        }
        while self.scheduler.take_kick().is_some() {}
        self.check();
    }

    /// The scheduler's books agree with the model and with each other.
    fn check(&self) {
        let scheduler = &self.scheduler;
        for id in (0..ENTITIES).map(EntityId) {
            let place = scheduler.place_of(id).expect("added");
            assert_eq!(place != Place::Asleep, self.awake[id.index()], "{id:?}: {place:?}");
            let running = self.running.iter().position(|running| *running == Some(id));
            match place {
                Place::Running(core) => assert_eq!(running, Some(core.index())),
                Place::Asleep | Place::Waiting(_) | Place::Held(_) => assert_eq!(running, None),
                Place::Moving | Place::Stranded => panic!("{id:?} is lost: {place:?}"),
            }
            assert_eq!(scheduler.spec(id), Some(self.specs[id.index()]));
            let ran = scheduler.times(id).expect("added").ran;
            let owed =
                scheduler.table.slot(id).expect("added").owed.load(core::sync::atomic::Ordering::Relaxed);
            assert_eq!(ran.0 + owed, self.ran[id.index()]);
        }
        for core in (0..CORES).map(CoreId) {
            let queue = scheduler.unit(core).expect("it exists").queue.lock();
            let here = (0..ENTITIES).map(EntityId).filter(|id| {
                queue.waiting.position(*id).is_some()
                    || queue.current.is_some_and(|current| current.id() == *id)
            });
            let weight: u64 = here.map(|id| u64::from(self.specs[id.index()].weight.get())).sum();
            assert_eq!(queue.weight, weight, "the weight on {core:?}");
            let is_shown = scheduler.waiting.contains(core);
            let is_movable =
                queue.waiting.entries().iter().any(|e| self.specs[e.id().index()].cores.len() > 1);
            assert_eq!(is_shown, is_movable, "who waits on {core:?} is shown");
        }
    }

    /// From here on everybody who is awake runs within a bounded time.
    fn finish(&mut self) {
        let before = self.ran.clone();
        let mut random = Random::new(1);
        for _ in 0..3000 {
            for core in (0..CORES).map(CoreId) {
                self.turn(core, SLICE / 16 + random.below(SLICE));
                while self.scheduler.take_kick().is_some() {}
            }
            self.now = self.now + Tsc(SLICE / 8);
        }
        for (index, before) in before.into_iter().enumerate() {
            assert!(!self.awake[index] || self.ran[index] > before, "{index} starves");
        }
        self.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn books_are_kept_and_nobody_starves(
        specs in prop::collection::vec(specs(), ENTITIES as usize),
        steps in prop::collection::vec(steps(), 1..250),
    ) {
        let mut model = Model::new(&specs);
        for step in steps {
            model.step(step);
        }
        model.finish();
    }
}
