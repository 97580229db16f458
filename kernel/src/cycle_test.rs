//! Creates, starts, stops and destroys virtual machines again and again if the boot archive asks for it, and says
//! whether the host has everything back.
//!
//! The archive's file `cycle-test` holds how often, in decimal. What comes and goes are copies of the machines of the
//! configuration that do not start by themselves, one after the other. One in four is called off while it is being
//! built, each time at another step; the others run for a while, to their own end if that is soon, and half of those
//! that go on are held before they are stopped. Tests of the project use this; the monitor's commands do the same.

use crate::boot_archive::Files;
use crate::host_use::HostUse;
use crate::operator::Operator;
use crate::terminal_line::Line;
use crate::vm::{Next, Phase};
use alloc::string::String;
use alloc::vec::Vec;
use arch::Tsc;
use config::Config;
use core::fmt;
use monitor::{Control, ControlError, Overrides};

/// The file that asks for it.
const REQUEST: &str = "cycle-test";
/// The name of the machine that comes and goes.
const NAME: &str = "cycled";
/// It runs this long at most, in microseconds.
const RUN_US: u64 = 3_000;
/// Rounds over all machines before the count begins: memory that is taken once for all is taken in them.
const WARM_UP_ROUNDS: u32 = 8;
/// One machine in so many is called off.
const CALLED_OFF: u32 = 4;
/// They are called off before as many different steps.
const STEPS: u32 = 24;

/// Where a cycle is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// No machine.
    Nothing,
    /// It is being built, and called off after so many more looks.
    Starting(Option<u32>),
    /// It runs, until then.
    Running(Tsc),
}

/// How machines ended.
#[derive(Clone, Copy, Default, Debug)]
struct Ends {
    called_off: u32,
    by_themselves: u32,
    held: u32,
    running: u32,
}

/// Cycles to be done.
#[derive(Debug)]
pub(crate) struct Cycles {
    /// What is copied; nothing when nobody asks for cycles, and when they are over.
    templates: Vec<String>,
    wanted: u32,
    done: u32,
    stage: Stage,
    before: Option<HostUse>,
    /// [`hal::shootdown::count`] when the count began.
    flushes_before: u64,
    ends: Ends,
}

impl Cycles {
    /// The cycles that the archive asks for.
    pub(crate) fn asked_for(files: &Files, config: &Config) -> Self {
        let text = files.get(REQUEST).and_then(|bytes| core::str::from_utf8(bytes).ok());
        let wanted = text.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let templates = config.vms.iter().filter(|vm| !vm.autostart && wanted > 0);
        Self {
            templates: templates.map(|vm| vm.name.clone()).collect(),
            wanted,
            done: 0,
            stage: Stage::Nothing,
            before: None,
            flushes_before: 0,
            ends: Ends::default(),
        }
    }

    /// Goes on, if there is something to do. `next` is when others want the operator.
    pub(crate) fn poll(&mut self, operator: &mut Operator, line: &Line, next: Next) -> Next {
        if self.templates.is_empty() {
            return next;
        }
        // News that wait for the serial line use memory too.
        if self.is_to_compare() && (!line.is_idle() || crate::log::has_lines()) {
            return next.min(Next::At(hal::time::now() + hal::time::ticks(RUN_US)));
        }
        match self.step(operator) {
            Ok(own) => next.min(own),
            Err(error) => {
                log::error!("cycle test: cycle {}: {}", self.done, error.reason(NAME));
                self.templates.clear();
                next
            }
        }
    }

    fn step(&mut self, operator: &mut Operator) -> Result<Next, ControlError> {
        match self.stage {
            Stage::Nothing => self.begin(operator),
            Stage::Starting(looks) => self.watch_build(operator, looks),
            Stage::Running(until) => self.watch_run(operator, until),
        }
    }

    /// How many machines there are to copy.
    fn count(&self) -> u32 {
        u32::try_from(self.templates.len()).unwrap_or(u32::MAX)
    }

    /// After so many cycles the count begins.
    fn start_of_count(&self) -> u32 {
        WARM_UP_ROUNDS * self.count()
    }

