//! Makes up instructions and the states in which they run.

use super::forms::{FORMS, Field, Form, Immediate, Memory, Sizes};
use crate::machine::trial::{Bits, CODE, RSP, Registers, Ring, STACK_POINTER, WINDOW, WINDOW_BYTES};
use crate::programs::random::Random;

/// The longest instruction.
pub(in crate::programs) const LONGEST: usize = 15;

/// An instruction.
#[derive(Clone, Copy)]
pub(in crate::programs) struct Code {
    bytes: [u8; LONGEST + 1],
    length: usize,
}

impl Code {
    pub(in crate::programs) const fn new() -> Self {
        Self { bytes: [0; LONGEST + 1], length: 0 }
    }

    pub(in crate::programs) fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    pub(in crate::programs) fn extend(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.push(*byte);
        }
    }

    /// Its bytes.
    pub(in crate::programs) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// One case.
pub(in crate::programs) struct Case {
    pub(in crate::programs) code: Code,
    /// Where it stands in the code pages.
    pub(in crate::programs) offset: usize,
    pub(in crate::programs) bits: Bits,
    pub(in crate::programs) ring: Ring,
    pub(in crate::programs) rflags: u64,
    pub(in crate::programs) registers: Registers,
    /// Flags that the instruction leaves undefined.
    pub(in crate::programs) undefined: u64,
    /// Whether vector registers matter.
    pub(in crate::programs) vectors: bool,
    /// Where it touches memory.
    pub(in crate::programs) first: Operand,
    /// Where else.
    pub(in crate::programs) second: Option<Operand>,
    /// What FS or GS has to begin at, if the instruction has a prefix for it.
    pub(in crate::programs) base: Option<(Override, u64)>,
}

/// A prefix that means something in 64-bit mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::programs) enum Override {
    Fs,
    Gs,
}

/// Whether there are such prefixes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Overrides {
    None,
    Some,
}

/// An operand in memory.
#[derive(Clone, Copy)]
pub(in crate::programs) struct Operand {
    /// Its linear address.
    pub(in crate::programs) target: u64,
    /// How many bytes below and above that the instruction may reach.
    pub(in crate::programs) before: u64,
    pub(in crate::programs) after: u64,
}

impl Case {
    /// Its operands in memory.
    pub(in crate::programs) fn operands(&self) -> impl Iterator<Item = Operand> {
        [Some(self.first), self.second].into_iter().flatten()
    }
}

/// What the processor has.
#[derive(Clone, Copy)]
pub(in crate::programs) struct Features {
    pub(in crate::programs) avx: bool,
    pub(in crate::programs) movbe: bool,
    pub(in crate::programs) cmpxchg16b: bool,
}

const RCX: usize = 1;
const RSI: usize = 6;
const RDI: usize = 7;
const CARRY_TO_OVERFLOW: u64 = 0x8d5;
const DIRECTION: u64 = 1 << 10;
const TRAP: u64 = 1 << 8;
const RESUME: u64 = 1 << 16;
const ALIGNMENT: u64 = 1 << 18;

/// Makes up a case.
pub(in crate::programs) fn case(random: &mut Random, features: Features) -> Case {
    let form = loop {
        let form = &FORMS[pick(random, FORMS.len())];
        let has = |wanted: bool, is: bool| !wanted || is;
        if has(form.vex.is_some(), features.avx)
            && has(matches!(form.opcode, [0x0f, 0x38, 0xf0 | 0xf1]), features.movbe)
        {
            break form;
        }
    };
    let bits = if form.only_64 || random.below(3) != 0 { Bits::SixtyFour } else { Bits::ThirtyTwo };
    let ring = if random.below(2) == 0 { Ring::Kernel } else { Ring::User };
    of_form(random, features, form, (bits, Overrides::None), ring)
}

/// Makes up a case of 64-bit mode.
pub(in crate::programs) fn long_case(
    random: &mut Random,
    features: Features,
    form: &Form,
    ring: Ring,
) -> Case {
    of_form(random, features, form, (Bits::SixtyFour, Overrides::Some), ring)
}

