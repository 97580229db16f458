//! The local APIC of one virtual processor, in xAPIC and x2APIC mode and disabled.
//!
//! SDM Vol. 3A, "Advanced Programmable Interrupt Controller (APIC)". A state machine without a clock: every time
//! is the guest's TSC and comes as an argument; what others must do comes back as an [`Effect`] or a [`Delivery`].
//!
//! Not modelled: delivery status, which always reads idle, as every message is taken at once; the xAPIC's ID as writable
//! (current processors ignore writes); remote read, whose register reads zero; the CMCI entry, as IA32_MCG_CAP says that
//! there is none; a page of registers that was moved over RAM, which the RAM then hides.

mod access;
mod addressing;
mod base;
mod delivery;
mod lending;
mod pins;
mod spec;
mod state;
#[cfg(test)]
mod tests;
mod timer;
mod vector_set;

pub use addressing::Addressing;
pub use pins::{Level, Pin};
pub use spec::Features;
pub use state::{BadState, State};
pub use timer::{TimerRate, TimerState};
pub use vector_set::VectorSet;

use arch::{Gpa, Tsc, Vector};
use bus::{InterruptMessage, TriggerMode};
use pins::Pins;
use spec::{
    Base, Command, DEFAULT_BASE, DFR_FLAT, Errors, Lvt, LvtEntry, SVR_ENABLED, SVR_RESET, SVR_SUPPRESS_EOI,
};
use timer::Timer;

/// Where the page of registers lies in guest-physical memory after reset.
pub const DEFAULT_PAGE: Gpa = Gpa::new(DEFAULT_BASE);

/// What a local APIC is built with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// The APIC ID. 255 cannot be addressed and is not to be used.
    pub id: u32,
    /// Whether this is the processor that starts first.
    pub role: Role,
    /// What CPUID says that it can do.
    pub features: Features,
    /// How fast the timer's clock runs against the guest's TSC.
    pub timer_rate: TimerRate,
    /// Timer periods are never shorter, so that a guest cannot drown itself and us in ticks. In TSC ticks.
    pub shortest_period: Tsc,
    /// The width of physical addresses in bits, as CPUID says.
    pub physical_address_bits: u8,
}

/// Which processor starts first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The bootstrap processor.
    Bootstrap,
    /// All others: they wait for a start-up IPI.
    Application,
}

/// How software reaches the registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Not at all: the processor behaves as if it had no local APIC.
    Disabled,
    /// Through memory.
    XApic,
    /// Through MSRs.
    X2Apic,
}

/// The access raises #GP(0).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GeneralProtection;

/// What a register write asks of the rest of the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Nothing. Look at [`LocalApic::pending_vector`] and [`LocalApic::timer_deadline`] before entry all the same.
    None,
    /// A level-triggered interrupt ended: tell the I/O APICs.
    BroadcastEoi(Vector),
    /// Hand a message to other local APICs.
    SendIpi(Ipi),
}

/// An interrupt that a processor sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ipi {
    /// What is sent. Its destination counts only for [`Recipients::Destination`].
    pub message: InterruptMessage,
    /// To whom.
    pub recipients: Recipients,
}

/// Who gets an IPI. One to the sender itself never leaves its local APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recipients {
    /// Those that the message's destination [`matches`](LocalApic::matches).
    Destination,
    /// Every processor, the sender too.
    All,
    /// Every processor but the sender.
    Others,
}

/// What an accepted message does to the processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    /// It waits in IRR.
    Pending,
    /// An NMI.
    Nmi,
    /// An SMI.
    Smi,
    /// INIT: call [`LocalApic::init`] and reset the processor.
    Init,
    /// Start-up: a processor that waits for it starts at this vector times 4 KiB.
    StartUp(Vector),
    /// The 8259 pair is to be acknowledged.
    ExternalInterrupt,
    /// Nothing: the APIC is disabled, or the vector is illegal.
    Refused,
}

