//! A boot archive with one guest, made of files that the user names on the command line.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::image::archive::{Archive, CONFIGURATION};

/// What the guest is called.
pub(crate) const NAME: &str = "guest";

/// How a kernel is booted, as in craton.toml.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Boot {
    /// As the file looks.
    Auto,
    /// A bzImage, by its 64-bit entry point.
    Linux,
    /// A bzImage, by its 32-bit entry point.
    Linux32,
    /// An ELF file with a PVH note.
    Pvh,
    /// A file with a Multiboot header.
    Multiboot,
    /// A file with a Multiboot2 header.
    Multiboot2,
    /// Any file, as it is, at --load-address.
    Flat,
}

impl Boot {
    const fn key(self) -> &'static str {
        match self {
            Boot::Auto => "auto",
            Boot::Linux => "linux",
            Boot::Linux32 => "linux32",
            Boot::Pvh => "pvh",
            Boot::Multiboot => "multiboot",
            Boot::Multiboot2 => "multiboot2",
            Boot::Flat => "flat",
        }
    }
}

/// The options about the guest.
#[derive(clap::Args, Clone, Debug, Default)]
#[group(id = "guest-arguments")]
pub(crate) struct Arguments {
    /// Boot this kernel as the only guest, print what it writes to its serial port, and exit with its status: the one
    /// that it writes to port 0xF4 (twice the value and one), 0 when it powers off, 1 when it fails. A file packed by
    /// gzip is unpacked.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["guests", "exec"])]
    pub(crate) guest_kernel: Option<PathBuf>,
    /// How to boot the kernel.
    #[arg(long, value_enum, requires = "guest_kernel")]
    pub(crate) boot: Option<Boot>,
    /// Where a flat kernel goes; 0x7c00 unless told otherwise.
    #[arg(long, value_name = "ADDRESS", value_parser = address, requires = "guest_kernel")]
    pub(crate) load_address: Option<u32>,
    /// Where a flat kernel is entered: below 1 MiB in real mode, above in 32-bit protected mode; its first byte unless
    /// told otherwise.
    #[arg(long, value_name = "ADDRESS", value_parser = address, requires = "guest_kernel")]
    pub(crate) entry: Option<u32>,
    /// The kernel's initial RAM disk; with Multiboot the first module.
    #[arg(long, value_name = "FILE", requires = "guest_kernel")]
    pub(crate) initrd: Option<PathBuf>,
    /// A module for the kernel, whose string is the file's name and, behind a blank, TEXT; may be there several times.
    #[arg(long, value_name = "FILE[=TEXT]", requires = "guest_kernel")]
    pub(crate) module: Vec<String>,
    /// The kernel's command line. With Multiboot the file's name is put before it.
    #[arg(long, value_name = "TEXT", requires = "guest_kernel")]
    pub(crate) append: Option<String>,
    /// Number of processors of the guest, 1 to 64; may be more than the machine's --cpus.
    #[arg(long, value_name = "N", requires = "guest_kernel", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) vcpus: Option<u8>,
}

/// Reads an address like 0x7c00 or 31744.
fn address(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| String::from("use an address up to 0xffffffff, like 0x7c00"))
}

/// Packs `kernel` and what goes along with it, for a guest with `memory_mib` of memory.
pub(crate) fn pack(kernel: &Path, arguments: &Arguments, memory_mib: u32) -> Result<Archive> {
    let mut archive = Archive::default();
    let mut vm = toml::Table::new();
    vm.insert("name".into(), NAME.into());
    vm.insert("memory_mib".into(), i64::from(memory_mib).into());
    vm.insert("vcpus".into(), i64::from(arguments.vcpus.unwrap_or(1)).into());
    vm.insert("kernel".into(), add(&mut archive, kernel)?.into());
    vm.insert("boot".into(), arguments.boot.unwrap_or(Boot::Auto).key().into());
    for (key, value) in [("load_address", arguments.load_address), ("entry", arguments.entry)] {
        if let Some(value) = value {
            if arguments.boot != Some(Boot::Flat) {
                bail!("--{} has no meaning but with --boot flat", key.replace('_', "-"));
            }
            vm.insert(key.into(), i64::from(value).into());
        }
    }
    if let Some(file) = &arguments.initrd {
        vm.insert("initramfs".into(), add(&mut archive, file)?.into());
    }
    let modules: Vec<String> =
        arguments.module.iter().map(|module| add_module(&mut archive, module)).collect::<Result<_>>()?;
    if !modules.is_empty() {
        vm.insert("modules".into(), modules.into());
    }
    if let Some(line) = &arguments.append {
        vm.insert("cmdline".into(), line.as_str().into());
    }
    vm.insert("console".into(), true.into());
    vm.insert("debug_exit".into(), true.into());
    let mut host = toml::Table::new();
    // What the guest prints is to stand alone.
    host.insert("log_level".into(), "warn".into());
    let mut table = toml::Table::new();
    table.insert("host".into(), host.into());
    table.insert("vm".into(), vec![toml::Value::Table(vm)].into());
    archive.add(CONFIGURATION, table.to_string().into_bytes());
    Ok(archive)
}

/// Adds a module given as `FILE` or `FILE=TEXT`, and returns its string.
fn add_module(archive: &mut Archive, module: &str) -> Result<String> {
    if let Some((file, text)) = module.split_once('=')
        && !Path::new(module).is_file()
    {
        return Ok(format!("{} {text}", add(archive, Path::new(file))?));
    }
    add(archive, Path::new(module))
}

