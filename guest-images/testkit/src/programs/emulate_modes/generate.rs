//! Makes up instructions of 16-bit and 32-bit code, and the segments that they go through.

use super::surroundings::{Plan, Width};
use crate::machine::arena::{CS, DS, ES, FS, GS, Paging, SS, Segment, World, code_base, stack_base, window};
use crate::machine::trial::{RSP, Registers, Ring, WINDOW_BYTES};
use crate::programs::emulate_diff::forms::{Field, Form, Immediate, Memory, Sizes};
use crate::programs::emulate_diff::generate::{Code, LONGEST, Operand, byte, pick, value};
use crate::programs::random::Random;

const RCX: usize = 1;
const RBX: usize = 3;
const RBP: usize = 5;
const RSI: usize = 6;
const RDI: usize = 7;

/// Rights of a descriptor: present, with S; the type and the level are to be added.
const PRESENT: u8 = 0x90;
/// Types, accessed.
const READ_WRITE: u8 = 3;
const READ_ONLY: u8 = 1;
const DOWN: u8 = 7;
const DOWN_READ_ONLY: u8 = 5;
const CODE_READABLE: u8 = 0xb;
const CODE_ONLY: u8 = 9;

/// An instruction, and what it needs.
pub(super) struct Made {
    pub(super) code: Code,
    pub(super) offset: usize,
    pub(super) eip: u64,
    pub(super) registers: Registers,
    pub(super) segments: [Segment; 6],
    /// Which segments follow the window where there is no paging.
    pub(super) follows: [bool; 6],
    /// First and second operand, and what the stack pointer leads to.
    pub(super) operands: [Option<Operand>; 3],
}

/// Makes one up.
pub(super) fn make(random: &mut Random, plan: &Plan, form: &Form) -> Made {
    let mut maker = Maker::new(random, plan, form);
    maker.build();
    maker.made
}

struct Maker<'a> {
    random: &'a mut Random,
    plan: &'a Plan,
    form: &'a Form,
    made: Made,
    /// Segments whose base is decided.
    fixed: [bool; 6],
    short_address: bool,
    level: u8,
    user: bool,
}

impl<'a> Maker<'a> {
    fn new(random: &'a mut Random, plan: &'a Plan, form: &'a Form) -> Self {
        let user = plan.ring() == Ring::User;
        let level = if user && plan.world != World::Virtual8086 { 0x60 } else { 0 };
        let flat =
            |kind: u8| Segment { base: 0, limit: 0xffff_ffff, rights: PRESENT | level | kind, big: true };
        let made = Made {
            code: Code::new(),
            offset: match random.below(8) {
                0 => 0x1000 - pick(random, 16),
                _ => pick(random, 0x1000 - LONGEST),
            },
            eip: 0,
            registers: core::array::from_fn(|_| value(random) & 0xffff_ffff),
            segments: [flat(READ_WRITE); 6],
            follows: [false; 6],
            operands: [None; 3],
        };
        Self { random, plan, form, made, fixed: [false; 6], short_address: false, level, user }
    }

    fn chance(&mut self, of: u64) -> bool {
        self.random.below(of) == 0
    }

    fn protected(&self) -> bool {
        matches!(self.plan.world, World::Protected(_) | World::Compatible(_))
    }

    /// A linear address for an operand: anywhere in the window, across its pages, or at its edges; where nothing keeps
    /// the instruction in, well inside.
    fn target(&mut self) -> u64 {
        let margin = 0x100;
        let offset = if self.plan.contained() {
            margin + self.random.below(WINDOW_BYTES - 2 * margin)
        } else {
            match self.random.below(8) {
                0 | 1 => 0x1000_u64.wrapping_sub(self.random.below(32)),
                2 => WINDOW_BYTES - 1 - self.random.below(40),
                3 if self.chance(4) => 0_u64.wrapping_sub(self.random.below(16)),
                4 => self.random.below(WINDOW_BYTES - 64) & !31,
                _ => self.random.below(WINDOW_BYTES - 64),
            }
        };
        window(self.plan.world).wrapping_add(offset)
    }

