//! Compare and exchange.
//!
//! SDM Vol. 2, "CMPXCHG", "CMPXCHG8B/CMPXCHG16B".

use crate::access::Machine;
use crate::alu::{self, STATUS};
use crate::instruction::{Alignment, Instruction};
use crate::operand::{Place, register, set_register};
use crate::{Access, Cpu, Mmio};
use arch::{Exception, Gpr, RFlags, Width};
use memory::GuestMemory;

impl<C: Cpu, M: GuestMemory + ?Sized, D: Mmio> Machine<'_, C, M, D> {
    /// CMPXCHG. Memory is written in either case, as the processor does.
    pub(super) fn compare_exchange(&mut self, instruction: &Instruction) -> Result<(), Exception> {
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
    pub(super) fn compare_exchange_8(&mut self, instruction: &Instruction) -> Result<(), Exception> {
        let to = self.memory_operand(instruction, Width::Eight, Access::Write)?;
        let pair =
            |cpu: &C, high, low| (register(cpu, high, Width::Four) << 32) | register(cpu, low, Width::Four);
        let old = self.load(to);
        let equal = pair(self.cpu, Gpr::Rdx, Gpr::Rax) == old;
        if equal {
            let new = pair(self.cpu, Gpr::Rcx, Gpr::Rbx);
            self.store(to, new);
        } else {
            self.store(to, old);
            set_register(self.cpu, Gpr::Rax, Width::Four, old);
            set_register(self.cpu, Gpr::Rdx, Width::Four, old >> 32);
        }
        self.set_status(RFlags::ZERO_FLAG, if equal { RFlags::ZERO_FLAG } else { RFlags::empty() });
        Ok(())
    }

    /// CMPXCHG16B: RDX:RAX with RCX:RBX; ZF alone changes. The operand must be aligned.
    pub(super) fn compare_exchange_16(&mut self, instruction: &Instruction) -> Result<(), Exception> {
        let to = self.wide_operand(instruction, 16, Access::Write, Alignment::Required)?;
        let mut bytes = [0; 16];
        self.load_wide(to, &mut bytes);
        let old = u128::from_le_bytes(bytes);
        let pair = |cpu: &C, high, low| (u128::from(cpu.gpr(high)) << 64) | u128::from(cpu.gpr(low));
        let equal = pair(self.cpu, Gpr::Rdx, Gpr::Rax) == old;
        if equal {
            let new = pair(self.cpu, Gpr::Rcx, Gpr::Rbx);
            self.store_wide(to, &new.to_le_bytes());
        } else {
            self.store_wide(to, &bytes);
            let [low, high] = [0, 64].map(|shift| {
                let [a, b, c, d, e, f, g, h, ..] = (old >> shift).to_le_bytes();
                u64::from_le_bytes([a, b, c, d, e, f, g, h])
            });
            self.cpu.set_gpr(Gpr::Rax, low);
            self.cpu.set_gpr(Gpr::Rdx, high);
        }
        self.set_status(RFlags::ZERO_FLAG, if equal { RFlags::ZERO_FLAG } else { RFlags::empty() });
        Ok(())
    }
}
