//! Instructions on general-purpose registers and memory.

use super::operands::{memory_operand, operand, operand_width, segment, stack_slot};
use crate::instruction::{
    Binary, BitAction, BitCount, Condition, Count, DoubleShift, Factor, Instruction, Operand, Operation,
    Shift, Signedness, Unary,
};
use arch::{SegmentRegister, Width};
use iced_x86::{ConditionCode, Mnemonic, OpKind};

/// The instruction in our form, if it is one of those.
pub(super) fn convert(decoded: &iced_x86::Instruction) -> Option<Instruction> {
    let form = form(decoded)?;
    let (memory, address_size) = memory_operand(decoded)?;
    Some(Instruction {
        operation: form.operation,
        width: form.width,
        destination: form.destination,
        source: form.source,
        memory,
        address_size,
        length: u8::try_from(decoded.len()).ok()?,
    })
}

/// What an instruction does, with which operands.
struct Form {
    operation: Operation,
    width: Width,
    destination: Operand,
    source: Operand,
}

/// How the operands of an instruction are laid out.
enum Shape {
    /// Destination and source; the width is the destination's.
    Two(Operation),
    /// A destination alone.
    One(Operation),
    /// A source alone.
    Source(Operation),
    /// Destination and narrower source.
    Extend(fn(Width) -> Operation),
    /// Two, and a count.
    DoubleShift(DoubleShift),
    /// MOV, which may be from a segment register.
    Move,
    /// IMUL, with one, two or three operands.
    SignedMultiply,
    /// A source in memory alone, whose width does not matter.
    Address(Operation),
    Push,
    Pop,
    /// A near branch.
    Branch(Operation),
}

fn form(decoded: &iced_x86::Instruction) -> Option<Form> {
    match shape(decoded)? {
        Shape::Two(operation) => two(decoded, operation),
        Shape::One(operation) => Some(Form {
            operation,
            width: operand_width(decoded, 0)?,
            destination: operand(decoded, 0)?,
            source: Operand::None,
        }),
        Shape::Source(operation) => source_alone(decoded, operation),
        Shape::Extend(extend) => two(decoded, extend(operand_width(decoded, 1)?)),
        Shape::DoubleShift(shift) => {
            let count = if decoded.op_kind(2) == OpKind::Immediate8 {
                Count::Immediate(decoded.immediate8())
            } else {
                Count::Cl
            };
            two(decoded, Operation::DoubleShift(shift, count))
        }
        Shape::Move => match selector_source(decoded) {
            Some(register) => {
                let destination = operand(decoded, 0)?;
                // In memory it is always a word.
                let width =
                    if destination == Operand::Memory { Width::Two } else { operand_width(decoded, 0)? };
                let operation = Operation::StoreSelector(register);
                Some(Form { operation, width, destination, source: Operand::None })
            }
            None => two(decoded, Operation::Move),
        },
        Shape::SignedMultiply => match decoded.op_count() {
            1 => source_alone(decoded, Operation::Multiply(Signedness::Signed)),
            2 => two(decoded, Operation::MultiplyTruncated(Factor::Destination)),
            _ => {
                let [a, b, c, d, ..] = decoded.immediate(2).to_le_bytes();
                let factor = match operand_width(decoded, 0)? {
                    Width::Two => i32::from(i16::from_le_bytes([a, b])),
                    // Sign-extended from 32 bits where the operand is wider.
                    Width::One | Width::Four | Width::Eight => i32::from_le_bytes([a, b, c, d]),
                };
                two(decoded, Operation::MultiplyTruncated(Factor::Immediate(factor)))
            }
        },
        Shape::Address(operation) => Some(Form {
            operation,
            width: Width::One,
            destination: Operand::None,
            source: operand(decoded, 0).filter(|source| *source == Operand::Memory)?,
        }),
        Shape::Push => Some(Form {
            operation: Operation::Push,
            width: stack_slot(decoded)?,
            destination: Operand::None,
            source: operand(decoded, 0)?,
        }),
        Shape::Branch(operation) => branch(decoded, operation),
        Shape::Pop => Some(Form {
            operation: Operation::Pop,
            width: stack_slot(decoded)?,
            destination: operand(decoded, 0)?,
            source: Operand::None,
        }),
    }
}

/// A near branch: to where its operand says, to where it stands in the instruction, or back.
fn branch(decoded: &iced_x86::Instruction, operation: Operation) -> Option<Form> {
    let (width, source) = if let Operation::Return(further) = operation {
        let taken = decoded.stack_pointer_increment().checked_sub(i32::from(further))?;
        (Width::from_bytes(u64::try_from(taken).ok()?)?, Operand::None)
    } else if decoded.is_call_near() {
        (stack_slot(decoded)?, Operand::Immediate(decoded.near_branch_target()))
    } else {
        (operand_width(decoded, 0)?, operand(decoded, 0)?)
    };
    Some(Form { operation, width, destination: Operand::None, source })
}

fn two(decoded: &iced_x86::Instruction, operation: Operation) -> Option<Form> {
    Some(Form {
        operation,
        width: operand_width(decoded, 0)?,
        destination: operand(decoded, 0)?,
        source: operand(decoded, 1)?,
    })
}

fn source_alone(decoded: &iced_x86::Instruction, operation: Operation) -> Option<Form> {
    Some(Form {
        operation,
        width: operand_width(decoded, 0)?,
        destination: Operand::None,
        source: operand(decoded, 0)?,
    })
}

