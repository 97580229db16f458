//! Saving and restoring a vCPU and a virtual machine: state as plain data, restored in the order clock, devices,
//! processor. RAM is the caller's, through [`memory::GuestMemory`]: it may copy it, share it, or leave it in place.

use crate::clock::BadClock;
use crate::exits::extended_state;
use crate::lapic::{self, LocalApic};
use crate::paravirt::{self, Paravirt};
use crate::vm::DEVICE_VCPU;
use crate::{
    BadExtendedState, ClockState, CpuState, ExtendedState, MsrState, PendingEvent, RunState, Vcpu,
    VcpuBackend, Vm,
};
use alloc::vec::Vec;
use arch::{Cr4Flags, Msr, Nanos, Tsc, Vector};
use bus::{Platform, SavePlatform};
use memory::{GuestMemory, NotArranged};

/// A saved vCPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VcpuSnapshot {
    /// The processor's registers.
    pub cpu: CpuState,
    /// x87, vector and protection-key registers.
    pub extended: ExtendedState,
    /// XCR0.
    pub xcr0: u64,
    /// The event that the next entry was to deliver.
    pub event: Option<PendingEvent>,
    /// An acknowledged interrupt whose delivery an exception cut off.
    pub displaced: Option<Vector>,
    /// The local APIC.
    pub lapic: lapic::State,
    /// Storage MSRs.
    pub msrs: MsrState,
    /// The guest's TSC when it was saved.
    pub guest_tsc: u64,
    /// An NMI waits.
    pub nmi_pending: bool,
    /// An interrupt of the 8259 pair waits to be acknowledged, as a message asked.
    pub external_pending: bool,
    /// An INIT waits.
    pub init_pending: bool,
    /// A start-up IPI waits.
    pub start_up: Option<Vector>,
    /// The paravirtual interface.
    pub paravirt: paravirt::State,
    /// Where in its life it is.
    pub run_state: RunState,
}

/// A saved virtual machine with devices whose state is `S`, without its RAM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmSnapshot<S> {
    /// The time since its creation.
    pub clock: ClockState,
    /// The devices.
    pub platform: S,
    /// The processors, by their number.
    pub vcpus: Vec<VcpuSnapshot>,
}

/// Why a snapshot cannot be restored here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RestoreError {
    /// The local APIC's state is impossible.
    Lapic(lapic::BadState),
    /// A register holds an address that the processor would refuse.
    NotCanonical(Msr, u64),
    /// XCR0 has components that this virtual machine does not offer, or an impossible mixture.
    XCr0(u64),
    /// The extended state is another processor's, or damaged.
    Extended(BadExtendedState),
    /// A register of the paravirtual interface holds what no guest could have written.
    Paravirt(paravirt::BadState),
    /// The TSC here runs at another frequency.
    Clock(BadClock),
    /// The host has no memory for the tables that the guest's memory takes.
    NoTables,
}

impl core::fmt::Display for RestoreError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Lapic(error) => write!(f, "the local APIC's state is impossible: {error:?}"),
            Self::NotCanonical(msr, value) => write!(f, "MSR {msr} holds {value:#x}, which is not canonical"),
            Self::XCr0(value) => write!(f, "XCR0 is {value:#x}, which this virtual machine does not offer"),
            Self::Extended(BadExtendedState::Layout(layout)) => write!(
                f,
                "the extended state has components {:#x} in {} bytes, unlike this processor's",
                layout.components, layout.bytes
            ),
            Self::Extended(BadExtendedState::Header) => f.write_str("the XSAVE header is damaged"),
            Self::Extended(BadExtendedState::Mxcsr(value)) => write!(f, "MXCSR is {value:#x}"),
            Self::Paravirt(error) => write!(f, "the paravirtual interface's state is impossible: {error:?}"),
            Self::NoTables => f.write_str("the host has no memory left for this guest's tables"),
            Self::Clock(error) => {
                write!(f, "saved at a TSC of {} Hz, this one has {} Hz", error.saved_hz, error.host_hz)
            }
        }
    }
}

impl<B: VcpuBackend> Vcpu<B> {
    /// Takes what waits in the inbox into the vCPU: what [`Self::save`] saves is complete then, as long as nobody
    /// sends more.
    pub fn collect<M: GuestMemory, P: Platform>(&mut self, vm: &Vm<M, P>) {
        self.take_eoi(vm);
        if self.inbox.has_signals() {
            self.open_inbox(vm);
        }
    }

    /// Saves the vCPU at `now`, behind [`Self::collect`]. The backend must be loaded on this core.
    pub fn save(&self, now: Tsc) -> VcpuSnapshot {
        VcpuSnapshot {
            cpu: self.backend.save(),
            extended: self.backend.save_extended(),
            xcr0: self.backend.xcr0(),
            event: self.backend.pending_event(),
            displaced: self.displaced,
            lapic: self.lapic_state(),
            msrs: self.msrs,
            guest_tsc: self.guest_tsc(now).0,
            nmi_pending: self.nmi_pending,
            external_pending: self.external_pending,
            init_pending: self.init_pending,
            start_up: self.start_up,
            paravirt: self.paravirt.save(),
            run_state: self.run_state,
        }
    }

