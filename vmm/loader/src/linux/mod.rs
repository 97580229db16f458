//! Loads a bzImage by the 64-bit or the 32-bit Linux boot protocol.
//!
//! "The Linux/x86 Boot Protocol", "64-bit Boot Protocol" and "32-bit Boot Protocol". The real-mode part of the image is not used, except its
//! header; nothing asks for a video mode, and there is no EFI handover.

mod spec;
#[cfg(test)]
mod tests;

use crate::image::{LINUX_MAGIC, has, not_kernel};
use crate::layout::{BOOT_PARAMS, COMMAND_LINE, GDT, HIGH_MEMORY, MemoryLayout, PAGE_TABLES};
use crate::payload::{CommandLine, Ramdisk};
use crate::{EntryState, Image, LoadError, NotKernel, VmDescription, copy, end_of};
use alloc::vec::Vec;
use arch::{Gpa, Gpr, MIB, PAGE_SIZE};
use memory::GuestMemory;
use spec::{E820Entry, SetupHeader};
use zerocopy::{FromBytes, IntoBytes};

/// Which of its entry points a kernel is started by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// In 64-bit mode.
    Bits64,
    /// In protected mode, paging off.
    Bits32,
}

/// Whether the bzImage `bytes` says that it has a 64-bit entry point.
pub(crate) fn has_64_bit_entry(bytes: &[u8]) -> bool {
    let header = bytes.get(spec::SETUP_HEADER..).and_then(|rest| SetupHeader::read_from_prefix(rest).ok());
    // One that is cut short is found out later.
    header.is_none_or(|(header, _)| {
        header.version.get() >= spec::VERSION_2_12 && header.xloadflags.get() & spec::XLF_KERNEL_64 != 0
    })
}

/// A bzImage whose header was checked against its length.
struct BzImage<'a> {
    file: Image<'a>,
    header: SetupHeader,
    /// The code that is loaded.
    protected_mode: &'a [u8],
}

/// Loads the bzImage that `vm` names; `rsdp` is where the ACPI tables begin.
pub(crate) fn load(
    memory: &impl GuestMemory,
    vm: &VmDescription<'_>,
    layout: &MemoryLayout,
    rsdp: Gpa,
    entry: Entry,
) -> Result<EntryState, LoadError> {
    let image = BzImage::parse(vm.kernel, entry)?;
    let (kernel, kernel_end) = image.place(layout)?;
    let command_line = CommandLine::new(vm.cmdline, u64::from(image.header.cmdline_size.get()))?;
    let ramdisk = match vm.initramfs {
        Some(file) => {
            let limit = u64::from(image.header.initrd_addr_max.get()) + 1;
            Some(Ramdisk::place(file, kernel_end, limit, layout)?)
        }
        None => None,
    };

    copy::write(memory, kernel, image.protected_mode)?;
    command_line.write(memory)?;
    if let Some(ramdisk) = &ramdisk {
        copy::write(memory, ramdisk.start, ramdisk.file.bytes)?;
    }
    let params = boot_params(&image, kernel, ramdisk.as_ref(), layout, rsdp);
    copy::write(memory, BOOT_PARAMS, &params)?;
    let state = match entry {
        Entry::Bits64 => {
            write_page_tables(memory)?;
            copy::write(memory, GDT, EntryState::descriptors().as_bytes())?;
            EntryState::long_mode((kernel + spec::ENTRY_64).get(), PAGE_TABLES, GDT)
        }
        Entry::Bits32 => {
            copy::write(memory, GDT, EntryState::descriptors_32().as_bytes())?;
            EntryState::protected_mode_with_table(kernel.get(), GDT)
        }
    };
    Ok(state.with(Gpr::Rsi, BOOT_PARAMS.get()))
}

