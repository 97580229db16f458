//! Operands: which register, which memory, how wide.

use crate::instruction::{AddressSize, MemoryOperand, Operand, RegisterOperand};
use arch::{Gpr, SegmentRegister, Width};
use iced_x86::{OpKind, Register};

/// The width of operand `number`.
#[expect(clippy::wildcard_enum_match_arm, reason = "only the kinds that are emulated matter")]
pub(super) fn operand_width(decoded: &iced_x86::Instruction, number: u32) -> Option<Width> {
    let bytes = match decoded.op_kind(number) {
        OpKind::Register => decoded.op_register(number).size(),
        OpKind::Memory => decoded.memory_size().size(),
        _ => return None,
    };
    Width::from_bytes(u64::try_from(bytes).ok()?)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only the kinds that are emulated matter")]
pub(super) fn operand(decoded: &iced_x86::Instruction, number: u32) -> Option<Operand> {
    Some(match decoded.op_kind(number) {
        OpKind::Register => Operand::Register(register_operand(decoded.op_register(number))?),
        OpKind::Memory => Operand::Memory,
        OpKind::Immediate8
        | OpKind::Immediate16
        | OpKind::Immediate32
        | OpKind::Immediate64
        | OpKind::Immediate8to16
        | OpKind::Immediate8to32
        | OpKind::Immediate8to64
        | OpKind::Immediate32to64 => Operand::Immediate(decoded.immediate(number)),
        _ => return None,
    })
}

fn register_operand(register: Register) -> Option<RegisterOperand> {
    let gpr = gpr(register)?;
    Some(if matches!(register, Register::AH | Register::CH | Register::DH | Register::BH) {
        RegisterOperand::High(gpr)
    } else {
        RegisterOperand::Low(gpr)
    })
}

/// The general-purpose register that `register` is a part of.
fn gpr(register: Register) -> Option<Gpr> {
    if !register.is_gpr() {
        return None;
    }
    u64::try_from(register.full_register().number()).ok().map(Gpr::from_encoding)
}

/// The bytes that PUSH and POP move RSP by.
pub(super) fn stack_slot(decoded: &iced_x86::Instruction) -> Option<Width> {
    Width::from_bytes(u64::from(decoded.stack_pointer_increment().unsigned_abs()))
}

/// The memory operand and its address size; something unused where there is none.
#[expect(clippy::wildcard_enum_match_arm, reason = "the decoder knows two hundred registers")]
pub(super) fn memory_operand(decoded: &iced_x86::Instruction) -> Option<(MemoryOperand, AddressSize)> {
    let (base, index) = (decoded.memory_base(), decoded.memory_index());
    let ip_relative = matches!(base, Register::RIP | Register::EIP);
    let size_in_bytes = if base != Register::None {
        base.size()
    } else if index != Register::None {
        index.size()
    } else {
        usize::try_from(decoded.memory_displ_size()).ok()?
    };
    let address_size = match size_in_bytes {
        2 => AddressSize::Bits16,
        4 => AddressSize::Bits32,
        // No memory operand at all has size 0.
        _ => AddressSize::Bits64,
    };
    let general = |register: Register| match register {
        Register::None => Some(None),
        other => gpr(other).map(Some),
    };
    let memory = MemoryOperand {
        segment: memory_segment(decoded),
        base: if ip_relative { None } else { general(base)? },
        // A vector index (VSIB) is none of ours.
        index: general(index)?,
        scale: u8::try_from(decoded.memory_index_scale().trailing_zeros()).ok()? & 3,
        displacement: decoded.memory_displacement64(),
    };
    Some((memory, address_size))
}

/// The segment of the memory operand. In 64-bit mode the prefixes of ES, CS, SS and DS say nothing (SDM Vol. 1,
/// "Segmentation in 64-Bit Mode").
pub(super) fn memory_segment(decoded: &iced_x86::Instruction) -> SegmentRegister {
    let ignored =
        matches!(decoded.segment_prefix(), Register::ES | Register::CS | Register::SS | Register::DS);
    if decoded.code_size() == iced_x86::CodeSize::Code64 && ignored {
        let by_stack =
            matches!(decoded.memory_base(), Register::ESP | Register::EBP | Register::RSP | Register::RBP);
        return if by_stack { SegmentRegister::Ss } else { SegmentRegister::Ds };
    }
    segment(decoded.memory_segment()).unwrap_or(SegmentRegister::Ds)
}

/// The segment register that `register` is.
#[expect(clippy::wildcard_enum_match_arm, reason = "the decoder knows two hundred registers")]
pub(super) fn segment(register: Register) -> Option<SegmentRegister> {
    Some(match register {
        Register::ES => SegmentRegister::Es,
        Register::CS => SegmentRegister::Cs,
        Register::SS => SegmentRegister::Ss,
        Register::DS => SegmentRegister::Ds,
        Register::FS => SegmentRegister::Fs,
        Register::GS => SegmentRegister::Gs,
        _ => return None,
    })
}