    /// Checks what would end in an exception of the host's, or in a processor that cannot be.
    fn check(&self, snapshot: &VcpuSnapshot) -> Result<(LocalApic, Paravirt), RestoreError> {
        let lapic = LocalApic::restore(self.lapic_config, &snapshot.lapic).map_err(RestoreError::Lapic)?;
        let linear_bits = if self.cpuid.cr4_allowed().contains(Cr4Flags::L5_PAGING) { 57 } else { 48 };
        if let Some((msr, value)) = snapshot.cpu.first_not_canonical(linear_bits) {
            return Err(RestoreError::NotCanonical(msr, value));
        }
        if snapshot.xcr0 != 1 && !extended_state::is_valid(snapshot.xcr0, self.xcr0_allowed) {
            return Err(RestoreError::XCr0(snapshot.xcr0));
        }
        snapshot.extended.check(self.backend.extended_layout()).map_err(RestoreError::Extended)?;
        let mut paravirt = Paravirt::new(self.paravirt.offered());
        paravirt.restore(&snapshot.paravirt, Nanos(0)).map_err(RestoreError::Paravirt)?;
        Ok((lapic, paravirt))
    }

    /// Whether [`Self::restore`] would take `snapshot`.
    ///
    /// # Errors
    /// [`RestoreError`] when the state is impossible or another processor's.
    pub fn accepts(&self, snapshot: &VcpuSnapshot) -> Result<(), RestoreError> {
        self.check(snapshot).map(|_| ())
    }

    /// Restores a saved vCPU at `now`; the guest's TSC goes on where it was. The backend must be loaded on this
    /// core. The machine's clock, devices and RAM come first ([`Vm::restore`]). All vCPUs of a machine are restored at
    /// one `now`, and then waited for cores for no time at all.
    ///
    /// # Errors
    /// [`RestoreError`] when the state is impossible or another processor's; the vCPU is unchanged then.
    pub fn restore<M: GuestMemory, P: Platform>(
        &mut self,
        vm: &Vm<M, P>,
        snapshot: &VcpuSnapshot,
        now: Tsc,
    ) -> Result<(), RestoreError> {
        let (lapic, paravirt) = self.check(snapshot)?;
        self.tsc_offset = snapshot.guest_tsc.wrapping_sub(now.0);
        self.backend.set_tsc_offset(self.tsc_offset);
        self.take_back_apic();
        self.lapic = lapic;
        self.publish_addressing();
        self.msrs = snapshot.msrs;
        self.backend.restore(&snapshot.cpu);
        self.backend.restore_extended(&snapshot.extended);
        self.backend.set_xcr0(snapshot.xcr0);
        self.backend.set_pending_event(snapshot.event);
        self.displaced = snapshot.displaced;
        self.nmi_pending = snapshot.nmi_pending;
        self.external_pending = snapshot.external_pending;
        self.init_pending = snapshot.init_pending;
        self.start_up = snapshot.start_up;
        // Asked for again when it is needed, but given back only with the NMI that it was asked for.
        self.backend.set_nmi_window(false);
        self.run_state = snapshot.run_state;
        self.halted_flags = snapshot.cpu.rflags;
        if core::mem::replace(&mut self.asleep, false) {
            vm.awake();
        }
        self.timer = Tsc(0);
        self.events_changed = true;
        self.paravirt = paravirt;
        if self.index == DEVICE_VCPU {
            vm.tsc_agreement().restart(self.tsc_offset);
        }
        // Whether others are to be told is no question: all are restored.
        let _all_are = vm.tsc_agreement().set(self.index, self.tsc_offset);
        let times = self.times(vm);
        self.paravirt.resumed(&vm.memory, &times);
        Ok(())
    }
}

impl<M, P: Platform + SavePlatform> Vm<M, P> {
    /// Saves everything but RAM at `now` of the host's TSC, with the states of all vCPUs, saved at that time.
    pub fn save(&self, vcpus: Vec<VcpuSnapshot>, now: Tsc) -> VmSnapshot<P::State> {
        VmSnapshot { clock: self.clock.save(now), platform: self.platform().save(), vcpus }
    }

    /// Becomes the machine that was saved, at `now` of the host's TSC: its time goes on where it was. RAM must hold
    /// what it held then before a vCPU runs; the vCPUs are restored next.
    ///
    /// # Errors
    /// [`RestoreError`] when the clock cannot go on here; nothing is changed then. Or when memory cannot be switched to
    /// what it was: the machine is of no use then.
    pub fn restore(&mut self, snapshot: &VmSnapshot<P::State>, now: Tsc) -> Result<(), RestoreError>
    where
        M: GuestMemory,
    {
        self.clock = self.clock.resumed(&snapshot.clock, now).map_err(RestoreError::Clock)?;
        self.platform_mut().restore(&snapshot.platform);
        self.refresh(&self.platform());
        self.arrange_memory().map_err(|NotArranged| RestoreError::NoTables)
    }
}
