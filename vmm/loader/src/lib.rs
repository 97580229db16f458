//! Brings a guest to the point where its first instruction can run: the kernel image, initramfs and command line
//! in its memory, the firmware tables that describe the virtual PC, and the processor state that the boot
//! protocol asks for.
//!
//! Images are the operator's, not the guest's, and may be anything: every length in them is checked, and each
//! mistake is one [`LoadError`] that names the file.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

extern crate alloc;

mod acpi;
mod bios_data;
mod copy;
mod entry;
mod error;
mod firmware;
mod firmware_files;
mod flat;
mod image;
mod layout;
mod linux;
mod mp_table;
mod multiboot;
mod nodes;
mod payload;
mod program;
mod pvh;
mod screen;
mod smbios;
mod space;
#[cfg(test)]
mod testing;

pub use acpi::FirmwareTables;
pub use entry::{EntryMode, EntryState};
pub use error::{LoadError, NotKernel, OtherArchitecture};
pub use firmware::{Firmware, FirmwareError, FirmwareSizes};
pub use firmware_files::{FirmwareFile, firmware_files};
pub use image::{BootProtocol, Image, Module};
pub use layout::{MemoryKind, MemoryLayout, MemoryRange};
pub use multiboot::MultibootProblem;
pub use nodes::Nodes;
pub use screen::Screen;

use arch::Gpa;
use arch::platform_layout::LEGACY_VIDEO_END;
use core::num::NonZeroU8;
use memory::GuestMemory;

/// What to load, and the machine to describe to it.
#[derive(Clone, Copy, Debug)]
pub struct VmDescription<'a> {
    /// The guest's RAM, in bytes. The memory that is loaded into must have the ranges of [`MemoryLayout::ram`]
    /// for this size.
    pub memory_bytes: u64,
    /// Virtual processors, as the firmware tables list them: one package, a core each, APIC IDs counted from 0.
    pub vcpus: NonZeroU8,
    /// Into how many nodes the firmware tables divide processors and memory; `None` says nothing of nodes.
    pub nodes: Option<Nodes>,
    /// The kernel image.
    pub kernel: Image<'a>,
    /// How to boot it; `None` decides by the image, see [`BootProtocol::detect`].
    pub boot: Option<BootProtocol>,
    /// The initial RAM disk; where modules are passed, the first of them, with its name as text.
    pub initramfs: Option<Image<'a>>,
    /// Files for the kernel, in this order.
    pub modules: &'a [Module<'a>],
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// What the machine shows when the kernel starts.
    pub screen: Screen,
}

/// Loads what `vm` describes into `memory` and returns the state in which the first virtual processor starts.
///
/// RAM that nothing is loaded to is left as it is, except what the protocol wants zeroed and where a kernel looks
/// for firmware, so that a second load into the same memory restarts the guest.
///
/// # Errors
/// [`LoadError`], after which the memory holds nothing that can be run.
pub fn load(memory: &impl GuestMemory, vm: &VmDescription<'_>) -> Result<EntryState, LoadError> {
    let layout = MemoryLayout::new(vm.memory_bytes)?;
    let boot = match vm.boot {
        Some(boot) => boot,
        None => BootProtocol::detect(vm.kernel)?,
    };
    vm.check_is_passed(boot)?;
    // What an earlier run left where kernels look for a BIOS's data must not be found again.
    let legacy = match vm.screen {
        Screen::None => layout::CONVENTIONAL_END,
        Screen::Text => LEGACY_VIDEO_END,
    };
    copy::zero(memory, legacy, layout::HIGH_MEMORY - legacy)?;
    bios_data::write(memory)?;
    let rsdp = acpi::write_tables(memory, vm.vcpus, &layout, vm.nodes)?;
    smbios::write_tables(memory, &layout, vm.vcpus)?;
    mp_table::write(memory, vm.vcpus)?;
    match boot {
        BootProtocol::Linux => {
            let state = linux::load(memory, vm, &layout, rsdp, linux::Entry::Bits64)?;
            screen::describe(memory, vm.screen)?;
            Ok(state)
        }
        BootProtocol::Linux32 => {
            let state = linux::load(memory, vm, &layout, rsdp, linux::Entry::Bits32)?;
            screen::describe(memory, vm.screen)?;
            Ok(state)
        }
        BootProtocol::Pvh => pvh::load(memory, vm, &layout, rsdp),
        BootProtocol::Multiboot => multiboot::load(memory, vm, &layout, rsdp, multiboot::Version::One),
        BootProtocol::Multiboot2 => multiboot::load(memory, vm, &layout, rsdp, multiboot::Version::Two),
        BootProtocol::Flat { load_address, entry } => flat::load(memory, vm, &layout, load_address, entry),
    }
}

impl VmDescription<'_> {
    /// Refuses what `boot` would not pass to the kernel, so that nothing is lost without a word.
    fn check_is_passed(&self, boot: BootProtocol) -> Result<(), LoadError> {
        let not_passed = |what, boot, instead| Err(LoadError::NotPassed { what, boot, instead });
        match boot {
            BootProtocol::Linux | BootProtocol::Linux32 if !self.modules.is_empty() => {
                not_passed("modules", "linux", "\"multiboot\", \"multiboot2\" or \"pvh\", or an initramfs")
            }
            BootProtocol::Flat { .. } if !self.modules.is_empty() => {
                not_passed("modules", "flat", "\"multiboot\", \"multiboot2\" or \"pvh\"")
            }
            BootProtocol::Flat { .. } if self.initramfs.is_some() => {
                not_passed("initramfs", "flat", "another")
            }
            BootProtocol::Flat { .. } if !self.cmdline.is_empty() => not_passed("cmdline", "flat", "another"),
            BootProtocol::Linux
            | BootProtocol::Linux32
            | BootProtocol::Pvh
            | BootProtocol::Multiboot
            | BootProtocol::Multiboot2
            | BootProtocol::Flat { .. } => Ok(()),
        }
    }
}

/// The first address past `bytes` bytes at `start`, or `None` where that is beyond the address space.
fn end_of(start: Gpa, bytes: u64) -> Option<u64> {
    start.get().checked_add(bytes)
}

#[cfg(test)]
mod tests;
