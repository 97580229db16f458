//! One configured virtual machine through its life.

use super::fleet::ticks;
use super::machine::Machine;
use alloc::string::String;
use arch::Tsc;
use config::VmConfig;
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
    /// Running.
    Running(alloc::boxed::Box<Machine>),
}

/// A virtual machine by its configuration, running or not.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) config: VmConfig,
    pub(crate) phase: Phase,
    /// Why it is in its phase, for the operator.
    pub(crate) detail: String,
    /// Counters of the last run, kept after it ended.
    pub(crate) last_stats: Option<Stats>,
    pub(crate) started_at: Tsc,
    /// Starts again in a row, for the back-off.
    pub(crate) restarts: u32,
    /// When to start again, after a failure with a restart policy.
    pub(crate) restart_at: Option<Tsc>,
}

impl Guest {
    pub(crate) const fn new(config: VmConfig) -> Self {
        Self {
            config,
            phase: Phase::Off,
            detail: String::new(),
            last_stats: None,
            started_at: Tsc(0),
            restarts: 0,
            restart_at: None,
        }
    }

    pub(crate) fn machine(&self) -> Option<&Machine> {
        match &self.phase {
            Phase::Running(machine) => Some(machine),
            Phase::Off | Phase::Crashed | Phase::Refused => None,
        }
    }

    pub(crate) fn machine_mut(&mut self) -> Option<&mut Machine> {
        match &mut self.phase {
            Phase::Running(machine) => Some(machine),
            Phase::Off | Phase::Crashed | Phase::Refused => None,
        }
    }

    /// Counters of this run, or of the last.
    pub(crate) fn stats(&self) -> Option<&Stats> {
        self.machine().map(|machine| machine.vcpu.stats()).or(self.last_stats.as_ref())
    }

    /// Has it started again, later each time.
    pub(crate) fn start_later(&mut self, now: Tsc) {
        let delay_ms = (RESTART_DELAY_MS << self.restarts.min(16)).min(RESTART_DELAY_MOST_MS);
        self.restarts = self.restarts.saturating_add(1);
        self.restart_at = Some(now + ticks(delay_ms * 1_000));
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
