//! The gate in every order of accesses: nobody sleeps while something waits, nobody runs while parked.

use crate::explore::{Step, explore};
use crate::gate::{Gate, NOBODY, Permit, Tell};
use crate::word::Word;
use std::panic::{AssertUnwindSafe, catch_unwind};

const BLOCKED: u32 = 0;
const QUEUED: u32 = 1;

/// A vCPU and what is around its gate.
struct World {
    gate: Gate<Step>,
    inbox: Step,
    /// How much was taken out of the inbox.
    taken: Step,
    /// What the scheduler thinks.
    scheduler: Step,
    /// The body's lock.
    body: Step,
    /// The interrupt of the core that runs it.
    interrupt: Step,
    /// The operator has parked it.
    parked: Step,
}

/// What the guest does with a turn.
#[derive(Clone, Copy)]
enum Guest {
    /// Halts at once.
    Halts,
    /// Runs until the core is interrupted.
    Runs,
}

/// How the core puts a vCPU to sleep.
#[derive(Clone, Copy)]
enum Sleep {
    /// As it should.
    Right,
    /// Without the last look at the inbox.
    WithoutLook,
    /// The gate first, the scheduler after.
    GateFirst,
}

/// What a core does at the end of a turn after which the vCPU wants another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pick {
    /// It has the scheduler queue a vCPU that it was given before somebody parked it and let it go.
    KeptRight,
    /// It relies on what it was given.
    Trusted,
}

impl World {
    fn asleep() -> Self {
        Self {
            gate: Gate::new(),
            inbox: Step::new(0),
            taken: Step::new(0),
            scheduler: Step::new(BLOCKED),
            body: Step::new(0),
            interrupt: Step::new(0),
            parked: Step::new(0),
        }
    }

    fn lock(&self) {
        self.body.await_and_set(0, 1);
    }

    fn unlock(&self) {
        self.body.store(0);
    }

    fn wake(&self) {
        match self.gate.wake() {
            Tell::Nobody => {}
            Tell::Scheduler => {
                self.scheduler.replace(BLOCKED, QUEUED);
            }
            Tell::Core(_) => self.interrupt.store(1),
        }
    }

    /// A sender that leaves one thing.
    fn send(&self) {
        // As the inbox does: only who finds it empty tells.
        if self.inbox.add(1) == 0 {
            self.wake();
        }
    }

    /// The operator starts it.
    fn release(&self) {
        self.lock();
        self.parked.store(0);
        self.gate.release();
        self.unlock();
        self.wake();
    }

    /// The operator parks it.
    fn park(&self) {
        self.gate.hold();
        self.gate.claim();
        // The lock is free, or that of a turn, which the interrupt ends.
        while !self.body.replace(0, 1) {
            self.gate.in_turn_on.await_not(NOBODY, &self.body, 0);
            if self.gate.in_turn_on().is_some() {
                self.interrupt.store(1);
                self.lock();
                break;
            }
        }
        self.scheduler.store(BLOCKED);
        self.gate.park();
        self.parked.store(1);
        self.unlock();
        self.gate.unclaim();
    }

    /// One turn on `core`, when the scheduler has the vCPU.
    fn turn(&self, core: u32, guest: Guest, sleep: Sleep, pick: Pick) {
        // The scheduler gives the vCPU to this core, and has it until it is blocked.
        self.scheduler.await_and_set(QUEUED, QUEUED);
        self.lock();
        if self.gate.begin_turn(core) == Permit::Held {
            self.scheduler.store(BLOCKED);
            self.gate.park();
            self.unlock();
            return;
        }
        assert_eq!(self.parked.load(), 0, "a turn of a parked vCPU");
        let found = self.inbox.swap(0);
        self.taken.add(found);
        match guest {
            Guest::Runs => {
                self.interrupt.await_and_set(1, 0);
                self.gate.end_turn();
                if pick == Pick::KeptRight {
                    self.scheduler.replace(BLOCKED, QUEUED);
                }
            }
            Guest::Halts => {
                self.gate.end_turn();
                match sleep {
                    Sleep::Right | Sleep::WithoutLook => {
                        self.scheduler.store(BLOCKED);
                        self.gate.sleep();
                    }
                    Sleep::GateFirst => {
                        self.gate.sleep();
                        self.scheduler.store(BLOCKED);
                    }
                }
                let looks = !matches!(sleep, Sleep::WithoutLook);
                if looks && self.inbox.load() != 0 {
                    self.wake();
                }
            }
        }
        self.unlock();
    }

