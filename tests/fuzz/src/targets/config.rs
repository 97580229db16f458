//! The operator's files: whatever is in them, there is a configuration, and every mistake is told.

use crate::{Bytes, Seen};
use config::{Archive, Config, HostResources};

/// Beginnings of lines that a file may have.
const BEGINNINGS: [&str; 28] = [
    "[[vm]]\n",
    "[host]\n",
    "name = ",
    "memory_mib = ",
    "kernel = ",
    "vcpus = ",
    "boot = ",
    "initramfs = ",
    "cmdline = ",
    "autostart = ",
    "console = ",
    "restart = ",
    "weight = ",
    "cap = ",
    "cores = ",
    "class = ",
    "debug_exit = ",
    "debug_console = ",
    "screen = ",
    "log_level = ",
    "escape = ",
    "[vm]\n",
    "vm = ",
    "unknown = ",
    "# ",
    "numa_nodes = ",
    "cpu = ",
    "test_devices = ",
];
/// Ends of lines.
const ENDS: [&str; 25] = [
    "\"a\"",
    "\"b\"",
    "\"k\"",
    "\"\"",
    "64",
    "1",
    "0",
    "-1",
    "100000000000000000000",
    "1.5",
    "true",
    "false",
    "[]",
    "[0]",
    "[0, 1]",
    "[0, 0]",
    "[256]",
    "\"pvh\"",
    "\"always\"",
    "\"exclusive\"",
    "\"info\"",
    "\"ctrl-]\"",
    "{}",
    "\"",
    "2",
];

/// `craton.toml`: lines that the bytes choose, and now and then bytes as they are.
pub(super) fn text(mut bytes: Bytes<'_>, seen: &mut Seen) {
    let mut text = Vec::new();
    while !bytes.is_empty() {
        let beginning = bytes.byte();
        match BEGINNINGS.get(usize::from(beginning)) {
            Some(line) if line.ends_with('\n') => text.extend(line.as_bytes()),
            Some(key) => {
                text.extend(key.as_bytes());
                text.extend(bytes.choose(&ENDS).as_bytes());
                text.push(b'\n');
            }
            // Most of a byte's values, so that few files are without a whole machine.
            None if beginning < 0xe0 => {
                text.extend(b"[[vm]]\nname = \"");
                text.push(b'a' + beginning % 8);
                text.extend(b"\"\nmemory_mib = 64\nkernel = \"k\"\n");
            }
            None => text.push(bytes.byte()),
        }
    }
    let mut config = Config::parse(&text);
    judge(&mut config, &Archive::read(&[]), seen);
}

/// The archive with a configuration in it: entries of every kind, some of them damaged, and bytes as they are.
pub(super) fn archive(mut bytes: Bytes<'_>, seen: &mut Seen) {
    let mut file = Vec::new();
    while !bytes.is_empty() && file.len() < 1 << 16 {
        match bytes.byte() {
            0..0xc0 => entry(&mut file, &mut bytes),
            0xc0..0xd0 => file.resize(file.len() + 1024, 0),
            0xd0..0xe0 => file.truncate(file.len().saturating_sub(usize::from(bytes.word()) % 2048)),
            _ => {
                let place = usize::from(bytes.word()) % file.len().max(1);
                if let Some(byte) = file.get_mut(place) {
                    *byte = bytes.byte();
                }
            }
        }
    }
    let archive = Archive::read(&file);
    for file in archive.files() {
        assert!(archive.get(file.name()).is_some(), "a file that is listed is there");
        seen.note_magnitude(0, file.bytes().len().try_into().unwrap_or(u64::MAX));
    }
    if let Some(damage) = archive.damage() {
        seen.note(1, format!("{damage:?}").len().try_into().unwrap_or(0));
    }
    let mut config = Config::from_archive(&archive);
    judge(&mut config, &archive, seen);
}

/// Adds a ustar entry with a right checksum.
fn entry(file: &mut Vec<u8>, bytes: &mut Bytes<'_>) {
    let kind = bytes.choose(b"00000012356LKxg7\0");
    let name = bytes.choose(&["craton.toml", "./craton.toml", "k", "./", "a/../b", "", "\u{e9}"]);
    let length = usize::from(bytes.byte()) * usize::from(bytes.choose(&[0_u8, 1, 1, 1, 3]));
    let said = match bytes.byte() {
        0 => format!("{:011o}\0", bytes.qword() >> 31),
        1 => String::from("99999999999\0"),
        _ => format!("{length:011o}\0"),
    };
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..136].copy_from_slice(said.as_bytes());
    block[148..156].fill(b' ');
    block[156] = kind;
    block[157..157 + name.len()].copy_from_slice(name.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    file.extend(block);
    let data: Vec<u8> = (0..length).map(|_| bytes.byte()).collect();
    file.extend(data);
    file.resize(file.len().next_multiple_of(512), 0);
}

fn judge(config: &mut Config, archive: &Archive<'_>, seen: &mut Seen) {
    config.validate_against(&HostResources { memory_mib: 4096, cores: &[0, 1] }, archive);
    for error in &config.errors {
        let said = error.to_string();
        assert!(!said.contains('\n'), "a mistake is told on one line: {said}");
        seen.note(
            2,
            said.bytes()
                .filter(u8::is_ascii_lowercase)
                .fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte))),
        );
        let field = error.field.as_deref().unwrap_or_default();
        seen.note(
            3,
            field.bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte))),
        );
    }
    for vm in &config.vms {
        assert!((1..=64).contains(&vm.vcpus) && vm.memory_mib >= 8 && !vm.name.is_empty());
        let nodes = vm.numa_nodes.unwrap_or(1);
        assert!((1..=vm.vcpus.min(8)).contains(&nodes) && u64::from(nodes) * 8 <= vm.memory_mib);
        seen.note_magnitude(4, vm.memory_mib);
    }
}
