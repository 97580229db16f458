//! All virtual machines of the host, and what the operator does with them. Everything here happens on the operator's
//! core, between turns; the other cores go on.

use super::build::{Build, Built};
use super::guest::{Guest, LastRun, Phase};
use super::machine::Machine;
use super::numbers::Numbers;
use super::slot::VmKey;
use super::{report, scheduling, times};
use crate::boot_archive::Files;
use crate::cores::{Core, Stopped};
use crate::host_use::HostUse;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use arch::Tsc;
use config::{Class, Config, VmConfig};
use monitor::{ControlError, Overrides, SchedulingChange};
use sched::EntityId;
use vmm::StopReason;

/// A run this long, in microseconds, ends a series of failures; a guest that resets itself sooner waits like one that
/// failed: each start costs its neighbours processor time.
const STEADY_US: u64 = 10_000_000;

/// A virtual machine that stopped, for the terminal.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) name: String,
    pub(crate) why: String,
}

/// The virtual machines, and the core that the operator acts on.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) core: Core,
    guests: Vec<Guest>,
    files: Files,
    numbers: Numbers,
    next_key: u64,
}

impl Fleet {
    /// The machines of `config`, all off.
    pub(crate) fn new(core: Core, config: Config, files: Files) -> Self {
        Self {
            core,
            guests: config.vms.into_iter().map(Guest::new).collect(),
            files,
            numbers: Numbers::new(),
            next_key: 0,
        }
    }

    /// All machines: those of the configuration in its order, then those created since.
    pub(crate) fn guests(&self) -> &[Guest] {
        &self.guests
    }

    /// The machine called `name`.
    pub(crate) fn find(&self, name: &str) -> Result<usize, ControlError> {
        self.guests.iter().position(|guest| guest.config.name == name).ok_or(ControlError::NoSuchVm)
    }

    /// Starts the machines that are to start by themselves; one that cannot is reported, and the others start.
    pub(crate) fn start_all(&mut self) {
        for index in 0..self.guests.len() {
            if self.guests[index].config.autostart
                && let Err(error) = self.start(index)
            {
                log::error!("{}", report::start_error(&self.guests[index].config.name, &error));
            }
        }
    }

    /// Defines a machine like the one at `from`, but for `overrides`.
    pub(crate) fn create(
        &mut self,
        name: &str,
        from: usize,
        overrides: &Overrides,
    ) -> Result<(), ControlError> {
        if self.find(name).is_ok() {
            return Err(ControlError::NameTaken);
        }
        let shared = self.core.shared();
        let config = scheduling::derive(&self.guests[from].config, name, overrides, shared)?;
        let total = hal::memory::frames::counters().total_bytes;
        let needed = config.memory_mib.saturating_mul(arch::MIB);
        if needed > total {
            return Err(ControlError::OutOfMemory { needed, free: total });
        }
        self.guests.push(Guest::new(config));
        Ok(())
    }

    /// Ends the machine at `index` if it runs, and forgets it.
    pub(crate) fn destroy(&mut self, index: usize) -> Option<Ended> {
        let ended = self.stop(index).ok();
        let guest = self.guests.remove(index);
        report::destroyed(&guest.config.name, self.host_use());
        ended
    }

    /// What of the host is in use.
    pub(crate) fn host_use(&self) -> HostUse {
        let tables = |guest: &Guest| guest.machine().map_or(0, Machine::table_pages);
        HostUse::now(self.guests.iter().map(tables).sum())
    }

    /// Begins to start the machine at `index`: [`Self::poll`] goes on with it.
    pub(crate) fn start(&mut self, index: usize) -> Result<(), ControlError> {
        match self.guests[index].phase {
            Phase::Starting(_) | Phase::Running(_) => return Err(ControlError::AlreadyRunning),
            Phase::Paused(_) => return Err(ControlError::Paused),
            Phase::Off | Phase::Crashed | Phase::Refused => {}
        }
        self.guests[index].restart_at = None;
        match self.begin(index) {
            Ok(build) => {
                let guest = &mut self.guests[index];
                guest.started_at = hal::time::now();
                guest.detail.clear();
                guest.last_run = Vec::new();
                guest.phase = Phase::Starting(Box::new(build));
                Ok(())
            }
            Err(error) => {
                self.not_started(index, &error);
                Err(error)
            }
        }
    }

    fn begin(&mut self, index: usize) -> Result<Build, ControlError> {
        let config = &self.guests[index].config;
        let promised = self.guests.iter().map(|guest| match &guest.phase {
            Phase::Starting(build) => build.missing_bytes(),
            Phase::Off | Phase::Crashed | Phase::Refused | Phase::Running(_) | Phase::Paused(_) => 0,
        });
        let promised = promised.sum();
        let ids = self.numbers.take(config.vcpus.into()).ok_or_else(|| {
            ControlError::Failed(String::from("all numbers for vCPUs are in use; stop another machine"))
        })?;
        let key = VmKey(self.next_key);
        self.next_key += 1;
        let build = Build::begin(self.core.cpu(), config, &self.files, key, ids.clone(), promised);
        if build.is_err() {
            self.numbers.give(&ids);
        }
        build
    }

