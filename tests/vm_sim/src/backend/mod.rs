//! A processor that plays a script.
//!
//! What surrounds the script is modelled: events are delivered (to [`handler`], through an interrupt gate), windows
//! exit as soon as they open, deadlines interrupt steps, STI and MOV SS shadow one instruction, a pending single
//! step traps. SDM Vol. 3C, "Interrupt-Window Exiting and Virtual-Interrupt Delivery", "Event Injection", "Special
//! Features of VM Entry".
//!
//! An entry that hardware would refuse, or an event that is overwritten, is a panic: it is a mistake of the
//! hypervisor, never of a guest.

mod play;
mod virtual_apic;

use crate::Step;
use arch::{
    Cr0Flags, Cr4Flags, EferFlags, Exception, Gpr, Gprs, Msr, RFlags, Segment, SegmentRegister, Tsc, Vector,
    VectorRegister, VectorValue,
};
use std::collections::VecDeque;
use virtual_apic::VirtualApic;
use vmm::lapic::VectorSet;
use vmm::{
    ApicRegisters, CpuState, Event, EventKind, ExtendedLayout, ExtendedState, InterruptSupport,
    Interruptibility, Lending, PendingEvent, VcpuBackend, VectorPlaces, VmExit,
};

/// Where the handlers of the simulated guest begin.
pub const HANDLERS: u64 = 0x8000;
/// Entries without a tick or a step in between, after which the guest counts as stuck.
const STUCK_ENTRIES: u32 = 10_000;
/// x87, SSE, AVX, AVX-512, PKRU, where Intel's processors have them.
const LAYOUT: ExtendedLayout = ExtendedLayout { components: 0x2e7, bytes: PKRU + 8 };
/// Where PKRU is in the XSAVE area.
const PKRU: usize = 2688;
/// Where Intel's processors have the other vector state.
const fn component_offset(component: u32) -> usize {
    match component {
        2 => 576,
        6 => 1152,
        _ => 1664,
    }
}
/// DR6: single step.
const DR6_SINGLE_STEP: u64 = 1 << 14;

/// The handler of `vector`.
pub const fn handler(vector: Vector) -> u64 {
    HANDLERS + vector.0 as u64 * 16
}

/// An event that the guest took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// What.
    pub event: Event,
    /// RIP at the time: where the handler returns to.
    pub rip: u64,
    /// The host's TSC.
    pub at: Tsc,
}

/// One entry, as the backend saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The host's TSC.
    pub now: Tsc,
    /// The deadline.
    pub deadline: Tsc,
    /// The event that it injected.
    pub event: Option<Event>,
    /// RIP before the event.
    pub rip: u64,
    /// Whether the interrupt window was asked for.
    pub interrupt_window: bool,
    /// Whether the NMI window was asked for.
    pub nmi_window: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Frame {
    rip: u64,
    rflags: RFlags,
}

/// The scripted processor.
#[derive(Clone, Debug)]
pub struct ScriptedBackend {
    state: CpuState,
    extended: ExtendedState,
    xcr0: u64,
    tsc_offset: u64,
    tsc: Tsc,

    instruction_length: u8,
    pending: Option<Event>,
    /// What the last exit cut off.
    cut_off: Option<Event>,
    /// What of DR6 a debug exception before the next instruction has.
    pending_debug: u64,
    interrupt_window: bool,
    nmi_window: bool,
    virtual_apic: VirtualApic,
    /// What a real guest keeps on its stack.
    frames: Vec<Frame>,

    script: VecDeque<Step>,
    entries: Vec<Entry>,
    deliveries: Vec<Delivery>,
    exits: u64,
    flushes: u64,
    stuck_entries: u32,
}

impl ScriptedBackend {
    /// A processor without a script, on a host whose TSC reads `tsc`.
    pub fn new(tsc: Tsc) -> Self {
        Self {
            state: CpuState::reset(),
            extended: ExtendedState::reset(LAYOUT),
            xcr0: 1,
            tsc_offset: 0,
            tsc,
            instruction_length: 0,
            pending: None,
            cut_off: None,
            pending_debug: 0,
            interrupt_window: false,
            nmi_window: false,
            virtual_apic: VirtualApic::none(),
            frames: Vec::new(),
            script: VecDeque::new(),
            entries: Vec::new(),
            deliveries: Vec::new(),
            exits: 0,
            flushes: 0,
            stuck_entries: 0,
        }
    }

    /// How often its translations were flushed.
    pub const fn flushes(&self) -> u64 {
        self.flushes
    }

