//! The forms of instructions that are tried.
//!
//! Source: SDM Vol. 2D, "Opcode Map".

/// What follows the operands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::programs) enum Immediate {
    /// Nothing.
    None,
    /// A byte.
    Byte,
    /// Two or four bytes, by the operand size.
    Full,
}

/// What is in the register field of the ModR/M byte.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::programs) enum Field {
    /// A general-purpose register.
    Register,
    /// A byte register.
    ByteRegister,
    /// A segment register.
    Segment,
    /// A vector register.
    Vector,
    /// More of the opcode.
    Digit(u8),
}

/// Which sizes an instruction has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::programs) enum Sizes {
    /// One: no size prefix means anything.
    One,
    /// Two, four and eight bytes, by 66H and REX.W.
    All,
    /// Four and eight bytes, by REX.W.
    NoWord,
}

/// How an instruction finds its memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::programs) enum Memory {
    /// By ModR/M.
    Operand,
    /// By ModR/M, and by the bit offset in the register field.
    BitString,
    /// By an address in the instruction.
    Absolute,
    /// By (R)SI and (R)DI.
    String,
}

/// A form.
#[derive(Clone, Copy)]
pub(in crate::programs) struct Form {
    /// A prefix that is part of the opcode, or 0.
    pub(in crate::programs) prefix: u8,
    /// VEX in place of a legacy prefix: its two-byte form's last byte without the inverted bits of the register field.
    pub(in crate::programs) vex: Option<u8>,
    pub(in crate::programs) opcode: &'static [u8],
    pub(in crate::programs) field: Field,
    pub(in crate::programs) immediate: Immediate,
    pub(in crate::programs) sizes: Sizes,
    pub(in crate::programs) memory: Memory,
    /// Whether LOCK may stand before it.
    pub(in crate::programs) lock: bool,
    /// The bytes of an operand without size prefixes.
    pub(in crate::programs) bytes: u8,
    /// Whether it is there in 64-bit mode alone.
    pub(in crate::programs) only_64: bool,
    /// Flags that it leaves undefined.
    pub(in crate::programs) undefined: u64,
}

pub(in crate::programs) const CF: u64 = 1;
pub(in crate::programs) const PF: u64 = 1 << 2;
pub(in crate::programs) const AF: u64 = 1 << 4;
pub(in crate::programs) const ZF: u64 = 1 << 6;
pub(in crate::programs) const SF: u64 = 1 << 7;
pub(in crate::programs) const OF: u64 = 1 << 11;

const fn op(opcode: &'static [u8]) -> Form {
    Form {
        prefix: 0,
        vex: None,
        opcode,
        field: Field::Register,
        immediate: Immediate::None,
        sizes: Sizes::All,
        memory: Memory::Operand,
        lock: false,
        bytes: 4,
        only_64: false,
        undefined: 0,
    }
}

impl Form {
    const fn byte(self) -> Self {
        let field = match self.field {
            Field::Register => Field::ByteRegister,
            other => other,
        };
        Self { field, sizes: Sizes::One, bytes: 1, ..self }
    }

    const fn digit(self, digit: u8) -> Self {
        Self { field: Field::Digit(digit), ..self }
    }

    const fn imm8(self) -> Self {
        Self { immediate: Immediate::Byte, ..self }
    }

    const fn imm(self) -> Self {
        Self { immediate: Immediate::Full, ..self }
    }

    const fn lock(self) -> Self {
        Self { lock: true, ..self }
    }

    const fn sizes(self, sizes: Sizes) -> Self {
        Self { sizes, ..self }
    }

    const fn undefined(self, undefined: u64) -> Self {
        Self { undefined, ..self }
    }

    const fn memory(self, memory: Memory) -> Self {
        Self { memory, ..self }
    }

    const fn prefix(self, prefix: u8) -> Self {
        Self { prefix, ..self }
    }

    const fn only_64(self) -> Self {
        Self { only_64: true, ..self }
    }

    const fn segment(self) -> Self {
        Self { field: Field::Segment, ..self.sizes(Sizes::One).sized(2) }
    }

    const fn sized(self, bytes: u8) -> Self {
        Self { bytes, ..self }
    }
}

const fn vector(prefix: u8, opcode: &'static [u8], bytes: u8) -> Form {
    Form { field: Field::Vector, ..op(opcode).sizes(Sizes::One).sized(bytes).prefix(prefix) }
}

const fn avx(vex: u8, opcode: &'static [u8], bytes: u8) -> Form {
    Form { vex: Some(vex), ..vector(0, opcode, bytes) }
}

