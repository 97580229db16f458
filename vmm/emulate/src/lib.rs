//! Instruction emulation: carries out one guest instruction whose memory or port access the hardware could not,
//! because a device answers it.
//!
//! SDM Vol. 2, "Instruction Set Reference", and Vol. 3A, "Paging" and "Protection". Bytes are decoded by
//! iced-x86; everything else is here.
//!
//! The way of an instruction: [`Paging`] walks the guest's page tables, `fetch` reads the bytes through CS,
//! `decode` turns them into the small [`instruction`] form (kept by `cache`), `execute` carries it out over
//! `operand`, `string`, `stack` and `alu`, with each memory operand going through `segmentation` (limits,
//! rights, canonical form) and `access` (page walk, then RAM or device), those of 16 bytes and more through `wide`.
//! What was decoded in 64-bit mode is found again by its `witness` without a fetch, and `plain` moves take a short way.
//! Registers are changed last, so that a fault leaves them alone; only a REP instruction keeps the iterations it
//! has done.
//!
//! Emulated is what has an operand in memory and is used on devices: moves of all kinds, MOVBE, selectors to
//! memory, arithmetic, logic, shifts, products and quotients, bits, conditions, exchanges, PUSH and POP, string
//! instructions with and without ports, cache-line flushes, and moves of SSE, AVX and AVX-512 registers without masks.
//! Not modelled: x87, MMX, vector instructions that compute, loads of segment registers, far transfers; such an
//! instruction comes back as [`Emulated::Unsupported`]. Breakpoints on data and ports are met by what is emulated. A LOCK prefix does not make an
//! access to RAM atomic against other processors of the guest: an instruction comes here for a device access, and
//! devices are accessed one at a time.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod access;
mod alu;
mod breakpoint;
mod cache;
mod context;
mod cpu;
mod decode;
mod emulator;
mod execute;
mod fetch;
mod instruction;
mod operand;
mod plain;
mod ports;
mod segmentation;
mod stack;
mod string;
mod walk;
mod wide;
mod witness;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use breakpoint::Breakpoints;
pub use cpu::{Cpu, Mmio, PagingFeatures, Ports};
pub use decode::warm;
pub use emulator::{Emulated, Emulator, KnownTranslation};
pub use walk::{Access, Paging, Privilege};

/// The most bytes an instruction has.
pub const MAX_INSTRUCTION_LENGTH: usize = 15;

/// The most iterations of a REP instruction that one call carries out.
pub const REP_SLICE: u32 = 1024;
