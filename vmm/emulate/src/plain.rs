//! The plain moves between a register and a device in 64-bit mode, which drivers make most of all: carried out at one
//! go, by the translation that the hardware has made.
//!
//! Nothing here can fault, and whatever is not plain is left to `execute`.

use crate::instruction::{Instruction, Operand, Operation, RegisterOperand};
use crate::operand::{effective_address, set_register};
use crate::{Access, Cpu, KnownTranslation, Mmio};
use arch::{Gpr, PAGE_SIZE, SegmentRegister, Width};

/// Which way a plain move goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    /// From memory, zero-extended to a register of this width.
    Load(Gpr, Width),
    Store(Gpr),
    StoreImmediate(u64),
}

/// A plain move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Plain {
    direction: Direction,
    /// How much of memory is moved.
    width: Width,
}

impl Plain {
    /// `instruction`, which is one of 64-bit mode, as a plain move if it is one.
    pub(crate) fn of(instruction: &Instruction) -> Option<Self> {
        use Operand::{Immediate, Memory, Register};
        let width = instruction.width;
        let (direction, width) = match (instruction.operation, instruction.destination, instruction.source) {
            (Operation::Move, Register(RegisterOperand::Low(gpr)), Memory) => {
                (Direction::Load(gpr, width), width)
            }
            (Operation::MoveZeroExtended(narrow), Register(RegisterOperand::Low(gpr)), Memory) => {
                (Direction::Load(gpr, width), narrow)
            }
            (Operation::Move, Memory, Register(RegisterOperand::Low(gpr))) => (Direction::Store(gpr), width),
            (Operation::Move, Memory, Immediate(value)) => (Direction::StoreImmediate(value), width),
            _ => return None,
        };
        match instruction.memory.segment {
            SegmentRegister::Es | SegmentRegister::Cs | SegmentRegister::Ss | SegmentRegister::Ds => {
                Some(Self { direction, width })
            }
            // These have a base.
            SegmentRegister::Fs | SegmentRegister::Gs | SegmentRegister::Ldtr | SegmentRegister::Tr => None,
        }
    }

    /// Carries out `instruction`, which this is, if it accesses the page of `known` as that says. Returns whether it has.
    #[inline]
    pub(crate) fn carry_out<C: Cpu, D: Mmio>(
        self,
        instruction: &Instruction,
        cpu: &mut C,
        devices: &mut D,
        known: &KnownTranslation,
    ) -> bool {
        let linear = effective_address(cpu, &instruction.memory, instruction.address_size);
        // The hardware translates nothing but canonical addresses, so one on the same page is canonical. One that is a
        // multiple of the width stays on that page, and is no matter for alignment checks.
        let is_elsewhere = (linear ^ known.gva.get()) >= PAGE_SIZE;
        if is_elsewhere || linear & (self.width.bytes() - 1) != 0 {
            return false;
        }
        let gpa = known.gpa.align_down(PAGE_SIZE) + linear % PAGE_SIZE;
        match (self.direction, known.access) {
            (Direction::Load(gpr, into), Access::Read | Access::Write) => {
                let value = devices.mmio_read(gpa, self.width) & self.width.mask();
                set_register(cpu, gpr, into, value);
            }
            (Direction::Store(gpr), Access::Write) => {
                devices.mmio_write(gpa, self.width, cpu.gpr(gpr) & self.width.mask());
            }
            (Direction::StoreImmediate(value), Access::Write) => {
                devices.mmio_write(gpa, self.width, value & self.width.mask());
            }
            (Direction::Store(_) | Direction::StoreImmediate(_), Access::Read)
            | (Direction::Load(..) | Direction::Store(_) | Direction::StoreImmediate(_), Access::Execute) => {
                return false;
            }
        }
        true
    }
}
