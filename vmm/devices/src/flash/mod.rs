//! A parallel NOR flash chip, eight bits wide, with 4 KiB blocks: where firmware keeps its variables. Intel, "Common
//! Flash Interface (CFI) and Command Sets", command set 0001; the interface is what the firmware volume driver of
//! EDK II knows as QEMU's flash.
//!
//! The array is memory that the guest reads directly as long as the chip is in its read-array mode ([`Flash::reads_array`]);
//! every write, and every read in another mode, comes here. A command is the low byte of a write of any width; data
//! is all of it. Programming clears bits and never sets one, as on the chip; erasing sets all bits of a block.
//!
//! Each operation is over at once, so the status is always ready once one was carried out. Two things are as in QEMU
//! rather than on the chip, because EDK II tells this flash from others by them: clearing the status clears the ready bit
//! too, and returns to the array. Lock bits are taken and have no effect. Not there: suspension, protection registers.

mod spec;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec;
use arch::{Gpa, Width};
use core::fmt;
use memory::GuestMemory;
use spec::{
    BLOCK_BYTES, BUFFER_BYTES, CLEAR_STATUS, CONFIRM, DEVICE, ERASE, ERASE_FAILED, ERASED, LOCK, LOCK_SET,
    MANUFACTURER, PROGRAM, PROGRAM_ALTERNATE, PROGRAM_BUFFER, PROGRAM_FAILED, QUERY, QUERY_BASE, READ_ARRAY,
    READ_ID, READ_STATUS, READY,
};

use crate::DmaMemory;
use crate::lanes::{low_byte, low_word};

/// What a read finds, and what the next write is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// The array; a command.
    Array,
    /// The status; a command.
    Status,
    /// Identifier codes; a command.
    Id,
    /// The query table; a command.
    Query,
    /// The status; data to be programmed.
    Program,
    /// The status; a block to be erased, confirmed.
    Erase,
    /// The status; what to do with lock bits.
    Lock,
    /// The status; how many bytes come, less one.
    BufferCount,
    /// The status; one of the bytes that are left to come.
    Buffer { left: u8 },
    /// The status; the buffer is to be programmed, confirmed.
    BufferConfirm,
}

/// A byte for the array.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Buffered {
    offset: u64,
    byte: u8,
}

/// Everything about the chip that a snapshot needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlashState {
    mode: Mode,
    status: u8,
    buffer: [Buffered; BUFFER_BYTES],
    buffered: u8,
    contents: Box<[u8]>,
}

/// The chip.
pub struct Flash {
    /// The array is in this memory, ...
    memory: DmaMemory,
    /// ... from this address on.
    base: Gpa,
    bytes: u64,

    mode: Mode,
    status: u8,
    buffer: [Buffered; BUFFER_BYTES],
    buffered: u8,
    /// The array was changed since the chip was made.
    changed: bool,
}

