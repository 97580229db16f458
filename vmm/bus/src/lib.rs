//! Wiring between a virtual machine's processors and its devices: interrupt lines and messages, byte
//! pipes, and the trait through which the processor side sees the platform.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

extern crate alloc;

mod irq_line;
mod message;
mod pipe;
mod platform;

pub use irq_line::{IrqBank, IrqLine, LineChanges};
pub use message::{DeliveryMode, Destination, InterruptMessage, TriggerMode};
pub use pipe::{Pipe, PipeEnd};
pub use platform::{Attention, Platform, PowerRequest, SavePlatform};
