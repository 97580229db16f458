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
mod editor;
mod history;
mod keys;
mod line;
mod numbers;
mod output;
mod reports;
mod shell;
mod suggest;
mod table;
mod terminal;

#[cfg(test)]
mod fake;

pub use control::{
    Control, ControlError, ExitRecord, ExitStats, Feature, FeatureState, HostCpu, HostInfo, HostMemory,
    Mitigation, VcpuInfo, VmInfo, VmState, VmStats, VmSummary,
};
pub use output::Output;
pub use terminal::{ESCAPE_KEY, Focus, Terminal};
