//! Whole virtual machines on the host: the real vCPU, local APIC, exits and PC platform, on a backend that plays a
//! script in place of a processor.
//!
//! [`Machine`] is the machine, with one method an instruction for tests that read like a guest's program.
//! [`Step`] is the script underneath: what the guest is expected to look like at an entry, what it does, how long
//! that takes, and the exit that it ends in. [`run_bytes`] plays any bytes at all, for fuzzers.

mod backend;
mod bytes;
mod host;
mod instructions;
mod machine;
mod script;

pub use backend::{Delivery, Entry, HANDLERS, ScriptedBackend, handler};
pub use bytes::{Played, run_bytes};
pub use host::host_leaf;
pub use instructions::Executed;
pub use machine::{CODE, CpuMode, Machine, MachineSnapshot, PROMPT, Setup};
pub use script::{Effect, Expect, Step};