/// A local APIC.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalApic {
    config: Config,

    mode: Mode,
    /// IA32_APIC_BASE.
    base: u64,
    task_priority: u8,
    /// LDR as xAPIC mode has it; in x2APIC mode it follows from the ID.
    logical_destination: u32,
    destination_format: u32,
    spurious: u32,
    in_service: VectorSet,
    triggered: VectorSet,
    requested: VectorSet,
    /// The error status register.
    errors: Errors,
    /// Errors since the register was last written.
    new_errors: Errors,
    command: Command,
    lvt: [Lvt; LvtEntry::COUNT],
    timer: Timer,
    pins: Pins,

    /// The highest vector in ISR. Follows from it, kept for the hot paths.
    highest_in_service: Option<Vector>,
    /// The highest vector in IRR if its class is above the processor priority's. Follows from IRR, ISR and TPR,
    /// kept for the hot paths.
    deliverable: Option<Vector>,
}

impl LocalApic {
    /// A local APIC after power-up. The bootstrap processor's LINT0 passes the 8259's interrupts through, as PC
    /// firmware leaves it; the manual has it masked, but nobody runs before a guest that is loaded directly.
    pub fn new(config: Config) -> Self {
        let mut apic = Self {
            config,
            mode: Mode::XApic,
            base: 0,
            task_priority: 0,
            logical_destination: 0,
            destination_format: DFR_FLAT,
            spurious: SVR_RESET,
            in_service: VectorSet::EMPTY,
            triggered: VectorSet::EMPTY,
            requested: VectorSet::EMPTY,
            errors: Errors::empty(),
            new_errors: Errors::empty(),
            command: Command(0),
            lvt: [Lvt::RESET; LvtEntry::COUNT],
            timer: Timer::new(config.timer_rate, config.shortest_period),
            pins: Pins::default(),
            highest_in_service: None,
            deliverable: None,
        };
        apic.reset();
        apic
    }

    /// Power-up and RESET: everything but the configuration is forgotten.
    pub fn reset(&mut self) {
        let role = match self.config.role {
            Role::Bootstrap => Base::BOOTSTRAP,
            Role::Application => Base::empty(),
        };
        self.base = DEFAULT_BASE | (Base::ENABLED | role).bits();
        self.mode = Mode::XApic;
        self.init();
    }

    /// INIT: as RESET, but IA32_APIC_BASE stays (SDM Vol. 3A, "Local APIC State After an INIT Reset"). The bootstrap
    /// processor begins with firmware, which wires LINT0 to the 8259 pair.
    pub fn init(&mut self) {
        self.clear();
        if self.config.role == Role::Bootstrap {
            self.lvt[LvtEntry::Lint0 as usize] = Lvt::EXTERNAL;
        }
    }

    /// The registers as the hardware resets them.
    fn clear(&mut self) {
        self.task_priority = 0;
        self.logical_destination = 0;
        self.destination_format = DFR_FLAT;
        self.spurious = SVR_RESET;
        self.in_service = VectorSet::EMPTY;
        self.triggered = VectorSet::EMPTY;
        self.requested = VectorSet::EMPTY;
        self.errors = Errors::empty();
        self.new_errors = Errors::empty();
        self.command = Command(0);
        self.lvt = [Lvt::RESET; LvtEntry::COUNT];
        self.timer.reset();
        self.recompute();
    }

    /// The APIC ID.
    pub fn id(&self) -> u32 {
        self.config.id
    }

    /// How software reaches the registers now.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The 4 KiB page in which the registers appear, `None` unless in xAPIC mode.
    pub fn mmio_page(&self) -> Option<Gpa> {
        match self.mode {
            Mode::XApic => Some(Gpa::new(self.base).align_down(arch::PAGE_SIZE)),
            Mode::Disabled | Mode::X2Apic => None,
        }
    }

    /// The vector that the processor is to take next, if one outranks what it does now.
    #[inline]
    pub fn pending_vector(&self) -> Option<Vector> {
        self.deliverable
    }

    /// The processor takes `vector`, which [`Self::pending_vector`] named: it moves from IRR to ISR.
    #[inline]
    pub fn acknowledge(&mut self, vector: Vector) {
        debug_assert_eq!(self.deliverable, Some(vector), "only the pending vector can be taken");
        if self.deliverable == Some(vector) {
            self.requested.remove(vector);
            self.in_service.insert(vector);
            // It outranked what is in service, and nothing that waits outranks it.
            self.highest_in_service = Some(vector);
            self.deliverable = None;
        }
    }

    /// Whether `vector` is in service and its EOI sets nothing off: no interrupt waits behind it, no I/O APIC is told.
    #[inline]
    pub fn ends_quietly(&self, vector: Vector) -> bool {
        self.highest_in_service == Some(vector)
            && !self.triggered.contains(vector)
            && self.requested.highest().is_none()
    }