/// What shifts by more than one leave undefined; rotations do not touch the others of these.
const SHIFT: u64 = AF | OF;
const PRODUCT: u64 = SF | ZF | AF | PF;
const ALL: u64 = CF | PF | AF | ZF | SF | OF;
const BIT: u64 = OF | SF | AF | PF;

/// All of them.
pub(in crate::programs) const FORMS: &[Form] = &[
    // Arithmetic and logic.
    op(&[0x00]).byte().lock(),
    op(&[0x01]).lock(),
    op(&[0x02]).byte(),
    op(&[0x03]),
    op(&[0x08]).byte().lock().undefined(AF),
    op(&[0x09]).lock().undefined(AF),
    op(&[0x0a]).byte().undefined(AF),
    op(&[0x0b]).undefined(AF),
    op(&[0x10]).byte().lock(),
    op(&[0x11]).lock(),
    op(&[0x12]).byte(),
    op(&[0x13]),
    op(&[0x18]).byte().lock(),
    op(&[0x19]).lock(),
    op(&[0x1a]).byte(),
    op(&[0x1b]),
    op(&[0x20]).byte().lock().undefined(AF),
    op(&[0x21]).lock().undefined(AF),
    op(&[0x22]).byte().undefined(AF),
    op(&[0x23]).undefined(AF),
    op(&[0x28]).byte().lock(),
    op(&[0x29]).lock(),
    op(&[0x2a]).byte(),
    op(&[0x2b]),
    op(&[0x30]).byte().lock().undefined(AF),
    op(&[0x31]).lock().undefined(AF),
    op(&[0x32]).byte().undefined(AF),
    op(&[0x33]).undefined(AF),
    op(&[0x38]).byte(),
    op(&[0x39]),
    op(&[0x3a]).byte(),
    op(&[0x3b]),
    op(&[0x80]).byte().digit(0).imm8().lock(),
    op(&[0x80]).byte().digit(2).imm8().lock(),
    op(&[0x80]).byte().digit(3).imm8().lock(),
    op(&[0x80]).byte().digit(5).imm8().lock(),
    op(&[0x80]).byte().digit(7).imm8(),
    op(&[0x80]).byte().digit(4).imm8().lock().undefined(AF),
    op(&[0x81]).digit(0).imm().lock(),
    op(&[0x81]).digit(1).imm().lock().undefined(AF),
    op(&[0x81]).digit(2).imm().lock(),
    op(&[0x81]).digit(3).imm().lock(),
    op(&[0x81]).digit(4).imm().lock().undefined(AF),
    op(&[0x81]).digit(5).imm().lock(),
    op(&[0x81]).digit(6).imm().lock().undefined(AF),
    op(&[0x81]).digit(7).imm(),
    op(&[0x83]).digit(0).imm8().lock(),
    op(&[0x83]).digit(1).imm8().lock().undefined(AF),
    op(&[0x83]).digit(2).imm8().lock(),
    op(&[0x83]).digit(3).imm8().lock(),
    op(&[0x83]).digit(4).imm8().lock().undefined(AF),
    op(&[0x83]).digit(5).imm8().lock(),
    op(&[0x83]).digit(6).imm8().lock().undefined(AF),
    op(&[0x83]).digit(7).imm8(),
    op(&[0x84]).byte().undefined(AF),
    op(&[0x85]).undefined(AF),
    op(&[0xf6]).byte().digit(0).imm8().undefined(AF),
    op(&[0xf7]).digit(0).imm().undefined(AF),
    op(&[0xf6]).byte().digit(2).lock(),
    op(&[0xf7]).digit(2).lock(),
    op(&[0xf6]).byte().digit(3).lock(),
    op(&[0xf7]).digit(3).lock(),
    op(&[0xfe]).byte().digit(0).lock(),
    op(&[0xff]).digit(0).lock(),
    op(&[0xfe]).byte().digit(1).lock(),
    op(&[0xff]).digit(1).lock(),
    // Multiplication and division.
    op(&[0xf6]).byte().digit(4).undefined(PRODUCT),
    op(&[0xf7]).digit(4).undefined(PRODUCT),
    op(&[0xf6]).byte().digit(5).undefined(PRODUCT),
    op(&[0xf7]).digit(5).undefined(PRODUCT),
    op(&[0xf6]).byte().digit(6).undefined(ALL),
    op(&[0xf7]).digit(6).undefined(ALL),
    op(&[0xf6]).byte().digit(7).undefined(ALL),
    op(&[0xf7]).digit(7).undefined(ALL),
    op(&[0x0f, 0xaf]).undefined(PRODUCT),
    op(&[0x6b]).imm8().undefined(PRODUCT),
    op(&[0x69]).imm().undefined(PRODUCT),
    // Moves.
    op(&[0x88]).byte(),
    op(&[0x89]),
    op(&[0x8a]).byte(),
    op(&[0x8b]),
    op(&[0x8c]).segment(),
    op(&[0xc6]).byte().digit(0).imm8(),
    op(&[0xc7]).digit(0).imm(),
    op(&[0xa0]).byte().memory(Memory::Absolute),
    op(&[0xa1]).memory(Memory::Absolute),
    op(&[0xa2]).byte().memory(Memory::Absolute),
    op(&[0xa3]).memory(Memory::Absolute),
    op(&[0x0f, 0xb6]).sized(1),
    op(&[0x0f, 0xb7]).sized(2),
    op(&[0x0f, 0xbe]).sized(1),
    op(&[0x0f, 0xbf]).sized(2),
    op(&[0x63]).only_64(),
    op(&[0x0f, 0xc3]).sizes(Sizes::NoWord),
    op(&[0x0f, 0x38, 0xf0]),
    op(&[0x0f, 0x38, 0xf1]),
    op(&[0x0f, 0x40]),
    op(&[0x0f, 0x43]),
    op(&[0x0f, 0x44]),
    op(&[0x0f, 0x47]),
    op(&[0x0f, 0x48]),
    op(&[0x0f, 0x4b]),
    op(&[0x0f, 0x4c]),
    op(&[0x0f, 0x4f]),
    op(&[0x0f, 0x91]).byte().digit(0),
    op(&[0x0f, 0x92]).byte().digit(0),
    op(&[0x0f, 0x95]).byte().digit(0),
    op(&[0x0f, 0x96]).byte().digit(0),
    op(&[0x0f, 0x99]).byte().digit(0),
    op(&[0x0f, 0x9a]).byte().digit(0),
    op(&[0x0f, 0x9d]).byte().digit(0),
    op(&[0x0f, 0x9e]).byte().digit(0),
    op(&[0xff]).digit(6),
    op(&[0x8f]).digit(0),
    // Exchanges.
    op(&[0x86]).byte().lock(),
    op(&[0x87]).lock(),
    op(&[0x0f, 0xb0]).byte().lock(),
    op(&[0x0f, 0xb1]).lock(),
    op(&[0x0f, 0xc0]).byte().lock(),
    op(&[0x0f, 0xc1]).lock(),
    op(&[0x0f, 0xc7]).digit(1).lock().sizes(Sizes::NoWord).sized(8),
    // Shifts.
    op(&[0xc0]).byte().digit(0).imm8().undefined(OF),
    op(&[0xc1]).digit(1).imm8().undefined(OF),
    op(&[0xd0]).byte().digit(2),
    op(&[0xd1]).digit(3),
    op(&[0xd1]).digit(0),
    op(&[0xd3]).digit(0).undefined(OF),
    op(&[0xd2]).byte().digit(1).undefined(OF),
    op(&[0xd2]).byte().digit(2).undefined(OF),
    op(&[0xd3]).digit(2).undefined(OF),
    op(&[0xd3]).digit(3).undefined(OF),
    op(&[0xc0]).byte().digit(3).imm8().undefined(OF),
    op(&[0xd0]).byte().digit(4).undefined(AF),
    op(&[0xd1]).digit(5).undefined(AF),
    op(&[0xd1]).digit(7).undefined(AF),
    op(&[0xc1]).digit(4).imm8().undefined(SHIFT),
    op(&[0xc1]).digit(5).imm8().undefined(SHIFT),
    op(&[0xc1]).digit(6).imm8().undefined(SHIFT),
    op(&[0xc1]).digit(7).imm8().undefined(SHIFT),
    op(&[0xd3]).digit(4).undefined(SHIFT),
    op(&[0xd3]).digit(5).undefined(SHIFT),
    op(&[0xd3]).digit(7).undefined(SHIFT),
    op(&[0x0f, 0xa4]).imm8().undefined(SHIFT),
    op(&[0x0f, 0xa5]).undefined(SHIFT),
    op(&[0x0f, 0xac]).imm8().undefined(SHIFT),
    op(&[0x0f, 0xad]).undefined(SHIFT),
    // Bits.
    op(&[0x0f, 0xa3]).memory(Memory::BitString).undefined(BIT),
    op(&[0x0f, 0xab]).memory(Memory::BitString).lock().undefined(BIT),
    op(&[0x0f, 0xb3]).memory(Memory::BitString).lock().undefined(BIT),
    op(&[0x0f, 0xbb]).memory(Memory::BitString).lock().undefined(BIT),
    op(&[0x0f, 0xba]).digit(4).imm8().undefined(BIT),
    op(&[0x0f, 0xba]).digit(5).imm8().lock().undefined(BIT),
    op(&[0x0f, 0xba]).digit(6).imm8().lock().undefined(BIT),
    op(&[0x0f, 0xba]).digit(7).imm8().lock().undefined(BIT),
    op(&[0x0f, 0xbc]).undefined(ALL - ZF),
    op(&[0x0f, 0xbd]).undefined(ALL - ZF),
    // Strings.
    op(&[0xa4]).byte().memory(Memory::String),
    op(&[0xa5]).memory(Memory::String),
    op(&[0xa6]).byte().memory(Memory::String),
    op(&[0xa7]).memory(Memory::String),
    op(&[0xaa]).byte().memory(Memory::String),
    op(&[0xab]).memory(Memory::String),
    op(&[0xac]).byte().memory(Memory::String),
    op(&[0xad]).memory(Memory::String),
    op(&[0xae]).byte().memory(Memory::String),
    op(&[0xaf]).memory(Memory::String),
    // SSE.
    vector(0, &[0x0f, 0x10], 16),
    vector(0, &[0x0f, 0x11], 16),
    vector(0x66, &[0x0f, 0x10], 16),
    vector(0x66, &[0x0f, 0x11], 16),
    vector(0xf3, &[0x0f, 0x10], 4),
    vector(0xf3, &[0x0f, 0x11], 4),
    vector(0xf2, &[0x0f, 0x10], 8),
    vector(0xf2, &[0x0f, 0x11], 8),
    vector(0, &[0x0f, 0x12], 8),
    vector(0, &[0x0f, 0x13], 8),
    vector(0, &[0x0f, 0x16], 8),
    vector(0, &[0x0f, 0x17], 8),
    vector(0x66, &[0x0f, 0x12], 8),
    vector(0x66, &[0x0f, 0x17], 8),
    vector(0, &[0x0f, 0x28], 16),
    vector(0, &[0x0f, 0x29], 16),
    vector(0x66, &[0x0f, 0x28], 16),
    vector(0x66, &[0x0f, 0x29], 16),
    vector(0, &[0x0f, 0x2b], 16),
    vector(0x66, &[0x0f, 0x2b], 16),
    vector(0x66, &[0x0f, 0x6e], 4),
    vector(0x66, &[0x0f, 0x7e], 4),
    vector(0x66, &[0x0f, 0x6f], 16),
    vector(0x66, &[0x0f, 0x7f], 16),
    vector(0xf3, &[0x0f, 0x6f], 16),
    vector(0xf3, &[0x0f, 0x7f], 16),
    vector(0xf3, &[0x0f, 0x7e], 8),
    vector(0x66, &[0x0f, 0xd6], 8),
    vector(0x66, &[0x0f, 0xe7], 16),
    vector(0xf2, &[0x0f, 0xf0], 16),
    vector(0x66, &[0x0f, 0x38, 0x2a], 16),
    // AVX, by the two-byte prefix: 78H is that of 16 bytes without a legacy prefix, 7CH of 32.
    avx(0x78, &[0x10], 16),
    avx(0x7c, &[0x10], 32),
    avx(0x78, &[0x11], 16),
    avx(0x7c, &[0x11], 32),
    avx(0x7a, &[0x10], 4),
    avx(0x7a, &[0x11], 4),
    avx(0x7b, &[0x10], 8),
    avx(0x7b, &[0x11], 8),
    avx(0x78, &[0x28], 16),
    avx(0x7c, &[0x28], 32),
    avx(0x7c, &[0x29], 32),
    avx(0x7c, &[0x2b], 32),
    avx(0x79, &[0x6f], 16),
    avx(0x7d, &[0x6f], 32),
    avx(0x7d, &[0x7f], 32),
    avx(0x7e, &[0x6f], 32),
    avx(0x7e, &[0x7f], 32),
    avx(0x7a, &[0x7e], 8),
    avx(0x79, &[0xd6], 8),
    avx(0x7d, &[0xe7], 32),
    avx(0x79, &[0x6e], 4),
    avx(0x79, &[0x7e], 4),
    avx(0x7f, &[0xf0], 32),
    avx(0x78, &[0x13], 8),
    avx(0x79, &[0x17], 8),
    avx(0x68, &[0x12], 8),
    avx(0x60, &[0x16], 8),
];
