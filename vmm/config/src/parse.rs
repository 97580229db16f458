//! Reads `craton.toml`.
//!
//! TOML 1.0.

use crate::model::Lines;
use crate::table::{Located, Source, Table, type_name};
use crate::{
    Archive, Boot, Class, Config, ConfigError, Cpu, Damage, FILE_NAME, Firmware, HostConfig, LogLevel,
    Module, Place, Problem, Restart, Screen, VmConfig,
};
use alloc::string::String;
use alloc::vec::Vec;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const TOP_FIELDS: &[&str] = &["vm", "host"];
const HOST_FIELDS: &[&str] = &["log_level", "escape"];
const VM_FIELDS: &[&str] = &[
    "name",
    "memory_mib",
    "vcpus",
    "kernel",
    "firmware",
    "firmware_vars",
    "boot",
    "load_address",
    "entry",
    "initramfs",
    "module",
    "modules",
    "cmdline",
    "autostart",
    "console",
    "restart",
    "weight",
    "cap",
    "cores",
    "class",
    "cpu",
    "debug_exit",
    "debug_console",
    "screen",
    "test_devices",
    "numa_nodes",
];

/// The least memory that a virtual machine can have, in MiB.
const LEAST_MEMORY_MIB: u64 = 8;
/// What it has where the file does not say, in MiB.
const DEFAULT_MEMORY_MIB: u64 = 128;
/// Where a flat image goes where the file does not say: where a PC puts a boot sector.
const BOOT_SECTOR: u64 = 0x7c00;
/// The last address that a flat image can lie at.
const LAST_ADDRESS: u64 = 0xffff_ffff;
/// The most, in MiB: 32 TiB.
const MOST_MEMORY_MIB: u64 = 32 << 20;
const MOST_VCPUS: u64 = 64;
const MOST_WEIGHT: u64 = 10_000;
const DEFAULT_WEIGHT: u32 = 100;
/// The largest cap, in percent: all of a core.
const MOST_CAP: u64 = 100;
/// The largest number of a host core.
const LAST_CORE: u64 = 255;
/// The most nodes that processors and memory can be divided into.
const MOST_NUMA_NODES: u64 = 8;
/// The longest name, in bytes.
const MOST_NAME: usize = 32;

impl Config {
    /// Reads the configuration of `archive`.
    pub fn from_archive(archive: &Archive<'_>) -> Self {
        if let Some(file) = archive.get(FILE_NAME) {
            return Self::parse(file);
        }
        let problem = match archive.damage_of(FILE_NAME) {
            Some(&Damage::CutShort { ref file, has, needs }) => {
                Problem::FileCutShort { file: file.clone(), has, needs }
            }
            Some(Damage::BadHeader { .. } | Damage::NoEnd { .. }) | None => Problem::NoConfiguration,
        };
        Self::broken(None, problem)
    }

    /// Reads `file`. All mistakes are in the result; the virtual machines that have one are not.
    pub fn parse(file: &[u8]) -> Self {
        let text = match core::str::from_utf8(file) {
            Ok(text) => text,
            Err(error) => {
                let sound =
                    file.get(..error.valid_up_to()).and_then(|sound| core::str::from_utf8(sound).ok());
                let line = sound.map(|sound| Source(sound).line(&(sound.len()..sound.len())));
                return Self::broken(line, Problem::NotText);
            }
        };
        let source = Source(text);
        match DeTable::parse(text) {
            Ok(document) => Self::read(source, document.get_ref()),
            Err(error) => {
                let line = error.span().map(|span| source.line(&span));
                Self::broken(line, Problem::Syntax(error.message().trim_end().replace('\n', ", ")))
            }
        }
    }

    /// A configuration with one mistake that leaves nothing of it.
    fn broken(line: Option<u32>, problem: Problem) -> Self {
        let error = ConfigError { line, place: Place::File, field: None, problem };
        Self { errors: [error].into(), ..Self::default() }
    }

    fn read(source: Source<'_>, document: &DeTable<'_>) -> Self {
        let mut config = Self::default();
        let mut top = Table::new(source, document, 1, Place::File);
        top.refuse_unknown(TOP_FIELDS);
        config.errors.append(&mut top.errors);
        if let Some(host) = document.get("host") {
            config.read_host(source, host);
        }
        match document.get("vm") {
            Some(vms) => config.read_vms(source, vms),
            None => config.errors.push(ConfigError {
                line: None,
                place: Place::File,
                field: None,
                problem: Problem::NoVms,
            }),
        }
        config.refuse_second_uses();
        config.errors.sort_by_key(|error| error.line);
        config
    }

