//! One virtual processor: runs, handles its exits to completion, delivers its events.
//!
//! Only this file moves RIP, blocks, and injects. Handlers in `exits/` return an [`Outcome`].

use crate::inbox::{Inbox, Signals};
use crate::lapic::{self, Delivery, Level, LocalApic, Pin, Role};
use crate::paravirt::{self, CallMode, Departure, Ending, Loaded, Paravirt, Times};
use crate::vm::DEVICE_VCPU;
use crate::{
    CpuState, CpuidPolicy, Event, ExitReason, InterruptSupport, Interruptibility, MsrState, Outcome, Stats,
    StopReason, VcpuBackend, Vm, Yield, exits,
};
use alloc::sync::Arc;
use arch::{EferFlags, Exception, RFlags, SegmentRegister, Tsc, Vector};
use bus::{Attention, InterruptMessage, Platform, PowerRequest};
use emulate::Emulator;
use memory::GuestMemory;

/// The L bit of a code segment's access rights.
const CODE_64_BIT: u32 = 1 << 13;
/// DR7.GD: the next access to a debug register is a #DB.
const DR7_GENERAL_DETECT: u64 = 1 << 13;

/// Where a vCPU is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunState {
    /// It wants a core.
    Runnable,
    /// HLT: it waits for an event.
    Halted,
    /// INIT: it waits for a start-up IPI.
    WaitForSipi,
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
    /// The guest halted or waits for a start-up IPI; [`Vcpu::next_timer`] tells when to look again at the latest.
    Halted,
    /// The guest ended.
    Stopped(StopReason),
}

/// What a vCPU is made from, beside its backend.
#[derive(Debug)]
pub struct VcpuConfig {
    /// Its number in the virtual machine, from 0.
    pub index: usize,
    /// Its inbox: the one of that number in [`Vm::new`].
    pub inbox: Arc<Inbox>,
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
    /// The paravirtual interface that CPUID offers.
    pub paravirt: paravirt::Features,
}

/// A virtual processor on backend `B`.
#[derive(Debug)]
pub struct Vcpu<B> {
    pub(crate) backend: B,
    pub(crate) index: usize,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) lapic: LocalApic,
    pub(crate) lapic_config: lapic::Config,
    pub(crate) emulator: Emulator,
    pub(crate) cpuid: CpuidPolicy,
    pub(crate) msrs: MsrState,
    pub(crate) xcr0_allowed: u64,
    pub(crate) tsc_offset: u64,
    pub(crate) paravirt: Paravirt,
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
    /// An INIT waits until the processor's registers are at hand.
    pub(crate) init_pending: bool,
    /// A start-up IPI waits as well, behind the INIT if there is one.
    pub(crate) start_up: Option<Vector>,
    /// RFLAGS while the guest halts: what wakes it is decided without its registers at hand.
    pub(crate) halted_flags: RFlags,
    /// It is counted among those that only another vCPU can wake.
    pub(crate) asleep: bool,
    /// The backend can deliver interrupts by itself.
    pub(crate) apic_lendable: bool,
    /// It does: TPR, ISR and IRR are lent to it.
    pub(crate) apic_lent: bool,
    last_rip: u64,
}

