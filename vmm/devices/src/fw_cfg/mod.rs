//! QEMU's firmware configuration device: how firmware learns of the machine, and gets tables and kernels.
//! QEMU documentation, "QEMU Firmware Configuration (fw_cfg) Device".
//!
//! The selector, port 0x510, takes 2-byte writes; the data port after it gives the selected item byte by byte, zeros
//! behind its end. Everything else at those ports reads ones and is ignored. The DMA register, port 0x514, takes the
//! guest-physical address of a control structure as two big-endian words, high first; the low one starts the transfer.
//! Only its 4-byte writes count; it reads as a signature in any size.
//!
//! A transfer copies a bounded piece at a time: the rest goes on by itself, and the guest sees the end in the control
//! structure, as the interface has it. A request that is made meanwhile waits, the last of them if there are several.
//! What cannot be done (memory that is not RAM, an item to be written: none can) is told by the error bit; a control
//! structure that is not in RAM cannot be told of anything.

mod contents;
mod spec;
#[cfg(test)]
mod tests;

pub use contents::{Contents, FileRefused, Item};

use alloc::sync::Arc;
use arch::{Gpa, Nanos, Width};
use core::fmt;
use memory::{GuestMemory, OutsideRam};
use spec::{CONTROL_BYTES, DMA_ERROR, DMA_READ, DMA_SELECT, DMA_SIGNATURE, DMA_SKIP, DMA_WRITE, KEY_MASK};

use crate::lanes::low_half;

/// Bytes that are copied before the guest runs again.
const PIECE: u32 = 256 * 1024;
/// How long it then runs, in nanoseconds.
const PAUSE_NS: u64 = 1000;
/// Bytes that are zeroed at once.
const ZEROES: [u8; 4096] = [0; 4096];

/// The guest's memory, as the device writes to it.
pub type DmaMemory = Arc<dyn GuestMemory + Send + Sync>;

/// What is left of a transfer.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Transfer {
    /// The control structure.
    control: Gpa,
    /// Where the next byte goes.
    to: Gpa,
    /// Bytes left.
    left: u32,
}

/// Everything about the device that a snapshot needs, but for its contents.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FwCfgState {
    key: u16,
    /// The next byte of the item.
    offset: u32,
    /// The high half of the control structure's address.
    dma_high: u32,
    transfer: Option<Transfer>,
    /// A control structure that waits for the transfer.
    waiting: Option<Gpa>,
    /// When the transfer goes on.
    due: Nanos,
}

impl FwCfgState {
    const RESET: Self =
        Self { key: 0, offset: 0, dma_high: 0, transfer: None, waiting: None, due: Nanos::NEVER };
}

/// The device.
pub struct FwCfg {
    contents: Contents,
    memory: DmaMemory,
    state: FwCfgState,
}

impl fmt::Debug for FwCfg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FwCfg").field("state", &self.state).finish_non_exhaustive()
    }
}

impl FwCfg {
    /// The device after reset, with `contents`, for a guest with `memory`.
    pub fn new(contents: Contents, memory: DmaMemory) -> Self {
        Self { contents, memory, state: FwCfgState::RESET }
    }

    /// Selects the item with `key`, from its first byte.
    pub fn select(&mut self, key: u16) {
        self.state.key = key & KEY_MASK;
        self.state.offset = 0;
    }

    /// The next byte of the item.
    pub fn read_data(&mut self) -> u8 {
        match self.rest().first() {
            Some(&byte) => {
                self.state.offset = self.state.offset.saturating_add(1);
                byte
            }
            None => 0,
        }
    }

    /// The byte at `offset` of the DMA register, 0 to 7.
    pub fn read_dma(&self, offset: u16) -> u8 {
        DMA_SIGNATURE.get(usize::from(offset)).copied().unwrap_or(0xff)
    }

    /// Writes `width` at `offset` of the DMA register.
    pub fn write_dma(&mut self, offset: u16, width: Width, value: u32, now: Nanos) {
        match (offset, width) {
            (0, Width::Four) => self.state.dma_high = value.swap_bytes(),
            (4, Width::Four) => {
                let high = core::mem::take(&mut self.state.dma_high);
                self.request(Gpa::new(u64::from(high) << 32 | u64::from(value.swap_bytes())), now);
            }
            _ => {}
        }
    }

