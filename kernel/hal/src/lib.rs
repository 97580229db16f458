//! The hardware: the only crate that holds `unsafe` code. Everything above it is safe Rust.
//!
//! It may depend on `arch`, `memory`, `paging` and `vmx` (for their access traits) and knows nothing of virtual
//! machines. Interrupts are off everywhere but in [`idle`] and [`interrupts::open_window`]: code here and above
//! runs to completion, and only an NMI comes between.
#![cfg_attr(not(test), no_std)]
#![expect(unsafe_code, reason = "the place for it")]

extern crate alloc;

pub mod acpi;
pub mod apic;
pub mod backtrace;
pub mod boot;
pub mod cpu;
pub mod flight;
pub mod framebuffer;
pub mod idle;
pub mod image;
pub mod interrupts;
pub mod ioapic;
pub mod memory;
pub mod msr;
mod mtrr;
pub mod percpu;
pub mod pic;
pub mod port;
pub mod power;
pub mod serial;
pub mod shootdown;
pub mod smp;
pub mod time;
pub mod vmx;
pub mod wall_clock;

pub use idle::idle_until;
