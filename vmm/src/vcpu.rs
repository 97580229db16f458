//! One virtual processor: runs, handles its exits to completion, delivers its events.
//!
//! Only this file moves RIP, blocks, and injects. Handlers in `exits/` return an [`Outcome`].

use crate::lapic::{self, Delivery, LocalApic};
use crate::{
    CpuState, CpuidPolicy, Event, Interruptibility, MsrState, Outcome, Stats, StopReason, VcpuBackend, Vm,
    Yield, exits,
};
use arch::{Exception, RFlags, Tsc, Vector};
use bus::{Attention, InterruptMessage, Platform, PowerRequest};
use emulate::Emulator;
use memory::GuestMemory;

/// DR7.GD: the next access to a debug register is a #DB.
const DR7_GENERAL_DETECT: u64 = 1 << 13;

/// Where a vCPU is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunState {
    /// It wants a core.
    Runnable,
    /// HLT: it waits for an event.
    Halted,
    /// It ended.
    Stopped(StopReason),
}

/// Why [`Vcpu::run`] came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leave {
    /// A host interrupt waits; the vCPU can go on at once.
    HostInterrupt,
    /// A host NMI arrived: its handler must run before NMIs are taken again.
    HostNmi,
    /// A machine check arrived: the host's handler decides what becomes of the machine.
    HostMachineCheck,
    /// The slice is over.
    SliceEnd,
    /// The guest halted; [`Vcpu::next_timer`] tells when to look again at the latest.
    Halted,
    /// The guest ended.
    Stopped(StopReason),
}

/// What a vCPU is made from, beside its backend.
#[derive(Debug)]
pub struct VcpuConfig {
    /// The CPUID table.
    pub cpuid: CpuidPolicy,
    /// The local APIC.
    pub lapic: lapic::Config,
    /// Storage MSRs.
    pub msrs: MsrState,
    /// The XSAVE state components that the guest may enable.
    pub xcr0_allowed: u64,
    /// Added to the host's TSC for the guest's.
    pub tsc_offset: u64,
}

/// A virtual processor on backend `B`.
#[derive(Debug)]
pub struct Vcpu<B> {
    pub(crate) backend: B,
    pub(crate) lapic: LocalApic,
    pub(crate) lapic_config: lapic::Config,
    pub(crate) emulator: Emulator,
    pub(crate) cpuid: CpuidPolicy,
    pub(crate) msrs: MsrState,
    pub(crate) xcr0_allowed: u64,
    pub(crate) tsc_offset: u64,
    pub(crate) stats: Stats,
    /// The host's TSC of the next guest timer: local APIC or device.
    pub(crate) timer: Tsc,
    /// The end of the turn on the core.
    slice_end: Tsc,
    /// The earlier of the two: how long the guest may run.
    deadline: Tsc,
    /// Events must be looked at before the next entry.
    pub(crate) events_changed: bool,
    pub(crate) nmi_pending: bool,
    /// An acknowledged interrupt whose delivery an exception cut off: the first to be injected again.
    pub(crate) displaced: Option<Vector>,
    pub(crate) run_state: RunState,
    last_rip: u64,
}

impl<B: VcpuBackend> Vcpu<B> {
    /// A vCPU that starts from `state`. The backend must be loaded on this core.
    pub fn new(mut backend: B, config: VcpuConfig, state: &CpuState) -> Self {
        backend.restore(state);
        backend.set_tsc_offset(config.tsc_offset);
        Self {
            backend,
            lapic: LocalApic::new(config.lapic),
            lapic_config: config.lapic,
            emulator: Emulator::new(),
            cpuid: config.cpuid,
            msrs: config.msrs,
            xcr0_allowed: config.xcr0_allowed,
            tsc_offset: config.tsc_offset,
            stats: Stats::new(),
            timer: Tsc(0),
            slice_end: Tsc(0),
            deadline: Tsc(0),
            events_changed: true,
            nmi_pending: false,
            displaced: None,
            run_state: RunState::Runnable,
            last_rip: state.rip,
        }
    }

