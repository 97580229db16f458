//! Loads a kernel by the Multiboot protocols and starts it: 32-bit protected mode, paging off.
//!
//! "Multiboot Specification version 0.6.96"; "Multiboot2 Specification version 2.0". Where they leave a choice, it is
//! QEMU's and GRUB's: the command line begins with the kernel's name, modules follow the kernel, an entry point that is
//! a virtual address is taken for the physical one it stands for. There is no screen and no EFI to tell of, and no
//! table of the kernel's own ELF sections.

mod problem;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

pub use problem::MultibootProblem;

use crate::layout::{CONVENTIONAL_END, HIGH_MEMORY};
use crate::payload::CommandLine;
use crate::program::Program;
use crate::space::{NoRoom, Space};
use crate::{EntryState, Image, LoadError, MemoryLayout, Module, VmDescription, copy};
use alloc::string::String;
use alloc::vec::Vec;
use arch::{Gpa, Gpr, KIB};
use memory::GuestMemory;

/// What the boot information says of who loaded the kernel.
const LOADER_NAME: &[u8] = b"Craton\0";
/// Boot information goes to conventional memory, if the kernel leaves some there: as other loaders do, above the pages
/// where kernels start their other processors.
const LOWEST_INFORMATION: Gpa = Gpa::new(64 * KIB);

/// One of the two protocols.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    /// Multiboot 1.
    One,
    /// Multiboot 2.
    Two,
}

impl Version {
    /// Whether `bytes` have a header of this version.
    pub(crate) fn is_in(self, bytes: &[u8]) -> bool {
        match self {
            Self::One => v1::Header::find(bytes).is_some(),
            Self::Two => v2::Header::find(bytes).is_some(),
        }
    }
}

/// What a header asks for, whichever version it is of.
struct Kernel<'a> {
    program: Program<'a>,
    /// Physical address of the first instruction.
    entry: u64,
    /// Where it was moved to, if it can be.
    base: Option<Gpa>,
}

/// What the boot information tells.
struct Told<'a> {
    /// The kernel's name and the command line, without an end mark.
    command_line: String,
    modules: Vec<Placed<'a>>,
    layout: &'a MemoryLayout,
    base: Option<Gpa>,
    /// The ACPI root pointer.
    rsdp: [u8; crate::acpi::RSDP_BYTES],
}

/// A module with its place in memory.
struct Placed<'a> {
    module: Module<'a>,
    start: Gpa,
}

impl Placed<'_> {
    fn end(&self) -> Gpa {
        self.start + self.module.file.bytes.len() as u64
    }
}

/// Loads the kernel that `vm` names; `rsdp` is where the ACPI tables begin.
pub(crate) fn load(
    memory: &impl GuestMemory,
    vm: &VmDescription<'_>,
    layout: &MemoryLayout,
    rsdp: Gpa,
    version: Version,
) -> Result<EntryState, LoadError> {
    let mut space = Space::new(layout);
    let kernel = match version {
        Version::One => v1::Header::read(vm.kernel)?.kernel(vm.kernel, &mut space)?,
        Version::Two => v2::Header::read(vm.kernel)?.kernel(vm.kernel, &mut space)?,
    };
    if !kernel.program.contains(kernel.entry) {
        let entry = Gpa::new(kernel.entry);
        return Err(LoadError::EntryOutside { file: vm.kernel.name.into(), entry });
    }
    let command_line = CommandLine::new(vm.cmdline, u64::MAX)?.after(vm.kernel.name);
    let modules = place(&mut space, vm, kernel.program.end())?;
    let mut root = [0; crate::acpi::RSDP_BYTES];
    memory
        .read(rsdp, &mut root)
        .map_err(|_| LoadError::OutsideRam { gpa: rsdp, length: root.len() as u64 })?;
    let told = Told { command_line, modules, layout, base: kernel.base, rsdp: root };
    let build = |at: Gpa| match version {
        Version::One => v1::information(&told, at),
        Version::Two => v2::information(&told),
    };
    // Its length does not depend on its place.
    let bytes = build(Gpa::new(0)).len() as u64;
    let at = space
        .lowest(bytes, 16, LOWEST_INFORMATION, CONVENTIONAL_END.get())
        .or_else(|_| space.lowest(bytes, 16, HIGH_MEMORY, u64::MAX))
        .map_err(|NoRoom(room)| LoadError::NoRoomForBootInformation { bytes, room })?;

    kernel.program.write(memory)?;
    for placed in &told.modules {
        copy::write(memory, placed.start, placed.module.file.bytes)?;
    }
    copy::write(memory, at, &build(at))?;
    let magic = match version {
        Version::One => v1::BOOTED,
        Version::Two => v2::BOOTED,
    };
    Ok(EntryState::protected_mode(kernel.entry).with(Gpr::Rax, u64::from(magic)).with(Gpr::Rbx, at.get()))
}

