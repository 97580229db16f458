//! Long work of the operator's, between the pieces of which guests get turns.

use crate::cores::{Core, Spare};
use arch::{Gpa, Tsc};
use core::cell::RefCell;
use memory::{GuestMemory, OutsideRam};

/// Guests wait this long for such work, in microseconds, ...
pub(super) const STRETCH_US: u64 = 200;
/// ... and then have the core for this long.
pub(crate) const TURN_US: u64 = 1_000;

/// How long work has gone on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// When the stretch that goes on began.
    since: Tsc,
}

impl Pace {
    /// Work begins.
    pub(super) fn new() -> Self {
        Self { since: hal::time::now() }
    }

    /// Gives somebody a turn on `core`, on which the work is done, if it is time. What the work is about must not be in
    /// the way: its vCPUs are parked or not there yet.
    pub(super) fn breathe(&mut self, core: &mut Core) {
        let now = hal::time::now();
        if now.since(self.since) >= hal::time::ticks(STRETCH_US) {
            core.step(now + hal::time::ticks(TURN_US), Spare::Return);
            core.step_aside();
            self.since = hal::time::now();
        }
    }
}

/// Guest memory that is loaded into.
#[derive(Debug)]
pub(super) struct Paced<'a, M> {
    memory: &'a M,
    work: RefCell<(Pace, &'a mut Core)>,
}

impl<'a, M: GuestMemory> Paced<'a, M> {
    /// `memory`, written by code that runs on `core`.
    pub(super) fn new(memory: &'a M, core: &'a mut Core) -> Self {
        Self { memory, work: RefCell::new((Pace::new(), core)) }
    }

    fn breathe(&self) {
        let (pace, core) = &mut *self.work.borrow_mut();
        pace.breathe(core);
    }
}

impl<M: GuestMemory> GuestMemory for Paced<'_, M> {
    fn read(&self, gpa: Gpa, into: &mut [u8]) -> Result<(), OutsideRam> {
        self.breathe();
        self.memory.read(gpa, into)
    }

    fn write(&self, gpa: Gpa, from: &[u8]) -> Result<(), OutsideRam> {
        self.breathe();
        self.memory.write(gpa, from)
    }

    fn swap_u8(&self, gpa: Gpa, value: u8) -> Result<u8, OutsideRam> {
        self.memory.swap_u8(gpa, value)
    }

    fn compare_exchange_u32(&self, gpa: Gpa, current: u32, new: u32) -> Result<bool, OutsideRam> {
        self.memory.compare_exchange_u32(gpa, current, new)
    }

    fn compare_exchange_u64(&self, gpa: Gpa, current: u64, new: u64) -> Result<bool, OutsideRam> {
        self.memory.compare_exchange_u64(gpa, current, new)
    }
}
