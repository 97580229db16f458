//! Writes the archive format of Linux's initial file system, device nodes included, without being root.
//!
//! Source: The Linux Kernel documentation, "initramfs buffer format" (`newc` headers).

/// What a name in the archive stands for.
#[derive(Clone, Debug)]
pub(crate) enum Entry<'a> {
    /// A directory.
    Directory,
    /// A file with its content.
    File(&'a [u8]),
    /// A file that may be executed, with its content.
    Program(&'a [u8]),
    /// A symbolic link with its target.
    Link(&'a str),
    /// A character device.
    CharacterDevice {
        /// The driver's number.
        major: u32,
        /// The device's number within the driver.
        minor: u32,
    },
}

/// Collects entries. All belong to root and carry no time, so the same entries give the same bytes.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    inode: u32,
}

impl Writer {
    /// Adds `name` (no leading slash).
    pub(crate) fn add(&mut self, name: &str, entry: &Entry<'_>) {
        let (mode, content, device) = match entry {
            Entry::Directory => (0o040_755, &[][..], (0, 0)),
            Entry::File(content) => (0o100_644, *content, (0, 0)),
            Entry::Program(content) => (0o100_755, *content, (0, 0)),
            Entry::Link(target) => (0o120_777, target.as_bytes(), (0, 0)),
            Entry::CharacterDevice { major, minor } => (0o020_600, &[][..], (*major, *minor)),
        };
        self.inode += 1;
        self.entry(name, mode, content, device);
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, &[], (0, 0));
        // Archives are concatenated at multiples of 4 bytes; pad as cpio does, to whole blocks.
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8], device: (u32, u32)) {
        let (inode, links) = (self.inode, 1 + u32::from(mode == 0o040_755));
        let (name_size, size) = (name.len() + 1, content.len());
        let (major, minor) = device;
        let header = format!(
            "070701{inode:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{size:08x}{:08x}{:08x}{major:08x}{minor:08x}\
             {name_size:08x}{:08x}",
            0, 0, 0, 0, 0, 0
        );
        self.bytes.extend(header.as_bytes());
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, Writer};

    #[test]
    fn entries_are_aligned_and_end_with_the_trailer() {
        let mut writer = Writer::default();
        writer.add("a", &Entry::File(b"x"));
        writer.add("dev/console", &Entry::CharacterDevice { major: 5, minor: 1 });
        let bytes = writer.finish();
        assert_eq!(bytes.len() % 512, 0);
        // Header of 110 bytes, "a\0", padding to 112, "x", padding to 116.
        assert_eq!(&bytes[110..113], b"a\0x");
        assert_eq!(&bytes[116..122], b"070701");
        assert_eq!(&bytes[116 + 78..116 + 94], b"0000000500000001");
        assert!(bytes.windows(11).any(|window| window == b"TRAILER!!!\0"));
    }
}
