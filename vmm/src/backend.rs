//! The boundary between the virtual machine and the hardware that runs it.
//!
//! `vmx` implements [`VcpuBackend`] on VT-x; `tests/vm_sim` implements it with scripts. Exits are decoded on the
//! far side, once; this side never sees a VMCS.

use crate::{CpuState, Event, ExtendedLayout, ExtendedState, PendingEvent, VmExit};
use arch::{Cr0Flags, Cr4Flags, EferFlags, Gprs, Msr, RFlags, Segment, SegmentRegister, Tsc};
use bitflags::bitflags;

bitflags! {
    /// What keeps events from being delivered (SDM Vol. 3C, "Format of Interruptibility State").
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Interruptibility: u8 {
        /// The instruction after STI.
        const STI = 1 << 0;
        /// The instruction after MOV SS or POP SS.
        const MOV_SS = 1 << 1;
        /// An SMI is handled.
        const SMI = 1 << 2;
        /// An NMI is handled.
        const NMI = 1 << 3;
    }
}

/// Hardware, or a script, that runs one virtual processor.
///
/// Methods other than [`Self::run`] act on the stopped processor. All of them expect that the vCPU is loaded on
/// the calling core.
pub trait VcpuBackend {
    /// Enters the guest until it exits, at the latest when the host's TSC reaches `deadline`. `now` is the host's
    /// TSC, read a moment ago.
    fn run(&mut self, now: Tsc, deadline: Tsc) -> VmExit;

    /// The host's TSC now.
    fn tsc(&self) -> Tsc;

    /// The general-purpose registers without RSP.
    fn gprs(&self) -> &Gprs;

    /// The general-purpose registers without RSP, to change.
    fn gprs_mut(&mut self) -> &mut Gprs;

    /// Moves RIP past the instruction that exited, ends STI and MOV SS blocking, and makes the single-step trap
    /// pending when RFLAGS.TF is set. Returns where the instruction was.
    fn advance(&mut self) -> u64;

    /// Moves RIP to `rip` after emulation, with the same effects as [`Self::advance`].
    fn advance_to(&mut self, rip: u64);

    /// RIP.
    fn rip(&self) -> u64;

    /// RSP.
    fn rsp(&self) -> u64;

    /// Sets RSP.
    fn set_rsp(&mut self, value: u64);

    /// RFLAGS.
    fn rflags(&self) -> RFlags;

    /// Sets RFLAGS.
    fn set_rflags(&mut self, value: RFlags);

    /// CR0 as the guest sees it.
    fn cr0(&self) -> Cr0Flags;

    /// Sets CR0; the caller has checked the value.
    fn set_cr0(&mut self, value: Cr0Flags);

    /// CR3.
    fn cr3(&self) -> u64;

    /// The four page-directory-pointer entries that PAE paging holds in the processor.
    fn pdptes(&self) -> [u64; 4];

    /// PKRU, which is asked for only while CR4.PKE is set.
    fn pkru(&self) -> u32;

    /// Sets the four page-directory-pointer entries that PAE paging holds in the processor.
    fn set_pdptes(&mut self, entries: [u64; 4]);

    /// CR4 as the guest sees it.
    fn cr4(&self) -> Cr4Flags;

    /// Sets CR4; the caller has checked the value.
    fn set_cr4(&mut self, value: Cr4Flags);

    /// Sets CR2, before a page fault is injected.
    fn set_cr2(&mut self, value: u64);

    /// DR6.
    fn dr6(&self) -> u64;

    /// Sets DR6.
    fn set_dr6(&mut self, value: u64);

    /// DR7.
    fn dr7(&self) -> u64;

    /// Sets DR7.
    fn set_dr7(&mut self, value: u64);

    /// IA32_EFER.
    fn efer(&self) -> EferFlags;

    /// Sets IA32_EFER; the caller has checked the value.
    fn set_efer(&mut self, value: EferFlags);

    /// A segment register.
    fn segment(&self, register: SegmentRegister) -> Segment;

    /// The access rights of a segment register alone.
    fn access_rights(&self, register: SegmentRegister) -> u32 {
        self.segment(register).access_rights
    }

    /// XCR0.
    fn xcr0(&self) -> u64;

    /// Sets XCR0; the caller has checked the value.
    fn set_xcr0(&mut self, value: u64);

    /// The offset that is added to the host's TSC for the guest.
    fn set_tsc_offset(&mut self, offset: u64);

    /// Reads an MSR that the processor itself holds for the guest (PAT and the like); `None` if it holds none
    /// of that number.
    fn read_msr(&self, msr: Msr) -> Option<u64>;

    /// Writes an MSR that the processor itself holds for the guest; `false` if it holds none of that number.
    fn write_msr(&mut self, msr: Msr, value: u64) -> bool;

    /// What blocks events now.
    fn interruptibility(&self) -> Interruptibility;

    /// Has the event, if any, whose delivery the last exit cut off delivered again on the next entry. Called for
    /// every exit that can do so: EPT faults and exceptions.
    fn recover_event(&mut self);

    /// Whether the next entry delivers an event already: one that an exit cut off, or an injected one.
    fn has_pending_event(&self) -> bool;

    /// Whether a trap of the last instruction (a single step, a data breakpoint) comes before the next one.
    fn has_pending_trap(&self) -> bool;

    /// Takes back the interrupt or NMI that the next entry was to deliver, so that an exception can come first: no
    /// instruction would raise it again. Anything else that is pending stays.
    fn displace_event(&mut self) -> Option<Event>;

    /// Delivers `event` on the next entry. The caller has checked that none is pending and none is blocked.
    fn inject(&mut self, event: Event);

    /// Exits as soon as the guest can take an interrupt (`true`), or not (`false`).
    fn set_interrupt_window(&mut self, wanted: bool);

    /// Exits as soon as the guest can take an NMI (`true`), or not (`false`).
    fn set_nmi_window(&mut self, wanted: bool);

    /// All registers, for save and for dumps.
    fn save(&self) -> CpuState;

    /// Loads all registers. Nothing is pending then but the traps in `state`.
    fn restore(&mut self, state: &CpuState);

    /// The event that the next entry delivers, for save.
    fn pending_event(&self) -> Option<PendingEvent>;

    /// Has the next entry deliver `event`, or none.
    fn set_pending_event(&mut self, event: Option<PendingEvent>);

    /// How extended state is laid out here.
    fn extended_layout(&self) -> ExtendedLayout;

    /// x87, vector and protection-key registers.
    fn save_extended(&self) -> ExtendedState;

    /// Loads x87, vector and protection-key registers; the caller has checked `state` against
    /// [`Self::extended_layout`].
    fn restore_extended(&mut self, state: &ExtendedState);
}
