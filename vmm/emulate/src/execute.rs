//! Carries out one instruction.
//!
//! SDM Vol. 2, "Instruction Set Reference". Each arm resolves its places first, which is where faults come from,
//! then moves data, then sets flags.

mod bits;
mod branch;
mod exchange;
mod multiply;
mod vector;

use crate::access::Machine;
use crate::alu::{self, STATUS};
use crate::instruction::{Instruction, Operand, Operation, RegisterOperand};
use crate::operand::set_register;
use crate::{Access, Cpu, Mmio, Ports};
use arch::{Exception, RFlags, Width};
use memory::GuestMemory;

/// How far an instruction came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// To its end.
    Done,
    /// It is a REP instruction with iterations left.
    Again,
    /// To its end, and the next instruction is here.
    Branched(u64),
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
            Operation::MoveSwapped => {
                let from = self.place(instruction, source, width, Access::Read)?;
                let to = self.place(instruction, destination, width, Access::Write)?;
                let swapped = self.get(from, width).swap_bytes() >> (64 - 8 * width.bytes());
                self.put(to, width, swapped);
            }
            Operation::StoreSelector(register) => {
                let to = self.place(instruction, destination, width, Access::Write)?;
                let selector = self.cpu.segment(register).selector;
                self.put(to, width, u64::from(selector));
            }
            Operation::Shift(shift) => {
                let to = self.place(instruction, destination, width, Access::Write)?;
                let by = self.place(instruction, source, Width::One, Access::Read)?;
                let (value, count) = (self.get(to, width), self.get(by, Width::One));
                let computed = alu::shift(shift, width, value, count, self.rflags);
                self.put(to, width, computed.value);
                self.set_status(STATUS, computed.flags);
            }
            Operation::DoubleShift(shift, count) => self.double_shift(instruction, shift, count)?,
            Operation::Bit(action) => self.bit(instruction, action)?,
            Operation::BitCount(operation) => self.bit_count(instruction, operation)?,
            Operation::CompareExchange => self.compare_exchange(instruction)?,
            Operation::CompareExchange8 => self.compare_exchange_8(instruction)?,
            Operation::CompareExchange16 => self.compare_exchange_16(instruction)?,
            Operation::Multiply(signedness) => self.multiply(instruction, signedness)?,
            Operation::MultiplyTruncated(factor) => self.multiply_truncated(instruction, factor)?,
            Operation::Divide(signedness) => self.divide(instruction, signedness)?,
            Operation::MoveIf(condition) => {
                // The source is read, and the upper half of a 32-bit destination cleared, in either case.
                let from = self.place(instruction, source, width, Access::Read)?;
                let to = self.place(instruction, destination, width, Access::Write)?;
                let (new, old) = (self.get(from, width), self.get(to, width));
                self.put(to, width, if alu::holds(condition, self.rflags) { new } else { old });
            }
            Operation::SetIf(condition) => {
                let to = self.place(instruction, destination, width, Access::Write)?;
                self.put(to, width, u64::from(alu::holds(condition, self.rflags)));
            }
            Operation::Touch => {
                self.memory_operand(instruction, Width::One, Access::Read)?;
            }
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
            Operation::Vector(moved) => self.vector(instruction, moved)?,
            Operation::Push => self.push(instruction)?,
            Operation::Pop => self.pop(instruction)?,
            Operation::Jump => return self.jump(instruction),
            Operation::Call => return self.call(instruction),
            Operation::Return(further) => return self.near_return(instruction, further),
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
}
