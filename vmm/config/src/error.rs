//! Mistakes in a configuration, in words that name line and field, what is wrong, and what to do.

use crate::FILE_NAME;
use crate::validate::LEAST_NODE_MIB;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// One mistake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// The line it is in, from 1; `None` where it is in none.
    pub line: Option<u32>,
    /// The part of the file it is in.
    pub place: Place,
    /// The field it is about.
    pub field: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// A part of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// Outside of all tables.
    File,
    /// `[host]`.
    Host,
    /// The `[[vm]]` of this name.
    Vm(String),
    /// A `[[vm]]` without a usable name: which of them it is, from 1.
    NamelessVm(usize),
}

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The archive has no configuration.
    NoConfiguration,
    /// The configuration is not UTF-8 text.
    NotText,
    /// It is not TOML; the parser's words.
    Syntax(String),
    /// It has no `[[vm]]`.
    NoVms,
    /// There is no field of this name.
    UnknownField {
        /// The names that there are.
        known: &'static [&'static str],
    },
    /// The field has to be there.
    Missing {
        /// What to write.
        example: &'static str,
    },
    /// The value is of another type.
    WrongType {
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// The number is too small or too large.
    OutOfRange {
        /// The number, as written.
        value: String,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// An item of the list is of another type.
    WrongItem {
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// The list of cores is empty.
    NoCores,
    /// The list has a core twice.
    DuplicateCore {
        /// The core.
        core: u8,
    },
    /// The field is about flat images, and the kernel is booted in another way.
    OnlyWithFlat,
    /// There is one field for a module and one for several, and both are used.
    ModuleAndModules,
    /// The field says how to share a core, and the class is the one that does not share.
    NotWithExclusive,
    /// Fewer cores are named than virtual processors want one for themselves.
    TooFewForExclusive {
        /// The virtual processors.
        vcpus: u8,
        /// How many cores are named.
        cores: usize,
    },
    /// The field is about a kernel, and the machine is started by firmware.
    NotWithFirmware,
    /// The field is about firmware, and the machine has none.
    OnlyWithFirmware,
    /// More nodes than virtual processors: one would be without.
    NodesBeyondVcpus {
        /// The nodes.
        nodes: u8,
        /// The virtual processors.
        vcpus: u8,
    },
    /// The memory is too small for so many nodes.
    NodesBeyondMemory {
        /// The nodes.
        nodes: u8,
        /// The memory, in MiB.
        memory_mib: u64,
    },
    /// The text is none of those that there are.
    NotAChoice {
        /// The text.
        value: String,
        /// Those that there are.
        choices: &'static [&'static str],
    },
    /// The text is empty.
    EmptyText,
    /// The name has characters that the monitor's commands do not take, or too many.
    BadName {
        /// The name.
        value: String,
    },
    /// The escape key is not one that can be used.
    BadEscape {
        /// The key, as written.
        value: String,
    },
    /// Another virtual machine has the name.
    DuplicateName {
        /// The line of the other's name.
        first_line: u32,
    },
    /// Another virtual machine has the console.
    SecondConsole {
        /// The other's name.
        first: String,
    },
    /// The host has less memory.
    MemoryBeyondHost {
        /// What the virtual machine wants, in MiB.
        wants_mib: u64,
        /// What the host has for virtual machines, in MiB.
        host_mib: u64,
    },
    /// The virtual machines before this one leave less memory.
    MemoryTaken {
        /// What the virtual machine wants, in MiB.
        wants_mib: u64,
        /// What is left, in MiB.
        left_mib: u64,
        /// What the host has for virtual machines, in MiB.
        host_mib: u64,
    },
    /// The host has no such core.
    NoSuchCore {
        /// The core.
        core: u8,
        /// The cores that it has.
        has: Vec<u32>,
    },
    /// The host has fewer cores than virtual processors want one for themselves.
    ExclusiveBeyondHost {
        /// The virtual processors.
        vcpus: u8,
        /// How many cores the host has.
        host_cores: usize,
    },
    /// The virtual machines before this one leave fewer cores than virtual processors want one for themselves.
    ExclusiveTaken {
        /// The virtual processors.
        vcpus: u8,
        /// How many cores are left.
        left: usize,
        /// How many cores the host has.
        host_cores: usize,
    },
    /// The archive has no such file.
    NoSuchFile {
        /// The file.
        file: String,
        /// The files that it has.
        has: Vec<String>,
    },
    /// The archive ends inside the file.
    FileCutShort {
        /// The file.
        file: String,
        /// The bytes that are there.
        has: u64,
        /// The bytes that should be.
        needs: u64,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => Ok(()),
            Self::Host => f.write_str(" [host]:"),
            Self::Vm(name) => write!(f, " vm \"{name}\":"),
            Self::NamelessVm(number) => write!(f, " vm #{number}:"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{FILE_NAME}:{line}:{}", self.place)?,
            None => write!(f, "{FILE_NAME}:{}", self.place)?,
        }
        if let Some(field) = &self.field {
            write!(f, " field `{field}`:")?;
        }
        write!(f, " {}", self.problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConfiguration => {
                f.write_str("it is not in the boot archive; add it and pack the archive again")
            }
            Self::NotText => f.write_str("not UTF-8 text; save the file as UTF-8"),
            Self::Syntax(message) => {
                write!(f, "not TOML: {message}; correct it, no virtual machine starts before")
            }
            Self::NoVms => f.write_str("no virtual machine is described; add a [[vm]]"),
            Self::UnknownField { known } => {
                f.write_str("there is no such field; remove it, or use one of ")?;
                list(f, known)
            }
            Self::Missing { example } => write!(f, "it is missing; add a line like {example}"),
            Self::WrongType { expected, found } => {
                write!(f, "it is {found} and should be {expected}; change it")
            }
            Self::OutOfRange { value, least, most } => {
                write!(f, "{value} is out of range; use a number from {least} to {most}")
            }
            Self::WrongItem { expected, found } => {
                write!(f, "an item of the list is {found} and should be {expected}; change it")
            }
            Self::NoCores => f.write_str("it names no core; fill it in, or remove it to allow all"),
            Self::DuplicateCore { core } => write!(f, "core {core} is named twice; remove one of the two"),
            Self::OnlyWithFlat => {
                f.write_str("it has no meaning but with boot = \"flat\"; remove it, or choose that way to boot")
            }
            Self::ModuleAndModules => {
                f.write_str("`modules` is there, too; name all modules there, and remove this one")
            }
            Self::NotWithExclusive => f.write_str(
                "it has no meaning for class = \"exclusive\", which shares no core; remove it, or choose another class",
            ),
            Self::TooFewForExclusive { vcpus, cores } => write!(
                f,
                "class = \"exclusive\" wants a core for each of {vcpus} virtual processors, and {cores} are named; name \
                 more, or lower vcpus"
            ),
            Self::NotWithFirmware => f.write_str(
                "it has no meaning for a machine that is started by firmware, which finds what it boots itself; remove it, \
                 or remove firmware",
            ),
            Self::OnlyWithFirmware => {
                f.write_str("it has no meaning without firmware; remove it, or add a line like firmware = \"ovmf\"")
            }
            Self::NodesBeyondVcpus { nodes, vcpus } => write!(
                f,
                "{nodes} nodes want a virtual processor each, and vcpus is {vcpus}; use at most {vcpus}, or raise vcpus"
            ),
            Self::NodesBeyondMemory { nodes, memory_mib } => write!(
                f,
                "{nodes} nodes want {LEAST_NODE_MIB} MiB each, and memory_mib is {memory_mib}; use at most {}, or raise \
                 memory_mib",
                memory_mib / LEAST_NODE_MIB
            ),
            Self::NotAChoice { value, choices } => {
                write!(f, "\"{value}\" is not a choice; use one of ")?;
                list(f, choices)
            }
            Self::EmptyText => f.write_str("it is empty; fill it in, or remove it if it is optional"),
            Self::BadName { value } => write!(
                f,
                "\"{value}\" is not a name; use 1 to 32 letters, digits, dots, underscores and hyphens"
            ),
            Self::BadEscape { value } => write!(
                f,
                "\"{value}\" is not a key that can be the escape; write one like \"ctrl-]\" that a shell does not need"
            ),
            Self::DuplicateName { first_line } => {
                write!(f, "the virtual machine at line {first_line} has this name; choose another")
            }
            Self::SecondConsole { first } => {
                write!(f, "virtual machine \"{first}\" has the console already; set it for one of the two")
            }
            Self::MemoryBeyondHost { wants_mib, host_mib } => {
                write!(
                    f,
                    "{wants_mib} MiB is more than the host's {host_mib} MiB for virtual machines; lower it"
                )
            }
            Self::MemoryTaken { wants_mib, left_mib, host_mib } => write!(
                f,
                "{wants_mib} MiB is more than the {left_mib} MiB that earlier virtual machines leave of the host's \
                 {host_mib} MiB; lower it, or set autostart = false"
            ),
            Self::NoSuchCore { core, has } => {
                write!(f, "the host runs no core {core}; use some of ")?;
                list(f, has)
            }
            Self::ExclusiveBeyondHost { vcpus, host_cores } => write!(
                f,
                "class = \"exclusive\" wants a core for each of {vcpus} virtual processors, and the host has \
                 {host_cores}; lower it, or choose another class"
            ),
            Self::ExclusiveTaken { vcpus, left, host_cores } => write!(
                f,
                "class = \"exclusive\" wants a core for each of {vcpus} virtual processors, and earlier virtual \
                 machines leave {left} of the host's {host_cores}; lower it, choose another class, or set autostart = \
                 false"
            ),
            Self::NoSuchFile { file, has } => {
                write!(f, "`{file}` is not in the boot archive; add it, or use one of ")?;
                list(f, has)
            }
            Self::FileCutShort { file, has, needs } => write!(
                f,
                "`{file}` is cut short in the boot archive: {has} of {needs} bytes are there; write the image again"
            ),
        }
    }
}

impl core::error::Error for ConfigError {}

/// Writes `words` with commas, as many as a line can bear.
fn list(f: &mut fmt::Formatter<'_>, words: &[impl fmt::Display]) -> fmt::Result {
    const MOST: usize = 16;
    if words.is_empty() {
        return f.write_str("(none)");
    }
    for (index, word) in words.iter().take(MOST).enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        write!(f, "{separator}{word}")?;
    }
    if words.len() > MOST { f.write_str(", …") } else { Ok(()) }
}