impl fmt::Debug for Flash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flash")
            .field("base", &self.base)
            .field("bytes", &self.bytes)
            .field("mode", &self.mode)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Flash {
    /// The chip after power-on, its array being the `bytes` bytes of `memory` at `base`.
    pub fn new(memory: DmaMemory, base: Gpa, bytes: u64) -> Self {
        Self {
            memory,
            base,
            bytes,
            mode: Mode::Array,
            status: 0,
            buffer: [Buffered::default(); BUFFER_BYTES],
            buffered: 0,
            changed: false,
        }
    }

    /// Whether reads find the array.
    pub fn reads_array(&self) -> bool {
        self.mode == Mode::Array
    }

    /// Whether the array was changed since the chip was made.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// Reads `width` at `offset`. Past the array there are ones.
    pub fn read(&self, offset: u64, width: Width) -> u64 {
        let mut bytes = [0xff; 8];
        for (byte, offset) in bytes.iter_mut().zip(offset..).take(byte_count(width)) {
            *byte = self.read_byte(offset);
        }
        u64::from_le_bytes(bytes) & width.mask()
    }

    /// Writes `width` at `offset`: a command, or data.
    pub fn write(&mut self, offset: u64, width: Width, value: u64) {
        let value_bytes = value.to_le_bytes();
        let bytes = value_bytes.get(..byte_count(width)).unwrap_or_default();
        let command = low_byte(low_word(value));
        match self.mode {
            Mode::Array | Mode::Status | Mode::Id | Mode::Query => self.command(command),
            Mode::Program => {
                self.mode = Mode::Status;
                self.status |= READY;
                self.program(offset, bytes);
            }
            Mode::Erase => {
                self.mode = Mode::Status;
                self.status |= READY;
                if command == CONFIRM { self.erase(offset) } else { self.wrong_order() }
            }
            Mode::Lock => {
                self.mode = Mode::Status;
                self.status |= READY;
                if !matches!(command, CONFIRM | LOCK_SET) {
                    self.wrong_order();
                }
            }
            Mode::BufferCount => {
                self.buffered = 0;
                self.mode = match command.checked_add(1) {
                    Some(left) if usize::from(left) <= BUFFER_BYTES => Mode::Buffer { left },
                    Some(_) | None => {
                        self.wrong_order();
                        Mode::Status
                    }
                };
            }
            Mode::Buffer { left } => self.fill_buffer(offset, bytes, left),
            Mode::BufferConfirm => {
                self.mode = Mode::Status;
                self.status |= READY;
                if command == CONFIRM { self.program_buffer() } else { self.wrong_order() }
            }
        }
    }

    /// As after the chip's reset pin: the array is what it was.
    pub fn reset(&mut self) {
        self.mode = Mode::Array;
        self.status = 0;
        self.buffered = 0;
    }

    /// The state, the array included, to be restored later.
    pub fn save(&self) -> FlashState {
        let mut contents = vec![0xff; usize::try_from(self.bytes).unwrap_or(0)].into_boxed_slice();
        // The array was there when the chip was made.
        let _there = self.memory.read(self.base, &mut contents);
        FlashState {
            mode: self.mode,
            status: self.status,
            buffer: self.buffer,
            buffered: self.buffered,
            contents,
        }
    }

    /// Becomes what [`Self::save`] saw of a chip of the same size.
    pub fn restore(&mut self, state: &FlashState) {
        self.mode = state.mode;
        self.status = state.status;
        self.buffer = state.buffer;
        self.buffered = state.buffered;
        let bytes = usize::try_from(self.bytes).unwrap_or(0).min(state.contents.len());
        if let Some(contents) = state.contents.get(..bytes) {
            let _there = self.memory.write(self.base, contents);
            self.changed = true;
        }
    }

    fn command(&mut self, command: u8) {
        self.mode = match command {
            READ_STATUS => Mode::Status,
            CLEAR_STATUS => {
                self.status = 0;
                Mode::Array
            }
            READ_ID => Mode::Id,
            QUERY => Mode::Query,
            PROGRAM | PROGRAM_ALTERNATE => Mode::Program,
            PROGRAM_BUFFER => {
                self.status |= READY;
                Mode::BufferCount
            }
            ERASE => Mode::Erase,
            LOCK => Mode::Lock,
            READ_ARRAY => Mode::Array,
            // What the chip does with others is not defined.
            _ => Mode::Array,
        };
    }

    fn read_byte(&self, offset: u64) -> u8 {
        match self.mode {
            Mode::Array => self.array(offset),
            Mode::Id => match offset & 0xff {
                0 => MANUFACTURER,
                1 => DEVICE,
                // The block's lock bit: clear.
                _ => 0,
            },
            Mode::Query => self.query(offset & 0xff),
            Mode::Status
            | Mode::Program
            | Mode::Erase
            | Mode::Lock
            | Mode::BufferCount
            | Mode::Buffer { .. }
            | Mode::BufferConfirm => self.status,
        }
    }

    fn array(&self, offset: u64) -> u8 {
        let mut byte = [0xff];
        if offset < self.bytes {
            // As above: it is there.
            let _there = self.memory.read(self.base + offset, &mut byte);
        }
        byte[0]
    }

    fn query(&self, offset: u64) -> u8 {
        let size_shift = u8::try_from(self.bytes.max(1).ilog2()).unwrap_or(u8::MAX);
        let blocks = u16::try_from(self.bytes / BLOCK_BYTES).unwrap_or(u16::MAX);
        let index = offset.checked_sub(QUERY_BASE).and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| spec::query_table(size_shift, blocks).get(index).copied()).unwrap_or(0)
    }

    /// Clears those bits at `offset` that are clear in `bytes`.
    fn program(&mut self, offset: u64, bytes: &[u8]) {
        for (byte, at) in bytes.iter().zip(offset..) {
            if at >= self.bytes {
                self.status |= PROGRAM_FAILED;
                return;
            }
            let programmed = self.array(at) & byte;
            self.changed = true;
            let _there = self.memory.write(self.base + at, &[programmed]);
        }
    }

    fn erase(&mut self, offset: u64) {
        let block = offset & !(BLOCK_BYTES - 1);
        if block.checked_add(BLOCK_BYTES).is_none_or(|end| end > self.bytes) {
            self.status |= ERASE_FAILED;
            return;
        }
        self.changed = true;
        let _there = self.memory.write(self.base + block, &ERASED);
    }

    fn fill_buffer(&mut self, offset: u64, bytes: &[u8], left: u8) {
        let mut left = left;
        for (&byte, offset) in bytes.iter().zip(offset..) {
            // The rest of a wide access that is more than was announced is lost.
            if left == 0 {
                break;
            }
            if let Some(slot) = self.buffer.get_mut(usize::from(self.buffered)) {
                *slot = Buffered { offset, byte };
                self.buffered += 1;
            }
            left -= 1;
        }
        self.mode = if left == 0 { Mode::BufferConfirm } else { Mode::Buffer { left } };
    }

    fn program_buffer(&mut self) {
        let buffer = self.buffer;
        for Buffered { offset, byte } in buffer.into_iter().take(usize::from(self.buffered)) {
            self.program(offset, &[byte]);
        }
        self.buffered = 0;
    }

    fn wrong_order(&mut self) {
        self.status |= ERASE_FAILED | PROGRAM_FAILED;
    }
}

const fn byte_count(width: Width) -> usize {
    match width {
        Width::One => 1,
        Width::Two => 2,
        Width::Four => 4,
        Width::Eight => 8,
    }
}
