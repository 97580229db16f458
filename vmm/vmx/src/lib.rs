//! VT-x as a backend of the virtual machine: VMCS fields, control negotiation, exits decoded, entry checks.
//!
//! Everything here is safe and runs on the host; the instructions themselves are behind [`VmcsAccess`].
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod bitmap;
mod control_bits;
mod controls;
mod decode;
pub mod entry_check;
mod event;
#[cfg(test)]
mod fake_vmcs;
pub mod field;
pub mod requirements;
mod vmcs_access;
mod vmx_backend;

pub use control_bits::{Entry, Exit, PinBased, ProcessorBased, Secondary};
pub use controls::{ApicMode, Capabilities, ControlMissing, Controls, ExecutionControls};
pub use decode::decode;
pub use vmcs_access::{LiveRegisters, VmcsAccess, Window};
pub use vmm::lapic::DEFAULT_PAGE;
pub use vmm::{ExtendedLayout, Inbox, InterruptSupport, PostedDescriptor, VectorPlaces};
pub use vmx_backend::VmxBackend;
