//! What the shell asks of the hypervisor: one trait, plain data.

use crate::definition::{Nodes, Overrides, Restart, Scheduling, SchedulingChange};
use crate::error::ControlError;
use crate::picture::Picture;
use crate::times::{Snapshot, VcpuTimes, VmStats};
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;
use log::LevelFilter;

/// Whether a virtual machine runs, and if not, why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VmState {
    /// Its vCPUs are scheduled.
    Running,
    /// It is held where it was; nothing of it runs until it is resumed.
    Paused,
    /// It was stopped, powered itself off, or was never started.
    Stopped,
    /// Its vCPUs were stopped because of something that the guest did (a triple fault, an exit nobody handles).
    Crashed,
    /// It cannot start as it is configured.
    Refused,
}

impl fmt::Display for VmState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
            Self::Refused => "refused",
        })
    }
}

/// One line of `vm list`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmSummary {
    /// The name in `craton.toml`, or the one it was created by.
    pub name: String,
    /// Whether it runs.
    pub state: VmState,
    /// How many vCPUs it has.
    pub vcpus: u32,
    /// Guest memory, in bytes.
    pub memory_bytes: u64,
    /// Exits of all its vCPUs since it was last started.
    pub exits: u64,
    /// Time since it was last started; zero when it does not run.
    pub uptime: Duration,
}

/// Everything `vm info` shows beyond the summary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmInfo {
    /// The line of `vm list`.
    pub summary: VmSummary,
    /// Why it is in its state: "powered off by the guest", "triple fault at rip 0x…". Empty when nothing is to say.
    pub detail: String,
    /// The kernel image, by its name in the boot archive.
    pub kernel: String,
    /// The initramfs, by its name in the boot archive.
    pub initramfs: Option<String>,
    /// The kernel command line.
    pub command_line: String,
    /// How its processors and memory are divided.
    pub nodes: Nodes,
    /// How its vCPUs share the cores.
    pub scheduling: Scheduling,
    /// When it is started again after it stopped.
    pub restart: Restart,
    /// One row a vCPU; empty when it does not run.
    pub vcpus: Vec<VcpuInfo>,
}

/// The state of one vCPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VcpuInfo {
    /// Its number, from 0.
    pub id: u32,
    /// What it does: "running", "waiting" (for a core), "halted", "waiting for SIPI", "paused", "stopped".
    pub activity: Cow<'static, str>,
    /// The instruction it runs next, a guest virtual address.
    pub rip: u64,
    /// The core that runs it or ran it last; `None` when none ever did.
    pub host_cpu: Option<u32>,
    /// What it has had and waited for.
    pub times: VcpuTimes,
}

/// One recorded exit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExitRecord {
    /// The exit reason's name.
    pub reason: Cow<'static, str>,
    /// The port, address or qualification, by reason.
    pub detail: u64,
    /// The guest's RIP, a guest virtual address, if an instruction exited; else 0.
    pub rip: u64,
    /// The host TSC at the exit.
    pub tsc: u64,
}

/// One host CPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostCpu {
    /// Its number, from 0.
    pub id: u32,
    /// Its local APIC's ID.
    pub apic_id: u32,
    /// What it does: the name of the vCPU it runs, "idle", "parked".
    pub activity: String,
}

/// Where the host's memory went, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HostMemory {
    /// Usable memory that the firmware reported.
    pub total: u64,
    /// Not in use.
    pub free: u64,
    /// Memory of guests.
    pub guests: u64,
}

/// Whether a processor feature is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FeatureState {
    /// Present and used.
    Used,
    /// Present, not used.
    Unused,
    /// The processor has it not.
    Absent,
}

impl fmt::Display for FeatureState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Used => "in use",
            Self::Unused => "not used",
            Self::Absent => "absent",
        })
    }
}

/// One processor feature that the hypervisor knows about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Feature {
    /// Its name in the manual.
    pub name: Cow<'static, str>,
    /// Whether it is in use.
    pub state: FeatureState,
}

/// One speculation issue and what is done about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mitigation {
    /// The issue: "L1TF", "MDS".
    pub name: Cow<'static, str>,
    /// "not affected", "L1D flush at entry", "off (mitigations = \"off\")", …
    pub status: Cow<'static, str>,
}

/// What `host` shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostInfo {
    /// The processor's brand string.
    pub cpu_model: String,
    /// TSC frequency, in Hz.
    pub tsc_hz: u64,
    /// Time since power-on or reset.
    pub uptime: Duration,
    /// One row a CPU.
    pub cpus: Vec<HostCpu>,
    /// Where memory went.
    pub memory: HostMemory,
    /// One row a feature.
    pub features: Vec<Feature>,
    /// One row an issue.
    pub mitigations: Vec<Mitigation>,
}

/// The hypervisor, as the shell sees it. Calls return at once: what takes time is only begun.
pub trait Control {
    /// The version line of `version`: name, version, and what built it.
    fn version(&self) -> String;

    /// Time since power-on or reset: the clock of [`Snapshot::at`] and of [`Terminal::next_tick`]. Never goes back.
    ///
    /// [`Terminal::next_tick`]: crate::Terminal::next_tick
    fn uptime(&self) -> Duration;

    /// All virtual machines: those of `craton.toml` in its order, then those created since, oldest first.
    fn vms(&self) -> Vec<VmSummary>;

