//! Tests of the configuration reader: what it takes, and the words for each mistake.

use crate::archive::testing::{archive, entry};
use crate::{Archive, Boot, Class, Config, Cpu, Firmware, HostResources, LogLevel, Module, Restart, Screen};
use proptest::prelude::*;

fn errors(text: &str) -> Vec<String> {
    Config::parse(text.as_bytes()).errors.iter().map(ToString::to_string).collect()
}

/// The one mistake in a virtual machine that is sound but for `line`, which is line 5.
fn error_of(line: &str) -> String {
    let text = format!(
        "[[vm]]\nname = \"a\"\nmemory_mib = 64\nkernel = \"k\"\n{line}\n[[vm]]\nname = \"b\"\nmemory_mib = 64\nkernel = \"k\"\n"
    );
    let config = Config::parse(text.as_bytes());
    let names: Vec<_> = config.vms.iter().map(|vm| vm.name.as_str()).collect();
    assert_eq!(names, ["b"], "only the other is left: {line}");
    assert_eq!(config.errors.len(), 1, "{:?}", config.errors);
    config.errors[0].to_string()
}

#[test]
fn a_whole_configuration_is_read() {
    let config = Config::parse(
        br#"
        [host]
        log_level = "debug"
        escape = "ctrl-a"

        [[vm]]
        name = "web-1"
        memory_mib = 1_024
        vcpus = 64
        kernel = "images/vmlinuz"
        boot = "linux"
        initramfs = "images/initramfs"
        cmdline = "console=ttyS0"
        autostart = false
        console = true
        restart = "on-failure"
        debug_exit = true
        debug_console = true
        weight = 250
        cap = 40
        cores = [3, 0,
            255]
        class = "latency"
        cpu = "x86-64-v3"
        test_devices = true
        numa_nodes = 8
        screen = "vga"

        [[vm]]
        name = "small"
        memory_mib = 0x10
        kernel = "vmlinux"
        "#,
    );
    assert_eq!(config.errors, []);
    assert_eq!((config.host.log_level, config.host.escape), (LogLevel::Debug, 1));
    let [web, small] = config.vms.as_slice() else { panic!("two machines") };
    assert_eq!(
        (web.memory_mib, web.boot, web.restart, web.weight),
        (1024, Boot::Linux, Restart::OnFailure, 250)
    );
    assert_eq!((web.kernel.as_str(), web.initramfs.as_deref()), ("images/vmlinuz", Some("images/initramfs")));
    assert_eq!((web.vcpus, web.cap, web.class), (64, Some(40), Class::Latency));
    assert_eq!(web.cores.as_deref(), Some([3, 0, 255].as_slice()));
    assert_eq!((web.cpu, small.cpu), (Cpu::V3, Cpu::Host));
    assert!(web.debug_exit && web.debug_console && !small.debug_exit && !small.debug_console);
    assert!(!web.autostart && web.console && web.cmdline == "console=ttyS0");
    assert_eq!((web.screen, small.screen), (Screen::Vga, Screen::None));
    assert!(web.test_devices && !small.test_devices);
    assert_eq!((web.numa_nodes, small.numa_nodes), (Some(8), None));
    assert_eq!((small.memory_mib, small.vcpus, small.boot, small.weight), (16, 1, Boot::Detect, 100));
    assert!(small.autostart && !small.console && small.cmdline.is_empty() && small.initramfs.is_none());
    assert_eq!((small.cap, small.cores.as_deref(), small.class), (None, None, Class::Normal));
    assert_eq!((small.restart, config.console_vm()), (Restart::Never, Some(0)));
}

#[test]
fn a_test_program_needs_only_what_is_about_it() {
    let config = Config::parse(
        b"[[vm]]\nkernel = \"x.elf\"\nboot = \"multiboot\"\nmodule = \"env.txt\"\nvcpus = 4\ndebug_exit = true\n",
    );
    assert_eq!(config.errors, []);
    let [vm] = config.vms.as_slice() else { panic!("one machine") };
    assert_eq!((vm.name.as_str(), vm.memory_mib, vm.vcpus), ("x", 128, 4));
    assert_eq!((vm.boot, vm.debug_exit), (Boot::Multiboot, true));
    let module = Module { file: "env.txt".into(), string: "env.txt".into() };
    assert_eq!(vm.modules, [module]);
}

