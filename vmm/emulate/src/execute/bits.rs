//! Instructions on bits: tests, counts and double shifts.
//!
//! SDM Vol. 2, "BT", "BTC", "BTR", "BTS", "BSF", "BSR", "SHLD", "SHRD".

use crate::access::Machine;
use crate::alu::{self, STATUS};
use crate::instruction::{BitAction, BitCount, Count, DoubleShift, Instruction, Operand};
use crate::operand::{Place, effective_address, register};
use crate::{Access, Cpu, Mmio};
use arch::{Exception, Gpr, RFlags, Width};
use memory::GuestMemory;

impl<C: Cpu, M: GuestMemory + ?Sized, D: Mmio> Machine<'_, C, M, D> {
    /// BT, BTS, BTR, BTC. With a register as the bit offset, a memory operand is a bit string that reaches to
    /// both sides of its address.
    pub(super) fn bit(&mut self, instruction: &Instruction, action: BitAction) -> Result<(), Exception> {
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

    /// BSF and BSR, of which zero leaves the destination; TZCNT, LZCNT, POPCNT.
    pub(super) fn bit_count(
        &mut self,
        instruction: &Instruction,
        operation: BitCount,
    ) -> Result<(), Exception> {
        let width = instruction.width;
        let from = self.place(instruction, instruction.source, width, Access::Read)?;
        let to = self.place(instruction, instruction.destination, width, Access::Write)?;
        let value = self.get(from, width);
        match alu::bit_count(operation, width, value) {
            Some(computed) => {
                self.put(to, width, computed.value);
                self.set_status(STATUS, computed.flags);
            }
            None => self.set_status(RFlags::ZERO_FLAG, RFlags::ZERO_FLAG),
        }
        Ok(())
    }

    /// SHLD and SHRD.
    pub(super) fn double_shift(
        &mut self,
        instruction: &Instruction,
        operation: DoubleShift,
        count: Count,
    ) -> Result<(), Exception> {
        let width = instruction.width;
        let to = self.place(instruction, instruction.destination, width, Access::Write)?;
        let from = self.place(instruction, instruction.source, width, Access::Read)?;
        let count = match count {
            Count::Cl => register(self.cpu, Gpr::Rcx, Width::One),
            Count::Immediate(count) => u64::from(count),
        };
        let (value, incoming) = (self.get(to, width), self.get(from, width));
        let computed = alu::double_shift(operation, width, value, incoming, count, self.rflags);
        self.put(to, width, computed.value);
        self.set_status(STATUS, computed.flags);
        Ok(())
    }
}