    /// The backend, for loading it on a core and for dumps.
    pub const fn backend(&self) -> &B {
        &self.backend
    }

    /// The backend, for loading it on a core and for dumps.
    pub const fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Counters and the last exits.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// RIP when [`Self::run`] last came back.
    pub const fn last_rip(&self) -> u64 {
        self.last_rip
    }

    /// Where in its life the vCPU is.
    pub const fn run_state(&self) -> RunState {
        self.run_state
    }

    /// The host's TSC at which [`Self::poll`] must be called at the latest while the vCPU halts.
    pub const fn next_timer(&self) -> Tsc {
        self.timer
    }

    /// The guest's TSC at `now` of the host.
    #[inline]
    pub(crate) const fn guest_tsc(&self, now: Tsc) -> Tsc {
        Tsc(now.0.wrapping_add(self.tsc_offset))
    }

    /// Ends the vCPU for `reason`.
    pub const fn stop(&mut self, reason: StopReason) {
        self.run_state = RunState::Stopped(reason);
    }

    /// Looks after timers and events of a vCPU that is not running. Returns whether it wants a core.
    pub fn poll<M: GuestMemory, P: Platform>(&mut self, vm: &mut Vm<M, P>, now: Tsc) -> bool {
        if now >= self.timer {
            self.fire_timers(vm, now);
        }
        self.take_platform_events(vm);
        match self.run_state {
            RunState::Runnable => true,
            RunState::Halted => {
                if self.wakes(&vm.platform) {
                    self.run_state = RunState::Runnable;
                    self.events_changed = true;
                    return true;
                }
                false
            }
            RunState::Stopped(_) => false,
        }
    }

    /// Runs the guest until the slice ends at `slice_end` of the host's TSC, or something else ends the turn.
    /// The backend must be loaded on this core.
    // A function of its own, so that the hot loop has the registers to itself.
    #[inline(never)]
    pub fn run<M: GuestMemory, P: Platform>(&mut self, vm: &mut Vm<M, P>, slice_end: Tsc) -> Leave {
        let mut now = self.backend.tsc();
        match self.run_state {
            RunState::Runnable => {}
            RunState::Halted => {
                if !self.poll(vm, now) {
                    return Leave::Halted;
                }
            }
            RunState::Stopped(reason) => return Leave::Stopped(reason),
        }
        self.slice_end = slice_end;
        self.deadline = slice_end.min(self.timer);
        let started = now;
        let leave = loop {
            if now >= self.deadline {
                self.fire_timers(vm, now);
                if now >= slice_end {
                    break Leave::SliceEnd;
                }
            }
            if self.events_changed {
                self.deliver_events(&mut vm.platform);
            }
            let exit = self.backend.run(now, self.deadline);
            now = self.backend.tsc();
            let reason = exit.reason();
            self.stats.exit(reason, now);
            let leave = match exits::handle(self, vm, &exit, now) {
                Outcome::Advance => {
                    let rip = self.backend.advance();
                    self.stats.note_rip(rip);
                    None
                }
                Outcome::Retry => None,
                outcome @ (Outcome::JumpTo(_)
                | Outcome::Fault(_)
                | Outcome::Halt
                | Outcome::Yield(_)
                | Outcome::Stop(_)) => self.settle(&vm.platform, outcome),
            };
            let end = self.backend.tsc();
            self.stats.charge(reason, end.0.wrapping_sub(now.0));
            now = end;
            if let Some(leave) = leave {
                break leave;
            }
        };
        self.stats.add_turn(now.0.wrapping_sub(started.0));
        self.last_rip = self.backend.rip();
        leave
    }

