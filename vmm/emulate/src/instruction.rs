//! A decoded instruction in the form that `execute` works on: small, copyable, and independent of the decoder.

use arch::{Gpr, SegmentRegister, VectorRegister, Width};

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

/// Shifts and rotates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shift {
    RotateLeft,
    RotateRight,
    /// RCL.
    RotateLeftThroughCarry,
    /// RCR.
    RotateRightThroughCarry,
    Left,
    Right,
    /// SAR.
    ArithmeticRight,
}

/// SHLD and SHRD.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DoubleShift {
    Left,
    Right,
}

/// How far a double shift goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Count {
    /// By CL.
    Cl,
    Immediate(u8),
}

/// Bit counts and searches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BitCount {
    /// BSF.
    ScanForward,
    /// BSR.
    ScanReverse,
    TrailingZeros,
    LeadingZeros,
    /// POPCNT.
    Ones,
}

/// Whether operands of a multiplication or division are signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Signedness {
    Unsigned,
    Signed,
}

/// What IMUL with a destination multiplies its source by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Factor {
    Destination,
    Immediate(i32),
}

/// A condition on the flags, numbered as instruction encodings number it (SDM Vol. 2, "Instruction Formats and
/// Encodings", "Encoding of Conditional Test (tttn) Field").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Condition(pub(crate) u8);

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

/// Whether an address that is not a multiple of the operand's size is #GP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Alignment {
    /// It is.
    Required,
    /// It is not: any address will do.
    Any,
}

/// How a vector instruction is encoded: what must be enabled for it, and what becomes of the part of a register above
/// what it writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum VectorEncoding {
    /// SSE: the rest stays.
    Legacy,
    /// AVX: the rest is cleared.
    Vex,
    /// AVX-512: the rest is cleared.
    Evex,
}

/// Which way a vector move goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum VectorDirection {
    /// From memory; the bytes beside those that are read are cleared.
    Load,
    /// From memory; the bytes beside those that are read, in the low `bytes`, come from another register.
    Merge { from: VectorRegister, bytes: u8 },
    /// To memory.
    Store,
}

/// A move between memory and a vector register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct VectorMove {
    pub(crate) encoding: VectorEncoding,
    pub(crate) direction: VectorDirection,
    pub(crate) register: VectorRegister,
    /// The first byte in the register that is moved.
    pub(crate) offset: u8,
    /// How many bytes are: 2 to 64.
    pub(crate) length: u8,
    pub(crate) alignment: Alignment,
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
    /// MOVBE.
    MoveSwapped,
    /// Destination := selector. Memory takes two bytes of it.
    StoreSelector(SegmentRegister),
    Shift(Shift),
    DoubleShift(DoubleShift, Count),
    Bit(BitAction),
    BitCount(BitCount),
    CompareExchange,
    /// CMPXCHG8B.
    CompareExchange8,
    /// CMPXCHG16B.
    CompareExchange16,
    ExchangeAdd,
    /// MUL, and IMUL with one operand: (R)DX:(R)AX := (R)AX * source.
    Multiply(Signedness),
    /// IMUL with a destination.
    MultiplyTruncated(Factor),
    /// DIV, IDIV: (R)AX := (R)DX:(R)AX / source.
    Divide(Signedness),
    /// CMOVcc.
    MoveIf(Condition),
    /// SETcc.
    SetIf(Condition),
    /// CLFLUSH and its kin: nothing but the checks of a read.
    Touch,
    Vector(VectorMove),
    /// Source to the stack.
    Push,
    /// The stack to destination.
    Pop,
    /// JMP to the source.
    Jump,
    /// CALL of the source.
    Call,
    /// RET, which takes so many bytes more off the stack.
    Return(u16),
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
    /// The operand size; of PUSH, POP and branches the size of the stack slot.
    pub(crate) width: Width,
    pub(crate) destination: Operand,
    pub(crate) source: Operand,
    pub(crate) memory: MemoryOperand,
    pub(crate) address_size: AddressSize,
    /// In bytes, 1 to 15.
    pub(crate) length: u8,
}
