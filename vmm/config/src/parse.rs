//! Reads `craton.toml`.
//!
//! TOML 1.0.

use crate::model::Lines;
use crate::table::{Located, Source, Table, type_name};
use crate::{
    Archive, Boot, Config, ConfigError, Damage, FILE_NAME, HostConfig, LogLevel, Place, Problem, Restart,
    VmConfig,
};
use alloc::string::String;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

const TOP_FIELDS: &[&str] = &["vm", "host"];
const HOST_FIELDS: &[&str] = &["log_level", "escape"];
const VM_FIELDS: &[&str] = &[
    "name",
    "memory_mib",
    "vcpus",
    "kernel",
    "boot",
    "initramfs",
    "cmdline",
    "autostart",
    "console",
    "restart",
    "weight",
];

/// The least memory that a virtual machine can have, in MiB.
const LEAST_MEMORY_MIB: u64 = 8;
/// The most, in MiB: 32 TiB.
const MOST_MEMORY_MIB: u64 = 32 << 20;
/// The most virtual processors that a field may ask for at all.
const MOST_VCPUS: u64 = 255;
/// How many of them this version runs.
const VCPUS_THAT_RUN: u64 = 1;
const MOST_WEIGHT: u64 = 10_000;
const DEFAULT_WEIGHT: u32 = 100;
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
            let place = match table.get("name").and_then(|name| name.get_ref().as_str()) {
                Some(name) if is_name(name) => Place::Vm(name.into()),
                Some(_) | None => Place::NamelessVm(index + 1),
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
        let mut kept: alloc::vec::Vec<VmConfig> = alloc::vec::Vec::with_capacity(self.vms.len());
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
    const BOOTS: &[&str] = &["linux", "pvh"];
    const RESTARTS: &[&str] = &["never", "on-failure", "always"];
    table.refuse_unknown(VM_FIELDS);
    table.require("name", "name = \"web\"");
    table.require("memory_mib", "memory_mib = 256");
    table.require("kernel", "kernel = \"vmlinuz\"");

    let name = read_name(table);
    let memory = table.number("memory_mib", LEAST_MEMORY_MIB, MOST_MEMORY_MIB);
    let vcpus = read_vcpus(table);
    let kernel = table.text("kernel");
    let boot = table.choice("boot", BOOTS, &[Boot::Linux, Boot::Pvh]);
    let initramfs = table.text("initramfs");
    let cmdline = table.any_text("cmdline");
    let autostart = table.flag("autostart");
    let console = table.flag("console");
    let restart = table.choice("restart", RESTARTS, &[Restart::Never, Restart::OnFailure, Restart::Always]);
    let weight = table.number("weight", 1, MOST_WEIGHT);

    let (name, memory, kernel) = (name?, memory?, kernel?);
    Some(VmConfig {
        name: name.value.into(),
        memory_mib: memory.value,
        vcpus,
        kernel: kernel.value.into(),
        boot: boot.unwrap_or(Boot::Detect),
        initramfs: initramfs.map(|text| String::from(text.value)),
        cmdline: cmdline.map(|text| String::from(text.value)).unwrap_or_default(),
        autostart: autostart.is_none_or(|flag| flag.value),
        console: console.is_some_and(|flag| flag.value),
        restart: restart.unwrap_or(Restart::Never),
        weight: weight.and_then(|weight| u32::try_from(weight.value).ok()).unwrap_or(DEFAULT_WEIGHT),
        lines: Lines {
            name: name.line,
            memory_mib: memory.line,
            kernel: kernel.line,
            initramfs: initramfs.map_or(table.line, |text| text.line),
            console: console.map_or(table.line, |flag| flag.line),
        },
    })
}

fn read_name<'a>(table: &mut Table<'a>) -> Option<Located<&'a str>> {
    let name = table.text("name")?;
    if !is_name(name.value) {
        table.error(name.line, "name", Problem::BadName { value: name.value.into() });
        return None;
    }
    Some(name)
}

fn is_name(text: &str) -> bool {
    (1..=MOST_NAME).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn read_vcpus(table: &mut Table<'_>) -> u8 {
    let Some(vcpus) = table.number("vcpus", 1, MOST_VCPUS) else { return 1 };
    if vcpus.value > VCPUS_THAT_RUN {
        table.error(vcpus.line, "vcpus", Problem::TooManyVcpus { value: vcpus.value });
    }
    u8::try_from(vcpus.value).unwrap_or(1)
}

#[cfg(test)]
mod tests;
