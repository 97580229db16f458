//! String instructions.

use super::operands::memory_segment;
use crate::instruction::{AddressSize, Instruction, MemoryOperand, Operand, Operation, Repeat, StringAction};
use arch::Width;
use iced_x86::{Mnemonic, OpKind};

/// Which string instruction it is. Two mnemonics are shared with SSE moves, so the operands are looked at too.
#[expect(clippy::wildcard_enum_match_arm, reason = "the decoder knows two thousand mnemonics")]
pub(super) fn action(decoded: &iced_x86::Instruction) -> Option<StringAction> {
    let action = match decoded.mnemonic() {
        Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq => StringAction::Store,
        Mnemonic::Lodsb | Mnemonic::Lodsw | Mnemonic::Lodsd | Mnemonic::Lodsq => StringAction::Load,
        Mnemonic::Movsb | Mnemonic::Movsw | Mnemonic::Movsd | Mnemonic::Movsq => StringAction::Move,
        Mnemonic::Cmpsb | Mnemonic::Cmpsw | Mnemonic::Cmpsd | Mnemonic::Cmpsq => StringAction::Compare,
        Mnemonic::Scasb | Mnemonic::Scasw | Mnemonic::Scasd | Mnemonic::Scasq => StringAction::Scan,
        Mnemonic::Insb | Mnemonic::Insw | Mnemonic::Insd => StringAction::In,
        Mnemonic::Outsb | Mnemonic::Outsw | Mnemonic::Outsd => StringAction::Out,
        _ => return None,
    };
    decoded.is_string_instruction().then_some(action)
}

pub(super) fn convert(decoded: &iced_x86::Instruction, action: StringAction) -> Option<Instruction> {
    let address_size = [0, 1].into_iter().find_map(|number| address_size_of(decoded.op_kind(number)))?;
    let repeat = if decoded.has_repne_prefix() {
        Repeat::WhileNotEqual
    } else if decoded.has_rep_prefix() {
        Repeat::WhileEqual
    } else {
        Repeat::Once
    };
    Some(Instruction {
        operation: Operation::String(action, repeat),
        width: Width::from_bytes(u64::try_from(decoded.memory_size().size()).ok()?)?,
        destination: Operand::None,
        source: Operand::None,
        memory: MemoryOperand {
            segment: memory_segment(decoded),
            base: None,
            index: None,
            scale: 0,
            displacement: 0,
        },
        address_size,
        length: u8::try_from(decoded.len()).ok()?,
    })
}

fn address_size_of(kind: OpKind) -> Option<AddressSize> {
    match kind {
        OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI => Some(AddressSize::Bits16),
        OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI => Some(AddressSize::Bits32),
        OpKind::MemorySegRSI | OpKind::MemorySegRDI | OpKind::MemoryESRDI => Some(AddressSize::Bits64),
        OpKind::Register
        | OpKind::NearBranch16
        | OpKind::NearBranch32
        | OpKind::NearBranch64
        | OpKind::FarBranch16
        | OpKind::FarBranch32
        | OpKind::Immediate8
        | OpKind::Immediate8_2nd
        | OpKind::Immediate16
        | OpKind::Immediate32
        | OpKind::Immediate64
        | OpKind::Immediate8to16
        | OpKind::Immediate8to32
        | OpKind::Immediate8to64
        | OpKind::Immediate32to64
        | OpKind::Memory => None,
    }
}
