//! A vCPU and the paravirtual interface: steal time, the clock, an EOI through memory, the width of a hypercall.

use super::{Leave, Vcpu};
use crate::paravirt::{CallMode, Departure, Ending, Loaded, Times};
use crate::{VcpuBackend, Vm};
use arch::{EferFlags, SegmentRegister, Tsc};
use bus::Platform;
use memory::GuestMemory;

/// The L bit of a code segment's access rights.
const CODE_64_BIT: u32 = 1 << 13;

impl<B: VcpuBackend> Vcpu<B> {
    /// The vCPU is about to run on a core: steal time, and what others asked of a processor that did not run. `waited` tells
    /// how many ticks it has waited for cores in all of its life, if the guest wants to know. The backend must be loaded on
    /// this core.
    #[inline]
    pub fn scheduled_in<M: GuestMemory, P: Platform>(&mut self, vm: &Vm<M, P>, waited: impl FnOnce() -> Tsc) {
        if !self.paravirt.counts_waits() {
            self.paravirt.loaded_uncounted();
        } else if self.paravirt.loaded(&vm.memory, vm.clock.span(waited())) == Loaded::FlushTlb {
            self.backend.flush_translations();
        }
        if self.paravirt.clock_is_stale(vm.tsc_agreement().generation()) {
            self.rewrite_clock(vm);
        }
    }

    /// The vCPU left its core with `leave`.
    #[inline]
    pub fn scheduled_out<M: GuestMemory, P: Platform>(&mut self, vm: &Vm<M, P>, leave: Leave) {
        let why = match leave {
            Leave::Halted | Leave::Stopped(_) => Departure::AtRest,
            Leave::HostInterrupt | Leave::HostNmi | Leave::HostMachineCheck | Leave::SliceEnd => {
                Departure::Preempted
            }
        };
        self.paravirt.descheduled(&vm.memory, why);
    }

    /// Writes the paravirtual clock's record anew.
    #[cold]
    pub(crate) fn rewrite_clock<M: GuestMemory, P: Platform>(&mut self, vm: &Vm<M, P>) {
        let times = self.times(vm);
        self.paravirt.tsc_changed(&vm.memory, &times);
    }

    /// What the paravirtual clock is made from.
    pub(crate) fn times<M, P: Platform>(&self, vm: &Vm<M, P>) -> Times {
        Times::new(&vm.clock, self.tsc_offset, vm.tsc_agreement(), vm.unix_at_zero())
    }

    /// Ends the interrupt that the guest ended by its memory. Before anything looks at what is in service.
    #[inline]
    pub(crate) fn take_eoi<M: GuestMemory, P: Platform>(&mut self, vm: &Vm<M, P>) {
        if self.paravirt.eoi_is_offered() {
            self.take_offered_eoi(vm);
        }
    }

    #[cold]
    fn take_offered_eoi<M: GuestMemory, P: Platform>(&mut self, vm: &Vm<M, P>) {
        if self.paravirt.withdraw_eoi(&vm.memory) == Ending::Ended {
            // Offered for edge-triggered vectors alone: nobody else wants to know.
            let _nobody = self.lapic.end_of_interrupt();
        }
    }

    /// How wide the registers of the running program are.
    pub(crate) fn call_mode(&self) -> CallMode {
        let long = self.backend.efer().contains(EferFlags::LONG_MODE_ACTIVE);
        if long && self.backend.access_rights(SegmentRegister::Cs) & CODE_64_BIT != 0 {
            CallMode::Bits64
        } else {
            CallMode::Bits32
        }
    }
}
