//! Creates, starts, stops and destroys a virtual machine again and again if the boot archive asks for it, and says
//! whether the host has everything back.
//!
//! The archive's file `cycle-test` holds how often, in decimal. What is cycled is a copy of the first virtual machine of
//! the configuration that does not start by itself. Tests of the project use this; the monitor's commands do the same.

use crate::boot_archive::Files;
use crate::host_use::HostUse;
use crate::operator::Operator;
use crate::vm::Next;
use alloc::string::String;
use arch::Tsc;
use config::Config;
use monitor::{Control, ControlError, Overrides};

/// The file that asks for it.
const REQUEST: &str = "cycle-test";
/// The name of the machine that comes and goes.
const NAME: &str = "cycled";
/// It runs this long each time, in microseconds.
const RUN_US: u64 = 2_000;
/// Cycles before the count begins: memory that is taken once for all machines is taken in them.
const WARM_UP: u32 = 2;

/// Where a cycle is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// No machine.
    Nothing,
    /// It is being built.
    Starting,
    /// It runs, until then.
    Running(Tsc),
}

/// Cycles to be done.
#[derive(Debug)]
pub(crate) struct Cycles {
    /// What is copied; nothing when nobody asks for cycles.
    from: Option<String>,
    wanted: u32,
    done: u32,
    stage: Stage,
    before: Option<HostUse>,
}

impl Cycles {
    /// The cycles that the archive asks for.
    pub(crate) fn asked_for(files: &Files, config: &Config) -> Self {
        let text = files.get(REQUEST).and_then(|bytes| core::str::from_utf8(bytes).ok());
        let wanted = text.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let from = config.vms.iter().find(|vm| !vm.autostart).filter(|_| wanted > 0);
        Self { from: from.map(|vm| vm.name.clone()), wanted, done: 0, stage: Stage::Nothing, before: None }
    }

    /// Goes on, if there is something to do. `next` is when others want the operator.
    pub(crate) fn poll(&mut self, operator: &mut Operator, next: Next) -> Next {
        let Some(from) = self.from.take() else { return next };
        match self.step(operator, &from) {
            Ok(own) => {
                if self.done < WARM_UP + self.wanted {
                    self.from = Some(from);
                } else {
                    self.report(operator);
                }
                next.min(own)
            }
            Err(error) => {
                log::error!("cycle test: cycle {}: {}", self.done, error.reason(NAME));
                next
            }
        }
    }

    fn step(&mut self, operator: &mut Operator, from: &str) -> Result<Next, ControlError> {
        match self.stage {
            Stage::Nothing => {
                if self.done == WARM_UP && self.before.is_none() {
                    self.before = Some(operator.fleet.host_use());
                }
                operator.create(NAME, from, &Overrides::default())?;
                operator.start(NAME)?;
                self.stage = Stage::Starting;
                Ok(Next::AtOnce)
            }
            Stage::Starting => {
                if operator.fleet.is_running(NAME) {
                    self.stage = Stage::Running(hal::time::now() + hal::time::ticks(RUN_US));
                }
                Ok(Next::AtOnce)
            }
            Stage::Running(until) if hal::time::now() < until => Ok(Next::At(until)),
            Stage::Running(_) => {
                operator.stop(NAME)?;
                operator.destroy(NAME)?;
                self.stage = Stage::Nothing;
                self.done += 1;
                Ok(Next::AtOnce)
            }
        }
    }

    fn report(&self, operator: &Operator) {
        let after = operator.fleet.host_use();
        let Some(before) = self.before else { return };
        let verdict = if before == after { "all came back" } else { "NOT all came back" };
        // A warning, so that the level of the log can keep what machines say of their ends off the line.
        log::warn!("cycle test: {} cycles; before: {before}; after: {after}; {verdict}", self.wanted);
    }
}
