//! What firmware in a guest is given to hand on to the operating system: the map of memory, and the ACPI and SMBIOS
//! tables with a script that says how to put them into memory. They go into QEMU's firmware configuration device.
//!
//! QEMU documentation, "QEMU Firmware Configuration (fw_cfg) Device"; the script is the one of QEMU's ACPI linker and
//! loader, whose commands SeaBIOS and OVMF carry out: files are put into memory, then the address of one is added to
//! a pointer in another, then checksums are made.

use crate::acpi::{FirmwareTables, RSDP_BYTES};
use crate::{MemoryLayout, Nodes, smbios};
use alloc::vec::Vec;
use core::num::NonZeroU8;
use zerocopy::IntoBytes;

/// A file for firmware.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FirmwareFile {
    /// Its name, by which firmware looks for it.
    pub name: &'static str,
    /// What is in it.
    pub bytes: Vec<u8>,
}

const E820: &str = "etc/e820";
const RSDP: &str = "etc/acpi/rsdp";
const TABLES: &str = "etc/acpi/tables";
const SCRIPT: &str = "etc/table-loader";
const SMBIOS_ANCHOR: &str = "etc/smbios/smbios-anchor";
const SMBIOS_STRUCTURES: &str = "etc/smbios/smbios-tables";

/// The files for a machine with `vcpus` processors and memory as in `layout`, divided among `nodes` if there are such.
pub fn firmware_files(vcpus: NonZeroU8, layout: &MemoryLayout, nodes: Option<Nodes>) -> Vec<FirmwareFile> {
    let file = |name, bytes| FirmwareFile { name, bytes };
    let tables = FirmwareTables::new(0, vcpus, layout, nodes);
    let (rsdp, blob, script) = linked(&tables);
    let (anchor, structures) = smbios::parts(layout, vcpus);
    Vec::from([
        file(E820, e820(layout)),
        file(RSDP, rsdp),
        file(TABLES, blob),
        file(SCRIPT, script),
        file(SMBIOS_ANCHOR, anchor),
        file(SMBIOS_STRUCTURES, structures),
    ])
}

/// The map of RAM: start and length, 8 bytes each, and kind. What is reserved of it is firmware's business.
fn e820(layout: &MemoryLayout) -> Vec<u8> {
    let mut bytes = Vec::new();
    for range in layout.ram() {
        bytes.extend(range.start.get().to_le_bytes());
        bytes.extend(range.bytes.to_le_bytes());
        bytes.extend((range.kind as u32).to_le_bytes());
    }
    bytes
}

/// Offsets of addresses in the FADT, and their lengths: FACS, DSDT, and DSDT once more.
const FADT_POINTERS: [(u32, u8); 3] = [(36, 4), (40, 4), (140, 8)];
/// The same in the root pointer: RSDT and XSDT.
const RSDP_POINTERS: [(u32, u8); 2] = [(16, 4), (24, 8)];
/// Checksums of the root pointer: where each is, and of how many bytes.
const RSDP_CHECKSUMS: [(u32, u32); 2] = [(8, 20), (32, 36)];
/// Length of a table's header, and where in it the length and the checksum are.
const HEADER_BYTES: u32 = 36;
const LENGTH: u32 = 4;
const CHECKSUM: u32 = 9;

/// Root pointer, the other tables, and the script that links them. Pointers are offsets in the tables until it has run.
fn linked(tables: &FirmwareTables) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let places = tables.places();
    let mut blob = Vec::from(tables.bytes());
    let mut rsdp: Vec<u8> = blob.iter().copied().take(RSDP_BYTES).collect();
    blob.iter_mut().take(RSDP_BYTES).for_each(|byte| *byte = 0);

    let mut script = Script::default();
    script.allocate(TABLES, 64, Zone::High);
    script.allocate(RSDP, 16, Zone::BelowOneMib);
    for (offset, bytes) in FADT_POINTERS {
        script.add_pointer(TABLES, places.fadt + offset, bytes);
    }
    for (list, bytes) in [(places.rsdt, 4_u8), (places.xsdt, 8)] {
        let end = list + length_of(&blob, list);
        for offset in (list + HEADER_BYTES..end).step_by(usize::from(bytes)) {
            script.add_pointer(TABLES, offset, bytes);
        }
    }
    for table in [places.fadt, places.rsdt, places.xsdt] {
        clear(&mut blob, table + CHECKSUM);
        script.add_checksum(TABLES, table + CHECKSUM, table, length_of(&blob, table));
    }
    for (offset, bytes) in RSDP_POINTERS {
        script.add_pointer(RSDP, offset, bytes);
    }
    for (offset, bytes) in RSDP_CHECKSUMS {
        clear(&mut rsdp, offset);
        script.add_checksum(RSDP, offset, 0, bytes);
    }
    (rsdp, blob, script.0)
}