    fn read_host(&mut self, source: Source<'_>, host: &Spanned<DeValue<'_>>) {
        let line = source.line(&host.span());
        let DeValue::Table(table) = host.get_ref() else {
            self.wrong_table(line, "host", "a table: [host]", host.get_ref());
            return;
        };
        let mut table = Table::new(source, table, line, Place::Host);
        self.host = read_host(&mut table);
        self.errors.append(&mut table.errors);
    }

    fn read_vms(&mut self, source: Source<'_>, vms: &Spanned<DeValue<'_>>) {
        const EXPECTED: &str = "an array of tables: [[vm]]";
        let DeValue::Array(array) = vms.get_ref() else {
            self.wrong_table(source.line(&vms.span()), "vm", EXPECTED, vms.get_ref());
            return;
        };
        for (index, vm) in array.iter().enumerate() {
            let line = source.line(&vm.span());
            let DeValue::Table(table) = vm.get_ref() else {
                self.wrong_table(line, "vm", EXPECTED, vm.get_ref());
                continue;
            };
            let text = |field: &str| table.get(field).and_then(|value| value.get_ref().as_str());
            let place = match (text("name"), text("kernel")) {
                (Some(name), _) if is_name(name) => Place::Vm(name.into()),
                (None, Some(kernel)) => Place::Vm(name_of(kernel)),
                (Some(_) | None, _) => Place::NamelessVm(index + 1),
            };
            let mut table = Table::new(source, table, line, place);
            let vm = read_vm(&mut table);
            if table.errors.is_empty() {
                self.vms.extend(vm);
            }
            self.errors.append(&mut table.errors);
        }
    }

    fn wrong_table(&mut self, line: u32, field: &str, expected: &'static str, found: &DeValue<'_>) {
        let problem = Problem::WrongType { expected, found: type_name(found) };
        self.errors.push(ConfigError {
            line: Some(line),
            place: Place::File,
            field: Some(field.into()),
            problem,
        });
    }

    /// Drops virtual machines with the name or the console of an earlier one.
    fn refuse_second_uses(&mut self) {
        let mut kept: Vec<VmConfig> = Vec::with_capacity(self.vms.len());
        for vm in core::mem::take(&mut self.vms) {
            let same_name = kept.iter().find(|other| other.name == vm.name);
            let console = kept.iter().find(|other| other.console && vm.console);
            let (line, field, problem) = if let Some(first) = same_name {
                (vm.lines.name, "name", Problem::DuplicateName { first_line: first.lines.name })
            } else if let Some(first) = console {
                (vm.lines.console, "console", Problem::SecondConsole { first: first.name.clone() })
            } else {
                kept.push(vm);
                continue;
            };
            self.errors.push(ConfigError {
                line: Some(line),
                place: Place::Vm(vm.name),
                field: Some(field.into()),
                problem,
            });
        }
        self.vms = kept;
    }
}

fn read_host(table: &mut Table<'_>) -> HostConfig {
    const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    let defaults = HostConfig::default();
    table.refuse_unknown(HOST_FIELDS);
    let log_level = table.choice("log_level", LEVELS, &levels).unwrap_or(defaults.log_level);
    let escape = table.text("escape").and_then(|text| {
        let key = control_key(text.value);
        if key.is_none() {
            table.error(text.line, "escape", Problem::BadEscape { value: text.value.into() });
        }
        key
    });
    HostConfig { log_level, escape: escape.unwrap_or(defaults.escape) }
}

/// The byte of a key like `ctrl-]`, unless no shell works without it.
fn control_key(text: &str) -> Option<u8> {
    const NEEDED: &[u8] = b"\0\x03\x04\x08\t\n\r\x1b";
    let key = text.strip_prefix("ctrl-").or_else(|| text.strip_prefix("Ctrl-"))?;
    let &[key] = key.as_bytes() else { return None };
    let key = key.to_ascii_uppercase();
    (b'@'..=b'_').contains(&key).then_some(key & 0x1f).filter(|byte| !NEEDED.contains(byte))
}

