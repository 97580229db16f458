//! A stopped processor's state, out of the VMCS and into it.
//!
//! SDM Vol. 3C, "Guest-State Area" and "VM-Entry Controls for Event Injection".

use super::VmxBackend;
use super::completion::{PENDING_BREAKPOINT, PENDING_BS};
use crate::vmcs_access::{LiveRegisters, VmcsAccess};
use crate::{event, field};
use arch::{Gpr, SegmentRegister, TableRegister};
use vmm::{CpuState, PendingEvent, VcpuBackend};

/// Pending debug exceptions that a guest without transactional memory can have: B0 to B3, an enabled breakpoint,
/// single step.
const PENDING_DEBUG: u64 = 0xf | PENDING_BREAKPOINT | PENDING_BS;

impl<V: VmcsAccess> VmxBackend<V> {
    pub(super) fn save_registers(&self) -> CpuState {
        let mut gprs = *self.vmcs.gprs();
        gprs.set(Gpr::Rsp, self.rsp());
        let live = self.vmcs.live_registers();
        CpuState {
            gprs,
            rip: self.rip(),
            rflags: self.rflags(),
            cr0: self.cr0(),
            cr2: self.vmcs.cr2(),
            cr3: self.cr3(),
            cr4: self.cr4(),
            efer: self.efer(),
            pdptes: self.pdptes(),
            segments: SegmentRegister::ALL.map(|register| self.segment(register)),
            gdtr: TableRegister {
                base: self.vmcs.read(field::GUEST_GDTR_BASE),
                limit: limit(self.vmcs.read(field::GUEST_GDTR_LIMIT)),
            },
            idtr: TableRegister {
                base: self.vmcs.read(field::GUEST_IDTR_BASE),
                limit: limit(self.vmcs.read(field::GUEST_IDTR_LIMIT)),
            },
            breakpoints: live.breakpoints,
            dr6: self.dr6(),
            dr7: self.dr7(),
            pending_debug: self.vmcs.read(field::GUEST_PENDING_DEBUG_EXCEPTIONS),
            pat: self.vmcs.read(field::GUEST_PAT),
            sysenter_cs: self.vmcs.read(field::GUEST_SYSENTER_CS),
            sysenter_esp: self.vmcs.read(field::GUEST_SYSENTER_ESP),
            sysenter_eip: self.vmcs.read(field::GUEST_SYSENTER_EIP),
            star: live.star,
            lstar: live.lstar,
            cstar: live.cstar,
            fmask: live.fmask,
            kernel_gs_base: live.kernel_gs_base,
            tsc_aux: live.tsc_aux,
            interruptibility: self.interruptibility(),
        }
    }

    pub(super) fn restore_registers(&mut self, state: &CpuState) {
        *self.vmcs.gprs_mut() = state.gprs;
        self.vmcs.write(field::GUEST_RSP, state.gprs.get(Gpr::Rsp));
        self.vmcs.write(field::GUEST_RIP, state.rip);
        self.set_rflags(state.rflags);
        self.set_cr0(state.cr0);
        self.vmcs.set_cr2(state.cr2);
        self.vmcs.write(field::GUEST_CR3, state.cr3);
        self.set_cr4(state.cr4);
        self.set_efer(state.efer);
        self.set_pdptes(state.pdptes);
        for (register, segment) in SegmentRegister::ALL.iter().zip(&state.segments) {
            self.set_segment(*register, segment);
        }
        self.vmcs.write(field::GUEST_GDTR_BASE, state.gdtr.base);
        self.vmcs.write(field::GUEST_GDTR_LIMIT, u32::from(state.gdtr.limit));
        self.vmcs.write(field::GUEST_IDTR_BASE, state.idtr.base);
        self.vmcs.write(field::GUEST_IDTR_LIMIT, u32::from(state.idtr.limit));
        self.set_dr6(state.dr6);
        self.set_dr7(state.dr7);
        self.vmcs.write(field::GUEST_PAT, state.pat);
        self.vmcs.write(field::GUEST_SYSENTER_CS, state.sysenter_cs);
        self.vmcs.write(field::GUEST_SYSENTER_ESP, state.sysenter_esp);
        self.vmcs.write(field::GUEST_SYSENTER_EIP, state.sysenter_eip);
        self.vmcs.set_live_registers(&LiveRegisters {
            star: state.star,
            lstar: state.lstar,
            cstar: state.cstar,
            fmask: state.fmask,
            kernel_gs_base: state.kernel_gs_base,
            tsc_aux: state.tsc_aux,
            breakpoints: state.breakpoints,
        });
        self.vmcs.write(field::GUEST_INTERRUPTIBILITY, u32::from(state.interruptibility.bits()));
        self.vmcs.write(field::GUEST_PENDING_DEBUG_EXCEPTIONS, state.pending_debug & PENDING_DEBUG);
        self.keep_step_pending();
        self.clear_event();
        self.set_interrupt_window(false);
        self.set_nmi_window(false);
    }

    /// The event that the next entry delivers. The processor clears the field's valid bit at every exit.
    pub(super) fn save_event(&self) -> Option<PendingEvent> {
        if !self.event_pending {
            return None;
        }
        let code = self.vmcs.read(field::VM_ENTRY_EXCEPTION_ERROR_CODE);
        let length = self.vmcs.read(field::VM_ENTRY_INSTRUCTION_LENGTH);
        event::pending(self.vmcs.read(field::VM_ENTRY_INTERRUPTION_INFO), code, length)
    }

    pub(super) fn restore_event(&mut self, event: PendingEvent) {
        self.vmcs.write(field::VM_ENTRY_INTERRUPTION_INFO, event::entry_info(event));
        self.vmcs.write(field::VM_ENTRY_EXCEPTION_ERROR_CODE, event.error_code.unwrap_or(0));
        self.vmcs.write(field::VM_ENTRY_INSTRUCTION_LENGTH, u32::from(event.instruction_length));
        self.event_pending = true;
    }

    pub(super) fn clear_event(&mut self) {
        self.vmcs.write(field::VM_ENTRY_INTERRUPTION_INFO, 0);
        self.event_pending = false;
    }
}

/// Descriptor-table limits are 16 bits wide; a VMCS holds them in 32.
fn limit(raw: u32) -> u16 {
    u16::try_from(raw).unwrap_or(u16::MAX)
}
