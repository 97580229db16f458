//! MUL, IMUL, DIV, IDIV.
//!
//! SDM Vol. 2, "MUL", "IMUL", "DIV", "IDIV".

use crate::access::Machine;
use crate::alu::{self, STATUS};
use crate::instruction::{Factor, Instruction, Signedness};
use crate::operand::{register, set_register};
use crate::{Access, Cpu, Mmio};
use arch::{Exception, Gpr, Width};
use memory::GuestMemory;

impl<C: Cpu, M: GuestMemory + ?Sized, D: Mmio> Machine<'_, C, M, D> {
    /// The multiplications that give both halves, and the divisions that take them: in (R)DX:(R)AX, or in AX for
    /// bytes.
    fn pair(&self, width: Width) -> (u64, u64) {
        let rax = self.cpu.gpr(Gpr::Rax);
        match width {
            Width::One => ((rax >> 8) & 0xff, rax & 0xff),
            Width::Two | Width::Four | Width::Eight => {
                (register(self.cpu, Gpr::Rdx, width), register(self.cpu, Gpr::Rax, width))
            }
        }
    }

    fn set_pair(&mut self, width: Width, high: u64, low: u64) {
        match width {
            Width::One => set_register(self.cpu, Gpr::Rax, Width::Two, (high << 8) | low),
            Width::Two | Width::Four | Width::Eight => {
                set_register(self.cpu, Gpr::Rax, width, low);
                set_register(self.cpu, Gpr::Rdx, width, high);
            }
        }
    }

    /// MUL, and IMUL with one operand.
    pub(super) fn multiply(
        &mut self,
        instruction: &Instruction,
        signedness: Signedness,
    ) -> Result<(), Exception> {
        let width = instruction.width;
        let from = self.place(instruction, instruction.source, width, Access::Read)?;
        let right = self.get(from, width);
        let product = alu::multiply(signedness, width, register(self.cpu, Gpr::Rax, width), right);
        self.set_pair(width, product.high, product.low.value);
        self.set_status(STATUS, product.low.flags);
        Ok(())
    }

    /// IMUL with a destination.
    pub(super) fn multiply_truncated(
        &mut self,
        instruction: &Instruction,
        factor: Factor,
    ) -> Result<(), Exception> {
        let width = instruction.width;
        let from = self.place(instruction, instruction.source, width, Access::Read)?;
        let to = self.place(instruction, instruction.destination, width, Access::Write)?;
        let left = self.get(from, width);
        let right = match factor {
            Factor::Destination => self.get(to, width),
            Factor::Immediate(value) => i64::from(value).cast_unsigned(),
        };
        let product = alu::multiply(Signedness::Signed, width, left, right).low;
        self.put(to, width, product.value);
        self.set_status(STATUS, product.flags);
        Ok(())
    }

    /// DIV and IDIV.
    pub(super) fn divide(
        &mut self,
        instruction: &Instruction,
        signedness: Signedness,
    ) -> Result<(), Exception> {
        let width = instruction.width;
        let from = self.place(instruction, instruction.source, width, Access::Read)?;
        let divisor = self.get(from, width);
        let (high, low) = self.pair(width);
        let (quotient, remainder) =
            alu::divide(signedness, width, high, low, divisor).ok_or(Exception::DivideError)?;
        self.set_pair(width, remainder, quotient);
        Ok(())
    }
}
