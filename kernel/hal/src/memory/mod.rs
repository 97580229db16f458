//! The machine's memory: address-space layout, frames, the kernel's own page tables, the heap.

pub mod block;
mod buddy;
pub mod direct_map;
pub mod ept_tables;
pub mod frames;
#[cfg(target_os = "none")]
pub mod heap;
pub mod layout;
pub mod stacks;
pub mod tables;

pub use block::{FrameBlock, OutOfFrames};