    /// Acts on the rarer outcomes.
    #[cold]
    fn settle<P: Platform>(&mut self, platform: &P, outcome: Outcome) -> Option<Leave> {
        match outcome {
            Outcome::Advance | Outcome::Retry => None,
            Outcome::JumpTo(rip) => {
                self.backend.advance_to(rip);
                None
            }
            Outcome::Fault(exception) => {
                self.raise(exception);
                None
            }
            Outcome::Halt => {
                self.backend.advance();
                // The single step over HLT traps at once, and a trap ends the halt.
                if self.backend.has_pending_trap() || self.wakes(platform) {
                    self.events_changed = true;
                    return None;
                }
                if self.halted_forever() {
                    return Some(self.end(StopReason::HaltedForever));
                }
                self.run_state = RunState::Halted;
                Some(Leave::Halted)
            }
            Outcome::Yield(Yield::HostInterrupt) => Some(Leave::HostInterrupt),
            Outcome::Yield(Yield::HostNmi) => Some(Leave::HostNmi),
            Outcome::Yield(Yield::HostMachineCheck) => Some(Leave::HostMachineCheck),
            Outcome::Stop(reason) => Some(self.end(reason)),
        }
    }

    fn end(&mut self, reason: StopReason) -> Leave {
        let rip = self.backend.rip();
        self.stats.note_rip(rip);
        self.run_state = RunState::Stopped(reason);
        Leave::Stopped(reason)
    }

    /// Delivers `exception`, with the register effects that the CPU has before delivery.
    fn raise(&mut self, exception: Exception) {
        if let Exception::PageFault { address, .. } = exception {
            self.backend.set_cr2(address);
        } else if let Exception::Debug { dr6 } = exception {
            // SDM Vol. 3B, "Debug Status Register (DR6)": B0 to B3 are replaced, the others accumulate.
            let before = self.backend.dr6();
            self.backend.set_dr6(before & !0xf | dr6);
            // SDM Vol. 3B, "Debug Control Register (DR7)": the handler may use the debug registers.
            let dr7 = self.backend.dr7();
            if dr7 & DR7_GENERAL_DETECT != 0 {
                self.backend.set_dr7(dr7 & !DR7_GENERAL_DETECT);
            }
        }
        match self.backend.displace_event() {
            Some(Event::Nmi) => self.nmi_pending = true,
            Some(Event::Interrupt(vector)) => self.displaced = Some(vector),
            Some(Event::Exception(_)) | None => {}
        }
        self.backend.inject(Event::Exception(exception));
        self.events_changed = true;
    }

    /// Whether an HLT that starts now would end at once.
    fn wakes<P: Platform>(&self, platform: &P) -> bool {
        if self.nmi_pending || self.backend.has_pending_event() {
            return true;
        }
        self.backend.rflags().contains(RFlags::INTERRUPT_FLAG) && self.interrupt_waits(platform)
    }

    /// Whether nothing can end an HLT: interrupts are off, and a single processor has no one to send it an NMI.
    fn halted_forever(&self) -> bool {
        !self.backend.rflags().contains(RFlags::INTERRUPT_FLAG)
    }

    fn interrupt_waits<P: Platform>(&self, platform: &P) -> bool {
        self.displaced.is_some()
            || self.lapic.pending_vector().is_some()
            || (platform.external_interrupt() && self.lapic.accepts_external_interrupt())
    }

    /// Injects the most urgent event, or asks for the window in which it can be.
    ///
    /// Runs once before an entry and after the scheduling decision, so that nothing overwrites what it injects.
    fn deliver_events<P: Platform>(&mut self, platform: &mut P) {
        self.events_changed = false;
        let blocking = self.backend.interruptibility();
        let mut slot_free = !self.backend.has_pending_event();
        let shadowed = blocking.intersects(Interruptibility::STI | Interruptibility::MOV_SS);

        if self.nmi_pending {
            if slot_free && !shadowed && !blocking.contains(Interruptibility::NMI) {
                self.nmi_pending = false;
                self.backend.inject(Event::Nmi);
                slot_free = false;
                self.backend.set_nmi_window(false);
            } else {
                self.backend.set_nmi_window(true);
            }
        }

        if !self.interrupt_waits(platform) {
            self.backend.set_interrupt_window(false);
            return;
        }
        let open = slot_free && !shadowed && self.backend.rflags().contains(RFlags::INTERRUPT_FLAG);
        if !open {
            self.backend.set_interrupt_window(true);
            return;
        }
        // The 8259's request comes before the local APIC's, as INTR has no priority among its vectors.
        let vector = if let Some(vector) = self.displaced.take() {
            vector
        } else if platform.external_interrupt() && self.lapic.accepts_external_interrupt() {
            platform.acknowledge_external_interrupt()
        } else if let Some(vector) = self.lapic.pending_vector() {
            self.lapic.acknowledge(vector);
            vector
        } else {
            return;
        };
        self.backend.inject(Event::Interrupt(vector));
        let more = self.interrupt_waits(platform);
        self.backend.set_interrupt_window(more);
    }

