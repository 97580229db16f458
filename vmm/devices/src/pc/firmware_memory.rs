//! Where firmware is: the read-only memory that ends at 4 GiB, the flash chip with its variables below it, and the memory
//! from 0xC0000 to 1 MiB, where the host bridge shows the end of the read-only memory, or the RAM beneath it (PAM).
//! Intel 3 Series Express Chipset Family datasheet, "PAM0 to PAM6"; Intel I/O Controller Hub 9 Family datasheet, "Memory
//! Map", for the ranges that lead to firmware.
//!
//! What is shown is mapped for the guest: [`windows`] says which windows a machine has, [`bus::Platform::arrangement`] what
//! they show. Here are the accesses that are left: writes to what is read-only, and the chip in another mode than its
//! array's.

use super::Pc;
use crate::flash::{Flash, FlashState};
use crate::fw_cfg::DmaMemory;
use crate::pci::{PAM_SEGMENTS, PamSegment};
use alloc::vec::Vec;
use arch::platform_layout::{FIRMWARE_END, LEAST_FIRMWARE_BYTES, SHADOW_BYTES, SHADOW_END};
use arch::{Gpa, Nanos, PAGE_SIZE, Width};
use bus::Attention;
use core::fmt;
use memory::{Arrangement, GuestMemory, Shown, Window};

/// What a PC that is started by firmware has for it.
pub struct Firmware {
    /// The guest's memory, as it is shown.
    pub memory: DmaMemory,
    /// The read-only memory and the variables', by their own addresses.
    pub rom: DmaMemory,
    /// Length of the image, in bytes.
    pub image_bytes: u64,
    /// Length of the variable store, in bytes; 0 if there is none.
    pub variable_bytes: u64,
}

impl fmt::Debug for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Firmware")
            .field("image_bytes", &self.image_bytes)
            .field("variable_bytes", &self.variable_bytes)
            .finish_non_exhaustive()
    }
}

/// Where an image of `bytes` bytes begins.
fn image_base(bytes: u64) -> Gpa {
    Gpa::new(FIRMWARE_END.get().saturating_sub(bytes))
}

/// The windows of a machine whose firmware image and variable store have these lengths in bytes, as they are after reset:
/// those that PAM switches, in order of address, then the variables' if there is a store, then the image's.
///
/// Lengths are multiples of 4 KiB, and together of what is mapped for firmware; the image is 64 KiB long at least.
pub fn windows(image_bytes: u64, variable_bytes: u64) -> Vec<Window> {
    let base = image_base(image_bytes);
    let mut windows: Vec<Window> = PAM_SEGMENTS
        .iter()
        .map(|segment| {
            // The end of the image, at most 128 KiB of it, is seen below 1 MiB as well.
            let from_end = SHADOW_END - segment.base;
            let rom =
                (from_end <= SHADOW_BYTES.min(image_bytes)).then(|| Gpa::new(FIRMWARE_END.get() - from_end));
            Window { base: segment.base, bytes: segment.bytes, rom, shown: Shown::Rom }
        })
        .collect();
    if variable_bytes > 0 {
        let at = Gpa::new(base.get().saturating_sub(variable_bytes));
        windows.push(Window { base: at, bytes: variable_bytes, rom: Some(at), shown: Shown::Rom });
    }
    windows.push(Window { base, bytes: image_bytes, rom: Some(base), shown: Shown::Rom });
    windows
}

/// What the windows over a segment of PAM show.
const fn shown(segment: PamSegment) -> Shown {
    match (segment.reads_ram, segment.writes_ram) {
        (false, false) => Shown::Rom,
        (false, true) => Shown::RomOverRam,
        (true, false) => Shown::RamReadOnly,
        (true, true) => Shown::Ram,
    }
}

/// Everything about it that a snapshot needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FirmwareMemoryState {
    flash: Option<FlashState>,
}

/// Firmware's memory, as the chipset sees it.
#[derive(Debug)]
pub(super) struct FirmwareMemory {
    firmware: Firmware,
    flash: Option<Flash>,
    /// What the windows are to show.
    arrangement: Arrangement,
}

impl FirmwareMemory {
    pub(super) fn new(firmware: Firmware) -> Self {
        let flash = (firmware.variable_bytes > 0).then(|| {
            let base =
                Gpa::new(image_base(firmware.image_bytes).get().saturating_sub(firmware.variable_bytes));
            Flash::new(DmaMemory::clone(&firmware.rom), base, firmware.variable_bytes)
        });
        let mut arrangement = Arrangement::default();
        let windows = windows(firmware.image_bytes, firmware.variable_bytes);
        for (shown, window) in arrangement.shown.iter_mut().zip(windows) {
            *shown = window.shown;
        }
        Self { firmware, flash, arrangement }
    }

    /// Where firmware's memory begins, below 4 GiB.
    fn base(&self) -> u64 {
        let bytes = self.firmware.image_bytes.saturating_add(self.firmware.variable_bytes);
        image_base(bytes).get()
    }

