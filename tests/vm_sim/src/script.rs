//! The script of a simulated guest: steps as plain data.

use arch::{Gpr, RFlags, Tsc};
use vmm::{Event, VmExit};

/// What a guest does to its processor between an entry and an exit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// A general-purpose register, RSP among them, takes a value.
    Set(Gpr, u64),
    /// A jump.
    Jump(u64),
    /// Flags are set, without the shadow of STI.
    SetFlags(RFlags),
    /// Flags are cleared.
    ClearFlags(RFlags),
    /// STI: sets IF; if it was clear, the next instruction is in its shadow.
    Sti,
    /// MOV SS: the next instruction is in its shadow.
    MovSs,
    /// IRET from the handler of the last delivered event.
    Iret,
    /// The host sends the notification of posted interrupts, which exits unless the processor takes them.
    Notification,
}

/// What must hold when the guest comes to a step. `None` and an empty list: anything goes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Expect {
    /// The event that the last entry injected; `Some(None)` for none at all.
    pub event: Option<Option<Event>>,
    /// RIP at the last entry, before the injected event was delivered.
    pub rip: Option<u64>,
    /// Registers.
    pub registers: Vec<(Gpr, u64)>,
    /// Whether the interrupt window was asked for.
    pub interrupt_window: Option<bool>,
    /// Whether the NMI window was asked for.
    pub nmi_window: Option<bool>,
    /// The deadline that the last entry got.
    pub deadline: Option<Tsc>,
}

/// One stretch of a guest's life: it is looked at, time passes, it does something, and it exits or goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// What must hold when the step begins.
    pub expect: Expect,
    /// How long it takes; a deadline in between divides it.
    pub elapsed: Tsc,
    /// What it does.
    pub effects: Vec<Effect>,
    /// The exit that it ends in, `None` to go on to the next step without one.
    pub exit: Option<VmExit>,
    /// The length of the instruction that exits.
    pub length: u8,
    /// Whether the exit cuts off the delivery of the event that the entry injected.
    pub cuts_off: bool,
}

impl Step {
    /// Exits with `exit` at once, from an instruction of two bytes.
    pub fn exit(exit: VmExit) -> Self {
        Self { exit: Some(exit), length: 2, ..Self::run(0) }
    }

    /// Runs for `ticks` without an exit.
    pub fn run(ticks: u64) -> Self {
        Self {
            expect: Expect::default(),
            elapsed: Tsc(ticks),
            effects: Vec::new(),
            exit: None,
            length: 0,
            cuts_off: false,
        }
    }

    /// Takes `ticks` to get there.
    #[must_use]
    pub fn after(mut self, ticks: u64) -> Self {
        self.elapsed = Tsc(ticks);
        self
    }

    /// The exit's instruction has `bytes` bytes.
    #[must_use]
    pub fn length(mut self, bytes: u8) -> Self {
        self.length = bytes;
        self
    }

    /// Does `effect` before the exit.
    #[must_use]
    pub fn does(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }

    /// Loads `register` before the exit.
    #[must_use]
    pub fn set(self, register: Gpr, value: u64) -> Self {
        self.does(Effect::Set(register, value))
    }

    /// The exit cuts off the event that this entry injected.
    #[must_use]
    pub fn cutting_off(mut self) -> Self {
        self.cuts_off = true;
        self
    }

    /// The entry injected `event`.
    #[must_use]
    pub fn expect_event(mut self, event: Event) -> Self {
        self.expect.event = Some(Some(event));
        self
    }

    /// The entry injected nothing.
    #[must_use]
    pub fn expect_no_event(mut self) -> Self {
        self.expect.event = Some(None);
        self
    }

    /// The entry was at `rip`.
    #[must_use]
    pub fn expect_rip(mut self, rip: u64) -> Self {
        self.expect.rip = Some(rip);
        self
    }

    /// `register` holds `value`.
    #[must_use]
    pub fn expect_register(mut self, register: Gpr, value: u64) -> Self {
        self.expect.registers.push((register, value));
        self
    }

    /// The entry asked for these windows.
    #[must_use]
    pub fn expect_windows(mut self, interrupt: bool, nmi: bool) -> Self {
        self.expect.interrupt_window = Some(interrupt);
        self.expect.nmi_window = Some(nmi);
        self
    }

    /// The entry had this deadline.
    #[must_use]
    pub fn expect_deadline(mut self, deadline: Tsc) -> Self {
        self.expect.deadline = Some(deadline);
        self
    }
}
