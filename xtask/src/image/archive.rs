//! The boot archive: one plain tar file with `craton.toml` and the guest images it names.
//!
//! It is made so that the same content gives the same bytes: no owner, no time.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The configuration's name in the archive.
pub(crate) const CONFIGURATION: &str = "craton.toml";

/// File names and contents of a boot archive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Archive {
    files: BTreeMap<String, Vec<u8>>,
}

impl Archive {
    /// Everything in `directory` as it is; nothing is checked, so that mistakes reach the hypervisor.
    pub(crate) fn from_directory(directory: &Path) -> Result<Self> {
        let mut archive = Archive::default();
        let entries =
            std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_file() {
                let name =
                    path.file_name().and_then(|name| name.to_str()).context("a file name is not text")?;
                archive.add(name, read(&path)?);
            }
        }
        if !archive.files.contains_key(CONFIGURATION) {
            bail!("{} has no {CONFIGURATION}", directory.display());
        }
        Ok(archive)
    }

    /// Adds or replaces a file.
    pub(crate) fn add(&mut self, name: &str, content: Vec<u8>) {
        self.files.insert(name.to_owned(), content);
    }

    /// An archive of `configuration` alone.
    pub(crate) fn with_configuration(configuration: &str) -> Self {
        let mut archive = Archive::default();
        archive.add(CONFIGURATION, configuration.into());
        archive
    }

    /// A file's content.
    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// Length of all files together.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.values().map(|content| content.len() as u64).sum()
    }

    /// The tar file. The configuration comes first.
    pub(crate) fn to_tar(&self) -> Result<Vec<u8>> {
        let mut builder = tar::Builder::new(Vec::new());
        let (first, rest): (Vec<_>, Vec<_>) = self.files.iter().partition(|(name, _)| *name == CONFIGURATION);
        for (name, content) in first.into_iter().chain(rest) {
            let mut header = tar::Header::new_ustar();
            header.set_size(u64::try_from(content.len())?);
            header.set_mode(0o644);
            header.set_entry_type(tar::EntryType::Regular);
            builder.append_data(&mut header, name, content.as_slice())?;
        }
        Ok(builder.into_inner()?)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn configuration_comes_first_and_bytes_are_reproducible() {
        let mut archive = Archive::default();
        archive.add("a", vec![1, 2, 3]);
        archive.add("craton.toml", b"[[vm]]".to_vec());
        let tar = archive.to_tar().expect("packs");
        assert!(tar.starts_with(b"craton.toml\0"));
        assert_eq!(tar, archive.to_tar().expect("packs"));
        let mut reader = tar::Archive::new(tar.as_slice());
        let names: Vec<String> = reader
            .entries()
            .expect("reads")
            .map(|entry| entry.expect("entry").path().expect("path").display().to_string())
            .collect();
        assert_eq!(names, ["craton.toml", "a"]);
    }
}