/// Reads one `[[vm]]`; what it returns counts only if `table` has no errors after.
fn read_vm(table: &mut Table<'_>) -> Option<VmConfig> {
    const CPUS: &[&str] = &["host", "x86-64-v2", "x86-64-v3"];
    const SCREENS: &[&str] = &["none", "vga"];
    const RESTARTS: &[&str] = &["never", "on-failure", "always"];
    table.refuse_unknown(VM_FIELDS);
    let firmware = read_firmware(table);
    if firmware.is_none() {
        table.require("kernel", "kernel = \"vmlinuz\"");
    }

    let has_name = table.has("name");
    let name = read_name(table);
    let memory = table.number("memory_mib", LEAST_MEMORY_MIB, MOST_MEMORY_MIB);
    let vcpus = table.number("vcpus", 1, MOST_VCPUS);
    let cpu = table.choice("cpu", CPUS, &[Cpu::Host, Cpu::V2, Cpu::V3]);
    let kernel = table.text("kernel").or(firmware.map(|firmware| firmware.image));
    let boot = read_boot(table);
    let initramfs = table.text("initramfs");
    let (modules, modules_line) = read_modules(table);
    let cmdline = table.any_text("cmdline");
    let autostart = table.flag("autostart");
    let console = table.flag("console");
    let restart = table.choice("restart", RESTARTS, &[Restart::Never, Restart::OnFailure, Restart::Always]);
    let scheduling = read_scheduling(table, vcpus);
    let debug_exit = table.flag("debug_exit");
    let debug_console = table.flag("debug_console");
    let screen = table.choice("screen", SCREENS, &[Screen::None, Screen::Vga]);
    let test_devices = table.flag("test_devices");
    let numa_nodes = table.number("numa_nodes", 1, MOST_NUMA_NODES);

    let kernel = kernel?;
    let (name, name_line) = match name {
        Some(name) => (name.value.into(), name.line),
        None if has_name => return None,
        None => (name_of(kernel.value), kernel.line),
    };
    let vm = VmConfig {
        name,
        memory_mib: memory.map_or(DEFAULT_MEMORY_MIB, |number| number.value),
        vcpus: vcpus.map_or(1, byte),
        numa_nodes: numa_nodes.map(byte),
        cpu: cpu.unwrap_or(Cpu::Host),
        kernel: kernel.value.into(),
        firmware: firmware.map(|firmware| Firmware {
            variables: firmware.variables.map(|variables| variables.value.into()),
        }),
        boot,
        initramfs: initramfs.map(|text| String::from(text.value)),
        modules,
        cmdline: cmdline.map(|text| String::from(text.value)).unwrap_or_default(),
        autostart: autostart.is_none_or(|flag| flag.value),
        console: console.is_some_and(|flag| flag.value),
        restart: restart.unwrap_or(Restart::Never),
        weight: scheduling.weight,
        cap: scheduling.cap,
        cores: scheduling.cores,
        class: scheduling.class,
        debug_exit: debug_exit.is_some_and(|flag| flag.value),
        debug_console: debug_console.is_some_and(|flag| flag.value),
        screen: screen.unwrap_or(Screen::None),
        test_devices: test_devices.is_some_and(|flag| flag.value),
        lines: Lines {
            name: name_line,
            memory_mib: memory.map_or(table.line, |number| number.line),
            kernel: kernel.line,
            firmware_vars: firmware
                .and_then(|firmware| firmware.variables)
                .map_or(table.line, |variables| variables.line),
            initramfs: initramfs.map_or(table.line, |text| text.line),
            modules: modules_line,
            console: console.map_or(table.line, |flag| flag.line),
            vcpus: vcpus.map_or(table.line, |number| number.line),
            cores: scheduling.cores_line,
        },
    };
    if let (Some(nodes), Some(problem)) = (numa_nodes, vm.node_mistake()) {
        table.error(nodes.line, "numa_nodes", problem);
    }
    Some(vm)
}

/// The files of a machine that is started by firmware.
#[derive(Clone, Copy)]
struct FirmwareFiles<'a> {
    image: Located<&'a str>,
    variables: Option<Located<&'a str>>,
}

/// Reads what is said of firmware, and refuses what goes with a kernel alone.
fn read_firmware<'a>(table: &mut Table<'a>) -> Option<FirmwareFiles<'a>> {
    const OF_KERNELS: &[&str] =
        &["kernel", "boot", "load_address", "entry", "initramfs", "module", "modules", "cmdline"];
    let image = table.text("firmware");
    let variables = table.text("firmware_vars");
    if image.is_some() {
        for field in OF_KERNELS {
            if let Some(line) = table.line_of(field) {
                table.error(line, field, Problem::NotWithFirmware);
            }
        }
    } else if let Some(variables) = variables {
        table.error(variables.line, "firmware_vars", Problem::OnlyWithFirmware);
    }
    Some(FirmwareFiles { image: image?, variables })
}

fn read_name<'a>(table: &mut Table<'a>) -> Option<Located<&'a str>> {
    let name = table.text("name")?;
    if !is_name(name.value) {
        table.error(name.line, "name", Problem::BadName { value: name.value.into() });
        return None;
    }
    Some(name)
}

/// The name of a machine that has none of its own: that of its kernel's file, without directories and ending, and
/// without what no name has.
fn name_of(kernel: &str) -> String {
    let file = kernel.rsplit('/').next().unwrap_or(kernel);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let name: String = stem
        .chars()
        .map(|character| if is_of_name(character) { character } else { '-' })
        .take(MOST_NAME)
        .collect();
    if name.is_empty() { String::from("vm") } else { name }
}

const fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-')
}

/// Reads how the kernel is booted.
fn read_boot(table: &mut Table<'_>) -> Boot {
    const BOOTS: &[&str] = &["auto", "linux", "linux32", "pvh", "multiboot", "multiboot2", "flat"];
    const FLAT: Boot = Boot::Flat { load_address: BOOT_SECTOR, entry: BOOT_SECTOR };
    let choices =
        [Boot::Detect, Boot::Linux, Boot::Linux32, Boot::Pvh, Boot::Multiboot, Boot::Multiboot2, FLAT];
    let boot = table.choice("boot", BOOTS, &choices).unwrap_or(Boot::Detect);
    let load_address = table.number("load_address", 0, LAST_ADDRESS);
    let entry = table.number("entry", 0, LAST_ADDRESS);
    if let Boot::Flat { .. } = boot {
        let load_address = load_address.map_or(BOOT_SECTOR, |number| number.value);
        return Boot::Flat { load_address, entry: entry.map_or(load_address, |number| number.value) };
    }
    for (field, value) in [("load_address", load_address), ("entry", entry)] {
        if let Some(value) = value {
            table.error(value.line, field, Problem::OnlyWithFlat);
        }
    }
    boot
}

/// Reads the modules, and the line that names them.
fn read_modules(table: &mut Table<'_>) -> (Vec<Module>, u32) {
    let module = |text: &str| Module {
        file: text.split_ascii_whitespace().next().unwrap_or_default().into(),
        string: text.trim().into(),
    };
    let one = table.text("module");
    let several = table.texts("modules");
    match (one, several) {
        (Some(one), Some(_)) => {
            table.error(one.line, "module", Problem::ModuleAndModules);
            (Vec::new(), one.line)
        }
        (Some(one), None) if one.value.trim().is_empty() => {
            table.error(one.line, "module", Problem::EmptyText);
            (Vec::new(), one.line)
        }
        (Some(one), None) => ([module(one.value)].into(), one.line),
        (None, Some(several)) => (several.value.into_iter().map(module).collect(), several.line),
        (None, None) => (Vec::new(), table.line),
    }
}

fn is_name(text: &str) -> bool {
    (1..=MOST_NAME).contains(&text.len()) && text.chars().all(is_of_name)
}

/// A number that was held to a range within a byte's.
fn byte(number: Located<u64>) -> u8 {
    u8::try_from(number.value).unwrap_or(u8::MAX)
}

/// The fields that say which cores a machine gets, and how much of them.
struct Scheduling {
    weight: u32,
    cap: Option<u8>,
    cores: Option<Vec<u8>>,
    cores_line: u32,
    class: Class,
}

fn read_scheduling(table: &mut Table<'_>, vcpus: Option<Located<u64>>) -> Scheduling {
    const CLASSES: &[&str] = &["normal", "latency", "exclusive"];
    let weight = table.number("weight", 1, MOST_WEIGHT);
    let cap = table.number("cap", 1, MOST_CAP);
    let (cores, cores_line) = read_cores(table).unzip();
    let cores_line = cores_line.unwrap_or(table.line);
    let class = table.choice("class", CLASSES, &[Class::Normal, Class::Latency, Class::Exclusive]);
    if class == Some(Class::Exclusive) {
        for (field, value) in [("weight", weight), ("cap", cap)] {
            if let Some(value) = value {
                table.error(value.line, field, Problem::NotWithExclusive);
            }
        }
        let (vcpus, named) = (vcpus.map_or(1, byte), cores.as_ref().map(Vec::len));
        if let Some(cores) = named.filter(|named| *named < usize::from(vcpus)) {
            table.error(cores_line, "cores", Problem::TooFewForExclusive { vcpus, cores });
        }
    }
    Scheduling {
        weight: weight.and_then(|weight| u32::try_from(weight.value).ok()).unwrap_or(DEFAULT_WEIGHT),
        cap: cap.map(byte),
        cores,
        cores_line,
        class: class.unwrap_or(Class::Normal),
    }
}

/// The cores that are named, with the line of the field.
fn read_cores(table: &mut Table<'_>) -> Option<(Vec<u8>, u32)> {
    let numbers = table.numbers("cores", &(0..=LAST_CORE))?;
    let mut cores = Vec::with_capacity(numbers.value.len());
    for number in numbers.value {
        let core = byte(number);
        if cores.contains(&core) {
            table.error(number.line, "cores", Problem::DuplicateCore { core });
            return None;
        }
        cores.push(core);
    }
    if cores.is_empty() {
        table.error(numbers.line, "cores", Problem::NoCores);
        return None;
    }
    Some((cores, numbers.line))
}

#[cfg(test)]
mod tests;