/// Finds places for all modules, the initial RAM disk first, in their order behind the kernel, which ends at `end`.
fn place<'a>(space: &mut Space, vm: &VmDescription<'a>, mut end: u64) -> Result<Vec<Placed<'a>>, LoadError> {
    let ramdisk = vm.initramfs.map(|file| Module { file, string: file.name });
    ramdisk
        .into_iter()
        .chain(vm.modules.iter().copied())
        .map(|module| {
            module.check()?;
            let start = space.module(module.file, Gpa::new(end).max(HIGH_MEMORY))?;
            end = start.get() + module.file.bytes.len() as u64;
            Ok(Placed { module, start })
        })
        .collect()
}

/// Where a header of either version says that the file goes: physical addresses.
#[derive(Clone, Copy)]
struct Addresses {
    /// Of the header itself.
    header: u32,
    /// Of the first byte that is loaded.
    load: u32,
    /// Past the last byte that is loaded; 0 for all of the file.
    load_end: u32,
    /// Past the zeroes behind them; 0 for none.
    bss_end: u32,
}

impl Addresses {
    /// The program in `file`, whose header is at `header_offset`.
    fn program(self, file: Image<'_>, header_offset: usize) -> Result<Program<'_>, LoadError> {
        let bad = |field, value: u32| LoadError::BadHeader {
            file: file.name.into(),
            field,
            value: u64::from(value),
        };
        let offset = self
            .header
            .checked_sub(self.load)
            .and_then(|before| header_offset.checked_sub(usize::try_from(before).ok()?))
            .ok_or_else(|| bad("load_addr", self.load))?;
        let rest = file.bytes.get(offset..).unwrap_or_default();
        let bytes = match self.load_end {
            0 => rest,
            end => {
                let length = end.checked_sub(self.load).ok_or_else(|| bad("load_end_addr", end))?;
                usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or_else(|| {
                    LoadError::Truncated {
                        file: file.name.into(),
                        has: file.bytes.len() as u64,
                        needs: offset as u64 + u64::from(length),
                    }
                })?
            }
        };
        if bytes.is_empty() {
            return Err(bad("load_end_addr", self.load_end));
        }
        let loaded_end = u64::from(self.load) + bytes.len() as u64;
        let end = match self.bss_end {
            0 => loaded_end,
            end if u64::from(end) >= loaded_end => u64::from(end),
            end => return Err(bad("bss_end_addr", end)),
        };
        Ok(Program::flat(file, Gpa::new(self.load.into()), end, bytes))
    }
}

/// The first place in the first `most` bytes of `bytes`, at a multiple of `alignment`, where a header's fixed part of
/// `LENGTH` words begins with `magic` and sums up to zero.
fn search<const LENGTH: usize>(
    bytes: &[u8],
    magic: u32,
    most: usize,
    alignment: usize,
) -> Option<(usize, [u32; LENGTH])> {
    let searched = bytes.get(..most).unwrap_or(bytes);
    (0..searched.len()).step_by(alignment).find_map(|offset| {
        let words = words::<LENGTH>(searched, offset)?;
        let sum = words.iter().fold(0_u32, |sum, word| sum.wrapping_add(*word));
        (words.first() == Some(&magic) && sum == 0).then_some((offset, words))
    })
}

/// The little-endian words at `offset`.
fn words<const LENGTH: usize>(bytes: &[u8], offset: usize) -> Option<[u32; LENGTH]> {
    let mut words = [0; LENGTH];
    let mut rest = bytes.get(offset..)?;
    for word in &mut words {
        let (first, behind) = rest.split_first_chunk::<4>()?;
        *word = u32::from_le_bytes(*first);
        rest = behind;
    }
    Some(words)
}

/// An address or length below 4 GiB, which all placed things are.
#[expect(clippy::cast_possible_truncation, reason = "placement keeps everything below 4 GiB")]
const fn low_half(value: u64) -> u32 {
    value as u32
}

/// KiB of memory below 640 KiB, and from 1 MiB up to the first hole.
fn memory_kib(layout: &MemoryLayout) -> (u32, u32) {
    let upper = layout.low_end().get().saturating_sub(HIGH_MEMORY.get());
    (low_half(CONVENTIONAL_END.get() / KIB), low_half(upper / KIB))
}
