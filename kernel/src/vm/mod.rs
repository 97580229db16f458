//! Virtual machines as the host composes them: configuration, memory, processors, devices, and their life.

mod build;
mod fleet;
mod guest;
mod machine;
mod numbers;
mod paced;
mod ram;
mod report;
mod scheduling;
mod slot;
mod times;

pub(crate) use fleet::{Ended, Fleet, Next};
pub(crate) use guest::{Guest, LastRun, Phase};
pub(crate) use paced::TURN_US;
pub(crate) use scheduling::{shown, shown_restart};
pub(crate) use slot::{Body, BodyGuard, Slot, VmKey};
pub(crate) use times::{duration, of as times_of};
