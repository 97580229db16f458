//! Copies into guest RAM in pieces of bounded size.

use crate::LoadError;
use arch::Gpa;
use memory::{GuestMemory, OutsideRam};

/// The largest single copy, in bytes.
const PIECE: usize = 64 * 1024;

/// Copies `bytes` to `gpa`.
pub(crate) fn write(memory: &impl GuestMemory, gpa: Gpa, bytes: &[u8]) -> Result<(), LoadError> {
    let outside = outside(gpa, bytes.len() as u64);
    let mut at = gpa;
    for piece in bytes.chunks(PIECE) {
        memory.write(at, piece).map_err(outside)?;
        at = at + piece.len() as u64;
    }
    Ok(())
}

/// Writes `length` zero bytes to `gpa`.
pub(crate) fn zero(memory: &impl GuestMemory, gpa: Gpa, length: u64) -> Result<(), LoadError> {
    static ZEROES: [u8; PIECE] = [0; PIECE];
    let outside = outside(gpa, length);
    let mut at = gpa;
    let mut rest = length;
    while rest > 0 {
        let piece = usize::try_from(rest).unwrap_or(PIECE).min(PIECE);
        memory.write(at, ZEROES.get(..piece).unwrap_or(&ZEROES)).map_err(outside)?;
        at = at + piece as u64;
        rest -= piece as u64;
    }
    Ok(())
}

/// The error of a copy that met a hole: the memory is not the one that was described.
fn outside(gpa: Gpa, length: u64) -> impl Fn(OutsideRam) -> LoadError + Copy {
    move |_: OutsideRam| LoadError::OutsideRam { gpa, length }
}
