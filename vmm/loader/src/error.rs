//! Why a guest could not be loaded, in words that name the file, what is wrong with it, and what to do.

use crate::MultibootProblem;
use alloc::string::String;
use arch::{Gpa, MIB};
use core::fmt;

/// Why an image is not a kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotKernel {
    /// It has no bytes.
    Empty,
    /// It has neither the signature of a bzImage nor that of an ELF file.
    NoSignature,
    /// It was to be booted as a bzImage and has not its signature.
    NotBzImage,
    /// It was to be booted by PVH and is not an ELF file.
    NotElf,
    /// It was to be booted by Multiboot, whose header has no addresses, and is not an ELF file.
    NoAddresses,
    /// It is a compressed file of the named format.
    Compressed(&'static str),
    /// It is a cpio archive: an initramfs.
    Cpio,
}

/// A machine that this is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OtherArchitecture {
    /// 64-bit Arm.
    Arm64,
    /// 32-bit Arm.
    Arm,
    /// RISC-V.
    RiscV,
    /// An ELF file for the machine with this number.
    Elf(u16),
}

/// Why a guest could not be loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LoadError {
    /// The kernel image is something else.
    NotKernel {
        /// The image's name.
        file: String,
        /// What it is instead.
        why: NotKernel,
    },
    /// The kernel is for another machine.
    WrongArchitecture {
        /// The image's name.
        file: String,
        /// Which one.
        found: OtherArchitecture,
    },
    /// The image ends before the length that its header declares.
    Truncated {
        /// The image's name.
        file: String,
        /// Its length in bytes.
        has: u64,
        /// The length it should have at least, in bytes.
        needs: u64,
    },
    /// A field of the image's header has a value that cannot be.
    BadHeader {
        /// The image's name.
        file: String,
        /// The field, as the format's specification names it.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The bzImage's boot protocol is older than the one that was asked for.
    OldProtocol {
        /// The image's name.
        file: String,
        /// Its protocol version, major in the high byte.
        version: u16,
        /// The oldest that would do, in the same form.
        least: u16,
    },
    /// The bzImage has no 64-bit entry point, and was to be booted by it.
    No64BitEntry {
        /// The image's name.
        file: String,
    },
    /// The ELF file cannot be parsed.
    BadElf {
        /// The image's name.
        file: String,
        /// The parser's words.
        detail: String,
    },
    /// The ELF file has no PVH entry note.
    NoPvhEntry {
        /// The image's name.
        file: String,
    },
    /// The ELF file has neither a PVH entry note nor a Multiboot header.
    NoWayToBoot {
        /// The image's name.
        file: String,
    },
    /// The ELF file has no loadable segment.
    NothingToLoad {
        /// The image's name.
        file: String,
    },
    /// What the kernel's Multiboot header asks for cannot be had.
    Multiboot {
        /// The image's name.
        file: String,
        /// What it is.
        why: MultibootProblem,
    },
    /// The entry point is outside of everything that was loaded.
    EntryOutside {
        /// The image's name.
        file: String,
        /// The entry point, guest-physical.
        entry: Gpa,
    },
    /// The kernel wants to lie where the boot structures are.
    KernelTooLow {
        /// The image's name.
        file: String,
        /// Where it wants to lie, guest-physical.
        start: Gpa,
        /// The lowest address that is free.
        lowest: Gpa,
    },
    /// The operator's entry point is outside of the flat image.
    FlatEntryOutside {
        /// The image's name.
        file: String,
        /// The entry point, guest-physical.
        entry: Gpa,
        /// Where the image begins.
        start: Gpa,
        /// The first address past it.
        end: Gpa,
    },
    /// The kernel wants to lie where the firmware's tables are.
    KernelOverFirmware {
        /// The image's name.
        file: String,
        /// Where the part in question wants to lie, guest-physical.
        start: Gpa,
        /// The first address past it.
        end: Gpa,
    },
    /// Two parts of the kernel want to lie at one place.
    PartsOverlap {
        /// The image's name.
        file: String,
        /// Where the second one wants to lie, guest-physical.
        start: Gpa,
        /// The first address past it.
        end: Gpa,
    },
    /// The kernel does not fit in the memory.
    KernelTooLarge {
        /// The image's name.
        file: String,
        /// The first guest-physical address past what it needs.
        end: u64,
        /// Where the memory ends that it can use.
        memory_end: Gpa,
    },
    /// The initramfs does not fit beside the kernel.
    InitramfsTooLarge {
        /// The image's name.
        file: String,
        /// Its length in bytes.
        bytes: u64,
        /// The room that there is, in bytes.
        room: u64,
        /// The guest's RAM, in bytes.
        memory: u64,
    },
    /// The initramfs has no bytes.
    InitramfsEmpty {
        /// The image's name.
        file: String,
    },
    /// A module has no bytes.
    ModuleEmpty {
        /// The image's name.
        file: String,
    },
    /// A module does not fit beside the kernel and the modules before it.
    ModuleTooLarge {
        /// The image's name.
        file: String,
        /// Its length in bytes.
        bytes: u64,
        /// The largest free piece of memory, in bytes.
        room: u64,
        /// The guest's RAM, in bytes.
        memory: u64,
    },
    /// A module's text has a zero byte inside.
    ModuleStringHasZero {
        /// The image's name.
        file: String,
    },
    /// There is no room for command line, texts and memory map, or for a stack.
    NoRoomForBootInformation {
        /// What they take, in bytes.
        bytes: u64,
        /// The largest free piece of memory, in bytes.
        room: u64,
    },
    /// Something was to be passed to the kernel which this way to boot it does not pass.
    NotPassed {
        /// What it is, as the configuration names it.
        what: &'static str,
        /// The way to boot, as the configuration names it.
        boot: &'static str,
        /// Ways to boot that do.
        instead: &'static str,
    },
    /// The command line is longer than the kernel takes.
    CommandLineTooLong {
        /// Its length in bytes.
        bytes: u64,
        /// The longest that the kernel takes, in bytes.
        most: u64,
    },
    /// The command line has a zero byte inside.
    CommandLineHasZero,
    /// The guest has less RAM than anything could run in.
    MemoryTooSmall {
        /// Its RAM, in bytes.
        memory: u64,
        /// The least, in bytes.
        least: u64,
    },
    /// The guest's RAM is not a multiple of the page size, or more than a guest can address.
    MemoryNotUsable {
        /// Its RAM, in bytes.
        memory: u64,
        /// The most, in bytes.
        most: u64,
    },
    /// The memory to load into has a hole where the description promised RAM. The caller's mistake.
    OutsideRam {
        /// Where the copy began.
        gpa: Gpa,
        /// Its length in bytes.
        length: u64,
    },
}

