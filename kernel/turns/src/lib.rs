//! Who may run a vCPU, what wakes it, and when: the pure part of the core loop, tested on the host.
//!
//! [`Gate`] is the protocol between a vCPU that goes to sleep and those that wake, hold or look at it; [`Alarms`] are
//! the timers of the vCPUs that sleep on a core.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

extern crate alloc;

mod alarms;
#[cfg(test)]
mod explore;
mod gate;
#[cfg(test)]
mod gate_tests;
mod word;

pub use alarms::{Alarm, Alarms};
pub use gate::{Gate, Permit, Tell};
pub use word::Word;
