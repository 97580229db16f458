//! Near branches that read where to go from memory, or that use the stack.
//!
//! SDM Vol. 2, "JMP", "CALL", "RET".

use crate::access::Machine;
use crate::execute::Progress;
use crate::instruction::Instruction;
use crate::operand::set_register;
use crate::segmentation::linear;
use crate::{Access, Cpu, Mmio};
use arch::{Exception, Gpr, SegmentRegister};
use memory::GuestMemory;

impl<C: Cpu, M: GuestMemory + ?Sized, D: Mmio> Machine<'_, C, M, D> {
    /// JMP.
    pub(super) fn jump(&mut self, instruction: &Instruction) -> Result<Progress, Exception> {
        let from = self.place(instruction, instruction.source, instruction.width, Access::Read)?;
        let target = self.get(from, instruction.width);
        self.branch_to(target)
    }

    /// CALL. RSP in its address is the one before the call.
    pub(super) fn call(&mut self, instruction: &Instruction) -> Result<Progress, Exception> {
        let width = instruction.width;
        let size = self.stack_size();
        let from = self.place(instruction, instruction.source, width, Access::Read)?;
        let top = self.cpu.gpr(Gpr::Rsp).wrapping_sub(width.bytes()) & size.mask();
        let slot = self.span(SegmentRegister::Ss, top, width, Access::Write)?;
        let target = self.get(from, width);
        let branched = self.branch_to(target)?;
        let back = self.context.behind(self.cpu.rip(), instruction);
        self.store(slot, back);
        set_register(self.cpu, Gpr::Rsp, size.width(), top);
        Ok(branched)
    }

    /// RET, which takes `further` bytes off the stack behind the address.
    pub(super) fn near_return(
        &mut self,
        instruction: &Instruction,
        further: u16,
    ) -> Result<Progress, Exception> {
        let width = instruction.width;
        let size = self.stack_size();
        let top = self.cpu.gpr(Gpr::Rsp);
        let slot = self.span(SegmentRegister::Ss, top & size.mask(), width, Access::Read)?;
        let target = self.load(slot);
        let branched = self.branch_to(target)?;
        let above = top.wrapping_add(width.bytes()).wrapping_add(u64::from(further));
        set_register(self.cpu, Gpr::Rsp, size.width(), above);
        Ok(branched)
    }

    /// Checks that code may be at `target`: a canonical address, or one within the limit of CS.
    fn branch_to(&self, target: u64) -> Result<Progress, Exception> {
        linear(self.cpu, self.context, SegmentRegister::Cs, target, 1, Access::Execute)?;
        Ok(Progress::Branched(target))
    }
}
