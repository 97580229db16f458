//! What the shell asks of the hypervisor: one trait, plain data.

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
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
            Self::Refused => "refused",
        })
    }
}

/// One line of `vm list`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmSummary {
    /// The name in `craton.toml`.
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
    /// One row a vCPU.
    pub vcpus: Vec<VcpuInfo>,
}

/// The state of one vCPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VcpuInfo {
    /// Its number, from 0.
    pub id: u32,
    /// What it does: "running", "halted", "waiting for SIPI", "stopped".
    pub activity: Cow<'static, str>,
    /// The instruction it runs next, a guest virtual address.
    pub rip: u64,
    /// Its exits since the last start.
    pub exits: u64,
    /// The host CPU that owns it.
    pub host_cpu: u32,
}

/// One reason in `stats`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExitStats {
    /// The exit reason's name.
    pub reason: Cow<'static, str>,
    /// How often it happened.
    pub count: u64,
    /// Host TSC ticks spent on them, from the exit to the next entry. In Bochs one tick is one instruction.
    pub ticks: u64,
}

/// What `stats` shows for one virtual machine, over all its vCPUs since the last start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmStats {
    /// One row a reason, in any order.
    pub rows: Vec<ExitStats>,
    /// Host TSC ticks spent in the guest, `None` when that is not measured.
    pub guest_ticks: Option<u64>,
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

/// Why the hypervisor did not do what was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ControlError {
    /// There is no virtual machine of that name.
    NoSuchVm,
    /// It runs already.
    AlreadyRunning,
    /// It does not run.
    NotRunning,
    /// It has no vCPU of that number, only this many.
    NoSuchVcpu {
        /// How many vCPUs it has.
        vcpus: u32,
    },
    /// The host has not enough memory free.
    OutOfMemory {
        /// Bytes asked for.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// Its configuration or one of its images is refused; the text says what and where.
    Refused(String),
    /// Anything else; the text says what.
    Failed(String),
}

/// The hypervisor, as the shell sees it. Calls return at once: what takes time is only begun.
pub trait Control {
    /// The version line of `version`: name, version, and what built it.
    fn version(&self) -> String;

    /// All configured virtual machines, in the order of `craton.toml`.
    fn vms(&self) -> Vec<VmSummary>;

    /// Details of one.
    ///
    /// # Errors
    /// [`ControlError::NoSuchVm`].
    fn vm_info(&self, name: &str) -> Result<VmInfo, ControlError>;

    /// Starts a virtual machine that does not run, from its kernel image.
    ///
    /// # Errors
    /// When it runs already, when its configuration or images are refused, or when memory is short.
    fn start(&mut self, name: &str) -> Result<(), ControlError>;

    /// Stops a virtual machine, as if its power was cut.
    ///
    /// # Errors
    /// When it does not run.
    fn stop(&mut self, name: &str) -> Result<(), ControlError>;

    /// Starts a running virtual machine again from its kernel image, as if its reset button was pressed.
    ///
    /// # Errors
    /// When it does not run, or when it cannot start again.
    fn reset(&mut self, name: &str) -> Result<(), ControlError>;

    /// Exits by reason, over all vCPUs.
    ///
    /// # Errors
    /// [`ControlError::NoSuchVm`].
    fn stats(&self, name: &str) -> Result<VmStats, ControlError>;

    /// The last exits of one vCPU, oldest first.
    ///
    /// # Errors
    /// [`ControlError::NoSuchVm`], [`ControlError::NoSuchVcpu`].
    fn recent_exits(&self, name: &str, vcpu: u32) -> Result<Vec<ExitRecord>, ControlError>;

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