/// The length of the table at `table`.
fn length_of(blob: &[u8], table: u32) -> u32 {
    let field = usize::try_from(table + LENGTH).ok().and_then(|start| blob.get(start..)?.first_chunk());
    u32::from_le_bytes(field.copied().unwrap_or_default())
}

fn clear(bytes: &mut [u8], offset: u32) {
    if let Some(byte) = usize::try_from(offset).ok().and_then(|offset| bytes.get_mut(offset)) {
        *byte = 0;
    }
}

/// Where a file goes.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Zone {
    High = 1,
    /// Where operating systems search for the root pointer.
    BelowOneMib = 2,
}

/// Commands of 128 bytes.
#[derive(Default)]
struct Script(Vec<u8>);

impl Script {
    const COMMAND_BYTES: usize = 128;
    const NAME_BYTES: usize = 56;

    fn allocate(&mut self, file: &str, alignment: u32, zone: Zone) {
        self.command(1, &[file], &[alignment], zone as u8);
    }

    /// Adds the address of the tables to the `bytes` bytes at `offset` in `file`.
    fn add_pointer(&mut self, file: &str, offset: u32, bytes: u8) {
        self.command(2, &[file, TABLES], &[offset], bytes);
    }

    fn add_checksum(&mut self, file: &str, offset: u32, start: u32, length: u32) {
        self.command(3, &[file], &[offset, start, length], 0);
    }

    fn command(&mut self, number: u32, files: &[&str], words: &[u32], last: u8) {
        let end = self.0.len() + Self::COMMAND_BYTES;
        self.0.extend(number.to_le_bytes());
        for file in files {
            let padding = Self::NAME_BYTES.saturating_sub(file.len());
            self.0.extend(file.as_bytes());
            self.0.extend(core::iter::repeat_n(0, padding));
        }
        self.0.extend(words.as_bytes());
        self.0.push(last);
        self.0.resize(end, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Vec<FirmwareFile> {
        let layout = MemoryLayout::new(3 << 30).expect("a fair size");
        firmware_files(NonZeroU8::new(2).expect("not zero"), &layout, Nodes::new(2))
    }

    fn take(files: &[FirmwareFile], name: &str) -> Vec<u8> {
        files.iter().find(|file| file.name == name).expect("it is there").bytes.clone()
    }

    fn u32_at(bytes: &[u8], offset: usize) -> u32 {
        u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four"))
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn the_map_has_all_ram() {
        let map = take(&files(), "etc/e820");
        assert_eq!(map.len(), 40);
        assert_eq!((u32_at(&map, 0), u32_at(&map, 8), u32_at(&map, 16)), (0, 0xb000_0000, 1));
        assert_eq!((u32_at(&map, 24), u32_at(&map, 28)), (1, 0x1000_0000), "from 4 GiB on");
    }

    /// Does what the script says, with the tables at `base`.
    fn run(files: &[FirmwareFile], base: u32) -> (Vec<u8>, Vec<u8>) {
        let (mut rsdp, mut tables) = (take(files, RSDP), take(files, TABLES));
        for command in take(files, SCRIPT).chunks(128) {
            let file = if command[4..].starts_with(b"etc/acpi/rsdp\0") { &mut rsdp } else { &mut tables };
            match u32_at(command, 0) {
                1 => assert!(u32_at(command, 60).is_power_of_two()),
                2 => {
                    assert!(command[60..].starts_with(b"etc/acpi/tables\0"));
                    let offset = u32_at(command, 116) as usize;
                    assert!(matches!(command[120], 4 | 8));
                    let pointer = u32_at(file, offset) + base;
                    file[offset..offset + 4].copy_from_slice(&pointer.to_le_bytes());
                }
                3 => {
                    let [offset, start, length] = [60, 64, 68].map(|at| u32_at(command, at) as usize);
                    assert_eq!(file[offset], 0, "what one firmware adds to and another overwrites");
                    file[offset] = sum(&file[start..start + length]).wrapping_neg();
                }
                other => panic!("command {other}"),
            }
        }
        (rsdp, tables)
    }

    #[test]
    fn the_script_makes_the_tables_that_a_kernel_loaded_directly_gets() {
        let base = 0x7fe_0000;
        let files = files();
        let (rsdp, tables) = run(&files, base);
        let layout = MemoryLayout::new(3 << 30).expect("a fair size");
        let direct = FirmwareTables::new(base, NonZeroU8::new(2).expect("not zero"), &layout, Nodes::new(2));
        assert_eq!(rsdp, direct.bytes()[..RSDP_BYTES]);
        assert_eq!(tables[RSDP_BYTES..], direct.bytes()[RSDP_BYTES..]);
    }

    #[test]
    fn names_fit_the_directory() {
        assert!(files().iter().all(|file| file.name.len() < 56 && !file.bytes.is_empty()));
    }
}
