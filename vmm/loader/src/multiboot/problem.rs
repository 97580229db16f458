//! What a Multiboot header asks for that cannot be had.

use core::fmt;

/// Why a kernel cannot be booted by Multiboot, though its file is sound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MultibootProblem {
    /// There is no Multiboot header in the first 8 KiB.
    NoHeader1,
    /// There is no Multiboot2 header in the first 32 KiB.
    NoHeader2,
    /// There is neither an ELF header nor are there addresses in the Multiboot header.
    NoAddresses,
    /// These required flags of a Multiboot header mean nothing.
    Flags(u32),
    /// The kernel wants a video mode, or a screen that is none of a text terminal.
    Screen,
    /// The Multiboot2 header is for this other architecture.
    Architecture(u32),
    /// This required tag of a Multiboot2 header means nothing.
    Tag(u16),
    /// The kernel requires boot information of this kind.
    Information(u32),
    /// The kernel can be moved, but not to where there is room for it.
    NoPlace {
        /// What it needs, in bytes.
        bytes: u64,
        /// The lowest address that it can lie at.
        lowest: u32,
        /// The highest address that it can reach.
        highest: u32,
        /// The largest free piece in between, in bytes.
        room: u64,
    },
}

impl fmt::Display for MultibootProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader1 => f.write_str(
                "it has no multiboot header in its first 8192 bytes, which boot = \"multiboot\" needs; use a multiboot \
                 kernel, or another way to boot",
            ),
            Self::NoHeader2 => f.write_str(
                "it has no multiboot2 header in its first 32768 bytes, which boot = \"multiboot2\" needs; use a \
                 multiboot2 kernel, or another way to boot",
            ),
            Self::NoAddresses => f.write_str(
                "it is no ELF file and its multiboot header has no load addresses; link it as ELF, or add the addresses",
            ),
            Self::Flags(flags) => {
                write!(f, "its multiboot header requires the unknown flags {flags:#x}; use another way to boot")
            }
            Self::Screen => f.write_str(
                "its multiboot header requires a screen, and this virtual machine has none; make the request optional",
            ),
            Self::Architecture(number) => {
                write!(f, "its multiboot2 header is for architecture {number} and not for x86; use another kernel")
            }
            Self::Tag(kind) => {
                write!(f, "its multiboot2 header requires the unknown tag {kind}; use another way to boot")
            }
            Self::Information(kind) => write!(
                f,
                "its multiboot2 header requires boot information of kind {kind}, which this virtual machine has not; \
                 make the request optional"
            ),
            Self::NoPlace { bytes, lowest, highest, room } => write!(
                f,
                "it needs {bytes} bytes from {lowest:#x} to {highest:#x}, and there are {room} in one piece; give the \
                 virtual machine more memory"
            ),
        }
    }
}
