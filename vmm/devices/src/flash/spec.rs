//! Commands, status and tables of the chip. Intel, "Common Flash Interface (CFI) and Command Sets", command set 0001;
//! JEDEC JESD68.01, "Common Flash Interface (CFI)".

/// Read array.
pub(super) const READ_ARRAY: u8 = 0xff;
/// Read identifier codes.
pub(super) const READ_ID: u8 = 0x90;
/// CFI query.
pub(super) const QUERY: u8 = 0x98;
/// Read status register.
pub(super) const READ_STATUS: u8 = 0x70;
/// Clear status register.
pub(super) const CLEAR_STATUS: u8 = 0x50;
/// Program: the next write is the data.
pub(super) const PROGRAM: u8 = 0x40;
/// The same, by its older code.
pub(super) const PROGRAM_ALTERNATE: u8 = 0x10;
/// Write to buffer: a count, data, and a confirmation follow.
pub(super) const PROGRAM_BUFFER: u8 = 0xe8;
/// Block erase: a confirmation follows.
pub(super) const ERASE: u8 = 0x20;
/// Block lock bits: set, clear or down follows.
pub(super) const LOCK: u8 = 0x60;
/// Confirms what was begun; behind [`LOCK`], clears lock bits.
pub(super) const CONFIRM: u8 = 0xd0;
/// Behind [`LOCK`]: sets the lock bit.
pub(super) const LOCK_SET: u8 = 0x01;

/// Status: ready.
pub(super) const READY: u8 = 1 << 7;
/// Status: an erasure failed; with [`PROGRAM_FAILED`], the order of commands was wrong.
pub(super) const ERASE_FAILED: u8 = 1 << 5;
/// Status: programming failed.
pub(super) const PROGRAM_FAILED: u8 = 1 << 4;

/// log2 of the bytes that are programmed at once at most.
pub(super) const BUFFER_SHIFT: u8 = 5;
/// That in bytes.
pub(super) const BUFFER_BYTES: usize = 1 << BUFFER_SHIFT;
/// Bytes that are erased together.
pub(super) const BLOCK_BYTES: u64 = ERASED.len() as u64;
/// A block that was erased.
pub(super) const ERASED: [u8; 4096] = [0xff; 4096];

/// Manufacturer: Intel.
pub(super) const MANUFACTURER: u8 = 0x89;
/// Device code of a 28F640J3.
pub(super) const DEVICE: u8 = 0x18;

/// Where the query table begins.
pub(super) const QUERY_BASE: u64 = 0x10;
/// The query table from there on, for a chip whose size is 2^`size_shift` and that has `blocks` blocks. What does not
/// apply is zero: there is no table of the command set beyond its signature.
pub(super) fn query_table(size_shift: u8, blocks: u16) -> [u8; 0x27] {
    let [blocks_low, blocks_high] = blocks.wrapping_sub(1).to_le_bytes();
    // Region sizes are in units of 256 bytes.
    let [unit_low, unit_high, ..] = (BLOCK_BYTES / 256).to_le_bytes();
    [
        // 10h: signature, primary command set and its table, alternates.
        b'Q',
        b'R',
        b'Y',
        0x01,
        0x00,
        0x31,
        0x00,
        0,
        0,
        0,
        0, //
        // 1Bh: supply voltages (2.7 to 3.6 V), none for programming.
        0x27,
        0x36,
        0,
        0, //
        // 1Fh: typical times, as powers of two: byte, buffer (microseconds), block (milliseconds), chip.
        0x07,
        0x07,
        0x0a,
        0, //
        // 23h: the longest, as powers of two times the typical.
        0x04,
        0x04,
        0x04,
        0, //
        // 27h: size, interface (8 bits), bytes in the buffer, regions.
        size_shift,
        0x00,
        0x00,
        BUFFER_SHIFT,
        0x00,
        0x01, //
        // 2Dh: the region: blocks less one, and their size.
        blocks_low,
        blocks_high,
        unit_low,
        unit_high, //
        // 31h: the command set's own table: signature and version 1.0.
        b'P',
        b'R',
        b'I',
        b'1',
        b'0',
        0,
    ]
}
