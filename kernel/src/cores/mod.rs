//! The cores: each one picks a vCPU, runs it until it leaves the guest for good, and picks again.
//!
//! Core 0 looks after the operator as well, between turns (`cpu_loop`). Everything else is the same on all cores.

mod alone;
mod post;
mod shared;
mod start;

pub(crate) use alone::{Core, Spare};
pub(crate) use post::Status;
pub(crate) use shared::{MAX_VCPUS, Shared, Stopped, call_operator};
pub(crate) use start::start_all;