/// The segment register that the second operand is.
fn selector_source(decoded: &iced_x86::Instruction) -> Option<SegmentRegister> {
    if decoded.op_kind(1) == OpKind::Register { segment(decoded.op_register(1)) } else { None }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the decoder knows two thousand mnemonics")]
fn shape(decoded: &iced_x86::Instruction) -> Option<Shape> {
    Some(match decoded.mnemonic() {
        Mnemonic::Mov => Shape::Move,
        Mnemonic::Movnti => Shape::Two(Operation::Move),
        Mnemonic::Movbe => Shape::Two(Operation::MoveSwapped),
        Mnemonic::Movzx => Shape::Extend(Operation::MoveZeroExtended),
        Mnemonic::Movsx | Mnemonic::Movsxd => Shape::Extend(Operation::MoveSignExtended),
        Mnemonic::Xchg => Shape::Two(Operation::Exchange),
        Mnemonic::Add => Shape::Two(Operation::Binary(Binary::Add)),
        Mnemonic::Or => Shape::Two(Operation::Binary(Binary::Or)),
        Mnemonic::Adc => Shape::Two(Operation::Binary(Binary::AddWithCarry)),
        Mnemonic::Sbb => Shape::Two(Operation::Binary(Binary::SubtractWithBorrow)),
        Mnemonic::And => Shape::Two(Operation::Binary(Binary::And)),
        Mnemonic::Sub => Shape::Two(Operation::Binary(Binary::Subtract)),
        Mnemonic::Xor => Shape::Two(Operation::Binary(Binary::Xor)),
        Mnemonic::Cmp => Shape::Two(Operation::Compare),
        Mnemonic::Test => Shape::Two(Operation::Test),
        Mnemonic::Inc => Shape::One(Operation::Unary(Unary::Increment)),
        Mnemonic::Dec => Shape::One(Operation::Unary(Unary::Decrement)),
        Mnemonic::Not => Shape::One(Operation::Unary(Unary::Not)),
        Mnemonic::Neg => Shape::One(Operation::Unary(Unary::Negate)),
        Mnemonic::Rol => Shape::Two(Operation::Shift(Shift::RotateLeft)),
        Mnemonic::Ror => Shape::Two(Operation::Shift(Shift::RotateRight)),
        Mnemonic::Rcl => Shape::Two(Operation::Shift(Shift::RotateLeftThroughCarry)),
        Mnemonic::Rcr => Shape::Two(Operation::Shift(Shift::RotateRightThroughCarry)),
        Mnemonic::Shl | Mnemonic::Sal => Shape::Two(Operation::Shift(Shift::Left)),
        Mnemonic::Shr => Shape::Two(Operation::Shift(Shift::Right)),
        Mnemonic::Sar => Shape::Two(Operation::Shift(Shift::ArithmeticRight)),
        Mnemonic::Shld => Shape::DoubleShift(DoubleShift::Left),
        Mnemonic::Shrd => Shape::DoubleShift(DoubleShift::Right),
        Mnemonic::Bt => Shape::Two(Operation::Bit(BitAction::Test)),
        Mnemonic::Bts => Shape::Two(Operation::Bit(BitAction::Set)),
        Mnemonic::Btr => Shape::Two(Operation::Bit(BitAction::Reset)),
        Mnemonic::Btc => Shape::Two(Operation::Bit(BitAction::Complement)),
        Mnemonic::Bsf => Shape::Two(Operation::BitCount(BitCount::ScanForward)),
        Mnemonic::Bsr => Shape::Two(Operation::BitCount(BitCount::ScanReverse)),
        Mnemonic::Tzcnt => Shape::Two(Operation::BitCount(BitCount::TrailingZeros)),
        Mnemonic::Lzcnt => Shape::Two(Operation::BitCount(BitCount::LeadingZeros)),
        Mnemonic::Popcnt => Shape::Two(Operation::BitCount(BitCount::Ones)),
        Mnemonic::Cmpxchg => Shape::Two(Operation::CompareExchange),
        Mnemonic::Cmpxchg8b => Shape::Address(Operation::CompareExchange8),
        Mnemonic::Cmpxchg16b => Shape::Address(Operation::CompareExchange16),
        Mnemonic::Xadd => Shape::Two(Operation::ExchangeAdd),
        Mnemonic::Mul => Shape::Source(Operation::Multiply(Signedness::Unsigned)),
        Mnemonic::Imul => Shape::SignedMultiply,
        Mnemonic::Div => Shape::Source(Operation::Divide(Signedness::Unsigned)),
        Mnemonic::Idiv => Shape::Source(Operation::Divide(Signedness::Signed)),
        Mnemonic::Clflush | Mnemonic::Clflushopt | Mnemonic::Clwb => Shape::Address(Operation::Touch),
        Mnemonic::Push => Shape::Push,
        Mnemonic::Pop => Shape::Pop,
        Mnemonic::Jmp if decoded.is_jmp_near_indirect() => Shape::Branch(Operation::Jump),
        Mnemonic::Call if decoded.is_call_near_indirect() || decoded.is_call_near() => {
            Shape::Branch(Operation::Call)
        }
        Mnemonic::Ret => {
            let further = if decoded.op_count() == 0 { 0 } else { decoded.immediate16() };
            Shape::Branch(Operation::Return(further))
        }
        _ => return conditional(decoded),
    })
}

/// CMOVcc and SETcc. Jumps with a condition have no operand that is emulated.
fn conditional(decoded: &iced_x86::Instruction) -> Option<Shape> {
    let condition = decoded.condition_code();
    if condition == ConditionCode::None {
        return None;
    }
    // The decoder numbers them as the processor does, after "none".
    let condition = Condition((condition as u8).wrapping_sub(1));
    match decoded.op_count() {
        1 => Some(Shape::One(Operation::SetIf(condition))),
        2 => Some(Shape::Two(Operation::MoveIf(condition))),
        _ => None,
    }
}
