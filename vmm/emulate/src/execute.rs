//! Carries out one instruction.
//!
//! SDM Vol. 2, "Instruction Set Reference". Each arm resolves its places first, which is where faults come from,
//! then moves data, then sets flags.

use crate::access::Machine;
use crate::alu::{self, STATUS};
use crate::instruction::{BitAction, Instruction, Operand, Operation, RegisterOperand};
use crate::operand::{Place, effective_address, register, set_register};
use crate::{Access, Cpu, Mmio, Ports};
use arch::{Exception, Gpr, RFlags, Width};
use memory::GuestMemory;

/// How far an instruction came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// To its end.
    Done,
    /// It is a REP instruction with iterations left.
    Again,
}

impl<C: Cpu, M: GuestMemory + ?Sized, D: Mmio + Ports> Machine<'_, C, M, D> {
    /// Carries out `instruction`, all but the move of RIP.
    ///
    /// # Errors
    /// The fault that it ends in; the registers are as before it, but for finished iterations of REP.
    #[inline]
    pub(crate) fn execute(&mut self, instruction: &Instruction) -> Result<Progress, Exception> {
        let width = instruction.width;
        let (destination, source) = (instruction.destination, instruction.source);
        match instruction.operation {
            Operation::Move => match (destination, source) {
                // The two forms that drivers use most, without a detour over places.
                (Operand::Memory, Operand::Register(RegisterOperand::Low(gpr))) => {
                    let to = self.memory_operand(instruction, width, Access::Write)?;
                    self.store(to, self.cpu.gpr(gpr));
                }
                (Operand::Register(RegisterOperand::Low(gpr)), Operand::Memory) => {
                    let from = self.memory_operand(instruction, width, Access::Read)?;
                    let value = self.load(from);
                    set_register(self.cpu, gpr, width, value);
                }
                _ => self.move_any(instruction)?,
            },
            Operation::MoveZeroExtended(narrow) => {
                let from = self.place(instruction, source, narrow, Access::Read)?;
                let to = self.place(instruction, destination, width, Access::Write)?;
                let value = self.get(from, narrow);
                self.put(to, width, value);
            }
            Operation::MoveSignExtended(narrow) => {
                let from = self.place(instruction, source, narrow, Access::Read)?;
                let to = self.place(instruction, destination, width, Access::Write)?;
                let value = alu::sign_extend(narrow, self.get(from, narrow));
                self.put(to, width, value);
            }
            Operation::Exchange => {
                let left = self.place(instruction, destination, width, Access::Write)?;
                let right = self.place(instruction, source, width, Access::Write)?;
                let (left_value, right_value) = (self.get(left, width), self.get(right, width));
                self.put(left, width, right_value);
                self.put(right, width, left_value);
            }
            Operation::Binary(operation) => {
                let to = self.place(instruction, destination, width, Access::Write)?;
                let from = self.place(instruction, source, width, Access::Read)?;
                let (left, right) = (self.get(to, width), self.get(from, width));
                let carry = self.rflags.contains(RFlags::CARRY_FLAG);
                let computed = alu::binary(operation, width, left, right, carry);
                self.put(to, width, computed.value);
                self.set_status(STATUS, computed.flags);
            }
            Operation::Compare => {
                let (left, right) = self.read_both(instruction)?;
                self.set_status(STATUS, alu::subtract(width, left, right, false).flags);
            }
            Operation::Test => {
                let (left, right) = self.read_both(instruction)?;
                self.set_status(STATUS, alu::logic(width, left & right).flags);
            }
            Operation::Unary(operation) => {
                let place = self.place(instruction, destination, width, Access::Write)?;
                let value = self.get(place, width);
                let computed = alu::unary(operation, width, value, self.rflags);
                self.put(place, width, computed.value);
                self.set_status(STATUS, computed.flags);
            }
            Operation::Bit(action) => self.bit(instruction, action)?,
            Operation::CompareExchange => self.compare_exchange(instruction)?,
            Operation::CompareExchangePair => self.compare_exchange_pair(instruction)?,
            Operation::ExchangeAdd => {
                let to = self.place(instruction, destination, width, Access::Write)?;
                let from = self.place(instruction, source, width, Access::Write)?;
                let (old, addend) = (self.get(to, width), self.get(from, width));
                let computed = alu::add(width, old, addend, false);
                // In this order, so that XADD of a register with itself leaves the sum.
                self.put(from, width, old);
                self.put(to, width, computed.value);
                self.set_status(STATUS, computed.flags);
            }
            Operation::Push => self.push(instruction)?,
            Operation::Pop => self.pop(instruction)?,
            Operation::String(action, repeat) => return self.string(instruction, action, repeat),
        }
        Ok(Progress::Done)
    }

    /// MOV between operands of any kind.
    fn move_any(&mut self, instruction: &Instruction) -> Result<(), Exception> {
        let width = instruction.width;
        let from = self.place(instruction, instruction.source, width, Access::Read)?;
        let to = self.place(instruction, instruction.destination, width, Access::Write)?;
        let value = self.get(from, width);
        self.put(to, width, value);
        Ok(())
    }

    /// Both operands of an instruction that writes neither.
    fn read_both(&mut self, instruction: &Instruction) -> Result<(u64, u64), Exception> {
        let width = instruction.width;
        let left = self.place(instruction, instruction.destination, width, Access::Read)?;
        let right = self.place(instruction, instruction.source, width, Access::Read)?;
        Ok((self.get(left, width), self.get(right, width)))
    }

    /// Replaces the flags in `which` by those of `flags`.
    pub(crate) fn set_status(&mut self, which: RFlags, flags: RFlags) {
        let kept = self.rflags.bits() & !which.bits();
        self.rflags = RFlags::from_bits_retain(kept | (flags & which).bits());
        self.cpu.set_rflags(self.rflags);
    }

    /// BT, BTS, BTR, BTC. With a register as the bit offset, a memory operand is a bit string that reaches to
    /// both sides of its address.
    fn bit(&mut self, instruction: &Instruction, action: BitAction) -> Result<(), Exception> {
        let width = instruction.width;
        let bits = width.bytes() * 8;
        let source = self.place(instruction, instruction.source, width, Access::Read)?;
        let offset = self.get(source, width);
        let access = if action == BitAction::Test { Access::Read } else { Access::Write };
        let place = match (instruction.destination, instruction.source) {
            (Operand::Memory, Operand::Register(_)) => {
                // The signed bit offset in whole operands, rounded down, as a byte distance.
                let distance = alu::sign_extend(width, offset).cast_signed() >> bits.trailing_zeros();
                let distance = distance.cast_unsigned().wrapping_mul(width.bytes());
                let address = effective_address(self.cpu, &instruction.memory, instruction.address_size)
                    .wrapping_add(distance)
                    & instruction.address_size.mask();
                Place::Memory(self.span(instruction.memory.segment, address, width, access)?)
            }
            (destination, _) => self.place(instruction, destination, width, access)?,
        };
        let value = self.get(place, width);
        let mask = 1 << (offset % bits);
        match action {
            BitAction::Test => {}
            BitAction::Set => self.put(place, width, value | mask),
            BitAction::Reset => self.put(place, width, value & !mask),
            BitAction::Complement => self.put(place, width, value ^ mask),
        }
        let carry = if value & mask != 0 { RFlags::CARRY_FLAG } else { RFlags::empty() };
        self.set_status(RFlags::CARRY_FLAG, carry);
        Ok(())
    }

    /// CMPXCHG. Memory is written in either case, as the processor does.
    fn compare_exchange(&mut self, instruction: &Instruction) -> Result<(), Exception> {
        let width = instruction.width;
        let to = self.place(instruction, instruction.destination, width, Access::Write)?;
        let from = self.place(instruction, instruction.source, width, Access::Read)?;
        let accumulator = register(self.cpu, Gpr::Rax, width);
        let old = self.get(to, width);
        if accumulator == old {
            let new = self.get(from, width);
            self.put(to, width, new);
        } else {
            if matches!(to, Place::Memory(_)) {
                self.put(to, width, old);
            }
            set_register(self.cpu, Gpr::Rax, width, old);
        }
        self.set_status(STATUS, alu::subtract(width, accumulator, old, false).flags);
        Ok(())
    }

    /// CMPXCHG8B: EDX:EAX with ECX:EBX; ZF alone changes.
    fn compare_exchange_pair(&mut self, instruction: &Instruction) -> Result<(), Exception> {
        let to = self.place(instruction, instruction.destination, Width::Eight, Access::Write)?;
        let pair =
            |cpu: &C, high, low| (register(cpu, high, Width::Four) << 32) | register(cpu, low, Width::Four);
        let old = self.get(to, Width::Eight);
        let equal = pair(self.cpu, Gpr::Rdx, Gpr::Rax) == old;
        if equal {
            let new = pair(self.cpu, Gpr::Rcx, Gpr::Rbx);
            self.put(to, Width::Eight, new);
        } else {
            self.put(to, Width::Eight, old);
            set_register(self.cpu, Gpr::Rax, Width::Four, old);
            set_register(self.cpu, Gpr::Rdx, Width::Four, old >> 32);
        }
        self.set_status(RFlags::ZERO_FLAG, if equal { RFlags::ZERO_FLAG } else { RFlags::empty() });
        Ok(())
    }
}