    /// The offset by which `target` is reached in `register`, whose base is chosen now if it is free. `None` if an
    /// address of 16 bits does not reach.
    fn reach(&mut self, register: usize, target: u64, wraps: bool) -> Option<u64> {
        if self.fixed[register] {
            let offset = target.wrapping_sub(self.made.segments[register].base) & 0xffff_ffff;
            return (!self.short_address || offset <= 0xffff).then_some(offset);
        }
        self.fixed[register] = true;
        let low = self.plan.world == World::Virtual8086;
        let small = self.short_address || low || self.chance(3);
        let offset = if self.plan.contained() && wraps {
            // From here all of the window is reached, as far as strings go.
            0x2100 + self.random.below(0xbc00)
        } else if small {
            match self.random.below(6) {
                0 => 0xffff - self.random.below(40),
                1 => self.random.below(40),
                _ => self.random.below(0x1_0000),
            }
        } else {
            match self.random.below(4) {
                0 => self.random.below(0x10_0000),
                1 => 0_u64.wrapping_sub(self.random.below(0x1000)) & 0xffff_ffff,
                _ => self.random.next() & 0xffff_ffff,
            }
        };
        if low {
            let offset = if self.runs_on() && offset > 0xff00 { offset - 0x200 } else { offset };
            let offset = offset.min(target) & !15 | target & 15;
            self.made.segments[register] = low_segment(target - offset);
            return Some(offset);
        }
        let base = target.wrapping_sub(offset) & 0xffff_ffff;
        self.made.follows[register] = self.plan.paging == Paging::Off;
        let is_stack = register == SS;
        self.made.segments[register] = self.segment(base, offset, is_stack);
        Some(offset)
    }

    /// A segment with that base; its limit is anything, often near `offset`.
    fn segment(&mut self, base: u64, offset: u64, is_stack: bool) -> Segment {
        let mut kind = READ_WRITE;
        if self.protected() {
            kind = match self.random.below(24) {
                0 if !is_stack => READ_ONLY,
                1 if !is_stack => CODE_READABLE,
                2 if !is_stack => DOWN_READ_ONLY,
                3..=7 => DOWN,
                _ => kind,
            };
            if self.chance(32) && !is_stack {
                return Segment { base, limit: 0, rights: 0, big: false };
            }
        }
        let down = matches!(kind, DOWN | DOWN_READ_ONLY);
        let near = offset.wrapping_add(self.random.below(48)).wrapping_sub(24) & 0xffff_ffff;
        let limit = match self.random.below(12) {
            0 | 1 => near,
            2 => self.random.next() & 0xffff_ffff,
            _ if down => offset.saturating_sub(self.random.below(0x8000)),
            3 => 0xffff,
            _ => 0xffff_ffff,
        };
        // What goes in pages is told by them alone.
        let limit = if limit > 0xf_ffff { limit | 0xfff } else { limit };
        let limit = if !self.runs_on() || limit & 0xfff != 0xfff {
            limit
        } else if limit <= 0xf_ffff {
            limit - 1
        } else {
            limit.saturating_add(0x1000).min(0xffff_ffff)
        };
        let big = self.random.below(2) == 0;
        Segment { base, limit, rights: PRESENT | self.level | kind, big }
    }

    /// Whether Bochs may take several elements of a repeated string at once: those of 32-bit addresses up to the end of
    /// the page. It looks for a limit in the last page of a segment by the offset's low bits, not the address's, and so
    /// goes on beyond one if the base is not that of a page. Such limits are kept away from the elements.
    fn runs_on(&self) -> bool {
        self.form.memory == Memory::String && !self.short_address
    }

