//! What a configuration says, once it is read.

use crate::ConfigError;
use alloc::string::String;
use alloc::vec::Vec;

/// A whole configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// The virtual machines without a mistake, in the order of the file.
    pub vms: Vec<VmConfig>,
    /// What is said of the host.
    pub host: HostConfig,
    /// The mistakes, in the order of the file.
    pub errors: Vec<ConfigError>,
}

impl Config {
    /// The index of the virtual machine that the operator's terminal starts on: the one that says so, or the first
    /// that starts by itself, or the first.
    pub fn console_vm(&self) -> Option<usize> {
        let first = |wanted: fn(&VmConfig) -> bool| self.vms.iter().position(wanted);
        first(|vm| vm.console).or_else(|| first(|vm| vm.autostart)).or_else(|| first(|_| true))
    }
}

/// `[host]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostConfig {
    /// `log_level`: what the log shows.
    pub log_level: LogLevel,
    /// `escape`: the byte that leaves a guest's console for the monitor.
    pub escape: u8,
}

impl Default for HostConfig {
    fn default() -> Self {
        /// Ctrl-]
        const GROUP_SEPARATOR: u8 = 0x1d;
        Self { log_level: LogLevel::Info, escape: GROUP_SEPARATOR }
    }
}

/// How much the log shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    /// Errors only.
    Error,
    /// And warnings.
    Warn,
    /// And what happens.
    Info,
    /// And why.
    Debug,
    /// Everything.
    Trace,
}

/// How a kernel is booted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Boot {
    /// `"auto"`: as the image looks; the default.
    Detect,
    /// `"linux"`: a bzImage, by its 64-bit entry point.
    Linux,
    /// `"linux32"`: a bzImage, by its 32-bit entry point.
    Linux32,
    /// `"pvh"`: an ELF file with a PVH note.
    Pvh,
    /// `"multiboot"`: a file with a Multiboot header.
    Multiboot,
    /// `"multiboot2"`: a file with a Multiboot2 header.
    Multiboot2,
    /// `"flat"`: any file, as it is.
    Flat {
        /// `load_address`: where its first byte goes, guest-physical; 0x7c00 by default.
        load_address: u64,
        /// `entry`: where it is entered, guest-physical; its first byte by default.
        entry: u64,
    },
}

/// A file that is passed to a kernel: an item of `modules`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Module {
    /// The first word: a file of the archive.
    pub file: String,
    /// All of the item, the first word included, which the kernel is given with the file.
    pub string: String,
}

/// What a virtual machine shows pictures on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Screen {
    /// `"none"`: nothing; the default.
    None,
    /// `"vga"`: a VGA with Bochs' extension, on PCI.
    Vga,
}

/// When a stopped virtual machine is started again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restart {
    /// Never; the default.
    Never,
    /// After a failure, as a triple fault is one.
    OnFailure,
    /// After power off too.
    Always,
}

/// How the virtual processors of a machine are scheduled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// `"normal"`: by weight; the default.
    Normal,
    /// `"latency"`: by weight too, and soon after a wake-up as long as it runs briefly.
    Latency,
    /// `"exclusive"`: each on a core of its own, without ticks.
    Exclusive,
}

/// The processor that a virtual machine sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cpu {
    /// `"host"`: the host's; the default.
    Host,
    /// `"x86-64-v2"`: the same on every host from 2010 on.
    V2,
    /// `"x86-64-v3"`: the same on every host from 2013 on.
    V3,
}

/// What a machine has that is started by firmware, beside its image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Firmware {
    /// `firmware_vars`: a file of the archive, with which its variable store begins.
    pub variables: Option<String>,
}

/// One `[[vm]]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmConfig {
    /// `name`: letters, digits, `.`, `_` and `-`; the kernel file's name without its ending by default.
    pub name: String,
    /// `memory_mib`: RAM, in MiB; 128 by default.
    pub memory_mib: u64,
    /// `vcpus`: virtual processors, 1 to 64; more than the host has cores is fine.
    pub vcpus: u8,
    /// `numa_nodes`: into how many nodes, 1 to 8, the firmware tables divide processors and memory; `None` says nothing
    /// of nodes.
    pub numa_nodes: Option<u8>,
    /// `cpu`: whether the host has what it needs is found out when the machine is built.
    pub cpu: Cpu,
    /// `kernel`, or the image that is named by `firmware`: a file of the archive.
    pub kernel: String,
    /// `firmware` instead of `kernel`.
    pub firmware: Option<Firmware>,
    /// `boot`.
    pub boot: Boot,
    /// `initramfs`: a file of the archive.
    pub initramfs: Option<String>,
    /// `modules`, or the one of `module`.
    pub modules: Vec<Module>,
    /// `cmdline`: the kernel's command line.
    pub cmdline: String,
    /// `autostart`: whether it starts with the host; the default.
    pub autostart: bool,
    /// `console`: whether the operator's terminal starts on it.
    pub console: bool,
    /// `restart`.
    pub restart: Restart,
    /// `weight`: each virtual processor's share of busy cores relative to others', 1 to 10000; 100 by default.
    pub weight: u32,
    /// `cap`: the most that each virtual processor gets, in percent of a core, 1 to 100; `None` without a limit.
    pub cap: Option<u8>,
    /// `cores`: the host's cores that it may run on, by number, each once; `None` for all.
    pub cores: Option<Vec<u8>>,
    /// `class`.
    pub class: Class,
    /// `debug_exit`: whether the guest can end its machine with a status, at port 0xF4.
    pub debug_exit: bool,
    /// `debug_console`: whether text that the guest writes to port 0xE9 is shown on its console.
    pub debug_console: bool,
    /// `screen`.
    pub screen: Screen,
    /// `test_devices`: whether it has the devices that exist for test programs.
    pub test_devices: bool,
    /// Where things stand, for errors found later.
    pub(crate) lines: Lines,
}

/// The lines of a `[[vm]]` that later checks are about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Lines {
    pub(crate) name: u32,
    pub(crate) memory_mib: u32,
    pub(crate) kernel: u32,
    pub(crate) firmware_vars: u32,
    pub(crate) initramfs: u32,
    pub(crate) modules: u32,
    pub(crate) console: u32,
    pub(crate) vcpus: u32,
    pub(crate) cores: u32,
}
