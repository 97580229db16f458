//! A simulated machine: cores that run whom the scheduler says, vCPUs that work and sleep, interrupts that take their
//! time, and a clock that jumps from event to event.

use super::load::{Load, Random, SECOND, US};
use crate::*;
use arch::Tsc;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::vec::Vec;

/// Turns in the simulations.
pub(super) const SLICE: u64 = 4_000_000;
/// How long an interrupt takes to another core.
pub(super) const IPI: u64 = 2 * US;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    /// The turn or the sleep of a core ends, if it is still that one.
    Core {
        core: usize,
        turn: u64,
    },
    Interrupt {
        core: usize,
    },
    Wake {
        vcpu: usize,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Doing {
    Idle,
    Running { vcpu: usize, since: u64 },
}

#[derive(Debug)]
struct Core {
    doing: Doing,
    /// Counts turns and sleeps.
    turn: u64,
    is_interrupted: bool,
    idle_since: u64,
    /// Turns without an end.
    endless: u64,
}

#[derive(Debug)]
pub(super) struct Vcpu {
    pub(super) id: EntityId,
    pub(super) load: Load,
    pub(super) spec: Spec,
    pub(super) ran: u64,
    /// The longest wait from wake-up to the first turn.
    pub(super) worst: u64,
    /// The same in thousandths of what is guaranteed.
    pub(super) worst_permille: u64,
    /// The longest wait for any turn.
    pub(super) worst_wait: u64,
    pub(super) wakes: u64,
    awake: Awake,
    left: u64,
    since: u64,
    crowds: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Awake {
    Asleep,
    Woken,
    Waits,
    Runs,
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) scheduler: Scheduler,
    pub(super) params: Params,
    pub(super) now: u64,
    cores: Vec<Core>,
    pub(super) vcpus: Vec<Vcpu>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    pub(super) random: Random,
    /// Whether waits are compared with what is guaranteed.
    pub(super) checks_delays: bool,
    /// Of each turn, so much passes before it is charged, in the hypervisor.
    pub(super) overhead: u64,
}

impl Machine {
    pub(super) fn new(cores: u32) -> Self {
        let params = Params { slice: Tsc(SLICE), ..Params::default() };
        let scheduler = Scheduler::new(cores, params);
        let core = |_| Core { doing: Doing::Idle, turn: 0, is_interrupted: false, idle_since: 0, endless: 0 };
        let mut machine = Self {
            scheduler,
            params,
            now: 0,
            cores: (0..cores).map(core).collect(),
            vcpus: Vec::new(),
            events: BinaryHeap::new(),
            sequence: 0,
            random: Random::new(7),
            checks_delays: false,
            overhead: 0,
        };
        for core in 0..cores {
            machine.scheduler.online(CoreId(core));
        }
        for core in 0..machine.cores.len() {
            machine.ask(core);
        }
        machine
    }

    /// Adds a vCPU, which wakes at once, and returns its place in `vcpus`.
    pub(super) fn add(&mut self, load: Load, spec: Spec) -> usize {
        let index = self.vcpus.len();
        let id = EntityId(u32::try_from(index).expect("small"));
        self.scheduler.add(id, spec).expect("free");
        self.vcpus.push(Vcpu {
            id,
            load,
            spec,
            ran: 0,
            worst: 0,
            worst_permille: 0,
            worst_wait: 0,
            wakes: 0,
            awake: Awake::Asleep,
            left: 0,
            since: 0,
            crowds: Vec::new(),
        });
        self.tell();
        self.at(self.now, Event::Wake { vcpu: index });
        index
    }

    pub(super) fn hog(&mut self, weight: u32) -> usize {
        self.add(Load::Hog, weighing(weight))
    }

    pub(super) fn set(&mut self, vcpu: usize, spec: Spec) {
        let kick = self.scheduler.set(self.vcpus[vcpu].id, spec, Tsc(self.now)).expect("it is there");
        self.vcpus[vcpu].spec = spec;
        self.interrupt(kick);
    }

    pub(super) fn run_for(&mut self, time: u64) {
        let end = self.now + time;
        while let Some(Reverse((at, _, _))) = self.events.peek()
            && *at <= end
        {
            let Some(Reverse((at, _, event))) = self.events.pop() else { break };
            self.now = at;
            match event {
                Event::Core { core, turn } if self.cores[core].turn == turn => self.look(core),
                Event::Core { .. } => {}
                Event::Interrupt { core } => {
                    self.cores[core].is_interrupted = false;
                    self.look(core);
                }
                Event::Wake { vcpu } => self.wake(vcpu),
            }
            if self.events.peek().is_none_or(|Reverse((next, _, _))| *next > at) {
                self.check_no_core_idles_while_somebody_waits();
            }
        }
        self.now = end;
    }

    /// Ends all turns, and starts counting anew.
    pub(super) fn count_anew(&mut self) {
        self.settle();
        for vcpu in &mut self.vcpus {
            (vcpu.ran, vcpu.worst, vcpu.worst_permille, vcpu.worst_wait, vcpu.wakes) = (0, 0, 0, 0, 0);
        }
        for core in &mut self.cores {
            core.endless = 0;
        }
    }

    /// Charges all turns that are going on.
    pub(super) fn settle(&mut self) {
        for core in 0..self.cores.len() {
            if self.cores[core].doing != Doing::Idle {
                self.look(core);
            }
        }
    }

    pub(super) fn ran(&mut self, vcpu: usize) -> u64 {
        self.settle();
        let times = self.scheduler.times(self.vcpus[vcpu].id).expect("added");
        assert!(times.ran.0 >= self.vcpus[vcpu].ran, "the scheduler counts all of it");
        self.vcpus[vcpu].ran
    }

    /// Whom a core runs.
    pub(super) fn runs(&self, core: usize) -> Option<usize> {
        match self.cores[core].doing {
            Doing::Idle => None,
            Doing::Running { vcpu, .. } => Some(vcpu),
        }
    }

    /// How many turns without an end a core was given.
    pub(super) fn turns_of(&self, core: usize) -> (u64, u64) {
        (self.cores[core].turn, self.cores[core].endless)
    }

    fn at(&mut self, time: u64, event: Event) {
        if time < u64::MAX {
            self.sequence += 1;
            self.events.push(Reverse((time, self.sequence, event)));
        }
    }

    pub(super) fn interrupt(&mut self, kick: Option<CoreId>) {
        let more = core::iter::from_fn(|| self.scheduler.take_kick()).collect::<Vec<_>>();
        for core in kick.into_iter().chain(more) {
            let core = core.index();
            if !self.cores[core].is_interrupted {
                self.cores[core].is_interrupted = true;
                self.at(self.now + IPI, Event::Interrupt { core });
            }
        }
    }

    fn tell(&mut self) {
        self.interrupt(None);
    }

    pub(super) fn wake(&mut self, index: usize) {
        let (now, id) = (self.now, self.vcpus[index].id);
        if self.vcpus[index].awake != Awake::Asleep {
            assert_eq!(self.scheduler.wake(id, Tsc(now)), None, "it is awake");
            return;
        }
        let load = self.vcpus[index].load;
        let work = load.work(&mut self.random).max(1);
        let vcpu = &mut self.vcpus[index];
        vcpu.awake = Awake::Woken;
        vcpu.wakes += 1;
        vcpu.left = work;
        vcpu.since = now;
        // Every other time it is its core that notices, if that has nothing to do.
        let here =
            self.last_core_of(id).filter(|core| self.notices(*core) && self.vcpus[index].wakes & 1 == 0);
        let kick = match here {
            Some(core) => self.scheduler.wake_here(core_id(core), id, Tsc(now)),
            None => self.scheduler.wake(id, Tsc(now)),
        };
        self.interrupt(kick);
        if self.checks_delays {
            let count = self.cores.len();
            self.vcpus[index].crowds = (0..count).map(|core| self.gone(core)).collect();
        }
        if let Some(core) = here {
            self.ask(core);
        }
    }

    /// Where an entity ran last.
    fn last_core_of(&self, id: EntityId) -> Option<usize> {
        let slot = self.scheduler.table.slot(id).expect("added");
        let core = slot.entity.lock().last_core;
        core.map(CoreId::index)
    }

    /// Whether a core sleeps and nobody has interrupted it.
    fn notices(&self, core: usize) -> bool {
        self.cores[core].doing == Doing::Idle && !self.cores[core].is_interrupted
    }

    /// How many ever came to a core but are not there any more.
    fn gone(&self, core: usize) -> u64 {
        let queue = self.scheduler.unit(core_id(core)).expect("it exists").queue.lock();
        queue.arrivals - u64::from(queue.runnable())
    }

    /// How many ever came to a core.
    fn came(&self, core: usize) -> u64 {
        self.scheduler.unit(core_id(core)).expect("it exists").queue.lock().arrivals
    }

    /// Ends what a core does and asks what to do next.
    fn look(&mut self, core: usize) {
        let now = self.now;
        if let Doing::Running { vcpu: index, since } = self.cores[core].doing {
            let ran = (now - since).saturating_sub(self.overhead);
            let vcpu = &mut self.vcpus[index];
            vcpu.ran += ran;
            if vcpu.left != u64::MAX {
                vcpu.left = vcpu.left.saturating_sub(ran);
            }
            vcpu.awake = Awake::Waits;
            vcpu.since = now;
            let (id, is_done) = (vcpu.id, vcpu.left == 0);
            self.scheduler.charge(core_id(core), id, Tsc(ran), Tsc(now));
            if is_done {
                self.scheduler.block(core_id(core), id, Tsc(now));
                self.vcpus[index].awake = Awake::Asleep;
                let at = self.vcpus[index].load.wake_at(now, &mut self.random);
                self.at(at, Event::Wake { vcpu: index });
            }
        }
        self.ask(core);
    }

    fn ask(&mut self, core: usize) {
        let now = self.now;
        self.cores[core].turn += 1;
        let turn = self.cores[core].turn;
        match self.scheduler.pick(core_id(core), Tsc(now)) {
            Decision::Idle { until } => {
                assert!(until.0 > now, "a sleep is not empty");
                if self.cores[core].doing != Doing::Idle {
                    self.cores[core].idle_since = now;
                }
                self.cores[core].doing = Doing::Idle;
                self.at(until.0, Event::Core { core, turn });
            }
            Decision::Run { id, until } => {
                assert!(until.0 > now, "a turn is not empty");
                let index = id.index();
                self.check_delay(index, core);
                let vcpu = &mut self.vcpus[index];
                assert!(matches!(vcpu.awake, Awake::Woken | Awake::Waits), "{id:?} is {:?}", vcpu.awake);
                vcpu.awake = Awake::Runs;
                let end = until.0.min(now.saturating_add(vcpu.left).saturating_add(self.overhead));
                if until == Tsc::NEVER {
                    self.cores[core].endless += 1;
                }
                self.cores[core].doing = Doing::Running { vcpu: index, since: now };
                self.at(end, Event::Core { core, turn });
            }
        }
        self.tell();
    }

    fn check_delay(&mut self, index: usize, core: usize) {
        let wait = self.now - self.vcpus[index].since;
        let came = if self.checks_delays { self.came(core) } else { 0 };
        let params = self.params;
        let vcpu = &mut self.vcpus[index];
        if vcpu.spec.cap.is_none() {
            vcpu.worst_wait = vcpu.worst_wait.max(wait);
        }
        if vcpu.awake != Awake::Woken || vcpu.spec.cap.is_some() {
            return;
        }
        vcpu.worst = vcpu.worst.max(wait);
        if let Some(gone) = vcpu.crowds.get(core) {
            let entities = u32::try_from(came - gone).expect("small").max(1);
            let bound = params.delay_bound(entities).0 + 2 * IPI;
            vcpu.worst_permille = vcpu.worst_permille.max(wait * 1000 / bound);
        }
    }

    fn check_no_core_idles_while_somebody_waits(&self) {
        for (number, core) in self.cores.iter().enumerate() {
            if core.doing != Doing::Idle || core.is_interrupted {
                continue;
            }
            for vcpu in &self.vcpus {
                let is_waiting = matches!(vcpu.awake, Awake::Waits | Awake::Woken);
                // An interrupt may be on its way that ends the wait.
                if !is_waiting || self.now <= vcpu.since.max(core.idle_since) + 2 * IPI {
                    continue;
                }
                let slot = self.scheduler.table.slot(vcpu.id).expect("added");
                let allowed = self.scheduler.allowed(&slot.entity.lock());
                let place = self.scheduler.place_of(vcpu.id);
                let is_fine = match place {
                    Some(Place::Held(_)) => true,
                    Some(Place::Waiting(home)) => self.cores[home.index()].is_interrupted,
                    _ => false,
                };
                assert!(
                    is_fine || !allowed.contains(core_id(number)),
                    "core {number} idles at {} while {:?} waits: {place:?}",
                    self.now,
                    vcpu.id,
                );
            }
        }
    }
}

fn core_id(core: usize) -> CoreId {
    CoreId(u32::try_from(core).expect("small"))
}

pub(super) fn weighing(weight: u32) -> Spec {
    Spec { weight: Weight::new(weight).expect("in range"), ..Spec::default() }
}

pub(super) fn on_cores(spec: Spec, cores: &[u32]) -> Spec {
    Spec { cores: cores.iter().copied().map(CoreId).collect(), ..spec }
}

pub(super) fn capped(spec: Spec, percent: u32) -> Spec {
    Spec { cap: Cap::new(percent), ..spec }
}

pub(super) fn of_class(spec: Spec, class: Class) -> Spec {
    Spec { class, ..spec }
}

/// `part` is within `permille` thousandths of `expected`.
pub(super) fn assert_close(what: &str, part: u64, expected: u64, permille: u64) {
    let error = part.abs_diff(expected);
    assert!(
        error * 1000 <= expected * permille,
        "{what}: {} ms is not within {permille} per mille of {} ms",
        part * 1000 / SECOND,
        expected * 1000 / SECOND,
    );
}
