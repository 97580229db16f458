//! A decoded instruction in the form that `execute` works on: small, copyable, and independent of the decoder.

use arch::{Gpr, SegmentRegister, Width};

/// Two-operand arithmetic and logic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Binary {
    Add,
    Or,
    AddWithCarry,
    SubtractWithBorrow,
    And,
    Subtract,
    Xor,
}

/// One-operand arithmetic and logic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unary {
    Increment,
    Decrement,
    Not,
    Negate,
}

/// What BT and its kin do with the bit that they copy to CF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BitAction {
    Test,
    Set,
    Reset,
    Complement,
}

/// The string instructions, ports included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StringAction {
    Store,
    Load,
    Move,
    Compare,
    Scan,
    In,
    Out,
}

/// A REP prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Repeat {
    Once,
    /// REP, REPE.
    WhileEqual,
    /// REPNE. To the instructions that do not compare it means the same as REP.
    WhileNotEqual,
}

/// What an instruction does. Its operands are in [`Instruction`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    /// Destination := source.
    Move,
    /// Destination := source of this width, zero-extended.
    MoveZeroExtended(Width),
    /// Destination := source of this width, sign-extended.
    MoveSignExtended(Width),
    Exchange,
    Binary(Binary),
    /// SUB without the result.
    Compare,
    /// AND without the result.
    Test,
    Unary(Unary),
    Bit(BitAction),
    CompareExchange,
    /// CMPXCHG8B.
    CompareExchangePair,
    ExchangeAdd,
    /// Source to the stack.
    Push,
    /// The stack to destination.
    Pop,
    String(StringAction, Repeat),
}

/// A general-purpose register as an operand; how much of it counts is the operand's width.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RegisterOperand {
    /// The low bytes.
    Low(Gpr),
    /// Bits 15:8: AH, CH, DH, BH.
    High(Gpr),
}

/// Where an operand is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operand {
    None,
    Register(RegisterOperand),
    /// At [`Instruction::memory`].
    Memory,
    /// Already extended to the operand size.
    Immediate(u64),
}

/// How many bits of an effective address count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AddressSize {
    Bits16,
    Bits32,
    Bits64,
}

impl AddressSize {
    /// The bits of an effective address or of a counter of this size.
    pub(crate) const fn mask(self) -> u64 {
        match self {
            Self::Bits16 => 0xffff,
            Self::Bits32 => 0xffff_ffff,
            Self::Bits64 => u64::MAX,
        }
    }

    /// The width of a register that holds an address of this size.
    pub(crate) const fn width(self) -> Width {
        match self {
            Self::Bits16 => Width::Two,
            Self::Bits32 => Width::Four,
            Self::Bits64 => Width::Eight,
        }
    }
}

/// segment:[base + index << scale + displacement]. For a string instruction only the segment counts: the
/// source's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MemoryOperand {
    pub(crate) segment: SegmentRegister,
    pub(crate) base: Option<Gpr>,
    pub(crate) index: Option<Gpr>,
    /// log2 of the scale.
    pub(crate) scale: u8,
    /// Sign-extended, modulo 2^64; for RIP-relative operands RIP is added in already.
    pub(crate) displacement: u64,
}

/// A decoded instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Instruction {
    pub(crate) operation: Operation,
    /// The operand size; of PUSH and POP the size of the stack slot.
    pub(crate) width: Width,
    pub(crate) destination: Operand,
    pub(crate) source: Operand,
    pub(crate) memory: MemoryOperand,
    pub(crate) address_size: AddressSize,
    /// In bytes, 1 to 15.
    pub(crate) length: u8,
}