#[test]
fn machines_without_a_name_have_their_kernels() {
    let text = "[[vm]]\nkernel = \"dir/vmlinux-6.1 b.bin\"\n[[vm]]\nkernel = \"k\"\n[[vm]]\nkernel = \"k.gz\"\n\
                [[vm]]\nkernel = \".\"\n";
    let config = Config::parse(text.as_bytes());
    let names: Vec<_> = config.vms.iter().map(|vm| vm.name.as_str()).collect();
    assert_eq!(names, ["vmlinux-6.1-b", "k", "vm"]);
    let told: Vec<_> = config.errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "craton.toml:6: vm \"k\": field `name`: the virtual machine at line 4 has this name; choose another"
        ]
    );
}

#[test]
fn ways_to_boot_have_their_fields() {
    let boot = |lines: &str| {
        let config = Config::parse(format!("[[vm]]\nkernel = \"k\"\n{lines}\n").as_bytes());
        assert_eq!(config.errors, []);
        config.vms[0].boot
    };
    for (name, expected) in [
        ("auto", Boot::Detect),
        ("linux32", Boot::Linux32),
        ("pvh", Boot::Pvh),
        ("multiboot2", Boot::Multiboot2),
        ("flat", Boot::Flat { load_address: 0x7c00, entry: 0x7c00 }),
    ] {
        assert_eq!(boot(&format!("boot = \"{name}\"")), expected);
    }
    let elsewhere = boot("boot = \"flat\"\nload_address = 0x10_0000");
    assert_eq!(elsewhere, Boot::Flat { load_address: 0x10_0000, entry: 0x10_0000 });
    let inside = boot("boot = \"flat\"\nload_address = 0x1000\nentry = 0x1010");
    assert_eq!(inside, Boot::Flat { load_address: 0x1000, entry: 0x1010 });
}

#[test]
fn modules_are_files_with_words_behind() {
    let text = "[[vm]]\nkernel = \"k\"\nmodules = [\"a\", \" b  x=1 y \"]\n";
    let config = Config::parse(text.as_bytes());
    let modules: Vec<_> =
        config.vms[0].modules.iter().map(|m| (m.file.as_str(), m.string.as_str())).collect();
    assert_eq!(modules, [("a", "a"), ("b", "b  x=1 y")]);

    let told = errors("[[vm]]\nkernel = \"k\"\nmodule = \"a\"\nmodules = [\"b\"]\n");
    assert_eq!(
        told,
        [
            "craton.toml:3: vm \"k\": field `module`: `modules` is there, too; name all modules there, and remove this one"
        ]
    );
    let mut config = config;
    let bytes = archive(&[entry("k", b"kernel"), entry("a", b"a")]);
    config.validate_against(&HostResources { memory_mib: 1000, cores: &[0] }, &Archive::read(&bytes));
    assert_eq!(
        config.errors[0].to_string(),
        "craton.toml:3: vm \"k\": field `modules`: `b` is not in the boot archive; add it, or use one of k, a"
    );
}