    /// Appends `step` to the script. Where the script ends, the guest exits for a host interrupt.
    pub fn push(&mut self, step: Step) {
        self.script.push_back(step);
    }

    /// Forgets what is left of the script.
    pub fn clear_script(&mut self) {
        self.script.clear();
    }

    /// How many steps are left.
    pub fn steps_left(&self) -> usize {
        self.script.len()
    }

    /// Every entry so far.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Every event that the guest took so far.
    pub fn deliveries(&self) -> &[Delivery] {
        &self.deliveries
    }

    /// How many exits there were.
    pub const fn exits(&self) -> u64 {
        self.exits
    }

    /// The whole state, for tests that set the guest up.
    pub const fn state_mut(&mut self) -> &mut CpuState {
        &mut self.state
    }

    /// The guest's TSC.
    pub const fn guest_tsc(&self) -> Tsc {
        Tsc(self.tsc.0.wrapping_add(self.tsc_offset))
    }

    /// CR2.
    pub const fn cr2(&self) -> u64 {
        self.state.cr2
    }

    /// The event that the next entry injects.
    pub const fn pending(&self) -> Option<Event> {
        self.pending
    }

    /// The host's time passes.
    pub const fn elapse(&mut self, ticks: u64) {
        self.tsc = Tsc(self.tsc.0.saturating_add(ticks));
    }

    /// The handler frames, which a snapshot of a real guest has in its memory.
    pub fn copy_frames_from(&mut self, other: &Self) {
        self.frames.clone_from(&other.frames);
    }

    /// x87, vector and protection-key registers, for tests that set the guest up.
    pub const fn extended_mut(&mut self) -> &mut ExtendedState {
        &mut self.extended
    }

    /// The exception that `event` delivers. What goes to CR2 and DR6 with it is there already.
    fn exception(&self, event: PendingEvent) -> Exception {
        let code = event.error_code.unwrap_or(0);
        match event.vector.0 {
            0 => Exception::DivideError,
            1 => Exception::Debug { dr6: self.state.dr6 & 0x600f },
            3 => Exception::Breakpoint,
            4 => Exception::Overflow,
            5 => Exception::BoundRange,
            6 => Exception::InvalidOpcode,
            7 => Exception::DeviceNotAvailable,
            8 => Exception::DoubleFault,
            10 => Exception::InvalidTss(code),
            11 => Exception::SegmentNotPresent(code),
            12 => Exception::StackFault(code),
            13 => Exception::GeneralProtection(code),
            14 => Exception::PageFault { error_code: code, address: self.state.cr2 },
            16 => Exception::FloatingPoint,
            17 => Exception::AlignmentCheck,
            18 => Exception::MachineCheck,
            19 => Exception::SimdFloatingPoint,
            vector => panic!("vector {vector} is no exception"),
        }
    }

    /// Whether the guest can take an interrupt now.
    pub fn is_open(&self) -> bool {
        self.state.rflags.contains(RFlags::INTERRUPT_FLAG) && !self.is_shadowed()
    }
}

impl VcpuBackend for ScriptedBackend {
    fn run(&mut self, now: Tsc, deadline: Tsc) -> VmExit {
        assert_eq!(now, self.tsc, "the entry's time is old");
        assert_eq!(self.cut_off, None, "an event that an exit cut off is lost");
        let event = self.pending.take();
        self.check_entry(event);
        self.entries.push(Entry {
            now,
            deadline,
            event,
            rip: self.state.rip,
            interrupt_window: self.interrupt_window,
            nmi_window: self.nmi_window,
        });
        self.exits += 1;
        self.stuck_entries += 1;
        assert!(self.stuck_entries < STUCK_ENTRIES, "the guest makes no progress: {:?}", self.entries.last(),);

        if let (Some(event), Some(step)) = (event, self.script.front())
            && step.cuts_off
            && let Some(exit) = step.exit
        {
            self.verify_expectations();
            self.script.pop_front();
            self.cut_off = Some(event);
            return exit;
        }
        if let Some(event) = event {
            self.deliver(event);
        }
        self.play(deadline)
    }

    fn tsc(&self) -> Tsc {
        self.tsc
    }

    fn gprs(&self) -> &Gprs {
        &self.state.gprs
    }

    fn gprs_mut(&mut self) -> &mut Gprs {
        &mut self.state.gprs
    }

    fn advance(&mut self) -> u64 {
        let rip = self.state.rip;
        self.advance_to(rip.wrapping_add(u64::from(self.instruction_length)));
        rip
    }

