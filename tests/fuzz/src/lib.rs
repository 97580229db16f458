//! Fuzzing on stable Rust: a target is a plain function of bytes, and whatever the bytes say must not break it.
//!
//! There is no instrumentation; what steers the search is what a target *shows*: each answer of the code under test
//! (a value read, an interrupt, an error) is noted in [`Seen`], and an input that brought answers never seen before is
//! kept and varied further. The same engine runs a few thousand inputs of each target in `cargo test`, with fixed
//! seeds, and for as long as one likes in `cargo xtask fuzz`, which stores an input that fails and says how to replay
//! it. Inputs in `corpus/TARGET` are always played first: put one there once its fault is mended.
//!
//! To add a target, write a file in `targets` with a function of [`Bytes`] and [`Seen`] and name it in
//! [`targets::ALL`]. For anything with registers, time and a saved state, implement [`Subject`] and use
//! [`subject::play`], which also checks that a machine restored at any moment goes on like the one that was saved.
#![forbid(unsafe_code)]

mod bytes;
pub mod corpus;
mod engine;
mod mutate;
mod random;
mod seen;
pub mod subject;
pub mod targets;

pub use bytes::Bytes;
pub use engine::{Campaign, Failure, quiet_panics, run_one, shrink};
pub use seen::Seen;
pub use subject::Subject;
pub use targets::Target;
