//! Checks of a configuration against the machine it runs on and the archive it came in.

use crate::{Archive, Class, Config, ConfigError, Damage, Place, Problem, VmConfig};
use alloc::string::String;
use alloc::vec::Vec;

/// The least memory of a node, in MiB: kernels pass over smaller ones.
pub(crate) const LEAST_NODE_MIB: u64 = 8;

/// What the host has for virtual machines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostResources<'a> {
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// The numbers of the cores that run.
    pub cores: &'a [u32],
}

impl Config {
    /// Drops each virtual machine whose memory or cores `host` has not, or whose files `archive` has not, and notes
    /// why. Machines that start by themselves get memory, and cores of their own, in their order; the others are only
    /// held to the host's whole. More virtual processors than cores are no mistake, but of class "exclusive".
    pub fn validate_against(&mut self, host: &HostResources<'_>, archive: &Archive<'_>) {
        let mut left_mib = host.memory_mib;
        let mut left_cores = host.cores.len();
        let mut kept = Vec::with_capacity(self.vms.len());
        for vm in core::mem::take(&mut self.vms) {
            let mut errors = file_errors(&vm, archive);
            errors.extend(memory_error(&vm, host.memory_mib, left_mib));
            errors.extend(core_error(&vm, host.cores, left_cores));
            if errors.is_empty() {
                if vm.autostart {
                    left_mib = left_mib.saturating_sub(vm.memory_mib);
                    left_cores = left_cores.saturating_sub(vm.exclusive_cores());
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

impl VmConfig {
    /// What keeps the machine from running on a host with `cores`, and the field that says so: for settings that
    /// did not come from a file as they are, as those that the operator changed.
    pub fn scheduling_mistake(&self, cores: &[u32]) -> Option<(&'static str, Problem)> {
        let mut named = self.cores.iter().flatten();
        if let Some(&core) = named.find(|core| !cores.contains(&u32::from(**core))) {
            return Some(("cores", Problem::NoSuchCore { core, has: cores.into() }));
        }
        match self.class {
            Class::Exclusive => self.exclusive_mistake(cores.len()),
            Class::Normal | Class::Latency => None,
        }
    }

    /// What keeps processors and memory from being divided as field `numa_nodes` says: for settings that did not come
    /// from a file as they are.
    pub fn node_mistake(&self) -> Option<Problem> {
        let (nodes, vcpus) = (self.numa_nodes?, self.vcpus);
        if nodes > vcpus {
            return Some(Problem::NodesBeyondVcpus { nodes, vcpus });
        }
        let memory_mib = self.memory_mib;
        (memory_mib < u64::from(nodes) * LEAST_NODE_MIB)
            .then_some(Problem::NodesBeyondMemory { nodes, memory_mib })
    }

    /// What keeps the machine from having cores for itself on a host with `host_cores`.
    fn exclusive_mistake(&self, host_cores: usize) -> Option<(&'static str, Problem)> {
        let vcpus = self.vcpus;
        if self.cap.is_some() {
            return Some(("cap", Problem::NotWithExclusive));
        }
        let named = self.cores.as_ref().map(Vec::len);
        if let Some(cores) = named.filter(|named| *named < usize::from(vcpus)) {
            return Some(("cores", Problem::TooFewForExclusive { vcpus, cores }));
        }
        (usize::from(vcpus) > host_cores)
            .then_some(("vcpus", Problem::ExclusiveBeyondHost { vcpus, host_cores }))
    }

    /// How many cores it takes from the others.
    fn exclusive_cores(&self) -> usize {
        match self.class {
            Class::Exclusive => self.vcpus.into(),
            Class::Normal | Class::Latency => 0,
        }
    }

    /// The line that says what `field` is.
    fn line_of(&self, field: &str) -> u32 {
        match field {
            "vcpus" => self.lines.vcpus,
            "cores" => self.lines.cores,
            _ => self.lines.name,
        }
    }
}

fn core_error(vm: &VmConfig, host: &[u32], left: usize) -> Option<ConfigError> {
    let (vcpus, host_cores) = (vm.vcpus, host.len());
    let taken = || {
        (vm.autostart && vm.exclusive_cores() > left)
            .then_some(("vcpus", Problem::ExclusiveTaken { vcpus, left, host_cores }))
    };
    let (field, problem) = vm.scheduling_mistake(host).or_else(taken)?;
    Some(error(vm, vm.line_of(field), field, problem))
}

fn file_errors(vm: &VmConfig, archive: &Archive<'_>) -> Vec<ConfigError> {
    let image = if vm.firmware.is_some() { "firmware" } else { "kernel" };
    let kernel = core::iter::once((&vm.kernel, vm.lines.kernel, image));
    let variables = vm.firmware.iter().filter_map(|firmware| firmware.variables.as_ref());
    let variables = variables.map(|file| (file, vm.lines.firmware_vars, "firmware_vars"));
    let initramfs = vm.initramfs.iter().map(|file| (file, vm.lines.initramfs, "initramfs"));
    let modules = vm.modules.iter().map(|module| (&module.file, vm.lines.modules, "modules"));
    kernel
        .chain(variables)
        .chain(initramfs)
        .chain(modules)
        .filter_map(|(file, line, field)| Some(error(vm, line, field, file_problem(file, archive)?)))
        .collect()
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
        let host = HostResources { memory_mib: host_mib, cores: &[0] };
        config.validate_against(&host, &Archive::read(archive_bytes));
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

    /// The names that are left and the mistakes on a host with four cores, of which the third did not start.
    fn on_three_cores(text: &str) -> (Vec<String>, Vec<String>) {
        let bytes = archive(&[entry("k", b"kernel")]);
        let mut config = Config::parse(text.as_bytes());
        assert_eq!(config.errors, []);
        let host = HostResources { memory_mib: 1000, cores: &[0, 1, 3] };
        config.validate_against(&host, &Archive::read(&bytes));
        let names = config.vms.iter().map(|vm| vm.name.clone()).collect();
        (names, config.errors.iter().map(|error| alloc::format!("{error}")).collect())
    }

    fn vm(name: &str, fields: &str) -> String {
        alloc::format!("[[vm]]\nname = \"{name}\"\nmemory_mib = 8\nkernel = \"k\"\n{fields}\n")
    }

    #[test]
    fn a_core_that_does_not_run_costs_the_machine_that_names_it() {
        let text = vm("a", "vcpus = 64\ncores = [0, 3]") + &vm("b", "vcpus = 2\ncores = [1, 2]");
        let (names, errors) = on_three_cores(&text);
        assert_eq!(names, ["a"]);
        assert_eq!(
            errors,
            ["craton.toml:12: vm \"b\": field `cores`: the host runs no core 2; use some of 0, 1, 3"]
        );
    }

    #[test]
    fn cores_are_given_away_in_order() {
        let exclusive = |name, vcpus: u32, fields: &str| {
            vm(name, &alloc::format!("vcpus = {vcpus}\nclass = \"exclusive\"\n{fields}"))
        };
        let text = exclusive("a", 2, "")
            + &exclusive("b", 4, "")
            + &exclusive("c", 2, "")
            + &exclusive("d", 2, "autostart = false")
            + &vm("e", "vcpus = 9");
        let (names, errors) = on_three_cores(&text);
        assert_eq!(names, ["a", "d", "e"]);
        assert_eq!(
            errors,
            [
                "craton.toml:12: vm \"b\": field `vcpus`: class = \"exclusive\" wants a core for each of 4 virtual \
                 processors, and the host has 3; lower it, or choose another class",
                "craton.toml:19: vm \"c\": field `vcpus`: class = \"exclusive\" wants a core for each of 2 virtual \
                 processors, and earlier virtual machines leave 1 of the host's 3; lower it, choose another class, or \
                 set autostart = false",
            ]
        );
    }

    #[test]
    fn changed_settings_are_held_to_the_same_rules() {
        let mut config = Config::parse(vm("a", "vcpus = 2\ncap = 10").as_bytes());
        let mut vm = config.vms.remove(0);
        let field = |vm: &VmConfig| vm.scheduling_mistake(&[0, 1]).map(|(field, _)| field);
        assert_eq!(field(&vm), None);
        vm.class = Class::Exclusive;
        assert_eq!(field(&vm), Some("cap"));
        vm.cap = None;
        assert_eq!(field(&vm), None);
        vm.cores = Some([1].into());
        assert_eq!(field(&vm), Some("cores"));
        (vm.vcpus, vm.cores) = (3, None);
        assert_eq!(field(&vm), Some("vcpus"));
        (vm.class, vm.cores) = (Class::Latency, Some([0, 2].into()));
        assert_eq!(
            vm.scheduling_mistake(&[0, 1]),
            Some(("cores", Problem::NoSuchCore { core: 2, has: [0, 1].into() }))
        );
    }

    #[test]
    fn nodes_are_held_to_processors_and_memory() {
        let mut config = Config::parse(vm("a", "vcpus = 4\nnuma_nodes = 1").as_bytes());
        let mut vm = config.vms.remove(0);
        assert_eq!(vm.node_mistake(), None);
        vm.numa_nodes = Some(4);
        assert_eq!(
            vm.node_mistake().map(|problem| alloc::format!("{problem}")).as_deref(),
            Some("4 nodes want 8 MiB each, and memory_mib is 8; use at most 1, or raise memory_mib")
        );
        vm.memory_mib = 32;
        assert_eq!(vm.node_mistake(), None);
        vm.vcpus = 3;
        assert_eq!(vm.node_mistake(), Some(Problem::NodesBeyondVcpus { nodes: 4, vcpus: 3 }));
        vm.numa_nodes = None;
        assert_eq!(vm.node_mistake(), None);
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
