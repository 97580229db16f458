//! What the firmware configuration device has to tell: items by key, and files by name.

use super::spec::{
    ID, KEY_CPUS, KEY_DIRECTORY, KEY_FIRST_FILE, KEY_ID, KEY_IRQ0_OVERRIDE, KEY_MOST_CPUS, KEY_NO_GRAPHIC,
    KEY_RAM_SIZE, KEY_SIGNATURE, MOST_FILES, NAME_BYTES, SIGNATURE,
};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// An item that boot loaders in firmware know by number. Sizes and addresses are 4 bytes, little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Item {
    /// Where the kernel's protected-mode part goes.
    KernelAddress = 0x07,
    /// How long it is.
    KernelSize = 0x08,
    /// Where the initramfs goes.
    InitrdAddress = 0x0a,
    /// How long it is.
    InitrdSize = 0x0b,
    /// The kernel's protected-mode part.
    KernelData = 0x11,
    /// The initramfs.
    InitrdData = 0x12,
    /// Where the command line goes.
    CommandLineAddress = 0x13,
    /// How long it is, with its end mark.
    CommandLineSize = 0x14,
    /// The command line.
    CommandLineData = 0x15,
    /// Where the kernel's real-mode part goes.
    SetupAddress = 0x16,
    /// How long it is.
    SetupSize = 0x17,
    /// The kernel's real-mode part.
    SetupData = 0x18,
}

/// Why a file was not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileRefused {
    /// Names have at most 55 bytes.
    LongName,
    /// It is 4 GiB or longer.
    TooLarge,
    /// There are 32 already.
    TooMany,
}

/// All items.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    items: BTreeMap<u16, Box<[u8]>>,
    files: u16,
    /// The directory, without the count in front.
    directory: Vec<u8>,
}

impl Contents {
    /// What every machine tells: who this is, RAM in bytes, and the numbers of processors now and at most.
    pub fn new(ram_bytes: u64, cpus: u16, most_cpus: u16) -> Self {
        let mut contents = Self::default();
        let mut add = |key, bytes: &[u8]| contents.set(key, bytes.into());
        add(KEY_SIGNATURE, &SIGNATURE);
        add(KEY_ID, &ID.to_le_bytes());
        add(KEY_RAM_SIZE, &ram_bytes.to_le_bytes());
        add(KEY_NO_GRAPHIC, &1_u16.to_le_bytes());
        add(KEY_CPUS, &cpus.to_le_bytes());
        add(KEY_MOST_CPUS, &most_cpus.to_le_bytes());
        add(KEY_IRQ0_OVERRIDE, &1_u32.to_le_bytes());
        add(KEY_DIRECTORY, &0_u32.to_be_bytes());
        contents
    }

    /// Gives `item` a value.
    pub fn set_item(&mut self, item: Item, bytes: impl Into<Box<[u8]>>) {
        self.set(item as u16, bytes.into());
    }

    /// Adds the file `name`.
    ///
    /// # Errors
    /// [`FileRefused`], and nothing was added.
    pub fn add_file(&mut self, name: &str, bytes: impl Into<Box<[u8]>>) -> Result<(), FileRefused> {
        let bytes = bytes.into();
        let length = u32::try_from(bytes.len()).map_err(|_| FileRefused::TooLarge)?;
        if name.len() >= NAME_BYTES {
            return Err(FileRefused::LongName);
        }
        if self.files == MOST_FILES {
            return Err(FileRefused::TooMany);
        }
        let key = KEY_FIRST_FILE + self.files;
        let mut place = [0; NAME_BYTES];
        for (to, from) in place.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        self.directory.extend(length.to_be_bytes());
        self.directory.extend(key.to_be_bytes());
        self.directory.extend([0; 2]);
        self.directory.extend(place);
        self.files += 1;
        let mut directory = Vec::from(u32::from(self.files).to_be_bytes());
        directory.extend(&self.directory);
        self.set(KEY_DIRECTORY, directory.into());
        self.set(key, bytes);
        Ok(())
    }

    /// The item with `key`; one that is not there is empty.
    pub(crate) fn get(&self, key: u16) -> &[u8] {
        self.items.get(&key).map_or(&[], |item| item)
    }

    fn set(&mut self, key: u16, bytes: Box<[u8]>) {
        self.items.insert(key, bytes);
    }
}
