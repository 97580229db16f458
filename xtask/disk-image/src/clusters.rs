//! Lays the BIOS image's FAT partition out again with clusters of the size the BIOS loader reads at once.
//!
//! The loader's second stage reads 16 KiB from the disk for every cluster of a file, whatever the cluster's size:
//! with the formatter's 2-KiB clusters it reads everything eight times, which costs seconds in an emulator. It also
//! understands FAT12 and FAT16 only while the sector count fits 16 bits, so larger volumes need larger sectors; it
//! takes the sector size from the volume, independent of the disk's.

use std::io::{Cursor, Read, Write};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};

/// Size of one read of the loader's second stage, in bytes.
const LOADER_READ: u32 = 16 * 1024;
/// Bytes per sector of the volume; with a 16-bit sector count this allows 255 MiB.
const VOLUME_SECTOR: u16 = 4096;
/// Bytes per sector of the disk, and the unit of the partition table.
const DISK_SECTOR: usize = 512;
/// The partition table's second entry (offset in the master boot record), which the loader uses for its files.
const FILES_ENTRY: usize = 446 + 16;
/// Offset of the first sector's number in a partition entry.
const ENTRY_START: usize = 8;
/// Offset of the number of sectors in a partition entry.
const ENTRY_LENGTH: usize = 12;
/// Room for the tables, the root directory and rounding, in bytes.
const OVERHEAD: usize = 256 * 1024;

/// Returns `disk` (a whole BIOS image) with its file partition laid out again.
pub(crate) fn relayout(disk: &[u8]) -> Result<Vec<u8>, String> {
    let start = entry_field(disk, ENTRY_START)? * DISK_SECTOR;
    let length = entry_field(disk, ENTRY_LENGTH)? * DISK_SECTOR;
    let end = disk.len().min(start.saturating_add(length));
    let partition = disk.get(start..end).ok_or("the file partition lies outside the image")?;
    let volume = copy_volume(partition).map_err(|e| format!("the file partition: {e}"))?;

    let mut image = disk[..start].to_vec();
    image.extend_from_slice(&volume);
    let sectors = u32::try_from(volume.len() / DISK_SECTOR).map_err(|e| e.to_string())?;
    image[FILES_ENTRY + ENTRY_LENGTH..][..4].copy_from_slice(&sectors.to_le_bytes());
    Ok(image)
}

fn entry_field(disk: &[u8], offset: usize) -> Result<usize, String> {
    let bytes =
        disk.get(FILES_ENTRY + offset..).and_then(|d| d.first_chunk::<4>()).ok_or("no partition table")?;
    usize::try_from(u32::from_le_bytes(*bytes)).map_err(|e| e.to_string())
}

fn copy_volume(old: &[u8]) -> Result<Vec<u8>, String> {
    let old = FileSystem::new(Cursor::new(old.to_vec()), FsOptions::new()).map_err(|e| e.to_string())?;
    let mut files = Vec::new();
    for entry in old.root_dir().iter() {
        let entry = entry.map_err(|e| e.to_string())?;
        if entry.is_file() {
            let mut content = Vec::new();
            entry.to_file().read_to_end(&mut content).map_err(|e| e.to_string())?;
            files.push((entry.file_name(), content));
        }
    }

    let cluster = usize::try_from(LOADER_READ).map_err(|e| e.to_string())?;
    let content: usize = files.iter().map(|(_, content)| content.len().next_multiple_of(cluster)).sum();
    let size = (content + OVERHEAD).next_multiple_of(cluster);
    if size / usize::from(VOLUME_SECTOR) > usize::from(u16::MAX) {
        return Err(format!("{} MiB of files; the BIOS loader reads at most 255 MiB", content >> 20));
    }
    let mut volume = Cursor::new(vec![0; size]);
    let options = FormatVolumeOptions::new()
        .bytes_per_sector(VOLUME_SECTOR)
        .bytes_per_cluster(LOADER_READ)
        .volume_label(*b"CRATON     ");
    fatfs::format_volume(&mut volume, options).map_err(|e| e.to_string())?;
    {
        let new = FileSystem::new(&mut volume, FsOptions::new()).map_err(|e| e.to_string())?;
        for (name, content) in &files {
            let mut file = new.root_dir().create_file(name).map_err(|e| e.to_string())?;
            file.write_all(content).map_err(|e| e.to_string())?;
        }
    }
    Ok(volume.into_inner())
}
