//! Why a guest could not be loaded, in words that name the file, what is wrong with it, and what to do.

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
    /// An x86 bzImage without a 64-bit entry point.
    X86Only32Bit,
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
    /// The bzImage's boot protocol is older than the 64-bit one.
    OldProtocol {
        /// The image's name.
        file: String,
        /// Its protocol version, major in the high byte.
        version: u16,
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
    /// The PVH entry point is outside of everything that was loaded.
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
            Self::NoSignature => f.write_str("it has neither a bzImage header (HdrS) nor an ELF header"),
            Self::NotBzImage => f.write_str("it has no bzImage header (HdrS), which boot = \"linux\" needs"),
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
            Self::X86Only32Bit => f.write_str("32-bit x86 only"),
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
                    "`{file}` is not a kernel: {why}; name an x86-64 bzImage or an ELF kernel with a PVH note"
                )
            }
            Self::WrongArchitecture { file, found } => {
                write!(f, "`{file}` is a kernel for {found}; this machine runs x86-64 kernels: use one")
            }
            Self::Truncated { file, has, needs } => write!(
                f,
                "`{file}` is cut short: it has {has} bytes and its header declares {needs}; copy it again"
            ),
            Self::BadHeader { file, field, value } => write!(
                f,
                "`{file}` is damaged: its header field {field} has the impossible value {value:#x}; copy it again"
            ),
            Self::OldProtocol { file, version } => write!(
                f,
                "`{file}` has boot protocol {}.{:02}, the 64-bit entry needs 2.12 (Linux 3.8) or later; use a newer \
                 kernel",
                version >> 8,
                version & 0xff
            ),
            Self::BadElf { file, detail } => {
                write!(f, "`{file}` is a damaged ELF file: {detail}; copy it again")
            }
            Self::NoPvhEntry { file } => write!(
                f,
                "`{file}` is an ELF file without a PVH entry note (XEN_ELFNOTE_PHYS32_ENTRY); use a kernel built with \
                 CONFIG_PVH, or its bzImage"
            ),
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