#[test]
fn each_mistake_names_line_machine_field_and_remedy() {
    let expected = [
        ("memroy = 3", "field `memroy`: there is no such field; remove it, or use one of name, memory_mib, "),
        ("weight = 0", "field `weight`: 0 is out of range; use a number from 1 to 10000"),
        ("weight = -5", "field `weight`: -5 is out of range; "),
        ("weight = \"big\"", "field `weight`: it is text and should be a whole number; change it"),
        ("weight = 1.5", "field `weight`: it is a number with a fraction and should be a whole number"),
        ("autostart = \"yes\"", "field `autostart`: it is text and should be true or false"),
        ("cmdline = 5", "field `cmdline`: it is a number and should be text in quotes"),
        ("initramfs = \"\"", "field `initramfs`: it is empty; "),
        (
            "boot = \"uefi\"",
            "field `boot`: \"uefi\" is not a choice; use one of auto, linux, linux32, pvh, multiboot, multiboot2, flat",
        ),
        ("entry = 0x7c00", "field `entry`: it has no meaning but with boot = \"flat\"; remove it"),
        ("load_address = 1", "field `load_address`: it has no meaning but with boot = \"flat\"; remove it"),
        ("load_address = -1", "field `load_address`: -1 is out of range; use a number from 0 to 4294967295"),
        ("module = \" \"", "field `module`: it is empty; "),
        ("module = [\"a\"]", "field `module`: it is an array and should be text in quotes"),
        ("modules = \"a\"", "field `modules`: it is text and should be a list of texts in quotes"),
        (
            "modules = [\"a\", 1]",
            "field `modules`: an item of the list is a number and should be text in quotes",
        ),
        ("modules = [\"a\", \"\"]", "field `modules`: it is empty; "),
        ("restart = \"no\"", "field `restart`: \"no\" is not a choice; use one of never, on-failure, always"),
        ("vcpus = 65", "field `vcpus`: 65 is out of range; use a number from 1 to 64"),
        ("vcpus = 0", "field `vcpus`: 0 is out of range; use a number from 1 to 64"),
        ("cap = 0", "field `cap`: 0 is out of range; use a number from 1 to 100"),
        ("cap = 101", "field `cap`: 101 is out of range; use a number from 1 to 100"),
        ("cap = \"50%\"", "field `cap`: it is text and should be a whole number; change it"),
        (
            "cores = 1",
            "field `cores`: it is a number and should be a list of whole numbers, as [0, 1]; change it",
        ),
        ("cores = []", "field `cores`: it names no core; fill it in, or remove it to allow all"),
        ("cores = [0, 256]", "field `cores`: 256 is out of range; use a number from 0 to 255"),
        ("cores = [-1]", "field `cores`: -1 is out of range; use a number from 0 to 255"),
        ("cores = [2, 1, 2]", "field `cores`: core 2 is named twice; remove one of the two"),
        (
            "cores = [\"0-3\"]",
            "field `cores`: an item of the list is text and should be a whole number; change it",
        ),
        (
            "class = \"realtime\"",
            "field `class`: \"realtime\" is not a choice; use one of normal, latency, exclusive",
        ),
        ("numa_nodes = 9", "field `numa_nodes`: 9 is out of range; use a number from 1 to 8"),
        (
            "numa_nodes = 2",
            "field `numa_nodes`: 2 nodes want a virtual processor each, and vcpus is 1; use at most 1, or raise vcpus",
        ),
        (
            "cpu = \"haswell\"",
            "field `cpu`: \"haswell\" is not a choice; use one of host, x86-64-v2, x86-64-v3",
        ),
    ];
    for (line, message) in expected {
        let told = error_of(line);
        let start = "craton.toml:5: vm \"a\": ";
        assert!(told.starts_with(&format!("{start}{message}")), "{told}");
    }
}

#[test]
fn an_exclusive_machine_shares_nothing() {
    let told = |fields: &str| {
        errors(&format!(
            "[[vm]]\nname = \"a\"\nmemory_mib = 64\nkernel = \"k\"\nclass = \"exclusive\"\n{fields}"
        ))
    };
    let meaningless = "it has no meaning for class = \"exclusive\", which shares no core; remove it, or choose \
                       another class";
    assert_eq!(told("vcpus = 2\ncores = [4, 7]"), [""; 0]);
    assert_eq!(told("cap = 50"), [format!("craton.toml:6: vm \"a\": field `cap`: {meaningless}")]);
    assert_eq!(told("\nweight = 100"), [format!("craton.toml:7: vm \"a\": field `weight`: {meaningless}")]);
    assert_eq!(
        told("vcpus = 3\ncores = [4, 7]"),
        ["craton.toml:7: vm \"a\": field `cores`: class = \"exclusive\" wants a core for each of 3 virtual \
             processors, and 2 are named; name more, or lower vcpus"]
    );
}

