//! Operands: registers by width, effective addresses, and the places that they name.

use crate::access::{Machine, Span};
use crate::context::Mode;
use crate::instruction::{AddressSize, Instruction, MemoryOperand, Operand, RegisterOperand};
use crate::{Access, Cpu, Mmio};
use arch::{Exception, Gpr, RFlags, Width};
use memory::GuestMemory;

/// An operand after every check that could fault: reading and writing it cannot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    None,
    Immediate(u64),
    Register(RegisterOperand),
    Memory(Span),
}

/// The low `width` of a register.
#[inline]
pub(crate) fn register(cpu: &impl Cpu, gpr: Gpr, width: Width) -> u64 {
    cpu.gpr(gpr) & width.mask()
}

/// Sets the low `width` of a register. A 32-bit write clears the upper half; narrower ones keep the rest.
#[inline]
pub(crate) fn set_register(cpu: &mut impl Cpu, gpr: Gpr, width: Width, value: u64) {
    let value = match width {
        Width::One | Width::Two => (cpu.gpr(gpr) & !width.mask()) | (value & width.mask()),
        Width::Four => value & width.mask(),
        Width::Eight => value,
    };
    cpu.set_gpr(gpr, value);
}

/// The offset in the segment that `operand` names.
#[inline]
pub(crate) fn effective_address(cpu: &impl Cpu, operand: &MemoryOperand, size: AddressSize) -> u64 {
    let base = operand.base.map_or(0, |base| cpu.gpr(base));
    let index = operand.index.map_or(0, |index| cpu.gpr(index) << operand.scale);
    base.wrapping_add(index).wrapping_add(operand.displacement) & size.mask()
}

impl<C: Cpu, M: GuestMemory + ?Sized, D: Mmio> Machine<'_, C, M, D> {
    /// Resolves `operand` of `instruction`, `width` wide, for `access`.
    ///
    /// # Errors
    /// What the checks of a memory operand give.
    #[inline]
    pub(crate) fn place(
        &mut self,
        instruction: &Instruction,
        operand: Operand,
        width: Width,
        access: Access,
    ) -> Result<Place, Exception> {
        Ok(match operand {
            Operand::None => Place::None,
            Operand::Immediate(value) => Place::Immediate(value),
            Operand::Register(register) => Place::Register(register),
            Operand::Memory => Place::Memory(self.memory_operand(instruction, width, access)?),
        })
    }

    /// Resolves the memory operand of `instruction`, `width` wide, for `access`.
    ///
    /// # Errors
    /// What the checks of a memory operand give.
    #[inline]
    pub(crate) fn memory_operand(
        &mut self,
        instruction: &Instruction,
        width: Width,
        access: Access,
    ) -> Result<Span, Exception> {
        let offset = effective_address(self.cpu, &instruction.memory, instruction.address_size);
        self.span(instruction.memory.segment, offset, width, access)
    }

    /// The value at `place`, `width` wide.
    #[inline]
    pub(crate) fn get(&mut self, place: Place, width: Width) -> u64 {
        match place {
            Place::None => 0,
            Place::Immediate(value) => value & width.mask(),
            Place::Register(RegisterOperand::Low(gpr)) => register(self.cpu, gpr, width),
            Place::Register(RegisterOperand::High(gpr)) => (self.cpu.gpr(gpr) >> 8) & width.mask(),
            Place::Memory(span) => self.load(span),
        }
    }

    /// Puts `value`, `width` wide, at `place`.
    #[inline]
    pub(crate) fn put(&mut self, place: Place, width: Width, value: u64) {
        match place {
            Place::None | Place::Immediate(_) => {}
            Place::Register(RegisterOperand::Low(gpr)) => set_register(self.cpu, gpr, width, value),
            Place::Register(RegisterOperand::High(gpr)) => {
                let kept = self.cpu.gpr(gpr) & !0xff00;
                self.cpu.set_gpr(gpr, kept | ((value & 0xff) << 8));
            }
            Place::Memory(span) => self.store(span, value),
        }
    }

    /// Replaces the flags in `which` by those of `flags`.
    pub(crate) fn set_status(&mut self, which: RFlags, flags: RFlags) {
        let kept = self.rflags.bits() & !which.bits();
        self.rflags = RFlags::from_bits_retain(kept | (flags & which).bits());
        self.cpu.set_rflags(self.rflags);
    }

    /// The size of the stack pointer.
    pub(crate) fn stack_size(&self) -> AddressSize {
        const BIG: u32 = 1 << 14;
        match self.context.mode {
            Mode::Long => AddressSize::Bits64,
            Mode::Real | Mode::Virtual8086 | Mode::Protected => {
                if self.cpu.access_rights(arch::SegmentRegister::Ss) & BIG != 0 {
                    AddressSize::Bits32
                } else {
                    AddressSize::Bits16
                }
            }
        }
    }
}
