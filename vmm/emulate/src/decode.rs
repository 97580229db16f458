//! From bytes to [`Instruction`], by iced-x86.

mod integer;
mod operands;
mod string;
mod vector;

use crate::MAX_INSTRUCTION_LENGTH;
use crate::context::CodeSize;
use crate::instruction::Instruction;
use iced_x86::{Decoder, DecoderError, DecoderOptions};

/// Why bytes did not become an [`Instruction`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DecodeError {
    /// The instruction goes on past the bytes that were given.
    Truncated,
    /// It is longer than an instruction may be: #GP.
    TooLong,
    /// No such instruction: #UD.
    Invalid,
    /// An instruction of this many bytes that is not emulated.
    Unsupported {
        /// Its length in bytes.
        length: usize,
    },
}

/// Builds the decoder's tables. They are built on first use otherwise, which takes long and allocates: call this
/// once at boot.
pub fn warm() {
    for size in [CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64] {
        // NOP in every mode; only the side effect on the tables is wanted.
        let _ = decode(&[0x90], size, 0);
    }
}

/// Decodes the instruction at the start of `bytes`, which stands at `rip`.
pub(crate) fn decode(bytes: &[u8], size: CodeSize, rip: u64) -> Result<Instruction, DecodeError> {
    let mut decoder = Decoder::with_ip(size.bits(), bytes, rip, DecoderOptions::NONE);
    let decoded = decoder.decode();
    if decoded.is_invalid() {
        return Err(if decoder.last_error() == DecoderError::NoMoreBytes {
            DecodeError::Truncated
        } else if decoder.position() >= MAX_INSTRUCTION_LENGTH {
            // The decoder does not say so, but it stops short of the end on an invalid opcode.
            DecodeError::TooLong
        } else {
            DecodeError::Invalid
        });
    }
    convert(&decoded).ok_or(DecodeError::Unsupported { length: decoded.len() })
}

/// The instruction in our form, if it is one that is emulated.
fn convert(decoded: &iced_x86::Instruction) -> Option<Instruction> {
    match string::action(decoded) {
        Some(action) => string::convert(decoded, action),
        None => integer::convert(decoded).or_else(|| vector::convert(decoded)),
    }
}