    /// Details of one.
    ///
    /// # Errors
    /// [`ControlError::NoSuchVm`].
    fn vm_info(&self, name: &str) -> Result<VmInfo, ControlError>;

    /// Defines the virtual machine `name`: like the definition of `from`, which may run or not, except for what
    /// `overrides` says. It does not run yet, and takes no memory before it is started. `name` is 1 to 32 letters,
    /// digits, dots, underscores and hyphens.
    ///
    /// # Errors
    /// [`ControlError::NameTaken`], [`ControlError::NoSuchVm`] about `from`, [`ControlError::NoSuchCore`], or
    /// [`ControlError::Refused`] when such a machine can never start.
    fn create(&mut self, name: &str, from: &str, overrides: &Overrides) -> Result<(), ControlError>;

    /// Stops a virtual machine if it runs, and forgets its definition. Its memory and numbers are free afterwards.
    ///
    /// # Errors
    /// [`ControlError::NoSuchVm`].
    fn destroy(&mut self, name: &str) -> Result<(), ControlError>;

    /// Starts a virtual machine that does not run, from its kernel image.
    ///
    /// # Errors
    /// [`ControlError::AlreadyRunning`], [`ControlError::Paused`], [`ControlError::OutOfMemory`], or
    /// [`ControlError::Refused`] about its configuration or images.
    fn start(&mut self, name: &str) -> Result<(), ControlError>;

    /// Holds a virtual machine where it is: when this returns, or soon after, none of its vCPUs runs.
    ///
    /// # Errors
    /// [`ControlError::NotRunning`], [`ControlError::Paused`].
    fn pause(&mut self, name: &str) -> Result<(), ControlError>;

    /// Lets a paused virtual machine go on.
    ///
    /// # Errors
    /// [`ControlError::NotRunning`], [`ControlError::NotPaused`].
    fn resume(&mut self, name: &str) -> Result<(), ControlError>;

    /// Stops a virtual machine, running or paused, as if its power was cut. Calls a restart off that is due later.
    ///
    /// # Errors
    /// [`ControlError::NotRunning`].
    fn stop(&mut self, name: &str) -> Result<(), ControlError>;

    /// Starts a running or paused virtual machine again from its kernel image, as if its reset button was pressed.
    ///
    /// # Errors
    /// [`ControlError::NotRunning`], or those of [`Self::start`] when it cannot start again.
    fn reset(&mut self, name: &str) -> Result<(), ControlError>;

    /// Changes how the vCPUs of a virtual machine share the cores: at once when it runs, and for later starts.
    /// Nothing changes when there is an error.
    ///
    /// # Errors
    /// [`ControlError::NoSuchVm`], [`ControlError::NoSuchCore`], or [`ControlError::Refused`] when the scheduler
    /// cannot do it.
    fn set(&mut self, name: &str, change: &SchedulingChange) -> Result<(), ControlError>;

    /// Times, wake-up delays and exits by reason of each vCPU, since the last start; of a machine that stopped, what
    /// they were at its end.
    ///
    /// # Errors
    /// [`ControlError::NoSuchVm`].
    fn stats(&self, name: &str) -> Result<VmStats, ControlError>;

    /// The times of all vCPUs and cores at one moment.
    fn snapshot(&self) -> Snapshot;

    /// The last exits of one vCPU, oldest first.
    ///
    /// # Errors
    /// [`ControlError::NoSuchVm`], [`ControlError::NoSuchVcpu`].
    fn recent_exits(&self, name: &str, vcpu: u32) -> Result<Vec<ExitRecord>, ControlError>;

    /// The text on a virtual machine's screen, row by row.
    ///
    /// # Errors
    /// [`ControlError::NoSuchVm`], [`ControlError::NotRunning`], or [`ControlError::Refused`] when it has no screen, or
    /// none with text.
    fn screen_text(&self, name: &str) -> Result<Vec<String>, ControlError>;

    /// The picture on a virtual machine's screen.
    ///
    /// # Errors
    /// [`ControlError::NoSuchVm`], [`ControlError::NotRunning`], or [`ControlError::Refused`] when it has no screen, or
    /// a picture that is too large for the serial line.
    fn screenshot(&self, name: &str) -> Result<Picture, ControlError>;

    /// Types at a virtual machine's keyboard: each of `strokes` is what the keyboard sends for keys that go down and up
    /// again, in scan code set 2, at most 16 bytes. They are made one after the other, from now on.
    ///
    /// # Errors
    /// [`ControlError::NoSuchVm`], [`ControlError::NotRunning`], or [`ControlError::Refused`] when too many wait already.
    fn type_keys(&mut self, name: &str, strokes: &[Vec<u8>]) -> Result<(), ControlError>;

    /// The host: CPUs, memory, features, mitigations.
    fn host(&self) -> HostInfo;

    /// The log level in force.
    fn log_level(&self) -> LevelFilter;

    /// Sets the log level.
    fn set_log_level(&mut self, level: LevelFilter);

    /// Resets the host. Returns only if that is still on its way.
    fn reboot(&mut self);

    /// Powers the host off. Returns only if that is still on its way.
    ///
    /// # Errors
    /// When this machine cannot be powered off by software; the text says why.
    fn power_off(&mut self) -> Result<(), ControlError>;
}
