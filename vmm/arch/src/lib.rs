//! Facts of the x86-64 architecture that several crates share: address newtypes, register files, MSR numbers,
//! control-register bits, exceptions. No logic beyond conversions.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod address;
mod exception;
mod msr;
pub mod platform_layout;
mod registers;
mod segment;
mod time;
mod vector;
mod width;

pub use address::{GIB, Gpa, Gva, Hpa, KIB, MIB, PAGE_SIZE, Port};
pub use exception::{Exception, Vector};
pub use msr::Msr;
pub use registers::{Gpr, Gprs};
pub use segment::{Segment, SegmentRegister, TableRegister};
pub use time::{Nanos, Tsc};
pub use vector::{VectorRegister, VectorValue};
pub use width::Width;
/// Control-register and RFLAGS bit names, as the manual spells them.
pub use x86_64::registers::{
    control::{Cr0Flags, Cr4Flags, EferFlags},
    rflags::RFlags,
    xcontrol::XCr0Flags,
};