    fn advance_to(&mut self, rip: u64) {
        self.state.rip = rip;
        self.end_shadow();
        if self.state.rflags.contains(RFlags::TRAP_FLAG) {
            self.pending_debug |= DR6_SINGLE_STEP;
        }
    }

    fn rip(&self) -> u64 {
        self.state.rip
    }

    fn rsp(&self) -> u64 {
        self.state.gprs.get(Gpr::Rsp)
    }

    fn set_rsp(&mut self, value: u64) {
        self.state.gprs.set(Gpr::Rsp, value);
    }

    fn rflags(&self) -> RFlags {
        self.state.rflags
    }

    fn set_rflags(&mut self, value: RFlags) {
        self.state.rflags = RFlags::from_bits_retain(value.bits() | 2);
    }

    fn cr0(&self) -> Cr0Flags {
        self.state.cr0
    }

    fn set_cr0(&mut self, value: Cr0Flags) {
        self.state.cr0 = value;
    }

    fn cr3(&self) -> u64 {
        self.state.cr3
    }

    fn pdptes(&self) -> [u64; 4] {
        self.state.pdptes
    }

    fn pkru(&self) -> u32 {
        let bytes = core::array::from_fn(|index| self.extended.area[PKRU + index]);
        u32::from_le_bytes(bytes)
    }

    fn vector(&self, register: VectorRegister) -> VectorValue {
        let mut value = [0; 64];
        for part in VectorPlaces::new(LAYOUT.components, component_offset).parts(register) {
            let at = part.at..part.at + part.bytes.len();
            value[part.bytes].copy_from_slice(&self.extended.area[at]);
        }
        value
    }

    fn set_vector(&mut self, register: VectorRegister, value: &VectorValue) {
        for part in VectorPlaces::new(LAYOUT.components, component_offset).parts(register) {
            let at = part.at..part.at + part.bytes.len();
            self.extended.area[at].copy_from_slice(&value[part.bytes]);
        }
    }

    fn set_pdptes(&mut self, entries: [u64; 4]) {
        self.state.pdptes = entries;
    }

    fn cr4(&self) -> Cr4Flags {
        self.state.cr4
    }

    fn set_cr4(&mut self, value: Cr4Flags) {
        self.state.cr4 = value;
    }

    fn set_cr2(&mut self, value: u64) {
        self.state.cr2 = value;
    }

    fn dr6(&self) -> u64 {
        self.state.dr6
    }

    fn set_dr6(&mut self, value: u64) {
        // Bits 4 to 11 and 16 to 31 are always set, bit 12 is always clear.
        self.state.dr6 = value & 0xe00f | 0xffff_0ff0;
    }

    fn dr7(&self) -> u64 {
        self.state.dr7
    }

    fn set_dr7(&mut self, value: u64) {
        self.state.dr7 = value;
    }

    fn efer(&self) -> EferFlags {
        self.state.efer
    }

    fn set_efer(&mut self, value: EferFlags) {
        self.state.efer = value;
    }

    fn segment(&self, register: SegmentRegister) -> Segment {
        self.state.segments[register as usize]
    }

    fn xcr0(&self) -> u64 {
        self.xcr0
    }

    fn set_xcr0(&mut self, value: u64) {
        self.xcr0 = value;
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        self.tsc_offset = offset;
    }

    fn read_msr(&self, msr: Msr) -> Option<u64> {
        match msr {
            Msr::PAT => Some(self.state.pat),
            Msr::DEBUGCTL => Some(0),
            _ => None,
        }
    }

    fn write_msr(&mut self, msr: Msr, value: u64) -> bool {
        msr == Msr::DEBUGCTL && value == 0
    }

    fn flush_translations(&mut self) {
        self.flushes += 1;
    }

    fn interruptibility(&self) -> Interruptibility {
        self.state.interruptibility
    }

    fn recover_event(&mut self) {
        if let Some(event) = self.cut_off.take() {
            assert_eq!(self.pending, None, "{event:?} was cut off, but something else is pending");
            self.pending = Some(event);
        }
    }

    fn breakpoints(&self) -> [u64; 4] {
        self.state.breakpoints
    }

    fn meet_breakpoints(&mut self, met: u64) {
        self.pending_debug |= met & 0xf;
    }

    fn deliver_int1(&mut self) -> bool {
        // Scripts have no INT1.
        false
    }

    fn has_pending_event(&self) -> bool {
        self.pending.is_some()
    }

    fn has_pending_trap(&self) -> bool {
        self.pending_debug != 0
    }

    fn displace_event(&mut self) -> Option<Event> {
        self.pending.take_if(|event| matches!(event, Event::Interrupt(_) | Event::Nmi))
    }