    fn build(&mut self) {
        let form = *self.form;
        let wide_code = self.plan.width == Width::ThirtyTwo;
        self.code_segment();
        let other_address = self.chance(3);
        let other_operand = form.sizes == Sizes::All && self.chance(3);
        self.short_address = wide_code == other_address;
        self.stack_of_kernel();
        if other_address {
            self.made.code.push(0x67);
        }
        if other_operand {
            self.made.code.push(0x66);
        }
        if form.lock && self.chance(3) {
            self.made.code.push(0xf0);
        }
        if form.memory == Memory::String {
            match self.random.below(3) {
                0 => self.made.code.push(0xf2),
                1 => self.made.code.push(0xf3),
                _ => {}
            }
        }
        match form.memory {
            Memory::String => self.string(),
            Memory::Absolute => self.absolute(),
            Memory::Operand | Memory::BitString if self.short_address => self.narrow_operand(),
            Memory::Operand | Memory::BitString => self.wide_operand(),
        }
        match form.immediate {
            Immediate::None => {}
            Immediate::Byte => {
                let immediate = byte(self.random);
                self.made.code.push(immediate);
            }
            Immediate::Full => {
                let immediate = value(self.random).to_le_bytes();
                let length = if wide_code == other_operand { 2 } else { 4 };
                self.made.code.extend(&immediate[..length]);
            }
        }
        self.stack_of_user();
        for register in [ES, DS, FS, GS] {
            if !self.fixed[register] && self.plan.world == World::Virtual8086 {
                self.made.segments[register] = low_segment(0);
            }
        }
        if self.plan.world != World::Virtual8086 && self.plan.world != World::Real && self.chance(4) {
            // The INT3 behind it is the last byte of the segment, or outside of it, or part of the instruction is; not
            // all, since then it would not be entered.
            let end = self.made.eip + self.made.code.bytes().len() as u64;
            self.made.segments[CS].limit = end.saturating_sub(self.random.below(3)).max(self.made.eip);
        }
    }

    fn code_segment(&mut self) {
        let base = code_base(self.plan.world, self.plan.paging);
        let before = match self.plan.world {
            World::Real | World::Virtual8086 => 0,
            World::Protected(_) | World::Compatible(_) | World::Long(_) => self.random.below(0xc000),
        };
        self.made.eip = before + self.made.offset as u64;
        let kind = if self.chance(3) { CODE_ONLY } else { CODE_READABLE };
        self.fixed[CS] = true;
        self.made.segments[CS] = if self.plan.world == World::Virtual8086 {
            low_segment(base)
        } else {
            Segment {
                base: base - before,
                limit: 0xffff_ffff,
                rights: PRESENT | self.level | kind,
                big: self.plan.width == Width::ThirtyTwo,
            }
        };
    }

    /// Ring 0's exceptions are written to the stack of the instruction, which has to be one.
    fn stack_of_kernel(&mut self) {
        if self.user {
            return;
        }
        let stack = stack_base(self.plan.paging) + 0x800;
        self.fixed[SS] = true;
        let flat = matches!(self.plan.world, World::Compatible(_));
        let pointer = if flat { stack } else { 0x1000 + 16 * self.random.below(0xe00) };
        let junk = if flat { 0 } else { self.random.next() & 0xffff_0000 };
        let big = flat || self.plan.world != World::Real && self.chance(2);
        let limit = if big { 0xffff_ffff } else { 0xffff };
        let base = stack.wrapping_sub(pointer) & 0xffff_ffff;
        self.made.segments[SS] = Segment { base, limit, rights: PRESENT | READ_WRITE, big };
        self.made.registers[RSP] = pointer | if big { 0 } else { junk };
    }

    /// Ring 3's stack is as good a place for an operand as any.
    fn stack_of_user(&mut self) {
        if !self.user {
            return;
        }
        let mut target = self.target();
        let address = self.short_address;
        self.short_address = true;
        let offset = self.reach(SS, target, true);
        self.short_address = address;
        let junk = self.random.next() & 0xffff_0000;
        let stack = &mut self.made.segments[SS];
        self.made.registers[RSP] = match offset {
            Some(offset) if stack.big => offset,
            Some(offset) => offset | junk,
            None if self.plan.world == World::Virtual8086 => {
                // Where the operand is that has chosen the base.
                target = self.made.operands[0].map_or(stack.base, |operand| operand.target);
                target.wrapping_sub(stack.base) & 0xffff | junk
            }
            None => {
                // Not by 16 bits: so by 32, since a page of 2 MiB would not keep it from where no memory is compared.
                stack.big = true;
                target.wrapping_sub(stack.base) & 0xffff_ffff
            }
        };
        self.made.operands[2] = Some(Operand { target, before: 8, after: 8 });
    }