    /// EOI: the highest vector in service ends.
    #[inline]
    pub fn end_of_interrupt(&mut self) -> Effect {
        let Some(vector) = self.highest_in_service else { return Effect::None };
        self.in_service.remove(vector);
        self.highest_in_service = self.in_service.highest();
        self.refresh();
        if self.triggered.contains(vector) { self.level_ended(vector) } else { Effect::None }
    }

    /// A level-triggered interrupt ended.
    fn level_ended(&mut self, vector: Vector) -> Effect {
        self.look_at_levels(Some(vector));
        if self.suppresses_eoi() { Effect::None } else { Effect::BroadcastEoi(vector) }
    }

    /// Fires the timer if it ran out by `now`.
    #[inline]
    pub fn advance(&mut self, now: Tsc) {
        if self.timer.expire(now) {
            self.raise_edge(LvtEntry::Timer);
        }
    }

    /// When [`Self::advance`] must be called next, `None` while the timer is stopped or masked. May lie in the
    /// past.
    #[inline]
    pub fn timer_deadline(&self) -> Option<Tsc> {
        if self.entry(LvtEntry::Timer).is_masked() { None } else { self.timer.deadline() }
    }

    /// The guest's TSC is about to be set from `old` to `new`: a running count keeps its pace, a TSC deadline
    /// stays where it is.
    pub fn tsc_jumped(&mut self, old: Tsc, new: Tsc) {
        self.advance(old);
        self.timer.tsc_jumped(old, new);
    }

    /// CR8: the class of the task priority.
    #[inline]
    pub fn cr8(&self) -> u8 {
        self.task_priority >> 4
    }

    /// Sets CR8. Only its low four bits count; the caller has checked the others.
    #[inline]
    pub fn set_cr8(&mut self, value: u8) {
        self.set_task_priority(value << 4);
    }

    /// The class below which the task priority must fall for a waiting vector to be delivered, 0 when none
    /// waits on the task priority: the TPR threshold of a virtual-machine control structure. It changes with
    /// every message, acknowledgement, EOI and write to TPR.
    pub fn tpr_threshold(&self) -> u8 {
        match self.requested.highest() {
            Some(vector) if vector.0 >> 4 <= self.task_priority >> 4 => vector.0 >> 4,
            Some(_) | None => 0,
        }
    }

    #[inline]
    fn set_task_priority(&mut self, value: u8) {
        self.task_priority = value;
        self.refresh();
    }

    #[inline]
    fn in_service_class(&self) -> u8 {
        self.highest_in_service.map_or(0, |vector| vector.0 & 0xf0)
    }

    /// PPR.
    #[inline]
    fn processor_priority(&self) -> u8 {
        let in_service = self.in_service_class();
        if self.task_priority & 0xf0 >= in_service { self.task_priority } else { in_service }
    }

    /// Recomputes what is deliverable after IRR, ISR or TPR changed.
    #[inline]
    fn refresh(&mut self) {
        let class = self.processor_priority() & 0xf0;
        self.deliverable = self.requested.highest().filter(|vector| vector.0 & 0xf0 > class);
    }

    /// Recomputes everything that is kept for the hot paths.
    fn recompute(&mut self) {
        self.highest_in_service = self.in_service.highest();
        self.refresh();
    }

    #[inline]
    fn entry(&self, entry: LvtEntry) -> Lvt {
        self.lvt[entry as usize]
    }

    fn is_software_enabled(&self) -> bool {
        self.spurious & SVR_ENABLED != 0
    }

    fn suppresses_eoi(&self) -> bool {
        self.spurious & SVR_SUPPRESS_EOI != 0
    }

    /// An entry of the local vector table without delivery mode fires.
    fn raise_edge(&mut self, entry: LvtEntry) {
        let value = self.entry(entry);
        if !value.is_masked() {
            self.request(value.vector(), TriggerMode::Edge);
        }
    }

    /// Notes `error` and raises the error interrupt when it is new.
    fn note_error(&mut self, error: Errors) {
        if self.new_errors.contains(error) {
            return;
        }
        self.new_errors |= error;
        // The error entry itself may have an illegal vector; that comes back here once, and ends above.
        self.raise_edge(LvtEntry::Error);
    }
}