    /// Runs the timers that are due at `now` and finds the next one.
    pub(crate) fn fire_timers<M, P: Platform>(&mut self, vm: &mut Vm<M, P>, now: Tsc) {
        let guest_now = self.guest_tsc(now);
        self.lapic.advance(guest_now);
        // Also when nothing fires here: a read of the current count fires a timer that is due.
        self.events_changed = true;
        let time = vm.clock.nanos(now);
        if vm.platform.next_deadline() <= time {
            vm.platform.advance(time);
        }
        self.take_platform_events(vm);
        self.update_timer(vm);
    }

    /// Recomputes the deadline of the next guest timer.
    pub(crate) fn update_timer<M, P: Platform>(&mut self, vm: &Vm<M, P>) {
        let now = self.backend.tsc();
        let guest_now = self.guest_tsc(now);
        // From the distance, as the guest's TSC has any offset: a due time beyond the host's end never comes.
        let lapic = match self.lapic.timer_deadline() {
            None | Some(Tsc::NEVER) => Tsc::NEVER,
            Some(due) => now + (due - guest_now),
        };
        self.timer = lapic.min(vm.clock.tsc(vm.platform.next_deadline()));
        self.deadline = self.timer.min(self.slice_end);
    }

    /// Takes what devices did since the last look; returns a power request if there is one.
    #[inline]
    pub(crate) fn take_platform_events<M, P: Platform>(&mut self, vm: &mut Vm<M, P>) -> Option<PowerRequest> {
        let attention = vm.platform.take_attention();
        if attention.is_empty() {
            return None;
        }
        self.serve_platform(vm, attention)
    }

    #[cold]
    fn serve_platform<M, P: Platform>(
        &mut self,
        vm: &mut Vm<M, P>,
        attention: Attention,
    ) -> Option<PowerRequest> {
        if attention.contains(Attention::INTERRUPT) {
            while let Some(message) = vm.platform.take_message() {
                self.route(message);
            }
            self.events_changed = true;
        }
        if attention.contains(Attention::DEADLINE) {
            self.update_timer(vm);
        }
        if attention.contains(Attention::POWER) { vm.platform.take_power_request() } else { None }
    }

    /// Hands an interrupt message to the local APIC if it is for this processor.
    pub(crate) fn route(&mut self, message: InterruptMessage) {
        if self.lapic.matches(message.destination) {
            self.accept(message);
        }
    }

    /// Hands an interrupt message to the local APIC.
    pub(crate) fn accept(&mut self, message: InterruptMessage) {
        match self.lapic.accept(message) {
            Delivery::Nmi => self.nmi_pending = true,
            // INTR of the 8259 is looked at before every entry anyway. A running bootstrap processor ignores
            // SIPI; SMI has no handler to go to; an INIT to oneself is a reset that firmware alone uses.
            Delivery::Pending
            | Delivery::ExternalInterrupt
            | Delivery::Refused
            | Delivery::Init
            | Delivery::StartUp(_)
            | Delivery::Smi => {}
        }
        self.events_changed = true;
    }

    /// Delivers an NMI from outside the guest.
    pub const fn send_nmi(&mut self) {
        self.nmi_pending = true;
        self.events_changed = true;
    }
}
