//! Where things are in the kernel's address space. Each region has a top-level entry (512 GiB) of its own or more.
//!
//! | From | What |
//! |---|---|
//! | `0xffff_8000_0000_0000` | direct map of physical memory, 64 TiB |
//! | `0xffff_c000_0000_0000` | stacks, a guard page below each |
//! | `0xffff_c800_0000_0000` | device memory, uncached or write-combining |
//! | `0xffff_ffff_8000_0000` | the kernel's image |

/// Virtual address of physical address zero. The boot loader is told to map memory at the same place.
pub const DIRECT_MAP_BASE: u64 = 0xffff_8000_0000_0000;
/// Physical memory beyond this many bytes is not mapped.
pub const DIRECT_MAP_SIZE: u64 = 64 << 40;
/// Start of the stacks.
pub const STACKS_BASE: u64 = 0xffff_c000_0000_0000;
/// Distance from one stack to the next, guard page included.
pub const STACK_STRIDE: u64 = 1 << 20;
/// End of the stacks.
pub const STACKS_END: u64 = STACKS_BASE + (1 << 39);
/// Start of device memory.
pub const DEVICES_BASE: u64 = 0xffff_c800_0000_0000;
/// End of device memory.
pub const DEVICES_END: u64 = DEVICES_BASE + (1 << 39);