    fn not_started(&mut self, index: usize, error: &ControlError) {
        let guest = &mut self.guests[index];
        guest.detail = report::start_error(&guest.config.name, error);
        guest.phase = if matches!(error, ControlError::Refused(_)) { Phase::Refused } else { Phase::Off };
    }

    /// Goes on with the first machine that is being built. Returns whether one is.
    fn build_on(&mut self) -> bool {
        let building = |guest: &Guest| matches!(guest.phase, Phase::Starting(_));
        let Some(index) = self.guests.iter().position(building) else { return false };
        let Self { core, guests, files, .. } = self;
        let guest = &mut guests[index];
        let Phase::Starting(build) = &mut guest.phase else { return false };
        let ids: Box<[EntityId]> = build.ids().into();
        core.step_aside();
        let result = match build.step(core, &guest.config, files, guest.variables.as_deref()) {
            Ok(Built::Going) => return true,
            Ok(Built::Done { ids, bodies }) => {
                let spec = scheduling::spec(&guest.config);
                Machine::install(core.shared(), ids, bodies, &spec)
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(machine) => {
                guest.started_at = hal::time::now();
                report::started(&guest.config.name, &machine);
                report::check_first_entry(&guest.config.name, &machine, core);
                machine.let_go(core);
                guest.phase = Phase::Running(machine);
            }
            Err(error) => {
                guest.phase = Phase::Off;
                self.numbers.give(&ids);
                self.not_started(index, &error);
                log::error!("{}", self.guests[index].detail);
            }
        }
        true
    }

    /// Holds the machine at `index` where it is.
    pub(crate) fn pause(&mut self, index: usize) -> Result<(), ControlError> {
        let guest = &mut self.guests[index];
        match core::mem::replace(&mut guest.phase, Phase::Off) {
            Phase::Running(machine) => {
                machine.park(&mut self.core);
                guest.phase = Phase::Paused(machine);
                Ok(())
            }
            other @ Phase::Paused(_) => {
                guest.phase = other;
                Err(ControlError::Paused)
            }
            other @ (Phase::Off | Phase::Crashed | Phase::Refused | Phase::Starting(_)) => {
                guest.phase = other;
                Err(ControlError::NotRunning)
            }
        }
    }

    /// Lets the machine at `index` go on.
    pub(crate) fn resume(&mut self, index: usize) -> Result<(), ControlError> {
        let guest = &mut self.guests[index];
        match core::mem::replace(&mut guest.phase, Phase::Off) {
            Phase::Paused(machine) => {
                machine.let_go(&self.core);
                guest.phase = Phase::Running(machine);
                Ok(())
            }
            other @ Phase::Running(_) => {
                guest.phase = other;
                Err(ControlError::NotPaused)
            }
            other @ (Phase::Off | Phase::Crashed | Phase::Refused | Phase::Starting(_)) => {
                guest.phase = other;
                Err(ControlError::NotRunning)
            }
        }
    }

    /// Ends the machine at `index` at the operator's word.
    pub(crate) fn stop(&mut self, index: usize) -> Result<Ended, ControlError> {
        let guest = &mut self.guests[index];
        guest.restarts = 0;
        let restart = guest.restart_at.take();
        let name = || guest.config.name.clone();
        match &guest.phase {
            Phase::Starting(build) => {
                let ended = Ended { name: name(), why: String::from("start called off") };
                let ids: Box<[EntityId]> = build.ids().into();
                guest.phase = Phase::Off;
                self.numbers.give(&ids);
                Ok(ended)
            }
            Phase::Running(_) | Phase::Paused(_) => {
                self.end(index, 0, StopReason::Operator).ok_or(ControlError::NotRunning)
            }
            Phase::Off | Phase::Crashed | Phase::Refused => match restart {
                // A restart that waits is called off too.
                Some(_) => Ok(Ended { name: name(), why: String::from("restart called off") }),
                None => Err(ControlError::NotRunning),
            },
        }
    }

    /// Stops and starts the machine at `index`.
    pub(crate) fn reset(&mut self, index: usize) -> Result<(), ControlError> {
        self.end(index, 0, StopReason::Reset).ok_or(ControlError::NotRunning)?;
        self.start(index)
    }

    /// Changes how the vCPUs of the machine at `index` share the cores.
    pub(crate) fn set(&mut self, index: usize, change: &SchedulingChange) -> Result<(), ControlError> {
        let shared = self.core.shared();
        let guest = &mut self.guests[index];
        let config = scheduling::changed(&guest.config, change, shared)?;
        if let Some(machine) = guest.machine() {
            scheduling::apply(shared, &machine.ids, &guest.config, &config)?;
            machine.set_exclusive(config.class == Class::Exclusive);
        }
        guest.config = config;
        Ok(())
    }

    /// Takes the machine at `index` apart: dump of vCPU number `vcpu`, counters, memory back.
    fn end(&mut self, index: usize, vcpu: usize, reason: StopReason) -> Option<Ended> {
        let Self { core, guests, .. } = self;
        let guest = &mut guests[index];
        let machine = guest.take_machine()?;
        core.step_aside();
        machine.park(core);
        let name = guest.config.name.clone();
        report::ended(&name, &machine, vcpu, reason, core);
        if let Some(variables) = machine.changed_variables() {
            guest.variables = Some(variables);
        }
        let ids = machine.ids.clone();
        let times: Vec<_> = ids.iter().map(|id| times::of(core.shared(), *id)).collect();
        let stats = machine.take_apart(core);
        report::counters(&name, &stats, core);
        let last_run = stats.into_iter().zip(times).map(|(stats, (mut times, wake_delays))| {
            times.exits = stats.exits();
            LastRun { stats, times, wake_delays }
        });
        guest.last_run = last_run.collect();
        guest.phase = if reason.is_orderly() { Phase::Off } else { Phase::Crashed };
        let why = reason.to_string();
        guest.detail.clone_from(&why);
        self.numbers.give(&ids);
        Some(Ended { name, why })
    }

    /// Hands bytes of the operator to the console of `name`; returns how many were taken.
    pub(crate) fn type_in(&mut self, name: &str, bytes: &[u8], now: Tsc) -> usize {
        let Ok(index) = self.find(name) else { return bytes.len() };
        self.guests[index].machine().map_or(bytes.len(), |machine| machine.type_in(bytes, now))
    }

    /// Calls `show` with the name of the guest at `index` and what it has printed, as much as `room` bytes. Returns how
    /// many there were.
    pub(crate) fn drain_console(
        &self,
        index: usize,
        room: usize,
        now: Tsc,
        mut show: impl FnMut(&str, &[u8]),
    ) -> usize {
        let guest = &self.guests[index];
        let Some(machine) = guest.machine() else { return 0 };
        let mut shown = 0;
        let mut piece = [0; 256];
        while shown < room {
            let most = piece.len().min(room - shown);
            let mut length = 0;
            while length < most
                && let Some(byte) = machine.outside.console.receive()
            {
                piece[length] = byte;
                length += 1;
            }
            if length == 0 {
                break;
            }
            show(&guest.config.name, &piece[..length]);
            shown += length;
            if length < most {
                // That was all. More may be on its way, a byte at a time, and is not waited for.
                break;
            }
        }
        if shown > 0 {
            machine.touch_console(now);
        }
        shown
    }

    /// Goes on with what takes time: machines that are being built, restarts that are due. Returns when to look again.
    pub(crate) fn poll(&mut self, now: Tsc) -> Next {
        let mut next = Tsc::NEVER;
        for index in 0..self.guests.len() {
            let Some(at) = self.guests[index].restart_at else { continue };
            if at > now {
                next = next.min(at);
            } else if let Err(error) = self.start(index) {
                log::error!("{}", report::start_error(&self.guests[index].config.name, &error));
            }
        }
        if self.build_on() { Next::AtOnce } else { Next::At(next) }
    }

    /// The next machine of which a vCPU ended, by its index.
    pub(crate) fn next_stopped(&mut self) -> Option<(usize, Stopped)> {
        loop {
            let stopped = self.core.shared().take_stopped()?;
            let is_it = |guest: &Guest| guest.machine().is_some_and(|machine| machine.key == stopped.key);
            // Else another vCPU, or the operator, was first.
            if let Some(index) = self.guests.iter().position(is_it) {
                return Some((index, stopped));
            }
        }
    }

    /// Ends the machine at `index`, of which a vCPU stopped, and starts it again where the reason or its policy asks for
    /// it; one that fails or resets soon after its start waits first.
    pub(crate) fn finish(&mut self, index: usize, stopped: Stopped) -> Option<Ended> {
        let was_steady = hal::time::now().since(self.guests[index].started_at) >= hal::time::ticks(STEADY_US);
        let ended = self.end(index, stopped.vcpu, stopped.reason)?;
        let now = hal::time::now();
        let guest = &mut self.guests[index];
        if was_steady {
            guest.restarts = 0;
        }
        if !matches!(stopped.reason, StopReason::Reset) {
            if guest.restarts_after(stopped.reason) {
                guest.start_later(now);
            }
            return Some(ended);
        }
        if !was_steady {
            guest.start_later(now);
            return None;
        }
        let error = self.start(index).err()?;
        let why = report::start_error(&ended.name, &error);
        log::error!("{why}");
        Some(Ended { name: ended.name, why })
    }

    /// Whether a machine runs whose vCPUs have cores of their own.
    pub(crate) fn has_exclusive(&self) -> bool {
        self.guests.iter().any(|guest| guest.config.class == Class::Exclusive && guest.machine().is_some())
    }

    /// A definition, for reading.
    pub(crate) fn config(&self, index: usize) -> &VmConfig {
        &self.guests[index].config
    }
}

/// When the operator's core must look after the machines again. The earlier is less.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Next {
    /// Something is going on: after one turn of a guest, or at once if none wants one.
    AtOnce,
    /// Then.
    At(Tsc),
}
