//! All virtual machines of the host, and who of them holds the core.

use super::guest::{Guest, Phase};
use super::machine::Machine;
use super::report;
use crate::boot_archive::Files;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use arch::Tsc;
use config::Config;
use hal::vmx::VmxCpu;
use monitor::ControlError;
use sched::{EntityId, Scheduler, Weight};
use vmm::{Leave, RunState, StopReason};

/// A vCPU runs this long before others get their turn, in microseconds.
const SLICE_US: u64 = 5_000;
/// A run this long, in microseconds, ends a series of failures; a guest that resets itself sooner waits like one that
/// failed: each start costs its neighbours processor time.
const STEADY_US: u64 = 10_000_000;

/// A virtual machine that stopped, for the terminal.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) name: String,
    pub(crate) why: String,
}

/// The virtual machines and the core that runs them.
#[derive(Debug)]
pub(crate) struct Fleet {
    cpu: VmxCpu,
    guests: Vec<Guest>,
    files: Files,
    scheduler: Scheduler,
    /// The guest whose VMCS and registers are on the core.
    loaded: Option<usize>,
}

fn entity(index: usize) -> EntityId {
    EntityId(u32::try_from(index).unwrap_or(u32::MAX))
}

/// The host's time stamp ticks in `us` microseconds.
pub(super) fn ticks(us: u64) -> Tsc {
    Tsc(hal::time::tsc_hz() / 1_000_000 * us)
}

impl Fleet {
    /// The machines of `config`, all off.
    pub(crate) fn new(cpu: VmxCpu, config: Config, files: Files) -> Self {
        Self {
            cpu,
            guests: config.vms.into_iter().map(Guest::new).collect(),
            files,
            scheduler: Scheduler::new(ticks(SLICE_US)),
            loaded: None,
        }
    }

    /// The core's VMX side.
    pub(crate) const fn cpu(&self) -> &VmxCpu {
        &self.cpu
    }

    /// All machines, in the order of the configuration.
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

    /// Starts the machine at `index`.
    pub(crate) fn start(&mut self, index: usize) -> Result<(), ControlError> {
        if self.guests[index].machine().is_some() {
            return Err(ControlError::AlreadyRunning);
        }
        self.unload();
        let guest = &mut self.guests[index];
        guest.restart_at = None;
        let machine = match Machine::build(&mut self.cpu, &guest.config, &self.files) {
            Ok(machine) => machine,
            Err(error) => {
                guest.detail = report::start_error(&guest.config.name, &error);
                guest.phase =
                    if matches!(error, ControlError::Refused(_)) { Phase::Refused } else { Phase::Off };
                return Err(error);
            }
        };
        let now = hal::time::now();
        guest.started_at = now;
        guest.detail.clear();
        guest.last_stats = None;
        report::started(&guest.config.name, &machine);
        report::check_entry(&guest.config.name, &machine, self.cpu.capabilities());
        guest.phase = Phase::Running(Box::new(machine));
        self.loaded = Some(index);
        let weight = Weight::new(guest.config.weight).unwrap_or(Weight::DEFAULT);
        let id = entity(index);
        self.scheduler.add(id, weight).expect("a machine that does not run is not scheduled");
        self.scheduler.wake(id, now).expect("it was just added");
        Ok(())
    }

    /// Ends the machine at `index` at the operator's word.
    pub(crate) fn stop(&mut self, index: usize) -> Result<Ended, ControlError> {
        if self.guests[index].machine().is_none() {
            // A restart that waits is called off too.
            let guest = &mut self.guests[index];
            guest.restarts = 0;
            return match guest.restart_at.take() {
                Some(_) => Ok(Ended { name: guest.config.name.clone(), why: "restart called off".into() }),
                None => Err(ControlError::NotRunning),
            };
        }
        self.guests[index].restarts = 0;
        Ok(self.end(index, StopReason::Operator))
    }

    /// Stops and starts the machine at `index`.
    pub(crate) fn reset(&mut self, index: usize) -> Result<(), ControlError> {
        if self.guests[index].machine().is_none() {
            return Err(ControlError::NotRunning);
        }
        self.end(index, StopReason::Reset);
        self.start(index)
    }

    /// Takes whatever guest is on the core off it.
    fn unload(&mut self) {
        if let Some(index) = self.loaded.take()
            && let Some(machine) = self.guests[index].machine_mut()
        {
            machine.vcpu.backend_mut().vmcs_mut().unload(&mut self.cpu);
        }
    }

    /// Puts the guest at `index` on the core.
    fn load(&mut self, index: usize) {
        if self.loaded != Some(index) {
            self.unload();
            if let Some(machine) = self.guests[index].machine_mut() {
                machine.vcpu.backend_mut().vmcs_mut().load(&mut self.cpu);
                self.loaded = Some(index);
            }
        }
    }

