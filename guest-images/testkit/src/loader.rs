//! What the boot loader left: the command line, and where the ACPI tables begin.
//!
//! Source: Xen, "x86/HVM direct boot ABI" (`hvm_start_info`); "Multiboot2 Specification", "Boot information format".

use crate::machine::physical::{read_u8, read_u32, read_u64};

/// Size of the copy that is kept of the command line; what is longer is cut.
const COMMAND_LINE_MAX: usize = 4096;
const MULTIBOOT2_MAGIC: u64 = 0x36d7_6289;
const PVH_MAGIC: u32 = 0x336e_c578;
/// Multiboot2 tags: the end, the command line, a copy of the RSDP in its first and in its longer form.
const TAG_END: u32 = 0;
const TAG_COMMAND_LINE: u32 = 1;
const TAG_RSDP_OLD: u32 = 14;
const TAG_RSDP: u32 = 15;

/// The structure of one of the two loaders.
#[derive(Clone, Copy)]
pub(crate) enum Loader {
    /// `hvm_start_info` at this physical address.
    Pvh(u64),
    /// The boot information at this physical address.
    Multiboot2(u64),
    /// Neither.
    Unknown,
}

/// The command line, copied out of the loader's memory.
pub(crate) struct CommandLine {
    bytes: [u8; COMMAND_LINE_MAX],
    length: usize,
}

impl CommandLine {
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
        if magic == MULTIBOOT2_MAGIC {
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
            Self::Multiboot2(info) => tag(info, TAG_COMMAND_LINE),
            Self::Unknown => None,
        };
        let mut line = CommandLine { bytes: [0; COMMAND_LINE_MAX], length: 0 };
        let Some(address) = address else { return line };
        for (byte, at) in line.bytes.iter_mut().zip(address..) {
            *byte = read_u8(at);
            if *byte == 0 {
                break;
            }
            line.length += 1;
        }
        line
    }

    /// Physical address of the ACPI RSDP or of the loader's copy of it.
    pub(crate) fn rsdp(self) -> Option<u64> {
        match self {
            // `hvm_start_info.rsdp_paddr`.
            Self::Pvh(info) => Some(read_u64(info + 32)).filter(|&address| address != 0),
            Self::Multiboot2(info) => tag(info, TAG_RSDP).or_else(|| tag(info, TAG_RSDP_OLD)),
            Self::Unknown => None,
        }
    }
}

/// Address of the content of the first tag of `kind` in a Multiboot2 information structure.
fn tag(info: u64, kind: u32) -> Option<u64> {
    let end = info + u64::from(read_u32(info));
    let mut tag = info + 8;
    while tag < end {
        let size = u64::from(read_u32(tag + 4)).max(8);
        match read_u32(tag) {
            found if found == kind => return Some(tag + 8),
            TAG_END => return None,
            _ => tag += size.next_multiple_of(8),
        }
    }
    None
}
