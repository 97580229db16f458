//! A disk that boots something else than Craton, for comparison: GRUB's BIOS boot code, and one partition that is a tar file.
//!
//! GRUB reads a tar file as a file system, its core image holds the commands to run, and its boot code expects the core image
//! in the sectors right behind it: so the disk is put together without mounting or installing anything.
//!
//! Source: GNU GRUB Manual, "Embedded configuration", "Images".

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::run_quietly;
use crate::setup::{Package, packages};

const SECTOR: usize = 512;
/// Where the partition begins; what is before it has room for the core image.
const PARTITION_SECTOR: u32 = 2048;
/// Emulators derive a disk's geometry from its size: a whole number of cylinders of 16 heads and 63 sectors.
const CYLINDER: usize = 16 * 63 * SECTOR;
/// The first entry of the partition table in the boot sector.
const FIRST_ENTRY: usize = 446;
const PARTITION_TYPE_LINUX: u8 = 0x83;

/// What GRUB is to do.
pub(crate) struct Recipe<'a> {
    /// Files for the partition, by name.
    pub(crate) files: &'a [(&'a str, &'a [u8])],
    /// GRUB commands; the partition is `$root`.
    pub(crate) commands: &'a str,
    /// The module that holds the loading command.
    pub(crate) loader: &'a str,
}

/// Makes the disk. The same recipe gives the same bytes. GRUB's parts are made in `directory`.
pub(crate) fn build(recipe: &Recipe<'_>, directory: &Path) -> Result<Vec<u8>> {
    packages::ensure(&[Package::GrubPcBin])?;
    let configuration = directory.join("grub.cfg");
    std::fs::write(&configuration, format!("set root=(hd0,msdos1)\n{}\nboot\n", recipe.commands.trim()))?;
    let core = directory.join("core.img");
    run_quietly(
        Command::new("grub-mkimage")
            .args(["--format=i386-pc", "--prefix=/", "--directory", packages::GRUB_MODULES])
            .arg("--config")
            .arg(&configuration)
            .arg("--output")
            .arg(&core)
            .args(["biosdisk", "part_msdos", "tar", "boot", recipe.loader]),
    )?;
    let boot = Path::new(packages::GRUB_MODULES).join("boot.img");
    let boot = std::fs::read(&boot).with_context(|| format!("cannot read {}", boot.display()))?;
    assemble(&boot, &std::fs::read(&core)?, &tar_file(recipe.files)?)
}

fn tar_file(files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(u64::try_from(content.len())?);
        header.set_mode(0o644);
        header.set_entry_type(tar::EntryType::Regular);
        builder.append_data(&mut header, name, *content)?;
    }
    Ok(builder.into_inner()?)
}

/// Boot sector, core image, partition.
fn assemble(boot: &[u8], core: &[u8], partition: &[u8]) -> Result<Vec<u8>> {
    ensure!(boot.len() == SECTOR, "GRUB's boot code is not one sector");
    let start = usize::try_from(PARTITION_SECTOR)? * SECTOR;
    ensure!(SECTOR + core.len() <= start, "GRUB's core image is too large");
    let mut disk = boot.to_vec();
    disk.extend(core);
    disk.resize(start, 0);
    disk.extend(partition);
    disk.resize(disk.len().next_multiple_of(CYLINDER), 0);
    let sectors = u32::try_from((disk.len() - start) / SECTOR)?;
    // Status, first address in the old format (unused), type, last address in the old format, then start and length.
    let mut entry = [0x80, 0xfe, 0xff, 0xff, PARTITION_TYPE_LINUX, 0xfe, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
    entry[8..12].copy_from_slice(&PARTITION_SECTOR.to_le_bytes());
    entry[12..].copy_from_slice(&sectors.to_le_bytes());
    disk[FIRST_ENTRY..FIRST_ENTRY + entry.len()].copy_from_slice(&entry);
    disk[FIRST_ENTRY + entry.len()..SECTOR - 2].fill(0);
    disk[SECTOR - 2..SECTOR].copy_from_slice(&[0x55, 0xaa]);
    Ok(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_image_follows_the_boot_code_and_the_partition_is_in_the_table() {
        let disk = assemble(&[7; SECTOR], &[8; 1000], &[9; 3000]).expect("fits");
        assert_eq!(disk.len() % CYLINDER, 0);
        assert_eq!(&disk[..FIRST_ENTRY], &[7; FIRST_ENTRY]);
        assert_eq!(&disk[510..512], &[0x55, 0xaa]);
        assert_eq!(disk[512], 8);
        let start = usize::try_from(PARTITION_SECTOR).expect("small") * SECTOR;
        assert_eq!(&disk[start..start + 3000], &[9; 3000]);
        assert_eq!(disk[454..458], PARTITION_SECTOR.to_le_bytes());
        assert_eq!(disk[450], PARTITION_TYPE_LINUX);
    }

    #[test]
    fn oversized_core_image_is_refused() {
        assert!(assemble(&[0; SECTOR], &vec![0; 2 << 20], &[]).is_err());
    }
}