    /// Takes the machine at `index` apart: dump, counters, memory back, policy.
    fn end(&mut self, index: usize, reason: StopReason) -> Ended {
        self.load(index);
        let capabilities = *self.cpu.capabilities();
        let guest = &mut self.guests[index];
        let name = guest.config.name.clone();
        if let Some(machine) = guest.machine() {
            report::ended(&name, machine, reason, &capabilities);
            guest.last_stats = Some(machine.vcpu.stats().clone());
        }
        let why = reason.to_string();
        guest.detail.clone_from(&why);
        self.unload();
        let guest = &mut self.guests[index];
        guest.phase = if reason.is_orderly() { Phase::Off } else { Phase::Crashed };
        self.scheduler.remove(entity(index)).expect("a machine that runs is scheduled");
        Ended { name, why }
    }

    /// Hands bytes of the operator to the console of `name`; returns how many were taken.
    pub(crate) fn type_in(&mut self, name: &str, bytes: &[u8], now: Tsc) -> usize {
        let Ok(index) = self.find(name) else { return bytes.len() };
        match self.guests[index].machine_mut() {
            Some(machine) => machine.type_in(bytes, now),
            None => bytes.len(),
        }
    }

    /// Calls `show` with the name of the guest at `index` and what it has printed, as much as `room` bytes.
    pub(crate) fn drain_console(
        &mut self,
        index: usize,
        room: usize,
        now: Tsc,
        mut show: impl FnMut(&str, &[u8]),
    ) {
        let guest = &mut self.guests[index];
        let Phase::Running(machine) = &mut guest.phase else { return };
        let mut shown = 0;
        let mut piece = [0; 256];
        while shown < room {
            let most = piece.len().min(room - shown);
            let mut length = 0;
            while length < most
                && let Some(byte) = machine.console.receive()
            {
                piece[length] = byte;
                length += 1;
            }
            if length == 0 {
                break;
            }
            show(&guest.config.name, &piece[..length]);
            shown += length;
        }
        if shown > 0 {
            machine.console_drained(now);
        }
    }

    /// Looks after guests that are not running: timers that wake them, restarts that are due. Returns when to look
    /// again.
    pub(crate) fn poll(&mut self, now: Tsc) -> Tsc {
        let mut next = Tsc::NEVER;
        for index in 0..self.guests.len() {
            let guest = &self.guests[index];
            if let Some(at) = guest.restart_at {
                if at <= now {
                    if let Err(error) = self.start(index) {
                        log::error!("{}", report::start_error(&self.guests[index].config.name, &error));
                    }
                } else {
                    next = next.min(at);
                }
                continue;
            }
            let Some(machine) = guest.machine() else { continue };
            if machine.vcpu.run_state() != RunState::Halted {
                continue;
            }
            if !machine.wants_poll(now) {
                next = next.min(machine.vcpu.next_timer());
                continue;
            }
            // What wakes it may need its registers (RFLAGS.IF), which are in its VMCS.
            self.load(index);
            let Some(machine) = self.guests[index].machine_mut() else { continue };
            if machine.poll(now) {
                self.scheduler.wake(entity(index), now).expect("a machine that runs is scheduled");
            } else {
                next = next.min(machine.vcpu.next_timer());
            }
        }
        next
    }

    /// Runs whoever is due until `until` at the latest.
    pub(crate) fn run(&mut self, now: Tsc, until: Tsc) -> Turn {
        let sched::Decision::Run { id, until: slice_end } = self.scheduler.pick(now) else {
            return Turn::Idle;
        };
        let index = usize::try_from(id.0).unwrap_or(usize::MAX);
        self.load(index);
        let Some(machine) = self.guests[index].machine_mut() else { return Turn::Over };
        let leave = machine.vcpu.run(&mut machine.vm, slice_end.min(until));
        let end = hal::time::now();
        self.scheduler.charge(id, end - now).expect("a machine that runs is scheduled");
        match leave {
            Leave::SliceEnd => {}
            Leave::HostInterrupt => hal::interrupts::open_window(),
            Leave::HostNmi => hal::vmx::handle_nmi(),
            Leave::HostMachineCheck => hal::vmx::handle_machine_check(),
            Leave::Halted => self.scheduler.block(id).expect("a machine that runs is scheduled"),
            Leave::Stopped(reason) => return Turn::Stopped { index, reason },
        }
        Turn::Over
    }

    /// Ends the machine at `index`, which stopped for `reason`, and starts it again where that or its policy asks for
    /// it; one that fails or resets soon after its start waits first.
    pub(crate) fn finish(&mut self, index: usize, reason: StopReason) -> Option<Ended> {
        let was_steady = hal::time::now().since(self.guests[index].started_at) >= ticks(STEADY_US);
        let ended = self.end(index, reason);
        let now = hal::time::now();
        let guest = &mut self.guests[index];
        if was_steady {
            guest.restarts = 0;
        }
        if !matches!(reason, StopReason::Reset) {
            if guest.restarts_after(reason) {
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
}

/// What came of a turn of the core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// Nobody wants the core.
    Idle,
    /// A guest ran.
    Over,
    /// A guest ran and stopped: call [`Fleet::finish`].
    Stopped {
        /// Which.
        index: usize,
        /// Why.
        reason: StopReason,
    },
}
