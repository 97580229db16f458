//! String instructions with and without REP, in bounded slices.
//!
//! SDM Vol. 2, "REP/REPE/REPZ/REPNE/REPNZ"; Vol. 1, "String Instructions". Every finished iteration is committed
//! to RSI, RDI and RCX, so a fault or the end of a slice leaves an instruction that goes on where it was.

use crate::access::Machine;
use crate::alu::{self, STATUS};
use crate::execute::Progress;
use crate::instruction::{Instruction, Repeat, StringAction};
use crate::operand::{register, set_register};
use crate::{Access, Cpu, Mmio, Ports, REP_SLICE};
use arch::{Exception, Gpr, Port, RFlags, SegmentRegister};
use memory::GuestMemory;

impl<C: Cpu, M: GuestMemory + ?Sized, D: Mmio + Ports> Machine<'_, C, M, D> {
    /// Carries out a string instruction, at most [`REP_SLICE`] iterations of it.
    pub(crate) fn string(
        &mut self,
        instruction: &Instruction,
        action: StringAction,
        repeat: Repeat,
    ) -> Result<Progress, Exception> {
        let counter_width = instruction.address_size.width();
        let repeated = repeat != Repeat::Once;
        let mut count = register(self.cpu, Gpr::Rcx, counter_width);
        if repeated && count == 0 {
            return Ok(Progress::Done);
        }
        if matches!(action, StringAction::In | StringAction::Out) {
            self.check_port(self.port(), instruction.width)?;
        }
        // A single step ends after each iteration, and so does a breakpoint.
        let single_step = self.rflags.contains(RFlags::TRAP_FLAG);
        for _ in 0..if single_step { 1 } else { REP_SLICE } {
            self.iterate(instruction, action)?;
            if !repeated {
                return Ok(Progress::Done);
            }
            count -= 1;
            set_register(self.cpu, Gpr::Rcx, counter_width, count);
            if count == 0 || self.comparison_ends(action, repeat) {
                return Ok(Progress::Done);
            }
            if self.met() != 0 {
                return Ok(Progress::Again);
            }
        }
        Ok(Progress::Again)
    }

    /// Whether the comparison just made ends the repetition.
    fn comparison_ends(&self, action: StringAction, repeat: Repeat) -> bool {
        let equal = self.rflags.contains(RFlags::ZERO_FLAG);
        match action {
            StringAction::Compare | StringAction::Scan => match repeat {
                Repeat::Once => true,
                Repeat::WhileEqual => !equal,
                Repeat::WhileNotEqual => equal,
            },
            StringAction::Store
            | StringAction::Load
            | StringAction::Move
            | StringAction::In
            | StringAction::Out => false,
        }
    }

    /// One iteration: either all of it, or a fault and none of it.
    fn iterate(&mut self, instruction: &Instruction, action: StringAction) -> Result<(), Exception> {
        let width = instruction.width;
        let offset = |cpu: &C, pointer| register(cpu, pointer, instruction.address_size.width());
        let (segment, from) = (instruction.memory.segment, offset(self.cpu, Gpr::Rsi));
        let to = offset(self.cpu, Gpr::Rdi);
        match action {
            StringAction::Store => {
                let place = self.span(SegmentRegister::Es, to, width, Access::Write)?;
                let value = register(self.cpu, Gpr::Rax, width);
                self.store(place, value);
                self.step_pointer(instruction, Gpr::Rdi);
            }
            StringAction::Load => {
                let place = self.span(segment, from, width, Access::Read)?;
                let value = self.load(place);
                set_register(self.cpu, Gpr::Rax, width, value);
                self.step_pointer(instruction, Gpr::Rsi);
            }
            StringAction::Move => {
                let source = self.span(segment, from, width, Access::Read)?;
                let place = self.span(SegmentRegister::Es, to, width, Access::Write)?;
                let value = self.load(source);
                self.store(place, value);
                self.step_pointer(instruction, Gpr::Rsi);
                self.step_pointer(instruction, Gpr::Rdi);
            }
            StringAction::Compare => {
                let left = self.span(segment, from, width, Access::Read)?;
                let right = self.span(SegmentRegister::Es, to, width, Access::Read)?;
                let (left, right) = (self.load(left), self.load(right));
                self.set_status(STATUS, alu::subtract(width, left, right, false).flags);
                self.step_pointer(instruction, Gpr::Rsi);
                self.step_pointer(instruction, Gpr::Rdi);
            }
            StringAction::Scan => {
                let place = self.span(SegmentRegister::Es, to, width, Access::Read)?;
                let value = self.load(place);
                let accumulator = register(self.cpu, Gpr::Rax, width);
                self.set_status(STATUS, alu::subtract(width, accumulator, value, false).flags);
                self.step_pointer(instruction, Gpr::Rdi);
            }
            StringAction::In => {
                // The store is checked first: a read of a port cannot be undone.
                let place = self.span(SegmentRegister::Es, to, width, Access::Write)?;
                let value = self.devices.port_read(self.port(), width);
                self.watch_port(self.port(), width);
                self.store(place, u64::from(value));
                self.step_pointer(instruction, Gpr::Rdi);
            }
            StringAction::Out => {
                let place = self.span(segment, from, width, Access::Read)?;
                let [a, b, c, d, ..] = (self.load(place) & width.mask()).to_le_bytes();
                self.devices.port_write(self.port(), width, u32::from_le_bytes([a, b, c, d]));
                self.watch_port(self.port(), width);
                self.step_pointer(instruction, Gpr::Rsi);
            }
        }
        Ok(())
    }

    /// Moves RSI or RDI to the next element, in the direction of DF.
    fn step_pointer(&mut self, instruction: &Instruction, pointer: Gpr) {
        let step = instruction.width.bytes();
        let old = self.cpu.gpr(pointer);
        let new = if self.rflags.contains(RFlags::DIRECTION_FLAG) {
            old.wrapping_sub(step)
        } else {
            old.wrapping_add(step)
        };
        set_register(self.cpu, pointer, instruction.address_size.width(), new);
    }

    /// The port in DX.
    fn port(&self) -> Port {
        let [low, high, ..] = self.cpu.gpr(Gpr::Rdx).to_le_bytes();
        Port(u16::from_le_bytes([low, high]))
    }
}
