//! The operator's shell, and the multiplexer that shares one serial line between it and the guests' consoles.
//!
//! Nothing here does I/O: [`Terminal`] is fed the bytes that arrive on the line and writes what the operator should
//! see to an [`Output`]. Commands act on the machine through [`Control`], which the hypervisor implements. Memory is
//! bounded whatever arrives: one line, a fixed history, and a fixed backlog for each guest.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod command;
mod complete;
mod control;
mod definition;
mod editor;
mod error;
mod history;
mod keys;
mod line;
mod numbers;
mod output;
mod picture;
mod reports;
mod settings;
mod shell;
mod stats;
mod suggest;
mod table;
mod terminal;
mod times;
mod top;
mod typing;

#[cfg(test)]
mod fake;

pub use control::{
    Control, ExitRecord, Feature, FeatureState, HostCpu, HostInfo, HostMemory, Mitigation, VcpuInfo, VmInfo,
    VmState, VmSummary,
};
pub use definition::{Cap, Class, Cores, Nodes, Overrides, Restart, Scheduling, SchedulingChange};
pub use error::ControlError;
pub use output::Output;
pub use picture::{Encoder, Picture};
pub use terminal::{ESCAPE_KEY, Focus, Terminal};
pub use times::{
    CoreShares, DelayBucket, ExitStats, Snapshot, VcpuStats, VcpuTimes, VmStats, VmTimes, WakeDelays,
};
