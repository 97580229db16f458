//! Why the hypervisor did not do what the operator asked, in words that say what to do about it.

use crate::numbers::bytes;
use alloc::format;
use alloc::string::String;

/// Why the hypervisor did not do what was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ControlError {
    /// There is no virtual machine of that name.
    NoSuchVm,
    /// There is one of that name already.
    NameTaken,
    /// It runs already.
    AlreadyRunning,
    /// It does not run.
    NotRunning,
    /// It is paused, and what was asked is for one that runs or one that is stopped.
    Paused,
    /// It runs and is not paused.
    NotPaused,
    /// It has no vCPU of that number, only this many.
    NoSuchVcpu {
        /// How many vCPUs it has.
        vcpus: u32,
    },
    /// A core was named that the host has not, or that did not start.
    NoSuchCore {
        /// The number that was named.
        core: u32,
        /// How many cores there are; they are numbered from 0.
        cores: u32,
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

impl ControlError {
    /// What went wrong with the virtual machine `name` and what to do about it, to follow "cannot start NAME: ".
    pub fn reason(&self, name: &str) -> String {
        match self {
            Self::NoSuchVm => String::from("it is gone; 'vm list' shows what there is"),
            Self::NameTaken => {
                format!("there is a '{name}' already; choose another name, or 'vm destroy {name}' first")
            }
            Self::AlreadyRunning => format!("it runs already; 'vm reset {name}' starts it again"),
            Self::NotRunning => format!("it does not run; 'vm start {name}' starts it"),
            Self::Paused => format!("it is paused; 'vm resume {name}' lets it go on"),
            Self::NotPaused => format!("it is not paused; 'vm pause {name}' holds it"),
            Self::NoSuchVcpu { vcpus } => numbered("vCPU", *vcpus).map_or_else(
                || String::from("it has no vCPUs yet; start it first"),
                |which| format!("it has {which}"),
            ),
            Self::NoSuchCore { core, cores } => match numbered("core", *cores) {
                None => format!("there is no core {core}"),
                Some(which) => format!("there is no core {core}; the host has {which}"),
            },
            Self::OutOfMemory { needed, free } => format!(
                "it needs {} of memory and {} are free; stop another one or give it less",
                bytes(*needed),
                bytes(*free)
            ),
            Self::Refused(reason) | Self::Failed(reason) => reason.clone(),
        }
    }
}

/// "vCPU 0 only", "vCPUs 0 to 3"; nothing when there are none.
fn numbered(what: &str, count: u32) -> Option<String> {
    Some(match count.checked_sub(1)? {
        0 => format!("{what} 0 only"),
        last => format!("{what}s 0 to {last}"),
    })
}