    /// The chip, and the offset of `address` in it.
    fn flash_at(&mut self, address: u64) -> Option<(&mut Flash, u64)> {
        let offset = address.checked_sub(self.base())?;
        if offset >= self.firmware.variable_bytes { None } else { Some((self.flash.as_mut()?, offset)) }
    }

    fn read(&mut self, gpa: Gpa, width: Width) -> Option<u64> {
        if let Some((flash, offset)) = self.flash_at(gpa.get()) {
            return Some(flash.read(offset, width));
        }
        let mut bytes = [0; 8];
        let place = match width {
            Width::One => bytes.get_mut(..1),
            Width::Two => bytes.get_mut(..2),
            Width::Four => bytes.get_mut(..4),
            Width::Eight => bytes.get_mut(..),
        };
        self.firmware.memory.read(gpa, place?).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    /// Writes what is not plain RAM. Returns whether firmware's memory is there.
    fn write(&mut self, gpa: Gpa, width: Width, value: u64) -> bool {
        if let Some((flash, offset)) = self.flash_at(gpa.get()) {
            flash.write(offset, width, value);
            return true;
        }
        let bytes = value.to_le_bytes();
        let count = usize::try_from(width.bytes()).unwrap_or(bytes.len());
        // RAM beneath what is read; anything else that is read-only ignores it.
        bytes.get(..count).is_some_and(|bytes| self.firmware.memory.write(gpa, bytes).is_ok())
            || gpa.get() >= self.base()
    }

    /// Looks whether windows are to show something else, with the segments of PAM as they are now.
    fn look(&mut self, pam: impl Iterator<Item = PamSegment>) -> bool {
        let mut shown = self.arrangement.shown;
        let mut segments = 0;
        for (place, segment) in shown.iter_mut().zip(pam) {
            *place = self::shown(segment);
            segments += 1;
        }
        if let (Some(flash), Some(place)) = (&self.flash, shown.get_mut(segments)) {
            *place = if flash.reads_array() { Shown::Rom } else { Shown::Devices };
        }
        let changed = shown != self.arrangement.shown;
        if changed {
            self.arrangement.generation += 1;
            self.arrangement.shown = shown;
        }
        changed
    }

    pub(super) fn reset(&mut self) {
        if let Some(flash) = &mut self.flash {
            flash.reset();
        }
    }

    pub(super) fn save(&self) -> FirmwareMemoryState {
        FirmwareMemoryState { flash: self.flash.as_ref().map(Flash::save) }
    }

    pub(super) fn restore(&mut self, state: &FirmwareMemoryState) {
        if let (Some(flash), Some(state)) = (&mut self.flash, &state.flash) {
            flash.restore(state);
        }
    }
}

impl Pc {
    /// Where the variable store is among the read-only memory, and its length in bytes, if the guest has changed it since
    /// the machine was made.
    pub fn changed_variables(&self) -> Option<(Gpa, u64)> {
        let firmware = self.firmware.as_ref()?;
        let changed = firmware.flash.as_ref().is_some_and(Flash::is_changed);
        changed.then(|| (Gpa::new(firmware.base()), firmware.firmware.variable_bytes))
    }

    /// What the windows of memory are to show.
    pub(super) fn shown_memory(&self) -> Arrangement {
        self.firmware.as_ref().map_or_else(Arrangement::default, |firmware| firmware.arrangement)
    }

    /// Reads where nothing else is: firmware's memory, or what is on the PCI bus.
    #[cold]
    pub(super) fn read_elsewhere(&mut self, gpa: Gpa, width: Width, now: Nanos) -> u64 {
        if is_firmwares(gpa)
            && let Some(value) = self.firmware.as_mut().and_then(|firmware| firmware.read(gpa, width))
        {
            return value;
        }
        self.read_pci_memory(gpa, width, now)
    }

    /// Writes where nothing else is.
    #[cold]
    pub(super) fn write_elsewhere(&mut self, gpa: Gpa, width: Width, value: u64, now: Nanos) {
        if is_firmwares(gpa)
            && self.firmware.as_mut().is_some_and(|firmware| firmware.write(gpa, width, value))
        {
            self.look_at_memory();
            return;
        }
        self.write_pci_memory(gpa, width, value, now);
    }

    /// The host bridge or the flash chip was written: memory may have to be shown otherwise.
    pub(super) fn look_at_memory(&mut self) {
        if let Some(firmware) = &mut self.firmware
            && firmware.look(self.pci.pam())
        {
            self.attention |= Attention::MEMORY;
        }
    }
}

/// Whether `gpa` is where a machine's firmware can be.
fn is_firmwares(gpa: Gpa) -> bool {
    const FIRST: u64 = FIRMWARE_END.get() - arch::platform_layout::MOST_FIRMWARE_BYTES;
    const SHADOW: u64 = PAM_SEGMENTS[0].base.get();
    (FIRST..FIRMWARE_END.get()).contains(&gpa.get()) || (SHADOW..SHADOW_END.get()).contains(&gpa.get())
}

const _: () = assert!(LEAST_FIRMWARE_BYTES.is_multiple_of(PAGE_SIZE));