impl fmt::Display for NotKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::NoSignature => {
                f.write_str("it has neither a bzImage header (HdrS) nor an ELF header nor a multiboot header")
            }
            Self::NotBzImage => {
                f.write_str("it has no bzImage header (HdrS), which boot = \"linux\" and \"linux32\" need")
            }
            Self::NoAddresses => {
                f.write_str("its multiboot header has no load addresses, and it has no ELF header")
            }
            Self::NotElf => f.write_str("it has no ELF header, which boot = \"pvh\" needs"),
            Self::Compressed(format) => write!(f, "it is a {format} file: unpack it"),
            Self::Cpio => f.write_str("it is a cpio archive: are kernel and initramfs exchanged?"),
        }
    }
}

impl fmt::Display for OtherArchitecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arm64 => f.write_str("64-bit Arm"),
            Self::Arm => f.write_str("32-bit Arm"),
            Self::RiscV => f.write_str("RISC-V"),
            Self::Elf(machine) => write!(f, "ELF machine number {machine}"),
        }
    }
}

/// Bytes as MiB, rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(MIB)
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotKernel { file, why } => {
                write!(
                    f,
                    "`{file}` is not a kernel: {why}; name a bzImage, an ELF kernel with a PVH note, or a multiboot \
                     kernel for x86"
                )
            }
            Self::WrongArchitecture { file, found } => {
                write!(f, "`{file}` is a kernel for {found}; this machine runs x86 kernels: use one")
            }
            Self::Truncated { file, has, needs } => write!(
                f,
                "`{file}` is cut short: it has {has} bytes and its header declares {needs}; copy it again"
            ),
            Self::BadHeader { file, field, value } => write!(
                f,
                "`{file}` is damaged: its header field {field} has the impossible value {value:#x}; copy it again"
            ),
            Self::OldProtocol { file, version, least } => write!(
                f,
                "`{file}` has boot protocol {}.{:02}, and {}.{:02} or later is needed; use a newer kernel",
                version >> 8,
                version & 0xff,
                least >> 8,
                least & 0xff
            ),
            Self::No64BitEntry { file } => {
                write!(f, "`{file}` has no 64-bit entry point; use boot = \"linux32\", or a 64-bit kernel")
            }
            Self::BadElf { file, detail } => {
                write!(f, "`{file}` is a damaged ELF file: {detail}; copy it again")
            }
            Self::NoPvhEntry { file } => write!(
                f,
                "`{file}` is an ELF file without a PVH entry note (XEN_ELFNOTE_PHYS32_ENTRY); use a kernel built with \
                 CONFIG_PVH, or its bzImage"
            ),
            Self::NoWayToBoot { file } => write!(
                f,
                "`{file}` is an ELF file with neither a PVH entry note (XEN_ELFNOTE_PHYS32_ENTRY) nor a multiboot header; \
                 use a kernel that has one, or say how to boot it"
            ),
            Self::NothingToLoad { file } => {
                write!(f, "`{file}` is an ELF file without a loadable segment; use a linked kernel")
            }
            Self::Multiboot { file, why } => write!(f, "`{file}` cannot be booted: {why}"),
            Self::EntryOutside { file, entry } => {
                write!(
                    f,
                    "`{file}` is damaged: its entry point {entry} is in none of its segments; copy it again"
                )
            }
            Self::KernelTooLow { file, start, lowest } => write!(
                f,
                "`{file}` wants to lie at {start}, where the boot structures are; link it at {lowest} or above"
            ),
            Self::FlatEntryOutside { file, entry, start, end } => write!(
                f,
                "`{file}` lies from {start} to {end}, and its entry {entry} is outside; correct load_address or entry"
            ),
            Self::KernelOverFirmware { file, start, end } => write!(
                f,
                "`{file}` wants to lie from {start} to {end}, and the firmware's tables are from 0xa0000 to 0x100000; \
                 place it elsewhere"
            ),
            Self::PartsOverlap { file, start, end } => write!(
                f,
                "`{file}` is damaged: two of its parts want to lie in {start} to {end}; copy it again"
            ),
            Self::KernelTooLarge { file, end, memory_end } => write!(
                f,
                "`{file}` needs memory up to {} MiB and the virtual machine has {} MiB for it; give it more memory",
                mib(*end),
                memory_end.get() / MIB
            ),
            Self::InitramfsTooLarge { file, bytes, room, memory } => write!(
                f,
                "initramfs `{file}` has {bytes} bytes ({} MiB) and beside the kernel there is room for {room} ({} MiB) \
                 in the virtual machine's {} MiB; give it more memory, or use a smaller initramfs",
                mib(*bytes),
                room / MIB,
                memory / MIB
            ),
            Self::InitramfsEmpty { file } => {
                write!(f, "initramfs `{file}` is empty; copy it again, or remove it from the configuration")
            }
            Self::ModuleEmpty { file } => {
                write!(f, "module `{file}` is empty; copy it again, or remove it from the configuration")
            }
            Self::ModuleTooLarge { file, bytes, room, memory } => write!(
                f,
                "module `{file}` has {bytes} bytes ({} MiB) and the largest free piece of the virtual machine's {} MiB \
                 has {room} ({} MiB); give it more memory",
                mib(*bytes),
                memory / MIB,
                room / MIB
            ),
            Self::ModuleStringHasZero { file } => {
                write!(f, "the text of module `{file}` has a zero byte, which would end it; remove it")
            }
            Self::NoRoomForBootInformation { bytes, room } => write!(
                f,
                "command line, modules' texts and memory map take {bytes} bytes and the largest free piece of memory has \
                 {room}; shorten them, or give the virtual machine more memory"
            ),
            Self::NotPassed { what, boot, instead } => write!(
                f,
                "boot = \"{boot}\" passes no {what} to the kernel; remove it, or use boot = {instead}"
            ),
            Self::CommandLineTooLong { bytes, most } => {
                write!(f, "the command line has {bytes} bytes and the kernel takes {most}; shorten it")
            }
            Self::CommandLineHasZero => {
                f.write_str("the command line has a zero byte, which would end it; remove it")
            }
            Self::MemoryTooSmall { memory, least } => write!(
                f,
                "the virtual machine has {memory} bytes of memory and nothing runs in less than {} MiB; give it more",
                least / MIB
            ),
            Self::MemoryNotUsable { memory, most } => write!(
                f,
                "the virtual machine's memory of {memory} bytes is not a multiple of 4096 up to {} MiB; change it",
                most / MIB
            ),
            Self::OutsideRam { gpa, length } => {
                write!(
                    f,
                    "no memory is mapped for {length} bytes at {gpa} of the virtual machine; report this"
                )
            }
        }
    }
}

impl core::error::Error for LoadError {}
