//! What is left to do about an instruction or an event that an exit cut short: blocking that ends, single steps that become
//! pending, deliveries that are to be done again.

use super::VmxBackend;
use crate::event;
use crate::field;
use crate::vmcs_access::VmcsAccess;
use arch::RFlags;

/// Pending debug exceptions: an enabled breakpoint was met.
pub(super) const PENDING_BREAKPOINT: u64 = 1 << 12;
/// Pending debug exceptions: single step.
pub(super) const PENDING_BS: u64 = 1 << 14;

impl<V: VmcsAccess> VmxBackend<V> {
    /// Ends blocking by STI and MOV SS, and makes a single-step trap pending if RFLAGS.TF is set.
    #[inline]
    pub(super) fn complete_instruction(&mut self) {
        let interruptibility = self.vmcs.read(field::GUEST_INTERRUPTIBILITY);
        if interruptibility & 3 != 0 {
            self.vmcs.write(field::GUEST_INTERRUPTIBILITY, interruptibility & !3);
        }
        let flags = self.vmcs.read(field::GUEST_RFLAGS);
        if flags & RFlags::TRAP_FLAG.union(RFlags::RESUME_FLAG).bits() != 0 {
            self.complete_debugged_instruction(flags);
        }
    }

    #[cold]
    fn complete_debugged_instruction(&mut self, flags: u64) {
        if flags & RFlags::TRAP_FLAG.bits() != 0 {
            let others = self.vmcs.read(field::GUEST_PENDING_DEBUG_EXCEPTIONS);
            self.vmcs.write(field::GUEST_PENDING_DEBUG_EXCEPTIONS, others | PENDING_BS);
        }
        // SDM Vol. 3B, "Instruction-Breakpoint Exception Condition": it shields one instruction alone. Exits that are
        // faults leave it set, so that the instruction can be run again.
        if flags & RFlags::RESUME_FLAG.bits() != 0 {
            self.vmcs.write(field::GUEST_RFLAGS, flags & !RFlags::RESUME_FLAG.bits());
        }
    }

    #[cold]
    pub(super) fn redeliver(&mut self, info: u32) {
        self.vmcs.write(field::VM_ENTRY_INTERRUPTION_INFO, event::redeliver(info));
        if info & event::HAS_ERROR_CODE != 0 {
            let code = self.vmcs.read(field::IDT_VECTORING_ERROR_CODE);
            self.vmcs.write(field::VM_ENTRY_EXCEPTION_ERROR_CODE, code);
        }
        if event::needs_length(info) {
            let length = self.vmcs.read(field::EXIT_INSTRUCTION_LENGTH);
            self.vmcs.write(field::VM_ENTRY_INSTRUCTION_LENGTH, length);
        }
        if event::is_nmi(info) {
            // The NMI was not delivered: it must not block the next one.
            let interruptibility = self.vmcs.read(field::GUEST_INTERRUPTIBILITY);
            self.vmcs.write(field::GUEST_INTERRUPTIBILITY, interruptibility & !8);
        }
        self.event_pending = true;
    }

    /// Under STI or MOV SS blocking, the single step must be pending exactly if RFLAGS.TF is set, or the entry is
    /// refused (SDM Vol. 3C, "Checks on Guest Non-Register State").
    pub(super) fn keep_step_pending(&mut self) {
        if self.vmcs.read(field::GUEST_INTERRUPTIBILITY) & 3 != 0 {
            let steps = self.vmcs.read(field::GUEST_RFLAGS) & RFlags::TRAP_FLAG.bits() != 0;
            let others = self.vmcs.read(field::GUEST_PENDING_DEBUG_EXCEPTIONS) & !PENDING_BS;
            let step = if steps { PENDING_BS } else { 0 };
            self.vmcs.write(field::GUEST_PENDING_DEBUG_EXCEPTIONS, others | step);
        }
    }
}
