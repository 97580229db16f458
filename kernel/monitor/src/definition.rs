//! The part of a virtual machine's definition that the operator can read and change at run time.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// The most vCPUs that a virtual machine can have.
pub(crate) const MOST_VCPUS: u8 = 64;
/// The largest weight; the smallest is 1.
pub(crate) const MOST_WEIGHT: u32 = 10_000;
/// The largest cap, in percent of a core; the smallest is 1.
pub(crate) const MOST_CAP: u8 = 100;
/// The most nodes.
pub(crate) const MOST_NODES: u8 = 8;

/// A limit on what each vCPU gets of a core, however idle that is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cap {
    /// None.
    Unlimited,
    /// Percent of one core, 1 to 100.
    Percent(u8),
}

/// Into how many nodes the firmware tables divide processors and memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nodes {
    /// They say nothing of nodes.
    Untold,
    /// So many, 1 to 8.
    Count(u8),
}

/// The cores that vCPUs may run on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cores {
    /// All of the host's.
    All,
    /// These, by number: at least one, rising, none twice.
    These(Vec<u8>),
}

/// How the scheduler treats vCPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// By weight alone.
    Normal,
    /// For those that wake often and briefly: on a core sooner.
    Latency,
    /// Each has a core of its own.
    Exclusive,
}

/// When a virtual machine that stopped is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// Never.
    Never,
    /// After a failure, as a triple fault is one; after some time when it fails often.
    OnFailure,
    /// After power off too.
    Always,
}

/// How the vCPUs of one virtual machine share the host's cores; each vCPU by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scheduling {
    /// The share of a busy core relative to others, 1 to 10,000.
    pub weight: u32,
    /// The most of a core that a vCPU gets.
    pub cap: Cap,
    /// Where they may run.
    pub cores: Cores,
    /// How they are treated.
    pub class: Class,
}

/// A change of some of [`Scheduling`]; `None` leaves a field as it is. Numbers are in their ranges; whether the cores
/// exist is not known here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SchedulingChange {
    /// A new weight, 1 to 10,000.
    pub weight: Option<u32>,
    /// A new cap.
    pub cap: Option<Cap>,
    /// New cores.
    pub cores: Option<Cores>,
    /// A new class.
    pub class: Option<Class>,
}

/// What a new virtual machine has different from the one whose definition it takes; `None` leaves a field as it is
/// there. Numbers are in their ranges.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Overrides {
    /// Guest memory, in MiB, 8 or more.
    pub memory_mib: Option<u64>,
    /// How many vCPUs, 1 to 64.
    pub vcpus: Option<u8>,
    /// How they and the memory are divided.
    pub nodes: Option<Nodes>,
    /// How they share the cores.
    pub scheduling: SchedulingChange,
    /// When it is started again.
    pub restart: Option<Restart>,
    /// The kernel command line.
    pub command_line: Option<String>,
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => f.write_str("none"),
            Self::Percent(percent) => write!(f, "{percent} % of a core"),
        }
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::These(numbers) = self else { return f.write_str("all") };
        for (index, number) in numbers.iter().enumerate() {
            write!(f, "{}{number}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Normal => "normal",
            Self::Latency => "latency",
            Self::Exclusive => "exclusive",
        })
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Never => "never",
            Self::OnFailure => "on-failure",
            Self::Always => "always",
        })
    }
}