    /// After so many cycles all is over.
    fn end_of_count(&self) -> u32 {
        self.start_of_count().saturating_add(self.wanted)
    }

    /// Whether what is in use is to be looked at now, while nobody is there.
    fn is_to_compare(&self) -> bool {
        self.stage == Stage::Nothing
            && (self.done == self.start_of_count() || self.done == self.end_of_count())
    }

    fn begin(&mut self, operator: &mut Operator) -> Result<Next, ControlError> {
        if self.done == self.start_of_count() {
            self.before = Some(operator.fleet.host_use());
            self.flushes_before = hal::shootdown::count();
            self.ends = Ends::default();
        }
        if self.done == self.end_of_count() {
            self.report(operator);
            self.templates.clear();
            return Ok(Next::At(Tsc::NEVER));
        }
        let (round, place) = (self.done / self.count(), self.done % self.count());
        let from = usize::try_from(place).ok().and_then(|place| self.templates.get(place));
        let from = from.ok_or(ControlError::NoSuchVm)?;
        operator.create(NAME, from, &Overrides::default())?;
        operator.start(NAME)?;
        let is_called_off = round % CALLED_OFF == CALLED_OFF - 1;
        self.stage = Stage::Starting(is_called_off.then_some(round / CALLED_OFF % STEPS));
        Ok(Next::AtOnce)
    }

    fn watch_build(&mut self, operator: &mut Operator, looks: Option<u32>) -> Result<Next, ControlError> {
        let guest = &operator.fleet.guests()[operator.fleet.find(NAME)?];
        match &guest.phase {
            Phase::Starting(_) if looks == Some(0) => {
                self.ends.called_off += 1;
                self.end(operator)?;
            }
            Phase::Starting(_) => self.stage = Stage::Starting(looks.map(|looks| looks - 1)),
            Phase::Running(_) | Phase::Paused(_) => {
                self.stage = Stage::Running(hal::time::now() + hal::time::ticks(RUN_US));
            }
            Phase::Off | Phase::Crashed | Phase::Refused => {
                return Err(ControlError::Failed(guest.detail.clone()));
            }
        }
        Ok(Next::AtOnce)
    }

    fn watch_run(&mut self, operator: &mut Operator, until: Tsc) -> Result<Next, ControlError> {
        match operator.fleet.guests()[operator.fleet.find(NAME)?].phase {
            Phase::Off | Phase::Crashed | Phase::Refused | Phase::Starting(_) => self.ends.by_themselves += 1,
            Phase::Running(_) | Phase::Paused(_) if hal::time::now() < until => return Ok(Next::At(until)),
            Phase::Running(_) | Phase::Paused(_) if self.done.is_multiple_of(2) => {
                operator.pause(NAME)?;
                self.ends.held += 1;
            }
            Phase::Running(_) | Phase::Paused(_) => self.ends.running += 1,
        }
        self.end(operator)?;
        Ok(Next::AtOnce)
    }

    /// Ends the machine for good, if it still goes on.
    fn end(&mut self, operator: &mut Operator) -> Result<(), ControlError> {
        match operator.stop(NAME) {
            Ok(()) | Err(ControlError::NotRunning) => {}
            Err(error) => return Err(error),
        }
        operator.destroy(NAME)?;
        self.stage = Stage::Nothing;
        self.done += 1;
        Ok(())
    }

    fn report(&self, operator: &Operator) {
        let after = operator.fleet.host_use();
        let Some(before) = self.before else { return };
        let verdict = if before == after { "all came back" } else { "NOT all came back" };
        // A warning, so that the level of the log can keep what machines say of their ends off the line.
        log::warn!(
            "cycle test: {} cycles ({}; flushes of all cores {}); before: {before}; after: {after}; {verdict}",
            self.wanted,
            self.ends,
            hal::shootdown::count() - self.flushes_before
        );
    }
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { called_off, by_themselves, held, running } = self;
        write!(
            f,
            "called off {called_off}, ended by themselves {by_themselves}, stopped while held {held}, \
             stopped while running {running}"
        )
    }
}