impl<B: VcpuBackend> Vcpu<B> {
    /// A vCPU that starts from `state`, or waits for a start-up IPI if it is not the bootstrap processor. The backend
    /// must be loaded on this core.
    pub fn new(mut backend: B, config: VcpuConfig, state: &CpuState) -> Self {
        backend.restore(state);
        backend.set_tsc_offset(config.tsc_offset);
        let waits = config.lapic.role == Role::Application;
        let apic_lendable = backend.interrupt_support() != InterruptSupport::Software;
        Self {
            backend,
            index: config.index,
            inbox: config.inbox,
            lapic: LocalApic::new(config.lapic),
            lapic_config: config.lapic,
            emulator: Emulator::new(),
            cpuid: config.cpuid,
            msrs: config.msrs,
            xcr0_allowed: config.xcr0_allowed,
            tsc_offset: config.tsc_offset,
            paravirt: Paravirt::new(config.paravirt),
            stats: Stats::new(),
            timer: Tsc(0),
            slice_end: Tsc(0),
            deadline: Tsc(0),
            events_changed: true,
            nmi_pending: false,
            displaced: None,
            run_state: if waits { RunState::WaitForSipi } else { RunState::Runnable },
            init_pending: false,
            start_up: None,
            halted_flags: RFlags::empty(),
            // `Vm::new` has counted it.
            asleep: waits,
            apic_lendable,
            apic_lent: false,
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

    /// Its number in the virtual machine.
    pub const fn index(&self) -> usize {
        self.index
    }

    /// What others leave for it.
    pub const fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

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

    /// Looks after timers and events of a vCPU that is not running. Returns whether it wants a core. The backend need
    /// not be loaded.
    pub fn poll<M: GuestMemory, P: Platform>(&mut self, vm: &Vm<M, P>, now: Tsc) -> bool {
        self.take_eoi(vm);
        if self.inbox.has_signals() {
            self.open_inbox(vm);
        }
        if now >= self.timer {
            self.fire_timers(vm, now);
        }
        let wants = match self.run_state {
            RunState::Runnable => true,
            RunState::Halted => self.init_pending || self.wakes(vm, self.halted_flags),
            RunState::WaitForSipi => self.start_up.is_some(),
            RunState::Stopped(_) => false,
        };
        if wants && self.run_state == RunState::Halted {
            self.run_state = RunState::Runnable;
            self.events_changed = true;
        }
        self.count_sleep(vm, wants);
        wants
    }

    /// Keeps the count of vCPUs that only another one can wake.
    fn count_sleep<M, P: Platform>(&mut self, vm: &Vm<M, P>, wants: bool) {
        if self.asleep && wants {
            self.asleep = false;
            vm.awake();
        }
    }

    /// Takes what others left: interrupts go to the local APIC, the rest is noted.
    #[cold]
    pub(crate) fn open_inbox<M, P: Platform>(&mut self, vm: &Vm<M, P>) {
        // Before the inbox is emptied, so that nobody takes this machine for dead in between.
        let slept = core::mem::replace(&mut self.asleep, false);
        if slept {
            vm.awake();
        }
        let signals = self.inbox.take_signals();
        if signals.contains(Signals::INIT) {
            self.init_pending = true;
            self.start_up = None;
        }
        if signals.contains(Signals::START_UP) && self.start_up.is_none() {
            let [vector, ..] = signals.bits().to_le_bytes();
            self.start_up = Some(Vector(vector));
        }
        if signals.contains(Signals::NMI) {
            self.nmi_pending = true;
        }
        if signals.contains(Signals::ILLEGAL_VECTOR) {
            self.lapic.receive_illegal_vector();
        }
        if signals.contains(Signals::LINT1) {
            let delivery = self.lapic.set_pin(Pin::Lint1, Level::High);
            self.lapic.set_pin(Pin::Lint1, Level::Low);
            self.deliver(delivery);
        }
        if signals.contains(Signals::DEVICES) {
            self.look_at_lint0(vm);
            self.update_timer(vm);
        }
        // Also without the signal: a processor that was to take them by itself may not have run.
        self.inbox.take_requests(|vector, trigger| self.lapic.request_from_outside(vector, trigger));
        self.events_changed = true;
        if slept {
            self.asleep = true;
            vm.falls_asleep();
        }
    }

    /// Acts on an INIT and a start-up IPI, now that the registers are at hand.
    ///
    /// SDM Vol. 3A, "Multiple-Processor (MP) Initialization".
    #[cold]
    fn restart_processor<M, P: Platform>(&mut self, vm: &Vm<M, P>) {
        if core::mem::take(&mut self.init_pending) {
            let before = self.backend.save();
            self.backend.restore(&CpuState::after_init(&before));
            self.backend.set_pending_event(None);
            self.backend.set_nmi_window(false);
            self.take_back_apic();
            self.lapic.init();
            self.publish_addressing();
            self.paravirt.reset();
            self.nmi_pending = false;
            self.displaced = None;
            self.events_changed = true;
            self.run_state = match self.lapic_config.role {
                Role::Bootstrap => RunState::Runnable,
                Role::Application => RunState::WaitForSipi,
            };
            self.update_timer(vm);
        }
        // One that runs ignores it.
        if let Some(vector) = self.start_up.take()
            && self.run_state == RunState::WaitForSipi
        {
            let mut state = self.backend.save();
            state.start_at_page(vector.0);
            self.backend.restore(&state);
            self.run_state = RunState::Runnable;
            self.events_changed = true;
        }
    }

    /// Runs the guest until the slice ends at `slice_end` of the host's TSC, or something else ends the turn.
    /// The backend must be loaded on this core.
    // A function of its own, so that the hot loop has the registers to itself.
    #[inline(never)]
    pub fn run<M: GuestMemory, P: Platform>(&mut self, vm: &Vm<M, P>, slice_end: Tsc) -> Leave {
        let mut now = self.backend.tsc();
        if self.inbox.has_signals() {
            self.open_inbox(vm);
        }
        if self.run_state != RunState::Runnable || self.init_pending || self.start_up.is_some() {
            match self.resume(vm, now) {
                None => {}
                Some(leave) => return leave,
            }
        }
        self.slice_end = slice_end;
        self.deadline = slice_end.min(self.timer);
        let started = now;
        let leave = loop {
            if now >= self.deadline
                && let Some(leave) = self.at_deadline(vm, now)
            {
                break leave;
            }
            if self.events_changed {
                self.deliver_events(vm);
            }
            let exit = self.backend.run(now, self.deadline);
            let at = self.backend.tsc();
            let reason = exit.reason();
            self.stats.exit(reason, at);
            match exits::handle(self, vm, &exit, at) {
                Outcome::Advance => {
                    let rip = self.backend.advance();
                    self.stats.note_rip(rip);
                }
                Outcome::Retry => {}
                outcome @ (Outcome::Fault(_) | Outcome::Halt | Outcome::Yield(_) | Outcome::Stop(_)) => {
                    if let Some(leave) = self.settle(vm, outcome) {
                        now = self.charge(reason, at);
                        break leave;
                    }
                }
            }
            now = self.charge(reason, at);
        };
        self.stats.add_turn(now.0.wrapping_sub(started.0));
        self.last_rip = self.backend.rip();
        leave
    }

    /// Charges the handling of an exit that happened at `at` to `reason`. Returns the time.
    #[inline(always)]
    fn charge(&mut self, reason: ExitReason, at: Tsc) -> Tsc {
        let end = self.backend.tsc();
        self.stats.charge(reason, end.0.wrapping_sub(at.0));
        end
    }

    /// Does what is due at `now`; `Some` when the turn is over.
    fn at_deadline<M: GuestMemory, P: Platform>(&mut self, vm: &Vm<M, P>, now: Tsc) -> Option<Leave> {
        // Mostly it is the slice that ends.
        if now >= self.timer {
            self.fire_timers(vm, now);
        }
        if self.init_pending
            && let Some(leave) = self.resume(vm, now)
        {
            return Some(leave);
        }
        (now >= self.slice_end).then_some(Leave::SliceEnd)
    }

    /// Whether a vCPU that was not running may enter its guest, now that its registers are at hand; else how it leaves.
    #[cold]
    fn resume<M: GuestMemory, P: Platform>(&mut self, vm: &Vm<M, P>, now: Tsc) -> Option<Leave> {
        if let RunState::Stopped(reason) = self.run_state {
            return Some(Leave::Stopped(reason));
        }
        let wants = self.poll(vm, now);
        self.restart_processor(vm);
        match self.run_state {
            RunState::Runnable if wants => None,
            RunState::Runnable | RunState::Halted | RunState::WaitForSipi => self.sleep(vm),
            RunState::Stopped(reason) => Some(Leave::Stopped(reason)),
        }
    }

    /// Leaves the core until something comes.
    fn sleep<M, P: Platform>(&mut self, vm: &Vm<M, P>) -> Option<Leave> {
        let only_by_others = match self.run_state {
            RunState::WaitForSipi => true,
            RunState::Halted => !self.halted_flags.contains(RFlags::INTERRUPT_FLAG),
            RunState::Runnable | RunState::Stopped(_) => false,
        };
        if only_by_others && !self.asleep {
            self.asleep = true;
            if vm.falls_asleep() {
                return Some(self.end(StopReason::HaltedForever));
            }
        }
        Some(Leave::Halted)
    }

    /// Acts on the rarer outcomes.
    #[cold]
    fn settle<M: GuestMemory, P: Platform>(&mut self, vm: &Vm<M, P>, outcome: Outcome) -> Option<Leave> {
        match outcome {
            Outcome::Advance | Outcome::Retry => None,
            Outcome::Fault(exception) => {
                self.raise(exception);
                None
            }
            Outcome::Halt => {
                self.take_eoi(vm);
                self.backend.advance();
                let flags = self.backend.rflags();
                // The single step over HLT traps at once, and a trap ends the halt.
                if self.backend.has_pending_trap() || self.wakes(vm, flags) {
                    self.events_changed = true;
                    return None;
                }
                self.halted_flags = flags;
                self.run_state = RunState::Halted;
                self.sleep(vm)
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
            self.enter_debug_handler();
        }
        match self.backend.displace_event() {
            Some(Event::Nmi) => self.nmi_pending = true,
            Some(Event::Interrupt(vector)) => self.displaced = Some(vector),
            Some(Event::Exception(_)) | None => {}
        }
        self.backend.inject(Event::Exception(exception));
        self.events_changed = true;
    }

    /// SDM Vol. 3B, "Debug Control Register (DR7)": the handler of a debug exception may use the debug registers.
    pub(crate) fn enter_debug_handler(&mut self) {
        let dr7 = self.backend.dr7();
        if dr7 & DR7_GENERAL_DETECT != 0 {
            self.backend.set_dr7(dr7 & !DR7_GENERAL_DETECT);
        }
    }

    /// Whether an HLT with these RFLAGS ends at once.
    fn wakes<M, P: Platform>(&self, vm: &Vm<M, P>, flags: RFlags) -> bool {
        if self.nmi_pending || self.backend.has_pending_event() {
            return true;
        }
        flags.contains(RFlags::INTERRUPT_FLAG)
            && (self.displaced.is_some() || self.lapic_interrupt_waits() || self.external_interrupt_waits(vm))
    }

    /// Whether an interrupt is to be injected.
    #[inline]
    fn interrupt_waits<M, P: Platform>(&self, vm: &Vm<M, P>) -> bool {
        self.displaced.is_some() || self.lapic.pending_vector().is_some() || self.external_interrupt_waits(vm)
    }

    /// Whether the 8259 pair's interrupt gets through to this processor.
    #[inline]
    fn external_interrupt_waits<M, P: Platform>(&self, vm: &Vm<M, P>) -> bool {
        vm.external_interrupt() && self.index == DEVICE_VCPU && self.lapic.accepts_external_interrupt()
    }

    /// Injects the most urgent event, or asks for the window in which it can be.
    ///
    /// Runs once before an entry and after the scheduling decision, so that nothing overwrites what it injects.
    fn deliver_events<M: GuestMemory, P: Platform>(&mut self, vm: &Vm<M, P>) {
        self.events_changed = false;
        self.take_eoi(vm);
        self.settle_apic();
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

        if !self.interrupt_waits(vm) {
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
        } else if self.external_interrupt_waits(vm) {
            let mut platform = vm.platform();
            let vector = platform.acknowledge_external_interrupt();
            vm.refresh(&platform);
            drop(platform);
            self.look_at_lint0(vm);
            vector
        } else if let Some(vector) = self.lapic.pending_vector() {
            self.lapic.acknowledge(vector);
            vector
        } else {
            return;
        };
        self.backend.inject(Event::Interrupt(vector));
        let more = self.interrupt_waits(vm);
        self.backend.set_interrupt_window(more);
        if !more && self.lapic.ends_quietly(vector) {
            self.paravirt.offer_eoi(&vm.memory);
        }
    }

    /// Runs the timers that are due at `now` and finds the next one.
    pub(crate) fn fire_timers<M, P: Platform>(&mut self, vm: &Vm<M, P>, now: Tsc) {
        let guest_now = self.guest_tsc(now);
        self.lapic.advance(guest_now);
        // Also when nothing fires here: a read of the current count fires a timer that is due.
        self.events_changed = true;
        if self.index == DEVICE_VCPU {
            let time = vm.clock.nanos(now);
            if vm.device_deadline() <= time {
                let mut platform = vm.platform();
                platform.advance(time);
                let attention = platform.take_attention() | Attention::DEADLINE;
                // A timer asks for no power off.
                let _nothing = self.serve_platform(vm, &mut platform, attention);
            }
        }
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
        self.timer = if self.index == DEVICE_VCPU { lapic.min(vm.device_deadline_tsc()) } else { lapic };
        self.deadline = if self.init_pending { Tsc(0) } else { self.timer.min(self.slice_end) };
    }

    /// Hands on what the devices did, as `attention` says, and returns a power request if there is one.
    #[cold]
    pub(crate) fn serve_platform<M, P: Platform>(
        &mut self,
        vm: &Vm<M, P>,
        platform: &mut P,
        attention: Attention,
    ) -> Option<PowerRequest> {
        let index = self.index;
        let mut receive = |message| self.accept(message);
        vm.serve(platform, attention, Some((index, &mut receive)));
        self.look_at_lint0(vm);
        self.events_changed = true;
        if attention.contains(Attention::DEADLINE) {
            self.update_timer(vm);
        }
        Vm::<M, P>::power_request(platform, attention)
    }

    /// Tells senders how this processor is addressed now.
    pub(crate) fn publish_addressing(&self) {
        self.inbox.publish(self.lapic.addressing());
    }

    /// The 8259 pair's output may have changed. It is wired to LINT0 of the processor that serves the devices.
    fn look_at_lint0<M, P: Platform>(&mut self, vm: &Vm<M, P>) {
        if self.index == DEVICE_VCPU {
            let level = if vm.external_interrupt() { Level::High } else { Level::Low };
            let delivery = self.lapic.set_pin(Pin::Lint0, level);
            self.deliver(delivery);
        }
    }

    /// Hands an interrupt message to the local APIC.
    pub(crate) fn accept(&mut self, message: InterruptMessage) {
        let delivery = self.lapic.accept(message);
        self.deliver(delivery);
    }

    /// Does to the processor what the local APIC passes on.
    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Nmi => self.nmi_pending = true,
            Delivery::Init => {
                // An INIT to oneself: acted on before the next entry.
                self.init_pending = true;
                self.deadline = Tsc(0);
            }
            // INTR of the 8259 is looked at before every entry anyway. A running processor ignores a start-up IPI; SMI
            // has no handler to go to.
            Delivery::Pending
            | Delivery::ExternalInterrupt
            | Delivery::Refused
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