    /// Goes on with a transfer that is due at `now`.
    pub fn advance(&mut self, now: Nanos) {
        if now >= self.state.due {
            self.go_on(now);
        }
    }

    /// When [`Self::advance`] must be called next.
    pub fn next_deadline(&self) -> Nanos {
        self.state.due
    }

    /// As after reset. A transfer ends where it is.
    pub fn reset(&mut self) {
        self.state = FwCfgState::RESET;
    }

    /// The state, to be restored later.
    pub fn save(&self) -> FwCfgState {
        self.state.clone()
    }

    /// Becomes what [`Self::save`] saw of a device with the same contents.
    pub fn restore(&mut self, state: &FwCfgState) {
        self.state = state.clone();
    }

    /// What of the item was not read yet.
    fn rest(&self) -> &[u8] {
        let offset = usize::try_from(self.state.offset).unwrap_or(usize::MAX);
        self.contents.get(self.state.key).get(offset..).unwrap_or_default()
    }

    fn request(&mut self, control: Gpa, now: Nanos) {
        if self.state.transfer.is_some() {
            self.state.waiting = Some(control);
        } else {
            self.begin(control);
            self.go_on(now);
        }
    }

    /// Does what the structure at `control` asks for, except to copy.
    fn begin(&mut self, control: Gpa) {
        let mut structure = [0; CONTROL_BYTES];
        if self.memory.read(control, &mut structure).is_err() {
            return;
        }
        let [c0, c1, c2, c3, l0, l1, l2, l3, address @ ..] = structure;
        let request = u32::from_be_bytes([c0, c1, c2, c3]);
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if request & DMA_SELECT != 0 {
            self.select(low_half(request >> 16));
        }
        if request & DMA_READ != 0 {
            let to = Gpa::new(u64::from_be_bytes(address));
            self.state.transfer = Some(Transfer { control, to, left: length });
        } else if request & DMA_WRITE != 0 {
            self.finish(control, DMA_ERROR);
        } else {
            if request & DMA_SKIP != 0 {
                self.state.offset = self.state.offset.saturating_add(length);
            }
            self.finish(control, 0);
        }
    }

    /// Copies a piece, and takes up what waits when that was the last.
    fn go_on(&mut self, now: Nanos) {
        self.state.due = Nanos::NEVER;
        if let Some(mut transfer) = self.state.transfer.take() {
            match self.copy_piece(&mut transfer) {
                Ok(()) if transfer.left > 0 => self.state.transfer = Some(transfer),
                Ok(()) => self.finish(transfer.control, 0),
                Err(OutsideRam { .. }) => self.finish(transfer.control, DMA_ERROR),
            }
            if self.state.transfer.is_none()
                && let Some(control) = self.state.waiting.take()
            {
                self.begin(control);
            }
        }
        if self.state.transfer.is_some() {
            self.state.due = Nanos(now.0.saturating_add(PAUSE_NS));
        }
    }

    fn copy_piece(&mut self, transfer: &mut Transfer) -> Result<(), OutsideRam> {
        let end = transfer.left.saturating_sub(PIECE);
        while transfer.left > end {
            let rest = self.rest();
            let zeroes = rest.is_empty();
            let from = if zeroes { &ZEROES } else { rest };
            let wanted = usize::try_from(transfer.left - end).unwrap_or(usize::MAX);
            let piece = from.get(..wanted).unwrap_or(from);
            self.memory.write(transfer.to, piece)?;
            let bytes = u32::try_from(piece.len()).unwrap_or(transfer.left);
            transfer.to = transfer.to + u64::from(bytes);
            transfer.left = transfer.left.saturating_sub(bytes);
            if !zeroes {
                self.state.offset = self.state.offset.saturating_add(bytes);
            }
        }
        Ok(())
    }

    /// Tells the guest how its request ended.
    fn finish(&self, control: Gpa, result: u32) {
        // It was read from there: a guest whose RAM is gone meanwhile does not hear of it.
        let _gone = self.memory.write(control, &result.to_be_bytes());
    }
}
