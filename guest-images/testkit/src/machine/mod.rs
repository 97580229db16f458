//! The only unsafe code of the test guest: boot, traps, and the instructions that Rust has no word for.
//!
//! A test guest exists to execute what a well-behaved program never would, so this module opts into `unsafe`; the programs
//! above it are safe Rust.
#![expect(unsafe_code, reason = "a bare-metal program enters, traps and touches devices through assembly")]

pub(crate) mod arena;
pub(crate) mod boot;
pub(crate) mod call;
pub(crate) mod control;
pub(crate) mod cpu;
pub(crate) mod endless;
pub(crate) mod guard;
pub(crate) mod hostile;
pub(crate) mod measure;
pub(crate) mod msr;
pub(crate) mod pages;
mod passage;
pub(crate) mod percpu;
pub(crate) mod physical;
pub(crate) mod provoke;
pub(crate) mod snippet;
pub(crate) mod snippets;
pub(crate) mod startup;
pub(crate) mod task;
pub(crate) mod trap;
pub(crate) mod trial;
pub(crate) mod video;
pub(crate) mod window;
