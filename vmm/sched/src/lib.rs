//! Pure scheduling of virtual CPUs over the cores of a host: who runs next on each core, and until when. No clock of its
//! own, no hardware; spin locks inside, one for each core's queue, and none for all.
//!
//! # Use
//! Each core asks [`Scheduler::pick`] whom to run, accounts for it with [`Scheduler::charge`] and says with
//! [`Scheduler::block`] when it sleeps. Any core wakes entities with [`Scheduler::wake`], and interrupts the core that this
//! returns so that it asks again; a core that is about to ask anyway may use [`Scheduler::wake_here`]. After every call [`Scheduler::take_kick`] names further cores to interrupt. A core
//! that is about to do something else says so with [`Scheduler::step_aside`]. Spurious
//! wake-ups, late charges and clocks that differ a little between cores do no harm.
//!
//! # How it decides
//! *Weighted fair queueing in one virtual time for all cores.* A tick costs an entity its inverse weight; on each core the
//! one that has paid least runs next, for its part of a round in which everybody gets a turn. Cores compare what those have
//! paid who wait and who run there, and exchange entities, so that all pay alike wherever they stand (`balance.rs`). A
//! core that has nothing to do takes somebody who waits elsewhere at once; a core where somebody begins to wait tells one
//! that idles. An entity that deserves more than a core gets a core.
//!
//! *Sleep* earns one round of credit, so that who wakes comes soon, and no store of time. The latency class gets two
//! rounds, and interrupts who runs almost at once, but pays for what it runs like everybody else.
//!
//! *Caps* are held in every period (`budget.rs`). *Exclusive* entities get a core that all others leave
//! (`exclusive.rs`); nobody competes there, so there are no ticks.
//!
//! # What it guarantees
//! With the round `R = max(slice, n * slice/8)` of the `n` entities that want one core:
//! - **Delay**: who wakes has its first turn within `6 R`, whatever the weights ([`Params::delay_bound`]): within `3 R` of
//!   waiting it comes first, whoever has paid less, and those who come first with it, and the one that runs, get one turn
//!   each before. Typically who has not had its share runs at the end of the turn that goes on, which is cut to
//!   `slice/16`.
//! - **Latency class**: within `slice/32 + m * slice/8` with `m` others of that class on the core, as long as it has not had
//!   its share ([`Params::latency_bound`]).
//! - **Work**: no core idles while somebody waits whom it may run, beyond the way of an interrupt. Where the cores of
//!   entities overlap in part, a core that idles looks at the first 64 of those who wait on each other core.
//! - **Caps**: in `k` periods in a row at most `k + 1` allowances, and one late end of a turn.
//! - **Cost**: decisions take logarithmic time in the number of entities on a core and look at eight other cores at most, but
//!   for a core that idles, which asks all those where somebody waits. They do not allocate. Blocking, changing or removing
//!   an entity that waits takes time with their number.
//!
//! The tests hold this on simulated machines: shares to a tenth of a percent among entities that never sleep, and to one
//! percent between those that never sleep beside all kinds of sleepers with weights from 10 to 1000.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

extern crate alloc;

mod absence;
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
mod resume;
mod scheduler;
mod seat;
mod spec;
#[cfg(test)]
mod tests;
mod times;
mod turn;
mod virtual_time;

pub use administration::{Place, Saved};
pub use exclusive::Exclusivity;
pub use mask::{CoreMask, Cores, MAX_CORES};
pub use params::Params;
pub use scheduler::{Decision, Scheduler, Turns};
pub use spec::{AddError, Cap, Class, CoreId, EntityId, MAX_ENTITIES, RemoveError, SetError, Spec, Weight};
pub use times::{CoreTimes, DELAY_BUCKETS, Histogram, Times};