impl<'a> BzImage<'a> {
    /// Checks `file`'s header, and that the file is as long as it says.
    fn parse(file: Image<'a>, entry: Entry) -> Result<Self, LoadError> {
        if !has(file.bytes, LINUX_MAGIC) {
            return Err(not_kernel(file, NotKernel::NotBzImage));
        }
        let truncated =
            |needs: u64| LoadError::Truncated { file: file.name.into(), has: file.bytes.len() as u64, needs };
        let header_end = (spec::SETUP_HEADER + size_of::<SetupHeader>()) as u64;
        let header = file.bytes.get(spec::SETUP_HEADER..).and_then(|rest| {
            let (header, _) = SetupHeader::read_from_prefix(rest).ok()?;
            Some(header)
        });
        let header = header.ok_or_else(|| truncated(header_end))?;
        Self::check(file, &header, entry)?;

        let sectors = match header.setup_sects {
            0 => spec::DEFAULT_SETUP_SECTORS,
            sectors => sectors,
        };
        let setup_bytes = (usize::from(sectors) + 1) * spec::SECTOR;
        let code_bytes = u64::from(header.syssize.get()) * spec::PARAGRAPH;
        let needs = setup_bytes as u64 + code_bytes;
        let protected_mode = usize::try_from(code_bytes)
            .ok()
            .and_then(|code_bytes| file.bytes.get(setup_bytes..)?.get(..code_bytes))
            .ok_or_else(|| truncated(needs))?;
        if code_bytes <= spec::ENTRY_64 {
            return Err(bad_header(file, "syssize", u64::from(header.syssize.get())));
        }
        Ok(Self { file, header, protected_mode })
    }

    /// Checks the header's fields on their own.
    fn check(file: Image<'_>, header: &SetupHeader, entry: Entry) -> Result<(), LoadError> {
        if header.boot_flag.get() != spec::BOOT_FLAG {
            return Err(bad_header(file, "boot_flag", u64::from(header.boot_flag.get())));
        }
        let version = header.version.get();
        let least = match entry {
            Entry::Bits64 => spec::VERSION_2_12,
            Entry::Bits32 => spec::VERSION_2_10,
        };
        if version < least {
            return Err(LoadError::OldProtocol { file: file.name.into(), version, least });
        }
        if entry == Entry::Bits64 && header.xloadflags.get() & spec::XLF_KERNEL_64 == 0 {
            return Err(LoadError::No64BitEntry { file: file.name.into() });
        }
        if header.loadflags & spec::LOADED_HIGH == 0 {
            return Err(bad_header(file, "loadflags", u64::from(header.loadflags)));
        }
        if !header.kernel_alignment.get().is_power_of_two() {
            return Err(bad_header(file, "kernel_alignment", u64::from(header.kernel_alignment.get())));
        }
        if !header.pref_address.get().is_multiple_of(PAGE_SIZE) {
            return Err(bad_header(file, "pref_address", header.pref_address.get()));
        }
        Ok(())
    }

    /// Where the code goes, and the end of the memory that the kernel needs from there until it has read the map
    /// of memory.
    ///
    /// A relocatable kernel that is loaded below its preferred address moves itself up to it, so there is nothing
    /// to gain from loading it lower where memory is short.
    fn place(&self, layout: &MemoryLayout) -> Result<(Gpa, u64), LoadError> {
        let start = Gpa::new(self.header.pref_address.get());
        let file = || self.file.name.into();
        if start < HIGH_MEMORY {
            return Err(LoadError::KernelTooLow { file: file(), start, lowest: HIGH_MEMORY });
        }
        let needs = u64::from(self.header.init_size.get()).max(self.protected_mode.len() as u64);
        let end = end_of(start, needs).ok_or_else(|| bad_header(self.file, "pref_address", start.get()))?;
        if end > layout.low_end().get() {
            return Err(LoadError::KernelTooLarge { file: file(), end, memory_end: layout.low_end() });
        }
        Ok((start, end))
    }
}

