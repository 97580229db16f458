//! Virtual machines as the host composes them: configuration, memory, processor, devices.

mod fleet;
mod guest;
mod machine;
mod ram;
mod report;

pub(crate) use fleet::{Ended, Fleet, Turn};
pub(crate) use guest::{Guest, Phase};
