//! The files of the boot archive, kept for as long as virtual machines may be started from them.

use config::Archive;

/// The files by name.
#[derive(Debug)]
pub(crate) struct Files(Archive<'static>);

impl Files {
    /// Reads the archive that the boot loader left in memory.
    pub(crate) fn read(bytes: &'static [u8]) -> Self {
        Self(Archive::read(bytes))
    }

    /// The contents of the file `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&'static [u8]> {
        self.0.get(name)
    }

    /// The archive, for checks of a configuration against it.
    pub(crate) fn archive(&self) -> &Archive<'static> {
        &self.0
    }
}
