//! What goes along with a kernel by every boot protocol: its command line and its initramfs.

use crate::layout::{COMMAND_LINE, COMMAND_LINE_ROOM, MemoryLayout};
use crate::{Image, LoadError, copy};
use alloc::string::String;
use arch::{Gpa, PAGE_SIZE};
use memory::GuestMemory;

/// A command line that the kernel takes.
pub(crate) struct CommandLine<'a>(&'a str);

impl<'a> CommandLine<'a> {
    /// Checks `text` against the kernel's limit of `most` bytes, the end mark not counted.
    pub(crate) fn new(text: &'a str, most: u64) -> Result<Self, LoadError> {
        let most = most.min(COMMAND_LINE_ROOM - 1);
        let bytes = text.len() as u64;
        if bytes > most {
            return Err(LoadError::CommandLineTooLong { bytes, most });
        }
        if text.contains('\0') {
            return Err(LoadError::CommandLineHasZero);
        }
        Ok(Self(text))
    }

    /// The text behind the kernel's `name`, which is its first word where programs take it for their own.
    pub(crate) fn after(&self, name: &str) -> String {
        let mut text = String::from(name);
        if !self.0.is_empty() {
            text.push(' ');
            text.push_str(self.0);
        }
        text
    }

    /// Writes it with its end mark to [`COMMAND_LINE`].
    pub(crate) fn write(&self, memory: &impl GuestMemory) -> Result<(), LoadError> {
        copy::write(memory, COMMAND_LINE, self.0.as_bytes())?;
        copy::write(memory, COMMAND_LINE + self.0.len() as u64, &[0])
    }
}

/// An initramfs with its place in memory.
pub(crate) struct Ramdisk<'a> {
    pub(crate) file: Image<'a>,
    pub(crate) start: Gpa,
}

impl<'a> Ramdisk<'a> {
    /// Places `file` as high as it goes in the RAM from `kernel_end` to `limit` or the RAM's end below 4 GiB, out of
    /// the way of the growing kernel.
    pub(crate) fn place(
        file: Image<'a>,
        kernel_end: u64,
        limit: u64,
        layout: &MemoryLayout,
    ) -> Result<Self, LoadError> {
        let bytes = file.bytes.len() as u64;
        if bytes == 0 {
            return Err(LoadError::InitramfsEmpty { file: file.name.into() });
        }
        let top = Gpa::new(layout.low_end().get().min(limit)).align_down(PAGE_SIZE).get();
        let bottom = kernel_end.next_multiple_of(PAGE_SIZE);
        top.checked_sub(bytes)
            .map(|start| Gpa::new(start).align_down(PAGE_SIZE))
            .filter(|start| start.get() >= bottom)
            .map(|start| Self { file, start })
            .ok_or_else(|| LoadError::InitramfsTooLarge {
                file: file.name.into(),
                bytes,
                room: top.saturating_sub(bottom),
                memory: layout.total_bytes(),
            })
    }
}