fn of_form(
    random: &mut Random,
    features: Features,
    form: &Form,
    (bits, overrides): (Bits, Overrides),
    ring: Ring,
) -> Case {
    let mut builder = Builder::new(random, form, bits, features);
    builder.build(overrides);
    let Builder { code, registers, targets, offset, base, .. } = builder;
    let mut rflags = 2 | random.next() & (CARRY_TO_OVERFLOW | DIRECTION);
    if random.below(6) == 0 {
        rflags |= ALIGNMENT;
    }
    if random.below(16) == 0 {
        rflags |= TRAP;
    }
    if random.below(8) == 0 {
        rflags |= RESUME;
    }
    let vectors = form.field == Field::Vector;
    let [first, second] = targets.map(|target| match form.memory {
        // Bit offsets of 800 and strings of 11 words, either way.
        Memory::BitString | Memory::String => Operand { target, before: 104, after: 112 },
        Memory::Operand | Memory::Absolute => {
            Operand { target, before: 8, after: u64::from(form.bytes).max(16) + 7 }
        }
    });
    let second = (form.memory == Memory::String).then_some(second);
    let undefined = form.undefined;
    Case { code, offset, bits, ring, rflags, registers, undefined, vectors, first, second, base }
}

pub(in crate::programs) fn pick(random: &mut Random, count: usize) -> usize {
    usize::try_from(random.below(count as u64)).unwrap_or(0)
}

pub(in crate::programs) fn byte(random: &mut Random) -> u8 {
    random.next().to_le_bytes()[3]
}

/// Values with long runs of equal bits more often than chance.
pub(in crate::programs) fn value(random: &mut Random) -> u64 {
    let value = random.next();
    match random.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << (value & 63),
        3 => (1 << (value & 63)) - 1,
        4 => value & 0xff,
        5 => value | 0xffff_ffff_8000_0000,
        _ => value,
    }
}

struct Builder<'a> {
    random: &'a mut Random,
    form: &'a Form,
    bits: Bits,
    features: Features,
    code: Code,
    registers: Registers,
    targets: [u64; 2],
    /// Where it stands in the code pages.
    offset: usize,
    /// Where a displacement relative to RIP is, and what it leads to.
    relative: Option<(usize, u64)>,
    /// What FS or GS begins at, if it is used.
    base: Option<(Override, u64)>,
}

impl<'a> Builder<'a> {
    fn new(random: &'a mut Random, form: &'a Form, bits: Bits, features: Features) -> Self {
        let mut registers: Registers = core::array::from_fn(|_| value(random));
        registers[RSP] = STACK_POINTER;
        let code = Code::new();
        // Now and then across two pages.
        let offset = match random.below(8) {
            0 => 0x1000 - pick(random, 16),
            _ => pick(random, 0x1000 - LONGEST),
        };
        Self {
            random,
            form,
            bits,
            features,
            code,
            registers,
            targets: [WINDOW; 2],
            offset,
            relative: None,
            base: None,
        }
    }

    /// The address of `target` in the segment that is used.
    fn in_segment(&self, target: u64) -> u64 {
        target.wrapping_sub(self.base.map_or(0, |(_, base)| base))
    }

    fn chance(&mut self, of: u64) -> bool {
        self.random.below(of) == 0
    }

    fn long(&self) -> bool {
        self.bits == Bits::SixtyFour
    }

    /// A linear address for an operand: in the window, across its pages, or at its edges.
    fn target(&mut self) -> u64 {
        let offset = match self.random.below(8) {
            0 => 0x1000_u64.wrapping_sub(self.random.below(32)),
            1 => WINDOW_BYTES - 1 - self.random.below(40),
            2 if self.chance(4) => 0_u64.wrapping_sub(self.random.below(16)),
            3 | 4 => self.random.below(WINDOW_BYTES - 64) & !31,
            _ => self.random.below(WINDOW_BYTES - 64),
        };
        WINDOW.wrapping_add(offset)
    }

