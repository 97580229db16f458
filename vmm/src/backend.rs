//! The boundary between the virtual machine and the hardware that runs it.
//!
//! `vmx` implements [`VcpuBackend`] on VT-x; `tests/vm_sim` implements it with scripts. Exits are decoded on the
//! far side, once; this side never sees a VMCS.

use crate::lapic::VectorSet;
use crate::{CpuState, Event, ExtendedLayout, ExtendedState, PendingEvent, VmExit};
use arch::{
    Cr0Flags, Cr4Flags, EferFlags, Gprs, Msr, RFlags, Segment, SegmentRegister, Tsc, Vector, VectorRegister,
    VectorValue,
};
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

/// How much of a guest's interrupts the processor can deliver by itself, while the guest's local APIC is lent to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum InterruptSupport {
    /// Nothing: every interrupt is an injected event.
    Software,
    /// What was requested before the entry, with priorities, EOI and self-IPIs (SDM Vol. 3C, "APIC Virtualization and
    /// Virtual Interrupts").
    Virtual,
    /// Also what other cores post into the inbox's descriptor while the guest runs (SDM Vol. 3C, "Posted-Interrupt
    /// Processing").
    Posted,
}

/// How a guest reaches its local APIC while that is lent to the processor. In the order in which processors learned it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lending {
    /// Through MSRs: it is in x2APIC mode.
    Msrs,
    /// Through memory: it is in xAPIC mode, with its page of registers where it is after reset (SDM Vol. 3C,
    /// "Virtualizing Memory-Mapped APIC Accesses").
    Page,
}

/// The registers of a local APIC that the processor changes by itself when it delivers interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ApicRegisters {
    /// TPR.
    pub task_priority: u8,
    /// ISR.
    pub in_service: VectorSet,
    /// IRR.
    pub requested: VectorSet,
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

    /// DR0 to DR3.
    fn breakpoints(&self) -> [u64; 4];

    /// Has the instruction at hand end in a debug exception for the breakpoints `met`, a bit each from bit 0 on. The
    /// caller moves RIP behind it, or has it done an iteration.
    fn meet_breakpoints(&mut self, met: u64);

    /// IA32_EFER.
    fn efer(&self) -> EferFlags;

    /// Sets IA32_EFER; the caller has checked the value.
    fn set_efer(&mut self, value: EferFlags);

    /// CR0, CR4 and IA32_EFER as far as they decide over modes and paging, for comparison: where one of those bits
    /// changes, so does this.
    fn paging_registers(&self) -> [u64; 3] {
        [self.cr0().bits(), self.cr4().bits(), self.efer().bits()]
    }

    /// A segment register.
    fn segment(&self, register: SegmentRegister) -> Segment;

    /// The access rights of a segment register alone.
    fn access_rights(&self, register: SegmentRegister) -> u32 {
        self.segment(register).access_rights
    }

    /// A vector register.
    fn vector(&self, register: VectorRegister) -> VectorValue;

    /// Sets a vector register. Parts that the processor does not have are ignored.
    fn set_vector(&mut self, register: VectorRegister, value: &VectorValue);

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

    /// Forgets every translation of the guest's own tables that the processor holds, global ones too.
    fn flush_translations(&mut self);

    /// What blocks events now.
    fn interruptibility(&self) -> Interruptibility;

    /// Has the event, if any, whose delivery the last exit cut off delivered again on the next entry. Called for
    /// every exit that can do so: EPT faults and exceptions.
    fn recover_event(&mut self);

    /// Whether the next entry delivers an event already: one that an exit cut off, or an injected one.
    fn has_pending_event(&self) -> bool;

    /// Has the exception that the last exit reported delivered by the next entry, if INT1 raised it: unlike the other
    /// debug exceptions that come as faults it leaves RIP behind the instruction, and DR6 alone. Returns whether it was.
    fn deliver_int1(&mut self) -> bool;

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

    /// How much of the guest's interrupts the processor can deliver. Never changes. The methods below are used only
    /// where it is more than nothing.
    fn interrupt_support(&self) -> InterruptSupport {
        InterruptSupport::Software
    }

    /// Whether [`Lending::Page`] is possible too, where the processor can deliver interrupts. Never changes.
    fn lends_page(&self) -> bool {
        false
    }

    /// Lends the local APIC's registers to the processor: from the next entry on it delivers what they request, and the
    /// guest's accesses to TPR, EOI, ISR, TMR, IRR and CR8 do not exit. `level_triggered` is TMR.
    ///
    /// With [`Lending::Msrs`] those to PPR and SELF IPI do not exit either. With [`Lending::Page`] reads of most others
    /// give what [`Self::set_lent_register`] set, which the caller does next; writes to them exit with
    /// [`VmExit::ApicWrite`], but for the command register's upper half, and its lower half when that asks for a
    /// self-IPI; what else touches the page exits with [`VmExit::ApicAccess`].
    fn lend_apic(&mut self, _lending: Lending, _registers: &ApicRegisters, _level_triggered: VectorSet) {}

    /// Takes the registers back: from the next entry on every interrupt is an injected event.
    fn take_back_apic(&mut self) -> ApicRegisters {
        ApicRegisters::default()
    }

    /// The lent registers as they are. The vCPU need not be loaded.
    fn lent_apic(&self) -> ApicRegisters {
        ApicRegisters::default()
    }

    /// The lent register at `offset`: what the guest wrote last, after [`VmExit::ApicWrite`]. The vCPU need not be loaded.
    fn lent_register(&self, _offset: u16) -> u32 {
        0
    }

    /// Sets what the guest reads at `offset` of a page that is lent.
    fn set_lent_register(&mut self, _offset: u16, _value: u32) {}

    /// Requests interrupts: adds them to the lent IRR.
    fn request(&mut self, _vectors: VectorSet) {}

    /// Requests one interrupt that is not level-triggered.
    fn request_one(&mut self, vector: Vector) {
        let mut vectors = VectorSet::EMPTY;
        vectors.insert(vector);
        self.request(vectors);
    }

    /// Sets TMR: an EOI of one of these vectors exits with [`VmExit::EoiInduced`]. Cheap when nothing changes.
    fn set_level_triggered(&mut self, _vectors: VectorSet) {}

    /// Whether an interrupt requested in the lent IRR, or one of `further`, outranks what the lent registers say the
    /// processor does. The vCPU need not be loaded.
    fn interrupt_waits(&self, _further: VectorSet) -> bool {
        false
    }
}