/// Adds the file at `path`, unpacked, and returns its name in the archive.
fn add(archive: &mut Archive, path: &Path) -> Result<String> {
    let content = unpacked(path)?;
    let file = path.file_name().with_context(|| format!("{} is no file", path.display()))?.to_string_lossy();
    // A blank would end the name in a module's string.
    let name = file.replace(|character: char| character.is_whitespace() || character.is_control(), "_");
    let taken = name == CONFIGURATION || archive.get(&name).is_some_and(|other| other != content);
    if taken {
        bail!("two different files are called {name}; rename {}", path.display());
    }
    archive.add(&name, content);
    Ok(name)
}

/// The content of the file at `path`, unpacked if it is packed by gzip, as boot loaders do it.
pub(crate) fn unpacked(path: &Path) -> Result<Vec<u8>> {
    let shown = || format!("cannot read {}", path.display());
    let content = std::fs::read(path).with_context(shown)?;
    if !content.starts_with(b"\x1f\x8b") {
        return Ok(content);
    }
    let output = Command::new("gzip")
        .args(["-dc", "--"])
        .arg(std::path::absolute(path).with_context(shown)?)
        .stdin(Stdio::null())
        .output()
        .context("cannot start `gzip`, which unpacks kernels")?;
    if !output.status.success() {
        bail!("cannot unpack {}: {}", path.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own with `files`.
    fn directory(name: &str, files: &[(&str, &[u8])]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("craton-single-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        for (file, content) in files {
            std::fs::write(path.join(file), content).expect("a file");
        }
        path
    }

    fn configuration(archive: &Archive) -> toml::Table {
        let text = archive.get(CONFIGURATION).expect("there is one");
        std::str::from_utf8(text).expect("text").parse().expect("valid")
    }

    #[test]
    fn the_configuration_says_what_the_command_line_said() {
        let place = directory("whole", &[("x.elf", b"kernel"), ("env.txt", b"A=1"), ("a=b", b"odd")]);
        let file = |name: &str| place.join(name).display().to_string();
        let arguments = Arguments {
            boot: Some(Boot::Multiboot),
            module: vec![file("env.txt"), format!("{}=x=1 y", file("env.txt")), file("a=b")],
            append: Some("test \"quoted\"".into()),
            vcpus: Some(4),
            ..Arguments::default()
        };
        let archive = pack(&place.join("x.elf"), &arguments, 300).expect("packed");
        let table = configuration(&archive);
        let vm = &table["vm"][0];
        assert_eq!(vm["kernel"].as_str(), Some("x.elf"));
        assert_eq!(vm["boot"].as_str(), Some("multiboot"));
        assert_eq!((vm["memory_mib"].as_integer(), vm["vcpus"].as_integer()), (Some(300), Some(4)));
        assert_eq!(vm["cmdline"].as_str(), Some("test \"quoted\""));
        assert_eq!(vm["debug_exit"].as_bool(), Some(true));
        let modules: Vec<_> = vm["modules"].as_array().expect("a list").iter().map(|m| m.as_str()).collect();
        assert_eq!(modules, [Some("env.txt"), Some("env.txt x=1 y"), Some("a=b")]);
        assert_eq!(archive.get("env.txt"), Some(b"A=1".as_slice()));
        drop(std::fs::remove_dir_all(place));
    }

    #[test]
    fn files_that_cannot_go_along_are_refused() {
        let place = directory("bad", &[("k", b"kernel"), ("craton.toml", b"x")]);
        std::fs::create_dir_all(place.join("sub")).expect("a directory");
        std::fs::write(place.join("sub/k"), b"another").expect("a file");
        let with = |arguments: &Arguments| pack(&place.join("k"), arguments, 128).map(|_| ());
        let said = |arguments: &Arguments| format!("{:#}", with(arguments).expect_err("refused"));
        let initrd = |name: &str| Arguments { initrd: Some(place.join(name)), ..Arguments::default() };
        assert!(said(&initrd("sub/k")).contains("two different files are called k"));
        assert!(said(&initrd("craton.toml")).contains("craton.toml"));
        assert!(said(&initrd("absent")).contains("cannot read"));
        assert!(with(&initrd("k")).is_ok(), "one file may be both");
        let flat = Arguments { load_address: Some(1), ..Arguments::default() };
        assert!(said(&flat).contains("--load-address has no meaning"));
        drop(std::fs::remove_dir_all(place));
    }

    #[test]
    fn packed_kernels_are_unpacked() {
        let packed = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcbN-\xcaK\xcd\x01\0\x0d\xbc\xb4\xe5\x06\0\0\0";
        let place = directory("packed", &[("k.gz", packed)]);
        // Whether these bytes are sound or not, they are not passed on as they are.
        assert!(unpacked(&place.join("k.gz")).map_or(true, |content| content != packed));
        drop(std::fs::remove_dir_all(place));
    }

    #[test]
    fn addresses_are_read_in_both_forms() {
        assert_eq!((address("0x7c00"), address("31744")), (Ok(0x7c00), Ok(0x7c00)));
        assert!(address("0x1_0000").is_err() && address("4294967296").is_err());
    }
}