    fn inject(&mut self, event: Event) {
        let event = match (self.pending, event) {
            (None, event) => event,
            (Some(first), Event::Interrupt(_) | Event::Nmi) => {
                panic!("{event:?} overwrites {first:?}, which was to be delivered")
            }
            (Some(Event::Exception(first)), Event::Exception(second)) => {
                Event::Exception(play::combine(first, second))
            }
            (Some(first @ (Event::Interrupt(_) | Event::Nmi)), Event::Exception(_)) => {
                panic!("{event:?} overwrites {first:?}, which no instruction raises again")
            }
        };
        self.pending = Some(event);
    }

    fn set_interrupt_window(&mut self, wanted: bool) {
        self.interrupt_window = wanted;
    }

    fn set_nmi_window(&mut self, wanted: bool) {
        self.nmi_window = wanted;
    }

    fn save(&self) -> CpuState {
        CpuState { pending_debug: self.pending_debug, ..self.state }
    }

    fn restore(&mut self, state: &CpuState) {
        self.state = *state;
        self.pending = None;
        self.cut_off = None;
        self.pending_debug = state.pending_debug & (DR6_SINGLE_STEP | 0xf);
    }

    fn pending_event(&self) -> Option<PendingEvent> {
        let (kind, vector, error_code) = match self.pending? {
            Event::Interrupt(vector) => (EventKind::Interrupt, vector, None),
            Event::Nmi => (EventKind::Nmi, Vector(2), None),
            Event::Exception(exception) => {
                (EventKind::HardwareException, exception.vector(), exception.error_code())
            }
        };
        Some(PendingEvent { kind, vector, error_code, instruction_length: 0 })
    }

    fn set_pending_event(&mut self, event: Option<PendingEvent>) {
        self.pending = event.map(|event| match event.kind {
            EventKind::Interrupt => Event::Interrupt(event.vector),
            EventKind::Nmi => Event::Nmi,
            EventKind::HardwareException => Event::Exception(self.exception(event)),
            EventKind::SoftwareInterrupt
            | EventKind::PrivilegedSoftwareException
            | EventKind::SoftwareException => panic!("scripts have no INT n: {event:?}"),
        });
    }

    fn extended_layout(&self) -> ExtendedLayout {
        LAYOUT
    }

    fn save_extended(&self) -> ExtendedState {
        self.extended.clone()
    }

    fn restore_extended(&mut self, state: &ExtendedState) {
        self.extended.clone_from(state);
    }

    fn interrupt_support(&self) -> InterruptSupport {
        self.virtual_apic.support
    }

    fn lends_page(&self) -> bool {
        self.virtual_apic.most == Lending::Page
    }

    fn lend_apic(&mut self, lending: Lending, registers: &ApicRegisters, level_triggered: VectorSet) {
        assert_eq!(self.virtual_apic.lent, None, "lent twice");
        assert!(lending <= self.virtual_apic.most, "lent as it cannot be");
        self.virtual_apic.lending = lending;
        self.virtual_apic.page.clear();
        self.virtual_apic.lent = Some(*registers);
        self.virtual_apic.level_triggered = level_triggered;
    }

    fn take_back_apic(&mut self) -> ApicRegisters {
        self.virtual_apic.lent.take().expect("only what is lent is taken back")
    }

    fn lent_apic(&self) -> ApicRegisters {
        self.virtual_apic.lent.expect("only what is lent is looked at")
    }

    fn lent_register(&self, offset: u16) -> u32 {
        self.virtual_apic.register(offset)
    }

    fn set_lent_register(&mut self, offset: u16, value: u32) {
        assert!(self.virtual_apic.lending == Lending::Page, "no page is lent");
        match (offset, &mut self.virtual_apic.lent) {
            (virtual_apic::TPR_OFFSET, Some(lent)) => {
                lent.task_priority = u8::try_from(value).expect("bytes 3:1 are clear");
            }
            (_, _) => {
                self.virtual_apic.page.insert(offset, value);
            }
        }
    }

    fn request(&mut self, vectors: VectorSet) {
        let lent = self.virtual_apic.lent.as_mut().expect("requests are made of a lent local APIC");
        lent.requested = lent.requested.union(vectors);
    }

    fn set_level_triggered(&mut self, vectors: VectorSet) {
        self.virtual_apic.level_triggered = vectors;
    }

    fn interrupt_waits(&self, further: VectorSet) -> bool {
        virtual_apic::deliverable(&self.lent_apic(), further).is_some()
    }
}