    fn turns(&self, core: u32, guest: Guest, sleep: Sleep) {
        self.turns_by(core, guest, sleep, Pick::KeptRight);
    }

    fn turns_by(&self, core: u32, guest: Guest, sleep: Sleep, pick: Pick) {
        // More than the senders here can cause.
        for _ in 0..8 {
            self.turn(core, guest, sleep, pick);
        }
        panic!("woken for nothing again and again");
    }

    fn all_taken(&self, words: &[u32], sent: u32) {
        assert_eq!(self.inbox.look(words), 0, "something waits and nobody looks");
        assert_eq!(self.taken.look(words), sent);
    }
}

fn send(world: &World) {
    world.send();
}

#[test]
fn who_halts_misses_nothing() {
    let states = explore(
        World::asleep,
        &[&World::release, &send, &send, &|world: &World| world.turns(1, Guest::Halts, Sleep::Right)],
        |world, words| world.all_taken(words, 2),
    );
    assert!(states > 1000, "{states} states are too few to mean anything");
}

#[test]
fn who_runs_is_interrupted() {
    explore(
        World::asleep,
        &[&World::release, &send, &send, &|world: &World| world.turns(1, Guest::Runs, Sleep::Right)],
        |world, words| world.all_taken(words, 2),
    );
}

#[test]
fn a_vcpu_that_moves_between_cores_misses_nothing() {
    explore(
        World::asleep,
        &[
            &World::release,
            &send,
            &|world: &World| world.turns(1, Guest::Halts, Sleep::Right),
            &|world: &World| world.turns(2, Guest::Halts, Sleep::Right),
        ],
        |world, words| world.all_taken(words, 1),
    );
}

#[test]
fn nobody_runs_while_parked_and_what_came_meanwhile_is_found_after() {
    for guest in [Guest::Halts, Guest::Runs] {
        explore(
            World::asleep,
            &[
                &|world: &World| {
                    world.release();
                    world.park();
                    world.release();
                },
                &send,
                &|world: &World| world.turns(1, guest, Sleep::Right),
            ],
            |world, words| world.all_taken(words, 1),
        );
    }
}

#[test]
fn the_scheduler_is_left_without_a_parked_vcpu() {
    explore(
        World::asleep,
        &[
            &|world: &World| {
                world.release();
                world.park();
            },
            &send,
            &|world: &World| world.turns(1, Guest::Halts, Sleep::Right),
        ],
        |world, words| assert_eq!(world.scheduler.look(words), BLOCKED),
    );
}

/// Whether some order of `programs` with one sender ends with something left in the inbox.
fn loses(programs: &[&dyn Fn(&World)]) -> bool {
    let lost = || explore(World::asleep, programs, |world, words| world.all_taken(words, 1));
    std::panic::set_hook(Box::new(|_| {}));
    let lost = catch_unwind(AssertUnwindSafe(lost)).is_err();
    drop(std::panic::take_hook());
    lost
}

#[test]
fn this_test_sees_a_wake_up_that_is_lost() {
    let halting = |sleep| move |world: &World| world.turns(1, Guest::Halts, sleep);
    assert!(loses(&[&World::release, &send, &halting(Sleep::WithoutLook)]));
    assert!(loses(&[&World::release, &send, &halting(Sleep::GateFirst)]));
    assert!(!loses(&[&World::release, &send, &halting(Sleep::Right)]));

    let parked_and_let_go = |world: &World| {
        world.release();
        world.park();
        world.release();
    };
    let running = |pick| move |world: &World| world.turns_by(1, Guest::Runs, Sleep::Right, pick);
    assert!(loses(&[&parked_and_let_go, &send, &running(Pick::Trusted)]));
    assert!(!loses(&[&parked_and_let_go, &send, &running(Pick::KeptRight)]));
}