#[test]
fn a_mistake_in_a_list_is_told_at_the_items_line() {
    let told =
        errors("[[vm]]\nname = \"a\"\nmemory_mib = 64\nkernel = \"k\"\ncores = [\n  0,\n  1,\n  300,\n]\n");
    assert_eq!(
        told,
        ["craton.toml:8: vm \"a\": field `cores`: 300 is out of range; use a number from 0 to 255"]
    );
}

/// The configurations of the checkout, on the machines that they are meant for.
#[test]
fn our_own_configurations_are_without_mistake() {
    let ours = [
        (include_str!("../../../../guest-images/craton.toml"), [0].as_slice()),
        (include_str!("../../../../guest-images/many.toml"), [0, 1].as_slice()),
    ];
    let images = ["vmlinuz", "vmlinux", "initramfs.cpio", "testkit"].map(|name| entry(name, b"image"));
    let bytes = archive(&images);
    for (text, cores) in ours {
        let mut config = Config::parse(text.as_bytes());
        config.validate_against(&HostResources { memory_mib: 896, cores }, &Archive::read(&bytes));
        assert_eq!(config.errors, []);
        assert!(config.console_vm().is_some_and(|index| config.vms[index].console));
    }
}

#[test]
fn impossible_memory_is_refused() {
    for value in ["0", "7", "99999999999999999999", "-1"] {
        let told = errors(&format!("[[vm]]\nname = \"a\"\nmemory_mib = {value}\nkernel = \"k\"\n"));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("craton.toml:3: vm \"a\": field `memory_mib`: "), "{told:?}");
        assert!(told[0].contains("is out of range; use a number from 8 to "), "{told:?}");
    }
}

#[test]
fn missing_fields_are_told_at_the_tables_line() {
    assert_eq!(
        errors("\n[[vm]]\nmemory_mib = 64\n"),
        ["craton.toml:2: vm #1: field `kernel`: it is missing; add a line like kernel = \"vmlinuz\"",]
    );
    assert_eq!(errors(""), ["craton.toml: no virtual machine is described; add a [[vm]]"]);
}

#[test]
fn second_uses_of_name_and_console_cost_the_later_machine() {
    let vm =
        |name: &str| format!("[[vm]]\nname = \"{name}\"\nmemory_mib = 64\nkernel = \"k\"\nconsole = true\n");
    let text = vm("a") + &vm("a") + &vm("b");
    let config = Config::parse(text.as_bytes());
    assert_eq!(config.vms.len(), 1);
    assert_eq!(
        errors(&text),
        [
            "craton.toml:7: vm \"a\": field `name`: the virtual machine at line 2 has this name; choose another",
            "craton.toml:15: vm \"b\": field `console`: virtual machine \"a\" has the console already; set it for one \
             of the two",
        ]
    );
}

#[test]
fn names_that_commands_cannot_take_are_refused() {
    let told = errors("[[vm]]\nname = \"two words\"\nmemory_mib = 64\nkernel = \"k\"\n");
    assert!(
        told[0].starts_with("craton.toml:2: vm #1: field `name`: \"two words\" is not a name; "),
        "{told:?}"
    );
}

#[test]
fn a_syntax_error_is_one_error_with_its_line() {
    let told = errors("[[vm]]\nname = \"a\"\nmemory_mib = = 64\n");
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("craton.toml:3: not TOML: "), "{told:?}");
    assert_eq!(errors(&("x = ".to_owned() + &"[".repeat(100_000))).len(), 1, "depth is bounded");
    assert!(errors("[[vm]]\nname = \"a\"\nname = \"b\"\n")[0].starts_with("craton.toml:3: not TOML: "));
    let config = Config::parse(b"# fine\n# not \xff\n");
    assert_eq!(config.errors[0].to_string(), "craton.toml:2: not UTF-8 text; save the file as UTF-8");
}

