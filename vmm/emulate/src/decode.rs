//! From bytes to [`Instruction`], by iced-x86.

use crate::MAX_INSTRUCTION_LENGTH;
use crate::context::CodeSize;
use crate::instruction::{
    AddressSize, Binary, BitAction, Instruction, MemoryOperand, Operand, Operation, RegisterOperand, Repeat,
    StringAction, Unary,
};
use arch::{Gpr, SegmentRegister, Width};
use iced_x86::{Decoder, DecoderError, DecoderOptions, Mnemonic, OpKind, Register};

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
    if let Some(action) = string_action(decoded) {
        return string(decoded, action);
    }
    let shape = shape(decoded.mnemonic())?;
    let destination_kind = decoded.op0_kind();
    let (operation, width, destination, source) = match shape {
        Shape::Binary(operation) => {
            let width = operand_width(decoded, 0)?;
            (operation, width, operand(decoded, 0)?, operand(decoded, 1)?)
        }
        Shape::Unary(operation) => {
            (operation, operand_width(decoded, 0)?, operand(decoded, 0)?, Operand::None)
        }
        Shape::Extend(extend) => {
            let from = operand_width(decoded, 1)?;
            (extend(from), operand_width(decoded, 0)?, operand(decoded, 0)?, operand(decoded, 1)?)
        }
        Shape::Push => (Operation::Push, stack_slot(decoded)?, Operand::None, operand(decoded, 0)?),
        Shape::Pop => (Operation::Pop, stack_slot(decoded)?, operand(decoded, 0)?, Operand::None),
    };
    // IMUL and other forms of a mnemonic with more operands are none of ours.
    if decoded.op_count() > 2 || matches!(destination_kind, OpKind::FarBranch16 | OpKind::FarBranch32) {
        return None;
    }
    let (memory, address_size) = memory_operand(decoded)?;
    Some(Instruction {
        operation,
        width,
        destination,
        source,
        memory,
        address_size,
        length: u8::try_from(decoded.len()).ok()?,
    })
}

/// How the operands of an instruction are laid out.
enum Shape {
    Binary(Operation),
    Unary(Operation),
    Extend(fn(Width) -> Operation),
    Push,
    Pop,
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the decoder knows two thousand mnemonics")]
fn shape(mnemonic: Mnemonic) -> Option<Shape> {
    Some(match mnemonic {
        Mnemonic::Mov | Mnemonic::Movnti => Shape::Binary(Operation::Move),
        Mnemonic::Movzx => Shape::Extend(Operation::MoveZeroExtended),
        Mnemonic::Movsx | Mnemonic::Movsxd => Shape::Extend(Operation::MoveSignExtended),
        Mnemonic::Xchg => Shape::Binary(Operation::Exchange),
        Mnemonic::Add => Shape::Binary(Operation::Binary(Binary::Add)),
        Mnemonic::Or => Shape::Binary(Operation::Binary(Binary::Or)),
        Mnemonic::Adc => Shape::Binary(Operation::Binary(Binary::AddWithCarry)),
        Mnemonic::Sbb => Shape::Binary(Operation::Binary(Binary::SubtractWithBorrow)),
        Mnemonic::And => Shape::Binary(Operation::Binary(Binary::And)),
        Mnemonic::Sub => Shape::Binary(Operation::Binary(Binary::Subtract)),
        Mnemonic::Xor => Shape::Binary(Operation::Binary(Binary::Xor)),
        Mnemonic::Cmp => Shape::Binary(Operation::Compare),
        Mnemonic::Test => Shape::Binary(Operation::Test),
        Mnemonic::Inc => Shape::Unary(Operation::Unary(Unary::Increment)),
        Mnemonic::Dec => Shape::Unary(Operation::Unary(Unary::Decrement)),
        Mnemonic::Not => Shape::Unary(Operation::Unary(Unary::Not)),
        Mnemonic::Neg => Shape::Unary(Operation::Unary(Unary::Negate)),
        Mnemonic::Bt => Shape::Binary(Operation::Bit(BitAction::Test)),
        Mnemonic::Bts => Shape::Binary(Operation::Bit(BitAction::Set)),
        Mnemonic::Btr => Shape::Binary(Operation::Bit(BitAction::Reset)),
        Mnemonic::Btc => Shape::Binary(Operation::Bit(BitAction::Complement)),
        Mnemonic::Cmpxchg => Shape::Binary(Operation::CompareExchange),
        Mnemonic::Cmpxchg8b => Shape::Unary(Operation::CompareExchangePair),
        Mnemonic::Xadd => Shape::Binary(Operation::ExchangeAdd),
        Mnemonic::Push => Shape::Push,
        Mnemonic::Pop => Shape::Pop,
        _ => return None,
    })
}

/// The width of operand `number`.
#[expect(clippy::wildcard_enum_match_arm, reason = "only the kinds that are emulated matter")]
fn operand_width(decoded: &iced_x86::Instruction, number: u32) -> Option<Width> {
    let bytes = match decoded.op_kind(number) {
        OpKind::Register => decoded.op_register(number).size(),
        OpKind::Memory => decoded.memory_size().size(),
        _ => return None,
    };
    Width::from_bytes(u64::try_from(bytes).ok()?)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only the kinds that are emulated matter")]
fn operand(decoded: &iced_x86::Instruction, number: u32) -> Option<Operand> {
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
fn stack_slot(decoded: &iced_x86::Instruction) -> Option<Width> {
    Width::from_bytes(u64::from(decoded.stack_pointer_increment().unsigned_abs()))
}

/// The memory operand and its address size; something unused where there is none.
#[expect(clippy::wildcard_enum_match_arm, reason = "the decoder knows two hundred registers")]
fn memory_operand(decoded: &iced_x86::Instruction) -> Option<(MemoryOperand, AddressSize)> {
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
        segment: segment(decoded.memory_segment()),
        base: if ip_relative { None } else { general(base)? },
        // A vector index (VSIB) is none of ours.
        index: general(index)?,
        scale: u8::try_from(decoded.memory_index_scale().trailing_zeros()).ok()? & 3,
        displacement: decoded.memory_displacement64(),
    };
    Some((memory, address_size))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the decoder knows two hundred registers")]
fn segment(register: Register) -> SegmentRegister {
    match register {
        Register::ES => SegmentRegister::Es,
        Register::CS => SegmentRegister::Cs,
        Register::SS => SegmentRegister::Ss,
        Register::FS => SegmentRegister::Fs,
        Register::GS => SegmentRegister::Gs,
        _ => SegmentRegister::Ds,
    }
}

/// Which string instruction it is. Two mnemonics are shared with SSE moves, so the operands are looked at too.
#[expect(clippy::wildcard_enum_match_arm, reason = "the decoder knows two thousand mnemonics")]
fn string_action(decoded: &iced_x86::Instruction) -> Option<StringAction> {
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

fn string(decoded: &iced_x86::Instruction, action: StringAction) -> Option<Instruction> {
    let address_size = [0, 1].into_iter().find_map(|number| string_address_size(decoded.op_kind(number)))?;
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
            segment: segment(decoded.memory_segment()),
            base: None,
            index: None,
            scale: 0,
            displacement: 0,
        },
        address_size,
        length: u8::try_from(decoded.len()).ok()?,
    })
}

fn string_address_size(kind: OpKind) -> Option<AddressSize> {
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
