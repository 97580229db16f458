//! PUSH and POP, whose one operand is often memory and whose other always is.
//!
//! SDM Vol. 2, "PUSH", "POP"; Vol. 1, "Address-Size Attributes for Stack Accesses".

use crate::access::Machine;
use crate::instruction::Instruction;
use crate::operand::set_register;
use crate::{Access, Cpu, Mmio};
use arch::{Exception, Gpr, SegmentRegister};
use memory::GuestMemory;

impl<C: Cpu, M: GuestMemory + ?Sized, D: Mmio> Machine<'_, C, M, D> {
    /// Pushes the source. RSP in its address or as the value is the one before the push.
    pub(crate) fn push(&mut self, instruction: &Instruction) -> Result<(), Exception> {
        let width = instruction.width;
        let size = self.stack_size();
        let from = self.place(instruction, instruction.source, width, Access::Read)?;
        let top = self.cpu.gpr(Gpr::Rsp).wrapping_sub(width.bytes()) & size.mask();
        let slot = self.span(SegmentRegister::Ss, top, width, Access::Write)?;
        let value = self.get(from, width);
        self.store(slot, value);
        set_register(self.cpu, Gpr::Rsp, size.width(), top);
        Ok(())
    }

    /// Pops to the destination. RSP in its address is the one after the pop.
    pub(crate) fn pop(&mut self, instruction: &Instruction) -> Result<(), Exception> {
        let width = instruction.width;
        let size = self.stack_size();
        let before = self.cpu.gpr(Gpr::Rsp);
        let slot = self.span(SegmentRegister::Ss, before & size.mask(), width, Access::Read)?;
        let value_place = {
            set_register(self.cpu, Gpr::Rsp, size.width(), before.wrapping_add(width.bytes()));
            self.place(instruction, instruction.destination, width, Access::Write)
        };
        match value_place {
            Ok(to) => {
                let value = self.load(slot);
                self.put(to, width, value);
                Ok(())
            }
            Err(fault) => {
                self.cpu.set_gpr(Gpr::Rsp, before);
                Err(fault)
            }
        }
    }
}