    fn build(&mut self, overrides: Overrides) {
        let form = *self.form;
        let wide = self.long() && form.sizes != Sizes::One && self.chance(3);
        // A pair of 16 bytes is another instruction.
        let wide = wide && (form.opcode != [0x0f, 0xc7] || self.features.cmpxchg16b);
        let narrow = form.sizes == Sizes::All && self.chance(4);
        let short_address = self.long() && self.chance(6);
        if short_address {
            self.code.push(0x67);
        }
        if narrow {
            self.code.push(0x66);
        }
        if form.lock && self.chance(2) {
            self.code.push(0xf0);
        }
        if form.memory == Memory::String {
            match self.random.below(3) {
                0 => self.code.push(0xf2),
                1 => self.code.push(0xf3),
                _ => {}
            }
        }
        if overrides == Overrides::Some && self.long() && self.chance(5) {
            let (prefix, register) = if self.chance(2) { (0x64, Override::Fs) } else { (0x65, Override::Gs) };
            self.code.push(prefix);
            // So near that displacements reach.
            self.base = Some((register, self.random.below(1 << 30)));
        }
        if form.prefix != 0 {
            self.code.push(form.prefix);
        }
        match form.memory {
            Memory::String => self.string(wide, short_address),
            Memory::Absolute => self.absolute(wide, short_address),
            Memory::Operand | Memory::BitString => self.operand(wide, short_address),
        }
        match form.immediate {
            Immediate::None => {}
            Immediate::Byte => {
                let immediate = byte(self.random);
                self.code.push(immediate);
            }
            Immediate::Full => {
                let immediate = value(self.random).to_le_bytes();
                self.code.extend(&immediate[..if narrow && !wide { 2 } else { 4 }]);
            }
        }
        self.finish_relative();
        if self.bits == Bits::ThirtyTwo {
            for register in &mut self.registers {
                *register &= 0xffff_ffff;
            }
        }
    }

    fn string(&mut self, wide: bool, short_address: bool) {
        if wide {
            self.code.push(0x48);
        }
        self.code.extend(self.form.opcode);
        let (from, to) = (self.target(), self.target());
        // Bochs moves the elements of a repeated MOVS byte by byte, which shows if they overlap by less than one.
        let overlap = from != to && from.abs_diff(to) < 8;
        self.targets = [from, if overlap { to ^ 0x20 } else { to }];
        let junk = if short_address { self.random.next() << 32 } else { 0 };
        self.registers[RSI] = self.in_segment(self.targets[0]) | junk;
        self.registers[RDI] = self.targets[1] | junk;
        self.registers[RCX] = self.random.below(12) | junk;
    }

    fn absolute(&mut self, wide: bool, short_address: bool) {
        if wide {
            self.code.push(0x48);
        }
        self.code.extend(self.form.opcode);
        let target = self.target();
        self.targets = [target; 2];
        let target = self.in_segment(target);
        let length = if self.long() && !short_address { 8 } else { 4 };
        self.code.extend(&target.to_le_bytes()[..length]);
    }

    /// The number of the register field: any but RSP, where that would be changed.
    fn field(&mut self, extended: bool) -> u8 {
        loop {
            let number = byte(self.random) & if extended { 15 } else { 7 };
            let fits = match self.form.field {
                Field::Digit(digit) => return digit,
                Field::Segment => number < 6,
                Field::Vector => number < 8,
                Field::Register | Field::ByteRegister => number != 4,
            };
            if fits {
                return number;
            }
        }
    }

    /// A register for an address: any but RSP and those that are `taken`.
    fn address_register(&mut self, taken: [u8; 2]) -> u8 {
        loop {
            let number = byte(self.random) & if self.long() { 15 } else { 7 };
            if number != 4 && !taken.contains(&number) {
                return number;
            }
        }
    }

