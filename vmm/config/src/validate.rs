//! Checks of a configuration against the machine it runs on and the archive it came in.

use crate::{Archive, Config, ConfigError, Damage, Place, Problem, VmConfig};
use alloc::string::String;
use alloc::vec::Vec;

impl Config {
    /// Drops each virtual machine whose memory the host has not, or whose files `archive` has not, and notes why.
    /// Machines that start by themselves get memory in their order; the others are only held to the host's whole.
    pub fn validate_against(&mut self, host_memory_mib: u64, archive: &Archive<'_>) {
        let mut left_mib = host_memory_mib;
        let mut kept = Vec::with_capacity(self.vms.len());
        for vm in core::mem::take(&mut self.vms) {
            let mut errors: Vec<ConfigError> = file_errors(&vm, archive).into_iter().flatten().collect();
            errors.extend(memory_error(&vm, host_memory_mib, left_mib));
            if errors.is_empty() {
                if vm.autostart {
                    left_mib = left_mib.saturating_sub(vm.memory_mib);
                }
                kept.push(vm);
            }
            self.errors.append(&mut errors);
        }
        self.vms = kept;
        self.errors.sort_by_key(|error| error.line);
    }
}

fn memory_error(vm: &VmConfig, host_mib: u64, left_mib: u64) -> Option<ConfigError> {
    let wants_mib = vm.memory_mib;
    let problem = if wants_mib > host_mib {
        Problem::MemoryBeyondHost { wants_mib, host_mib }
    } else if vm.autostart && wants_mib > left_mib {
        Problem::MemoryTaken { wants_mib, left_mib, host_mib }
    } else {
        return None;
    };
    Some(error(vm, vm.lines.memory_mib, "memory_mib", problem))
}

fn file_errors(vm: &VmConfig, archive: &Archive<'_>) -> [Option<ConfigError>; 2] {
    let kernel =
        file_problem(&vm.kernel, archive).map(|problem| error(vm, vm.lines.kernel, "kernel", problem));
    let initramfs = vm
        .initramfs
        .as_ref()
        .and_then(|file| file_problem(file, archive))
        .map(|problem| error(vm, vm.lines.initramfs, "initramfs", problem));
    [kernel, initramfs]
}

fn file_problem(file: &str, archive: &Archive<'_>) -> Option<Problem> {
    if archive.get(file).is_some() {
        return None;
    }
    Some(match archive.damage_of(file) {
        Some(&Damage::CutShort { ref file, has, needs }) => {
            Problem::FileCutShort { file: file.clone(), has, needs }
        }
        Some(Damage::BadHeader { .. } | Damage::NoEnd { .. }) | None => Problem::NoSuchFile {
            file: file.into(),
            has: archive.files().iter().map(|file| String::from(file.name())).collect(),
        },
    })
}

fn error(vm: &VmConfig, line: u32, field: &str, problem: Problem) -> ConfigError {
    ConfigError { line: Some(line), place: Place::Vm(vm.name.clone()), field: Some(field.into()), problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::testing::{archive, entry};

    const TEXT: &[u8] = b"[[vm]]\nname = \"a\"\nmemory_mib = 100\nkernel = \"./k\"\n\
        [[vm]]\nname = \"b\"\nmemory_mib = 100\nkernel = \"k\"\ninitramfs = \"i\"\n\
        [[vm]]\nname = \"c\"\nmemory_mib = 60\nkernel = \"none\"\nautostart = false\n";

    fn told(host_mib: u64, archive_bytes: &[u8]) -> (Vec<String>, Vec<String>) {
        let mut config = Config::parse(TEXT);
        assert_eq!(config.errors, []);
        config.validate_against(host_mib, &Archive::read(archive_bytes));
        let names = config.vms.iter().map(|vm| vm.name.clone()).collect();
        (names, config.errors.iter().map(|error| alloc::format!("{error}")).collect())
    }

    #[test]
    fn memory_is_given_in_order_and_missing_files_are_named() {
        let bytes = archive(&[entry("k", b"kernel"), entry("i", b"files")]);
        let (names, errors) = told(150, &bytes);
        assert_eq!(names, ["a"]);
        assert_eq!(
            errors,
            [
                "craton.toml:7: vm \"b\": field `memory_mib`: 100 MiB is more than the 50 MiB that earlier virtual \
                 machines leave of the host's 150 MiB; lower it, or set autostart = false",
                "craton.toml:13: vm \"c\": field `kernel`: `none` is not in the boot archive; add it, or use one of k, i",
            ]
        );
        assert!(told(50, &bytes).1[0].contains("more than the host's 50 MiB"));
    }

    #[test]
    fn a_file_cut_short_costs_only_the_machines_that_use_it() {
        let mut bytes = archive(&[entry("k", b"kernel"), entry("i", &[7; 1000])]);
        bytes.truncate(1024 + 512 + 600);
        let (names, errors) = told(1000, &bytes);
        assert_eq!(names, ["a"]);
        assert_eq!(
            errors[0],
            "craton.toml:9: vm \"b\": field `initramfs`: `i` is cut short in the boot archive: 600 of 1000 bytes are \
             there; write the image again"
        );
    }
}
