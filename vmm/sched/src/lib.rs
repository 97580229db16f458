//! Pure scheduling of virtual CPUs over the cores of a host: who runs next on each core, and until when. No clock of its
//! own, no hardware; spin locks inside, one for each core's queue, and none for all.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

extern crate alloc;

mod administration;
mod arrival;
mod balance;
mod budget;
mod current;
mod decide;
mod departure;
mod entity;
mod exclusive;
mod front;
mod heap;
mod line;
mod mask;
mod params;
mod placement;
mod queue;
mod scheduler;
mod spec;
#[cfg(test)]
mod tests;
mod times;
mod turn;
mod virtual_time;

pub use administration::{Place, Saved};
pub use exclusive::Exclusivity;
pub use mask::{CoreMask, MAX_CORES};
pub use params::Params;
pub use scheduler::{Decision, Scheduler};
pub use spec::{AddError, Cap, Class, CoreId, EntityId, MAX_ENTITIES, RemoveError, SetError, Spec, Weight};
pub use times::{CoreTimes, DELAY_BUCKETS, Histogram, Times};