    /// Prefixes with register bits, opcode, ModR/M, SIB and displacement.
    fn operand(&mut self, wide: bool, short_address: bool) {
        let form = *self.form;
        let long = self.long();
        let field = self.field(long);
        let taken = if form.memory == Memory::BitString { field } else { 4 };
        let base = self.address_register([taken, 4]);
        let index = self.address_register([taken, base]);
        let (base, index) = match self.random.below(8) {
            0 => (None, Some(index)),
            1 => (None, None),
            2 | 3 => (Some(base), Some(index)),
            _ => (Some(base), None),
        };
        let target = self.target();
        // Neither a displacement alone nor one relative to RIP reaches far.
        let far = long && !short_address && base.is_some() && self.chance(40);
        let target = if far { target | 1 << 60 } else { target };
        self.targets = [target; 2];
        if let Some((_, start)) = &mut self.base
            && base.is_some()
            && !short_address
        {
            // A register reaches everywhere, and the sum goes round.
            *start = (self.random.next().cast_signed() >> 16).cast_unsigned();
        }
        let target = self.in_segment(target);
        if form.memory == Memory::BitString {
            self.registers[usize::from(field)] = self.random.below(1600).wrapping_sub(800);
        }

        let high = |register: Option<u8>, bit: u8| register.map_or(0, |register| (register >> 3) * bit);
        let rex = if wide { 8 } else { 0 } | high(Some(field), 4) | high(index, 2) | high(base, 1);
        match form.vex {
            // The three-byte form, which has all register bits, inverted.
            Some(vex) => self.code.extend(&[0xc4, !(rex << 5) & 0xe0 | 1, vex]),
            None if long && (rex != 0 || self.chance(4)) => self.code.push(0x40 | rex),
            None => {}
        }
        self.code.extend(form.opcode);

        let junk = if short_address { self.random.next() << 32 } else { 0 };
        let scale = byte(self.random) & 3;
        let short = i64::from(byte(self.random).cast_signed()).cast_unsigned();
        let (mode, displacement) = match self.random.below(3) {
            // RBP and R13 as a base have always a displacement.
            0 => (u8::from(base.is_some_and(|base| base & 7 == 5)), 0),
            1 => (1, short),
            _ => (2, short << 8),
        };
        let field = (field & 7) << 3;
        match (base, index) {
            (Some(base), None) => {
                self.registers[usize::from(base)] = target.wrapping_sub(displacement) ^ junk;
                self.code.push(mode << 6 | field | base & 7);
                if base & 7 == 4 {
                    self.code.push(0x24);
                }
                self.displacement(mode, displacement);
            }
            (Some(base), Some(index)) => {
                let small = self.random.below(0x1000);
                self.registers[usize::from(index)] = small ^ junk;
                let rest = target.wrapping_sub(displacement).wrapping_sub(small << scale);
                self.registers[usize::from(base)] = rest ^ junk;
                self.code.push(mode << 6 | field | 4);
                self.code.push(scale << 6 | (index & 7) << 3 | base & 7);
                self.displacement(mode, displacement);
            }
            (None, Some(index)) => {
                self.registers[usize::from(index)] = target.wrapping_sub(displacement) ^ junk;
                self.code.extend(&[field | 4, (index & 7) << 3 | 5]);
                self.displacement(2, displacement);
            }
            (None, None) if long && !short_address => {
                self.code.push(field | 5);
                self.relative = Some((self.code.length, target));
                self.displacement(2, 0);
            }
            (None, None) => {
                self.code.push(if long { field | 4 } else { field | 5 });
                if long {
                    self.code.push(0x25);
                }
                self.displacement(2, target);
            }
        }
    }

    fn displacement(&mut self, mode: u8, value: u64) {
        let value = value.to_le_bytes();
        match mode {
            0 => {}
            1 => self.code.push(value[0]),
            _ => self.code.extend(&value[..4]),
        }
    }

    /// Fills in a displacement relative to RIP, now that the instruction's length is known.
    fn finish_relative(&mut self) {
        if let Some((at, target)) = self.relative {
            let next = CODE + self.offset as u64 + self.code.length as u64;
            let value = target.wrapping_sub(next).to_le_bytes();
            self.code.bytes[at..at + 4].copy_from_slice(&value[..4]);
        }
    }
}
