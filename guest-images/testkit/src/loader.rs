//! What the boot loader left: the command line, and where the ACPI tables begin.
//!
//! Source: Xen, "x86/HVM direct boot ABI" (`hvm_start_info`); "Multiboot Specification" and "Multiboot2 Specification",
//! "Boot information format"; ACPI Specification, "Finding the RSDP on IA-PC Systems".

use crate::machine::physical::{read_u8, read_u32, read_u64};

/// Size of the copy that is kept of the command line; what is longer is cut.
const COMMAND_LINE_MAX: usize = 4096;
const MULTIBOOT_MAGIC: u64 = 0x2bad_b002;
const MULTIBOOT2_MAGIC: u64 = 0x36d7_6289;
const PVH_MAGIC: u32 = 0x336e_c578;
/// Multiboot2 tags: the end, the command line, a module, a copy of the RSDP in its first and in its longer form.
const TAG_END: u32 = 0;
const TAG_COMMAND_LINE: u32 = 1;
const TAG_MODULE: u32 = 3;
const TAG_RSDP_OLD: u32 = 14;
const TAG_RSDP: u32 = 15;

/// Multiboot's flags of what its structure has: a command line, modules.
const HAS_COMMAND_LINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;

/// The structure of one of the loaders.
#[derive(Clone, Copy)]
pub(crate) enum Loader {
    /// `hvm_start_info` at this physical address.
    Pvh(u64),
    /// Multiboot's information at this physical address.
    Multiboot(u64),
    /// Multiboot2's.
    Multiboot2(u64),
    /// None of them.
    Unknown,
}

/// The command line, copied out of the loader's memory.
pub(crate) struct CommandLine {
    bytes: [u8; COMMAND_LINE_MAX],
    length: usize,
}

impl CommandLine {
    const EMPTY: Self = Self { bytes: [0; COMMAND_LINE_MAX], length: 0 };

    /// A copy of the text at `address`, which ends with a zero byte.
    fn at(address: u64) -> Self {
        let mut line = Self::EMPTY;
        for (byte, at) in line.bytes.iter_mut().zip(address..) {
            *byte = read_u8(at);
            if *byte == 0 {
                break;
            }
            line.length += 1;
        }
        line
    }

    /// All of it.
    pub(crate) fn text(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.length]).unwrap_or("?")
    }

    /// The value of `key=` in the command line, if it is there.
    pub(crate) fn value_of(&self, key: &str) -> Option<&str> {
        let line = core::str::from_utf8(&self.bytes[..self.length]).ok()?;
        line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// The number behind `key=`.
    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        self.value_of(key)?.parse().ok()
    }
}

impl Loader {
    /// Tells the loaders apart by what they left in EBX (`info`) and EAX (`magic`).
    pub(crate) fn from_registers(info: u64, magic: u64) -> Self {
        if magic == MULTIBOOT_MAGIC {
            Self::Multiboot(info)
        } else if magic == MULTIBOOT2_MAGIC {
            Self::Multiboot2(info)
        } else if info != 0 && read_u32(info) == PVH_MAGIC {
            Self::Pvh(info)
        } else {
            Self::Unknown
        }
    }

    /// The command line; empty where there is none.
    pub(crate) fn command_line(self) -> CommandLine {
        let address = match self {
            // `hvm_start_info.cmdline_paddr`.
            Self::Pvh(info) => Some(read_u64(info + 24)).filter(|&address| address != 0),
            Self::Multiboot(info) if read_u32(info) & HAS_COMMAND_LINE != 0 => {
                Some(u64::from(read_u32(info + 16)))
            }
            Self::Multiboot2(info) => tag(info, TAG_COMMAND_LINE),
            Self::Multiboot(_) | Self::Unknown => None,
        };
        address.map_or(CommandLine::EMPTY, CommandLine::at)
    }

    /// What the loader is called, and the number of modules with the first one's string.
    pub(crate) fn modules(self) -> (&'static str, u64, CommandLine) {
        match self {
            Self::Pvh(info) => {
                // `hvm_start_info.nr_modules` and `modlist_paddr`; in an entry, `cmdline_paddr`.
                let (count, list) = (read_u32(info + 12).into(), read_u64(info + 16));
                let string = if count == 0 { 0 } else { read_u64(list + 16) };
                ("pvh", count, if string == 0 { CommandLine::EMPTY } else { CommandLine::at(string) })
            }
            Self::Multiboot(info) if read_u32(info) & HAS_MODULES != 0 && read_u32(info + 20) != 0 => {
                let list = u64::from(read_u32(info + 24));
                ("multiboot", read_u32(info + 20).into(), CommandLine::at(read_u32(list + 8).into()))
            }
            Self::Multiboot(_) => ("multiboot", 0, CommandLine::EMPTY),
            Self::Multiboot2(info) => {
                let first = tag(info, TAG_MODULE).map_or(CommandLine::EMPTY, |tag| CommandLine::at(tag + 8));
                ("multiboot2", tags(info).filter(|tag| tag.kind == TAG_MODULE).count() as u64, first)
            }
            Self::Unknown => ("unknown", 0, CommandLine::EMPTY),
        }
    }

    /// Physical address of the ACPI RSDP or of the loader's copy of it.
    pub(crate) fn rsdp(self) -> Option<u64> {
        match self {
            // `hvm_start_info.rsdp_paddr`.
            Self::Pvh(info) => Some(read_u64(info + 32)).filter(|&address| address != 0),
            Self::Multiboot2(info) => tag(info, TAG_RSDP).or_else(|| tag(info, TAG_RSDP_OLD)),
            Self::Multiboot(_) => scan_for_rsdp(),
            Self::Unknown => None,
        }
    }
}

/// Looks for the RSDP where a PC's firmware leaves it.
fn scan_for_rsdp() -> Option<u64> {
    const SIGNATURE: u64 = u64::from_le_bytes(*b"RSD PTR ");
    (0xe_0000..0x10_0000).step_by(16).find(|&at| read_u64(at) == SIGNATURE)
}

/// A tag of a Multiboot2 information structure.
struct Tag {
    kind: u32,
    /// Address of what is in it.
    content: u64,
}

/// The tags of a Multiboot2 information structure before the one that ends it.
fn tags(info: u64) -> impl Iterator<Item = Tag> {
    let end = info + u64::from(read_u32(info));
    let mut at = info + 8;
    core::iter::from_fn(move || {
        let tag = (at < end).then(|| Tag { kind: read_u32(at), content: at + 8 })?;
        at += u64::from(read_u32(at + 4)).max(8).next_multiple_of(8);
        (tag.kind != TAG_END).then_some(tag)
    })
}

/// Address of the content of the first tag of `kind` in a Multiboot2 information structure.
fn tag(info: u64, kind: u32) -> Option<u64> {
    tags(info).find(|tag| tag.kind == kind).map(|tag| tag.content)
}
