//! What would be written to, and whether it may be.
//!
//! Sources: The Linux Kernel documentation, "sysfs-block" (removable, partition, holders), "The /proc Filesystem"
//! (mountinfo, swaps).

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{major, makedev, minor};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An ordinary file.
    File,
    /// A disk or a part of one.
    Block,
}

/// Something that an image could be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Its path without symbolic links.
    pub(super) path: PathBuf,
    /// What it is.
    pub(super) kind: Kind,
    /// Why writing to it is probably a mistake, one phrase each.
    pub(super) objections: Vec<String>,
}

impl Target {
    /// Looks at `path`, without opening it.
    ///
    /// # Errors
    /// When there is nothing of that name, or something that cannot hold an image at all.
    pub(super) fn inspect(path: &Path) -> Result<Self> {
        let real = std::fs::canonicalize(path)
            .with_context(|| format!("there is no device or file {}", path.display()))?;
        let metadata = std::fs::metadata(&real)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            bail!("{} is a directory; name the whole disk, like /dev/sdX", path.display());
        }
        if kind.is_file() {
            return Ok(Target { path: real, kind: Kind::File, objections: Vec::new() });
        }
        if !kind.is_block_device() {
            bail!("{} is neither a disk nor a file", path.display());
        }
        let device = metadata.rdev();
        let sysfs = PathBuf::from(format!("/sys/dev/block/{}:{}", major(device), minor(device)));
        let facts = Facts::gather(device, &sysfs);
        Ok(Target { path: real, kind: Kind::Block, objections: facts.objections() })
    }

    /// Refuses when there are objections, unless `force`.
    pub(super) fn judge(&self, force: bool) -> Result<()> {
        if force || self.objections.is_empty() {
            return Ok(());
        }
        bail!(
            "{} is refused: it {} (everything on it would be lost; --force writes anyway)",
            self.path.display(),
            self.objections.join(", and ")
        )
    }

    /// How many bytes it can hold; only for block devices.
    pub(super) fn size(&self) -> Result<u64> {
        let mut file =
            File::open(&self.path).with_context(|| format!("cannot open {}", self.path.display()))?;
        Ok(file.seek(SeekFrom::End(0))?)
    }
}

/// What the system says about a block device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its medium can be taken out.
    pub(super) is_removable: bool,
    /// It is a part of a disk.
    pub(super) is_partition: bool,
    /// Where it, a partition of it, or something built on it is mounted.
    pub(super) mounted: Vec<String>,
    /// It, or a part of it, is swapped to.
    pub(super) is_swap: bool,
}

impl Facts {
    fn gather(device: u64, sysfs: &Path) -> Self {
        let flag =
            |name: &str| std::fs::read_to_string(sysfs.join(name)).is_ok_and(|text| text.trim() == "1");
        let mut devices = vec![device];
        related(sysfs, &mut devices);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
        let number_of = |path: &str| {
            let metadata = std::fs::metadata(path).ok()?;
            metadata.file_type().is_block_device().then(|| metadata.rdev())
        };
        Facts {
            is_removable: flag("removable"),
            is_partition: sysfs.join("partition").exists(),
            mounted: mount_points(&mounts, &devices, number_of),
            is_swap: swaps
                .lines()
                .skip(1)
                .filter_map(|line| number_of(line.split_whitespace().next()?))
                .any(|number| devices.contains(&number)),
        }
    }

    /// Why writing is probably a mistake.
    pub(super) fn objections(&self) -> Vec<String> {
        let mut found = Vec::new();
        if !self.mounted.is_empty() {
            found.push(format!("is mounted at {}", self.mounted.join(", ")));
        }
        if self.is_swap {
            found.push("is in use as swap space".into());
        }
        if self.is_partition {
            found.push("is a partition, from which no computer boots".into());
        } else if !self.is_removable {
            found.push("is not a removable disk".into());
        }
        found
    }
}

