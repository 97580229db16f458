//! Pure scheduling: who runs next on a core, and until when. No clock of its own, no hardware, no locks.
//!
//! Weighted fair queueing by virtual time: every tick that an entity runs costs it ticks divided by its weight,
//! and the entity that has paid least runs next. One [`Scheduler`] serves one core; entities belong to one
//! scheduler at a time.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

extern crate alloc;

mod run_queue;
mod scheduler;
#[cfg(test)]
mod tests;

pub use scheduler::{AddError, Decision, EntityId, MAX_ENTITIES, Scheduler, UnknownEntity, Weight};