fn bad_header(file: Image<'_>, field: &'static str, value: u64) -> LoadError {
    LoadError::BadHeader { file: file.name.into(), field, value }
}

/// The bytes of `boot_params`.
fn boot_params(
    image: &BzImage<'_>,
    kernel: Gpa,
    ramdisk: Option<&Ramdisk<'_>>,
    layout: &MemoryLayout,
    rsdp: Gpa,
) -> Vec<u8> {
    let mut header = image.header.clone();
    header.vid_mode = spec::VIDEO_NORMAL.into();
    header.type_of_loader = spec::LOADER_UNDEFINED;
    header.code32_start = low_half(kernel.get()).into();
    header.cmd_line_ptr = low_half(COMMAND_LINE.get()).into();
    header.ramdisk_image = low_half(ramdisk.map_or(0, |ramdisk| ramdisk.start.get())).into();
    header.ramdisk_size = low_half(ramdisk.map_or(0, |ramdisk| ramdisk.file.bytes.len() as u64)).into();

    let mut page = Page(alloc::vec![0; spec::BOOT_PARAMS_SIZE]);
    // The header may be longer than the fields we know: all of it belongs in `boot_params`.
    let displacement = header.jump[1];
    let end = (spec::JUMP_END + usize::from(displacement)).min(spec::SETUP_HEADER_END);
    page.put(spec::SETUP_HEADER, image.file.bytes.get(spec::SETUP_HEADER..end).unwrap_or_default());
    page.put(spec::SETUP_HEADER, header.as_bytes());

    page.put(spec::ACPI_RSDP_ADDR, &rsdp.get().to_le_bytes());
    let mut offset = spec::E820_TABLE;
    let mut entries = 0_u8;
    for range in layout.firmware_map() {
        let entry = E820Entry {
            addr: range.start.get().into(),
            size: range.bytes.into(),
            kind: (range.kind as u32).into(),
        };
        page.put(offset, entry.as_bytes());
        offset += size_of::<E820Entry>();
        entries += 1;
    }
    page.put(spec::E820_ENTRIES, &[entries]);
    page.0
}

/// A page that is filled in at offsets.
struct Page(Vec<u8>);

impl Page {
    /// Puts `bytes` at `offset`; the offsets are the protocol's and inside the page.
    fn put(&mut self, offset: usize, bytes: &[u8]) {
        if let Some(place) = self.0.get_mut(offset..offset + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }
}

/// An address or length below 4 GiB, which all placed things are.
#[expect(clippy::cast_possible_truncation, reason = "placement keeps everything below 4 GiB")]
const fn low_half(value: u64) -> u32 {
    value as u32
}

/// Maps the first 4 GiB to themselves with 2 MiB pages.
///
/// SDM Vol. 3A, "4-Level Paging and 5-Level Paging".
fn write_page_tables(memory: &impl GuestMemory) -> Result<(), LoadError> {
    const PRESENT_WRITABLE: u64 = 0x3;
    const LARGE: u64 = 1 << 7;
    const DIRECTORIES: u64 = 4;
    const ENTRIES: u64 = PAGE_SIZE / 8;

    let pointers = PAGE_TABLES + PAGE_SIZE;
    let directories = pointers + PAGE_SIZE;
    copy::zero(memory, PAGE_TABLES, 2 * PAGE_SIZE)?;
    copy::write(memory, PAGE_TABLES, &(pointers.get() | PRESENT_WRITABLE).to_le_bytes())?;
    let table: Vec<u64> =
        (0..DIRECTORIES).map(|index| (directories + index * PAGE_SIZE).get() | PRESENT_WRITABLE).collect();
    copy::write(memory, pointers, table.as_bytes())?;
    let pages: Vec<u64> =
        (0..DIRECTORIES * ENTRIES).map(|index| (index * 2 * MIB) | PRESENT_WRITABLE | LARGE).collect();
    copy::write(memory, directories, pages.as_bytes())
}