/// Adds the numbers of the partitions of, and of the devices built upon, the device at `sysfs`.
fn related(sysfs: &Path, devices: &mut Vec<u64>) {
    for folder in [sysfs.to_owned(), sysfs.join("holders")] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(text) = std::fs::read_to_string(path.join("dev")) else { continue };
            let Some(number) = parse_number(text.trim()) else { continue };
            if !devices.contains(&number) {
                devices.push(number);
                related(&path, devices);
            }
        }
    }
}

/// `MAJOR:MINOR`.
fn parse_number(text: &str) -> Option<u64> {
    let (major, minor) = text.split_once(':')?;
    Some(makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// Where any of `devices` is mounted, from the text of mountinfo. `number_of` tells the device behind a path, for file
/// systems that invent device numbers of their own.
fn mount_points(mountinfo: &str, devices: &[u64], number_of: impl Fn(&str) -> Option<u64>) -> Vec<String> {
    let mut points = Vec::new();
    for line in mountinfo.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let (Some(number), Some(point)) = (fields.get(2).and_then(|text| parse_number(text)), fields.get(4))
        else {
            continue;
        };
        // Behind the separator: file system type, source, options.
        let source = fields.iter().position(|field| *field == "-").and_then(|at| fields.get(at + 2));
        let behind = source.filter(|source| source.starts_with('/')).and_then(|source| number_of(source));
        if devices.contains(&number) || behind.is_some_and(|number| devices.contains(&number)) {
            points.push((*point).to_owned());
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                          30 22 0:26 / /data rw shared:2 - btrfs /dev/sdb1 rw\n\
                          31 22 0:5 / /proc rw - proc proc rw\n\
                          garbage\n";

    fn number_of(path: &str) -> Option<u64> {
        match path {
            "/dev/sda1" => Some(makedev(8, 1)),
            "/dev/sdb1" => Some(makedev(8, 17)),
            _ => None,
        }
    }

    #[test]
    fn mounts_are_found_by_number_and_by_source() {
        assert_eq!(mount_points(MOUNTS, &[makedev(8, 0), makedev(8, 1)], number_of), ["/"]);
        assert_eq!(mount_points(MOUNTS, &[makedev(8, 17)], number_of), ["/data"]);
        assert!(mount_points(MOUNTS, &[makedev(8, 32)], number_of).is_empty());
    }

    #[test]
    fn only_an_unmounted_removable_whole_disk_has_no_objection() {
        let stick = Facts { is_removable: true, ..Facts::default() };
        assert!(stick.objections().is_empty());
        assert_eq!(Facts::default().objections(), ["is not a removable disk"]);
        let mounted = Facts { mounted: vec!["/media/a".into(), "/media/b".into()], ..stick.clone() };
        assert_eq!(mounted.objections(), ["is mounted at /media/a, /media/b"]);
        let partition = Facts { is_partition: true, is_removable: false, ..stick.clone() };
        assert_eq!(partition.objections(), ["is a partition, from which no computer boots"]);
        assert_eq!(Facts { is_swap: true, ..stick }.objections(), ["is in use as swap space"]);
    }

    #[test]
    fn objections_refuse_unless_forced() {
        let target = Target {
            path: "/dev/sda".into(),
            kind: Kind::Block,
            objections: vec!["is mounted at /".into(), "is not a removable disk".into()],
        };
        let error = target.judge(false).expect_err("refused").to_string();
        assert!(
            error.contains("/dev/sda is refused: it is mounted at /, and is not a removable disk"),
            "{error}"
        );
        assert!(target.judge(true).is_ok());
    }

    #[test]
    fn directory_character_device_and_nothing_are_refused() {
        let refused = |path: &str| Target::inspect(Path::new(path)).expect_err("refused").to_string();
        assert!(refused("/").contains("is a directory"));
        assert!(refused("/dev/null").contains("neither a disk nor a file"));
        assert!(refused("/dev/there-is-no-such-disk").contains("there is no device or file"));
    }
}
