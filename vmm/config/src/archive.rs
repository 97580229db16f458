//! The boot archive: a plain tar file with `craton.toml` and the guests' images.
//!
//! POSIX.1-2017, "pax", "ustar Interchange Format" and "pax Header Block"; GNU tar manual, "Basic Tar Format", for
//! long names and base-256 numbers. Directories and special files are passed over; links are followed once, to a
//! file of the same archive.
//!
//! An archive that was cut short still has all the files before the cut, and [`Damage`] says what it lost.

mod header;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use header::{Block, Kind};

/// Size of tar's blocks, in bytes.
const BLOCK: usize = 512;

/// A file of an archive.
#[derive(Clone, PartialEq, Eq)]
pub struct File<'a> {
    name: String,
    bytes: &'a [u8],
}

impl<'a> File<'a> {
    /// Its path in the archive, without `./`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its contents.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl fmt::Debug for File<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({}, {} bytes)", self.name, self.bytes.len())
    }
}

/// What is wrong with an archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Damage {
    /// It ends inside a file.
    CutShort {
        /// The file.
        file: String,
        /// The bytes of it that are there.
        has: u64,
        /// The bytes that should be.
        needs: u64,
    },
    /// What should be the header of a file is not one; what follows is lost.
    BadHeader {
        /// Where, in bytes from the start.
        offset: u64,
    },
    /// It ends without an end mark: files may be missing.
    NoEnd {
        /// The last file that is there.
        last: Option<String>,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutShort { file, has, needs } => {
                write!(f, "the boot archive is cut short inside `{file}`: {has} of {needs} bytes are there")?;
            }
            Self::BadHeader { offset: 0 } => return f.write_str(
                "the boot archive is not a tar file; pack it with `tar --format=ustar -cf` and without compression",
            ),
            Self::BadHeader { offset } => write!(f, "the boot archive is damaged at byte {offset}")?,
            Self::NoEnd { last: Some(last) } => {
                write!(f, "the boot archive is cut short after `{last}`; files may be missing")?;
            }
            Self::NoEnd { last: None } => f.write_str("the boot archive is empty")?,
        }
        f.write_str("; pack it and write the image again")
    }
}

impl core::error::Error for Damage {}

/// A read archive.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Archive<'a> {
    files: Vec<File<'a>>,
    damage: Option<Damage>,
}

/// A link that is still to be followed.
struct Link {
    name: String,
    target: String,
}

impl<'a> Archive<'a> {
    /// Reads `bytes` as far as they go.
    pub fn read(bytes: &'a [u8]) -> Self {
        let mut archive = Self::default();
        let mut links = Vec::new();
        archive.damage = archive.read_entries(bytes, &mut links).err();
        for link in links {
            if let Some(bytes) = archive.get(&link.target) {
                archive.files.push(File { name: link.name, bytes });
            }
        }
        archive
    }

    /// The files, in order, those behind links last.
    pub fn files(&self) -> &[File<'a>] {
        &self.files
    }

    /// The contents of the file with `path`; of several with the same, the last, as tar does it.
    pub fn get(&self, path: &str) -> Option<&'a [u8]> {
        let path = plain(path);
        self.files.iter().rev().find(|file| file.name == path).map(|file| file.bytes)
    }

    /// What is wrong with the archive.
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// What is wrong with the archive, if that cost the file with `path`.
    pub fn damage_of(&self, path: &str) -> Option<&Damage> {
        self.damage.as_ref().filter(|damage| match damage {
            Damage::CutShort { file, .. } => file == plain(path),
            Damage::BadHeader { .. } | Damage::NoEnd { .. } => self.get(path).is_none(),
        })
    }

    fn read_entries(&mut self, bytes: &'a [u8], links: &mut Vec<Link>) -> Result<(), Damage> {
        let mut offset = 0;
        // What a header of its own kind said of the next entry.
        let mut long_name: Option<String> = None;
        let mut long_size: Option<u64> = None;
        loop {
            let block = bytes.get(offset..).and_then(|rest| rest.first_chunk::<BLOCK>());
            let Some(block) = block else {
                return Err(Damage::NoEnd { last: self.files.last().map(|file| file.name.clone()) });
            };
            let block = Block(block);
            if block.is_end() {
                return Ok(());
            }
            let header = block.header().ok_or(Damage::BadHeader { offset: offset as u64 })?;
            offset += BLOCK;
            let name = long_name.take().unwrap_or(header.name);
            let size = long_size.take().unwrap_or(header.size);
            let data = if header.kind.has_data() { data(bytes, offset, size, &name)? } else { &[] };
            match header.kind {
                Kind::File => self.files.push(File { name: plain(&name).into(), bytes: data }),
                Kind::LongName => long_name = Some(header::text(data)),
                Kind::Extended => {
                    for (key, value) in header::pax_records(data) {
                        match key {
                            "path" => long_name = Some(value.into()),
                            "size" => long_size = value.parse().ok(),
                            _ => {}
                        }
                    }
                }
                Kind::HardLink => {
                    links.push(Link { name: plain(&name).into(), target: header.link_target });
                }
                Kind::SymbolicLink => {
                    let directory = plain(&name).rfind('/').map_or("", |end| &plain(&name)[..=end]);
                    let target = alloc::format!("{directory}{}", header.link_target);
                    links.push(Link { name: plain(&name).into(), target });
                }
                Kind::OtherWithData | Kind::Other => {}
            }
            offset += data.len().next_multiple_of(BLOCK);
        }
    }
}

/// The `size` bytes of `file` at `offset`.
fn data<'a>(bytes: &'a [u8], offset: usize, size: u64, file: &str) -> Result<&'a [u8], Damage> {
    let rest = bytes.get(offset..).unwrap_or_default();
    usize::try_from(size).ok().and_then(|size| rest.get(..size)).ok_or_else(|| Damage::CutShort {
        file: plain(file).into(),
        has: rest.len() as u64,
        needs: size,
    })
}

/// `path` without a leading `./` or `/`.
fn plain(path: &str) -> &str {
    path.trim_start_matches("./").trim_start_matches('/')
}
