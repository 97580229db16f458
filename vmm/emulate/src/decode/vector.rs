//! Moves between memory and vector registers.
//!
//! SDM Vol. 2, "MOVUPS", "MOVDQU" and their kin. Not the forms with MMX registers, with a mask, or with a broadcast.

use super::operands::memory_operand;
use crate::instruction::{
    Alignment, Instruction, Operand, Operation, VectorDirection, VectorEncoding, VectorMove,
};
use arch::{VectorRegister, Width};
use iced_x86::{EncodingKind, Mnemonic, OpKind};

/// The part of the register that an instruction moves.
enum Part {
    /// From the lowest byte on; the address may be any.
    Low,
    /// From the lowest byte on, at an aligned address.
    LowAligned,
    /// The low eight bytes; a load keeps what is above.
    LowHalf,
    /// The second eight bytes; a load keeps what is below.
    HighHalf,
    /// The lane of 16 bytes that the immediate names; a load keeps the others of the low 32.
    Lane,
}

/// The instruction in our form, if it is one of those.
#[expect(clippy::wildcard_enum_match_arm, reason = "the decoder may come to know more encodings")]
pub(super) fn convert(decoded: &iced_x86::Instruction) -> Option<Instruction> {
    let part = part(decoded.mnemonic())?;
    if decoded.has_op_mask() || decoded.is_broadcast() {
        return None;
    }
    let encoding = match decoded.encoding() {
        EncodingKind::Legacy => VectorEncoding::Legacy,
        EncodingKind::VEX => VectorEncoding::Vex,
        EncodingKind::EVEX => VectorEncoding::Evex,
        _ => return None,
    };
    let is_store = decoded.op_kind(0) == OpKind::Memory;
    let register = vector_register(decoded, if is_store { 1 } else { 0 })?;
    let last = decoded.op_count().checked_sub(1)?;
    let immediate = if decoded.op_kind(last) == OpKind::Immediate8 { decoded.immediate8() } else { 0 };
    let (offset, kept) = match part {
        Part::Low | Part::LowAligned => (0, None),
        Part::LowHalf => (0, Some(16)),
        Part::HighHalf => (8, Some(16)),
        Part::Lane => (16 * (immediate & 1), Some(32)),
    };
    let direction = match kept {
        _ if is_store => VectorDirection::Store,
        None if decoded.op_kind(1) == OpKind::Memory => VectorDirection::Load,
        // A scalar move between three registers.
        None => return None,
        Some(bytes) => {
            let from = match encoding {
                VectorEncoding::Legacy => register,
                VectorEncoding::Vex | VectorEncoding::Evex => vector_register(decoded, 1)?,
            };
            VectorDirection::Merge { from, bytes }
        }
    };
    let (memory, address_size) = memory_operand(decoded)?;
    let length =
        u8::try_from(decoded.memory_size().size()).ok().filter(|length| (1..=64).contains(length))?;
    let alignment = if matches!(part, Part::LowAligned) { Alignment::Required } else { Alignment::Any };
    Some(Instruction {
        operation: Operation::Vector(VectorMove { encoding, direction, register, offset, length, alignment }),
        width: Width::Eight,
        destination: Operand::None,
        source: Operand::None,
        memory,
        address_size,
        length: u8::try_from(decoded.len()).ok()?,
    })
}

/// Operand `number`, if it is a vector register.
fn vector_register(decoded: &iced_x86::Instruction, number: u32) -> Option<VectorRegister> {
    let register = decoded.op_register(number);
    if decoded.op_kind(number) != OpKind::Register || !register.is_vector_register() {
        return None;
    }
    u8::try_from(register.number()).ok().map(VectorRegister::from_encoding)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the decoder knows two thousand mnemonics")]
fn part(mnemonic: Mnemonic) -> Option<Part> {
    Some(match mnemonic {
        Mnemonic::Movd
        | Mnemonic::Movq
        | Mnemonic::Movss
        | Mnemonic::Movsd
        | Mnemonic::Movups
        | Mnemonic::Movupd
        | Mnemonic::Movdqu
        | Mnemonic::Lddqu
        | Mnemonic::Vmovd
        | Mnemonic::Vmovq
        | Mnemonic::Vmovss
        | Mnemonic::Vmovsd
        | Mnemonic::Vmovups
        | Mnemonic::Vmovupd
        | Mnemonic::Vmovdqu
        | Mnemonic::Vmovdqu8
        | Mnemonic::Vmovdqu16
        | Mnemonic::Vmovdqu32
        | Mnemonic::Vmovdqu64
        | Mnemonic::Vlddqu => Part::Low,
        Mnemonic::Movaps
        | Mnemonic::Movapd
        | Mnemonic::Movdqa
        | Mnemonic::Movntps
        | Mnemonic::Movntpd
        | Mnemonic::Movntdq
        | Mnemonic::Movntdqa
        | Mnemonic::Vmovaps
        | Mnemonic::Vmovapd
        | Mnemonic::Vmovdqa
        | Mnemonic::Vmovdqa32
        | Mnemonic::Vmovdqa64
        | Mnemonic::Vmovntps
        | Mnemonic::Vmovntpd
        | Mnemonic::Vmovntdq
        | Mnemonic::Vmovntdqa => Part::LowAligned,
        Mnemonic::Movlps | Mnemonic::Movlpd | Mnemonic::Vmovlps | Mnemonic::Vmovlpd => Part::LowHalf,
        Mnemonic::Movhps | Mnemonic::Movhpd | Mnemonic::Vmovhps | Mnemonic::Vmovhpd => Part::HighHalf,
        Mnemonic::Vextractf128 | Mnemonic::Vextracti128 | Mnemonic::Vinsertf128 | Mnemonic::Vinserti128 => {
            Part::Lane
        }
        _ => return None,
    })
}