    /// A segment register for an operand: the default one, or another, by a prefix.
    fn choose(&mut self, default: usize, target: u64, wraps: bool) -> Option<u64> {
        const PREFIXES: [u8; 6] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];
        let register = if self.chance(3) { pick(self.random, 6) } else { default };
        // Without paging nothing but the segments keeps an instruction from the rest of memory.
        let risky = (register == CS || register == SS && !self.user) && self.plan.contained();
        if !risky && let Some(offset) = self.reach(register, target, wraps) {
            if register != default || self.chance(16) {
                self.made.code.push(PREFIXES[register]);
            }
            return Some(offset);
        }
        let free = [DS, FS, GS, ES].into_iter().find(|register| !self.fixed[*register])?;
        self.made.code.push(PREFIXES[free]);
        self.reach(free, target, wraps)
    }

    fn operand_at(&mut self, target: u64) {
        self.made.operands[0] = Some(match self.form.memory {
            Memory::BitString | Memory::String => Operand { target, before: 104, after: 112 },
            Memory::Operand | Memory::Absolute => {
                Operand { target, before: 8, after: u64::from(self.form.bytes).max(16) + 7 }
            }
        });
    }

    fn junk(&mut self) -> u64 {
        if self.short_address { self.random.next() & 0xffff_0000 } else { 0 }
    }

    fn string(&mut self) {
        let (from, to) = (self.target(), self.target());
        // Bochs moves the elements of a repeated MOVS byte by byte, which shows if they overlap by less than one.
        let to = if from != to && from.abs_diff(to) < 8 { to ^ 0x20 } else { to };
        let destination = self.reach(ES, to, true).unwrap_or(0x8000);
        let source = self.choose(DS, from, true).unwrap_or(0x8000);
        self.made.code.extend(self.form.opcode);
        self.operand_at(from);
        self.made.operands[1] = Some(Operand { target: to, before: 104, after: 112 });
        self.made.registers[RSI] = source | self.junk();
        self.made.registers[RDI] = destination | self.junk();
        self.made.registers[RCX] = self.random.below(12) | self.junk();
    }

    fn absolute(&mut self) {
        let target = self.target();
        let offset = self.choose(DS, target, false).unwrap_or(0x8000);
        self.made.code.extend(self.form.opcode);
        self.operand_at(target);
        let length = if self.short_address { 2 } else { 4 };
        self.made.code.extend(&offset.to_le_bytes()[..length]);
    }

    /// The number of the register field: any but (E)SP and `taken`, where that would be changed.
    fn field(&mut self, taken: &[u8]) -> u8 {
        loop {
            let number = byte(self.random) & 7;
            let fits = match self.form.field {
                Field::Digit(digit) => return digit,
                Field::Segment => number < 6,
                Field::Vector => true,
                Field::Register | Field::ByteRegister => number != 4 && !taken.contains(&number),
            };
            if fits {
                return number;
            }
        }
    }

    fn opcode(&mut self) {
        if self.form.prefix != 0 {
            self.made.code.push(self.form.prefix);
        }
        if let Some(vex) = self.form.vex {
            self.made.code.extend(&[0xc4, 0xe1, vex]);
        }
        self.made.code.extend(self.form.opcode);
    }

    fn bit_offset(&mut self, field: u8) {
        if self.form.memory == Memory::BitString {
            self.made.registers[usize::from(field)] = self.random.below(1600).wrapping_sub(800) & 0xffff_ffff;
        }
    }

    fn wraps(&self) -> bool {
        self.form.memory == Memory::BitString
    }

    /// ModR/M with addresses of 16 bits.
    fn narrow_operand(&mut self) {
        const REGISTERS: [[Option<usize>; 2]; 8] = [
            [Some(RBX), Some(RSI)],
            [Some(RBX), Some(RDI)],
            [Some(RBP), Some(RSI)],
            [Some(RBP), Some(RDI)],
            [Some(RSI), None],
            [Some(RDI), None],
            [Some(RBP), None],
            [Some(RBX), None],
        ];
        let place = byte(self.random) & 7;
        let mode = byte(self.random) % 3;
        let direct = place == 6 && mode == 0;
        let [first, second] = if direct { [None, None] } else { REGISTERS[usize::from(place)] };
        let target = self.target();
        let default = if first == Some(RBP) { SS } else { DS };
        let wraps = self.wraps();
        let offset = self.choose(default, target, wraps).unwrap_or(0x8000);
        self.operand_at(target);
        self.opcode();
        let field =
            if self.form.memory == Memory::BitString { self.field(&[3, 5, 6, 7]) } else { self.field(&[]) };
        self.bit_offset(field);
        let displacement = if direct {
            offset
        } else {
            match mode {
                0 => 0,
                1 => i64::from(byte(self.random).cast_signed()).cast_unsigned(),
                _ => self.random.next(),
            }
        };
        let mut rest = offset.wrapping_sub(displacement);
        if let Some(second) = second {
            let part = self.random.next() & 0xffff;
            rest = rest.wrapping_sub(part);
            self.made.registers[second] = part | self.junk();
        }
        if let Some(first) = first {
            self.made.registers[first] = rest & 0xffff | self.junk();
        }
        self.made.code.push(mode << 6 | field << 3 | place);
        let length = if direct { 2 } else { usize::from(mode) };
        self.made.code.extend(&displacement.to_le_bytes()[..length]);
    }

    /// ModR/M and SIB with addresses of 32 bits.
    fn wide_operand(&mut self) {
        let base = self.field_free(&[]);
        let index = self.field_free(&[base]);
        let (base, index) = match self.random.below(8) {
            0 => (None, Some(index)),
            1 => (None, None),
            2 | 3 => (Some(base), Some(index)),
            _ => (Some(base), None),
        };
        let target = self.target();
        let default = if base == Some(5) { SS } else { DS };
        let wraps = self.wraps();
        let offset = self.choose(default, target, wraps).unwrap_or(0x8000);
        self.operand_at(target);
        self.opcode();
        let taken = [base.unwrap_or(4), index.unwrap_or(4)];
        let field = if self.form.memory == Memory::BitString { self.field(&taken) } else { self.field(&[]) };
        self.bit_offset(field);
        let scale = byte(self.random) & 3;
        let short = i64::from(byte(self.random).cast_signed()).cast_unsigned();
        let (mode, displacement) = match self.random.below(3) {
            0 => (u8::from(base == Some(5)), 0),
            1 => (1, short),
            _ => (2, short << 8),
        };
        let part = self.random.below(0x1000);
        let field = field << 3;
        let mut set = |register: u8, value: u64| {
            self.made.registers[usize::from(register)] = value & 0xffff_ffff;
        };
        let (bytes, count, displacement) = match (base, index) {
            (Some(base), None) => {
                set(base, offset.wrapping_sub(displacement));
                ([mode << 6 | field | base, 0], 1, (mode, displacement))
            }
            (Some(base), Some(index)) => {
                set(index, part);
                set(base, offset.wrapping_sub(displacement).wrapping_sub(part << scale));
                ([mode << 6 | field | 4, scale << 6 | index << 3 | base], 2, (mode, displacement))
            }
            (None, Some(index)) => {
                set(index, offset.wrapping_sub(displacement));
                ([field | 4, index << 3 | 5], 2, (2, displacement))
            }
            (None, None) => ([field | 5, 0], 1, (2, offset)),
        };
        self.made.code.extend(&bytes[..count]);
        let (mode, value) = displacement;
        let length = match mode {
            0 => 0,
            1 => 1,
            _ => 4,
        };
        self.made.code.extend(&value.to_le_bytes()[..length]);
    }

    /// A register for an address: any but ESP and `taken`.
    fn field_free(&mut self, taken: &[u8]) -> u8 {
        loop {
            let number = byte(self.random) & 7;
            if number != 4 && !taken.contains(&number) {
                return number;
            }
        }
    }
}

/// What virtual-8086 mode makes of a selector.
fn low_segment(base: u64) -> Segment {
    Segment { base, limit: 0xffff, rights: 0xf3, big: false }
}