#[test]
fn mistakes_outside_of_machines_cost_no_machine() {
    let text = "colour = 1\n[host]\nlog_level = \"loud\"\nescape = \"ctrl-m\"\n[[vm]]\nname = \"a\"\nmemory_mib = 64\nkernel = \"k\"\n";
    assert_eq!(Config::parse(text.as_bytes()).vms.len(), 1);
    let told = errors(text);
    assert_eq!(
        told[0],
        "craton.toml:1: field `colour`: there is no such field; remove it, or use one of vm, host"
    );
    assert!(
        told[1].starts_with("craton.toml:3: [host]: field `log_level`: \"loud\" is not a choice"),
        "{told:?}"
    );
    assert!(
        told[2].starts_with("craton.toml:4: [host]: field `escape`: \"ctrl-m\" is not a key"),
        "{told:?}"
    );
    assert!(errors("vm = 3")[0].contains("it is a number and should be an array of tables: [[vm]]"));
    assert!(errors("[vm]\nname = \"a\"\n")[0].starts_with("craton.toml:1: field `vm`: it is a table"));
    assert!(errors("vm = [3]")[0].contains("should be an array of tables"));
}

#[test]
fn an_archive_without_configuration_is_told() {
    let bytes = archive(&[entry("k", b"x")]);
    let config = Config::from_archive(&Archive::read(&bytes));
    assert_eq!(
        config.errors[0].to_string(),
        "craton.toml: it is not in the boot archive; add it and pack the archive again"
    );
    let bytes = archive(&[entry("./craton.toml", b"[[vm]]\nname='a'\nmemory_mib=8\nkernel='k'")]);
    assert_eq!(Config::from_archive(&Archive::read(&bytes)).vms.len(), 1);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        let _ = Config::parse(text.as_bytes());
    }

    #[test]
    fn no_change_of_a_sound_text_makes_the_reader_panic(
        changes in prop::collection::vec((0_usize..120, any::<u8>()), 1..6),
    ) {
        let mut text = b"[host]\nescape='ctrl-]'\n[[vm]]\nname='a'\nmemory_mib=0x40\nkernel='k'\nvcpus=2\ncap=7\ncores=[0,1]\n\
            class='latency'\n".to_vec();
        for (offset, value) in changes {
            if let Some(byte) = text.get_mut(offset) {
                *byte = value;
            }
        }
        let config = Config::parse(&text);
        for error in &config.errors {
            prop_assert!(error.to_string().starts_with("craton.toml:"));
        }
    }
}

#[test]
fn firmware_stands_in_for_a_kernel() {
    let vm = |fields: &str| format!("[[vm]]\nname = \"a\"\nmemory_mib = 64\nfirmware = \"ovmf\"\n{fields}\n");
    let config = Config::parse(vm("firmware_vars = \"ovmf-vars\"").as_bytes());
    assert_eq!(config.errors, []);
    assert_eq!(config.vms[0].kernel, "ovmf");
    assert_eq!(config.vms[0].firmware, Some(Firmware { variables: Some("ovmf-vars".into()) }));
    assert_eq!(Config::parse(vm("").as_bytes()).vms[0].firmware, Some(Firmware { variables: None }));
    for field in ["kernel = \"k\"", "boot = \"linux\"", "initramfs = \"i\"", "cmdline = \"x\""] {
        let told = errors(&vm(field));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("craton.toml:5: vm \"a\": field `"), "{told:?}");
        assert!(told[0].contains("it has no meaning for a machine that is started by firmware"), "{told:?}");
    }
    let told = errors("[[vm]]\nname = \"a\"\nmemory_mib = 64\nkernel = \"k\"\nfirmware_vars = \"v\"\n");
    assert_eq!(
        told,
        [
            "craton.toml:5: vm \"a\": field `firmware_vars`: it has no meaning without firmware; remove it, or add a line \
          like firmware = \"ovmf\""
        ]
    );
}
