//! One defined virtual machine through its life.

use super::build::Build;
use super::machine::Machine;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use arch::Tsc;
use config::VmConfig;
use monitor::VcpuTimes;
use vmm::{Stats, StopReason};

/// The first restart after a failure waits this long; each further one twice as long, up to the most.
const RESTART_DELAY_MS: u64 = 500;
const RESTART_DELAY_MOST_MS: u64 = 60_000;

/// Where a virtual machine is in its life.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Not running: never started, stopped, or powered off.
    Off,
    /// It ended on its own fault.
    Crashed,
    /// Its configuration or images were refused.
    Refused,
    /// It is being built, and runs as soon as that is done.
    Starting(Box<Build>),
    /// Running.
    Running(Machine),
    /// Held where it is.
    Paused(Machine),
}

/// A virtual machine by its definition, running or not.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) config: VmConfig,
    pub(crate) phase: Phase,
    /// Why it is in its phase, for the operator.
    pub(crate) detail: String,
    /// The variable store of its firmware as the last run left it, if a run has changed it.
    pub(crate) variables: Option<Vec<u8>>,
    /// Counters of the last run by vCPU, kept after it ended.
    pub(crate) last_run: Vec<LastRun>,
    pub(crate) started_at: Tsc,
    /// Starts again in a row, for the back-off.
    pub(crate) restarts: u32,
    /// When to start again, after a failure with a restart policy.
    pub(crate) restart_at: Option<Tsc>,
}

/// What a vCPU had when its machine ended.
#[derive(Debug)]
pub(crate) struct LastRun {
    pub(crate) stats: Stats,
    pub(crate) times: VcpuTimes,
    pub(crate) wake_delays: monitor::WakeDelays,
}

impl Guest {
    pub(crate) const fn new(config: VmConfig) -> Self {
        Self {
            config,
            phase: Phase::Off,
            detail: String::new(),
            variables: None,
            last_run: Vec::new(),
            started_at: Tsc(0),
            restarts: 0,
            restart_at: None,
        }
    }

    /// The machine, if its vCPUs are in slots.
    pub(crate) const fn machine(&self) -> Option<&Machine> {
        match &self.phase {
            Phase::Running(machine) | Phase::Paused(machine) => Some(machine),
            Phase::Off | Phase::Crashed | Phase::Refused | Phase::Starting(_) => None,
        }
    }

    /// Takes the machine, if its vCPUs are in slots, and leaves it off.
    pub(super) fn take_machine(&mut self) -> Option<Machine> {
        match core::mem::replace(&mut self.phase, Phase::Off) {
            Phase::Running(machine) | Phase::Paused(machine) => Some(machine),
            other @ (Phase::Off | Phase::Crashed | Phase::Refused | Phase::Starting(_)) => {
                self.phase = other;
                None
            }
        }
    }

    /// Has it started again, later each time.
    pub(crate) fn start_later(&mut self, now: Tsc) {
        let delay_ms = (RESTART_DELAY_MS << self.restarts.min(16)).min(RESTART_DELAY_MOST_MS);
        self.restarts = self.restarts.saturating_add(1);
        self.restart_at = Some(now + hal::time::ticks(delay_ms * 1_000));
        log::info!("vm {}: starts again in {delay_ms} ms", self.config.name);
    }

    /// Whether the policy has it started again after `reason`.
    pub(crate) const fn restarts_after(&self, reason: StopReason) -> bool {
        match self.config.restart {
            config::Restart::Never => false,
            config::Restart::OnFailure => !reason.is_orderly(),
            config::Restart::Always => !matches!(reason, StopReason::Operator | StopReason::Reset),
        }
    }
}
