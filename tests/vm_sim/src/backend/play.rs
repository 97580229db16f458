//! Playing the script: what the simulated guest does between an entry and an exit.
//!
//! SDM Vol. 3C, "Checks on Guest Non-Register State", "Event Injection", "Interrupt-Window Exiting and
//! Virtual-Interrupt Delivery".

use super::virtual_apic::Executed;
use super::{Delivery, Frame, ScriptedBackend, handler};
use crate::Effect;
use arch::{Exception, RFlags, Tsc, Vector};
use vmm::{Event, Interruptibility, VmExit};

impl ScriptedBackend {
    pub(super) fn is_shadowed(&self) -> bool {
        self.state.interruptibility.intersects(Interruptibility::STI | Interruptibility::MOV_SS)
    }

    pub(super) fn end_shadow(&mut self) {
        self.state.interruptibility -= Interruptibility::STI | Interruptibility::MOV_SS;
    }

    /// Applies `effect` as the guest's own doing.
    pub fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Set(register, value) => self.state.gprs.set(register, value),
            Effect::Jump(rip) => self.state.rip = rip,
            Effect::SetFlags(flags) => self.state.rflags |= flags,
            Effect::ClearFlags(flags) => self.state.rflags -= flags,
            Effect::Sti => {
                if !self.state.rflags.contains(RFlags::INTERRUPT_FLAG) {
                    self.state.interruptibility |= Interruptibility::STI;
                }
                self.state.rflags |= RFlags::INTERRUPT_FLAG;
            }
            // What the processor makes of it comes before.
            Effect::Notification => {}
            Effect::MovSs => self.state.interruptibility |= Interruptibility::MOV_SS,
            Effect::Iret => {
                self.state.interruptibility -= Interruptibility::NMI;
                if let Some(frame) = self.frames.pop() {
                    self.state.rip = frame.rip;
                    self.state.rflags = frame.rflags;
                }
            }
        }
    }

    /// What hardware checks of an entry (SDM Vol. 3C, "Checks on Guest Non-Register State").
    pub(super) fn check_entry(&self, event: Option<Event>) {
        let blocking = self.state.interruptibility;
        match event {
            Some(Event::Interrupt(_)) => {
                assert!(
                    self.is_open(),
                    "an interrupt is injected while {blocking:?}, {:?}",
                    self.state.rflags
                );
            }
            Some(Event::Nmi) => {
                let blocks = Interruptibility::NMI | Interruptibility::MOV_SS | Interruptibility::STI;
                assert!(!blocking.intersects(blocks), "an NMI is injected while {blocking:?}");
            }
            Some(Event::Exception(_)) | None => {}
        }
        let both = Interruptibility::STI | Interruptibility::MOV_SS;
        assert!(!blocking.contains(both), "STI and MOV SS cannot both shadow an instruction");
        assert_eq!(self.state.rflags.bits() & 2, 2, "bit 1 of RFLAGS is always set");
    }

    pub(super) fn deliver(&mut self, event: Event) {
        let rip = self.state.rip;
        self.deliveries.push(Delivery { event, rip, at: self.tsc });
        self.frames.push(Frame { rip, rflags: self.state.rflags });
        self.end_shadow();
        self.pending_debug = 0;
        self.state.rflags -= RFlags::INTERRUPT_FLAG | RFlags::TRAP_FLAG;
        let vector = match event {
            Event::Interrupt(vector) => vector,
            Event::Nmi => {
                self.state.interruptibility |= Interruptibility::NMI;
                Vector(2)
            }
            Event::Exception(exception) => exception.vector(),
        };
        self.state.rip = handler(vector);
    }

    /// The window that opened, if one that was asked for did.
    fn open_window(&self) -> Option<VmExit> {
        let nmi_blocked = self.state.interruptibility.contains(Interruptibility::NMI);
        if self.nmi_window && !nmi_blocked && !self.is_shadowed() {
            return Some(VmExit::NmiWindow);
        }
        (self.interrupt_window && self.is_open()).then_some(VmExit::InterruptWindow)
    }

    /// The exit that comes of itself before the next instruction, if any.
    fn exit_before_instruction(&mut self, deadline: Tsc) -> Option<VmExit> {
        if self.pending_debug != 0 {
            let dr6 = core::mem::take(&mut self.pending_debug);
            return Some(VmExit::Exception(Exception::Debug { dr6 }));
        }
        if self.tsc >= deadline {
            return Some(VmExit::Deadline);
        }
        self.open_window()
    }

    /// Plays the script until an exit. A step that ends in the tick of the deadline gets its own exit: hardware
    /// may do either.
    pub(super) fn play(&mut self, deadline: Tsc) -> VmExit {
        loop {
            if let Some(exit) = self.exit_before_instruction(deadline) {
                return exit;
            }
            if self.deliver_virtual_interrupt() {
                continue;
            }
            self.verify_expectations();
            let Some(step) = self.script.front_mut() else { return VmExit::ExternalInterrupt };
            let room = deadline - self.tsc;
            if step.elapsed > room {
                step.elapsed = step.elapsed - room;
                self.tsc = deadline;
                self.stuck_entries = 0;
                return VmExit::Deadline;
            }
            self.stuck_entries = 0;
            self.tsc = self.tsc + step.elapsed;
            step.elapsed = Tsc(0);
            let effects = core::mem::take(&mut step.effects);
            let (exit, length) = (step.exit, step.length);
            if exit.is_none() {
                self.end_shadow();
            }
            for effect in effects {
                if effect == Effect::Notification
                    && let Some(exit) = self.notified()
                {
                    self.script.pop_front();
                    return exit;
                }
                self.apply(effect);
            }
            let Some(exit) = exit else {
                self.script.pop_front();
                continue;
            };
            // The effects may have opened a window, which comes before the instruction that exits.
            if let Some(window) = self.open_window() {
                return window;
            }
            if self.deliver_virtual_interrupt() {
                continue;
            }
            self.script.pop_front();
            match self.execute_on_lent(exit) {
                Executed::Exits => {
                    self.instruction_length = length;
                    return exit;
                }
                Executed::Done => self.complete(length),
                Executed::Faults => self.fault(),
                Executed::Trapped(exit) => {
                    self.complete(length);
                    return exit;
                }
                Executed::ExitsAs(exit) => {
                    self.instruction_length = length;
                    return exit;
                }
            }
        }
    }

    /// Compares the guest with what the first step of the script expects.
    ///
    /// # Panics
    /// When they differ: the test has failed.
    pub(super) fn verify_expectations(&mut self) {
        let (Some(step), Some(entry)) = (self.script.front_mut(), self.entries.last()) else { return };
        let expect = core::mem::take(&mut step.expect);
        let context = format!("before {:?}", step.exit);
        if let Some(event) = expect.event {
            assert_eq!(entry.event, event, "event, {context}");
        }
        if let Some(rip) = expect.rip {
            assert_eq!(entry.rip, rip, "RIP, {context}: {:#x} is not {rip:#x}", entry.rip);
        }
        for (register, value) in expect.registers {
            assert_eq!(self.state.gprs.get(register), value, "{register:?}, {context}");
        }
        if let Some(wanted) = expect.interrupt_window {
            assert_eq!(entry.interrupt_window, wanted, "interrupt window, {context}");
        }
        if let Some(wanted) = expect.nmi_window {
            assert_eq!(entry.nmi_window, wanted, "NMI window, {context}");
        }
        if let Some(deadline) = expect.deadline {
            assert_eq!(entry.deadline, deadline, "deadline, {context}");
        }
    }
}

/// SDM Vol. 3A, "Interrupt 8—Double Fault Exception (#DF)".
pub(super) fn combine(first: Exception, second: Exception) -> Exception {
    let is_contributory = |exception: Exception| matches!(exception.vector().0, 0 | 10..=13);
    let is_page_fault = |exception: Exception| exception.vector().0 == 14;
    let double = is_contributory(first) && is_contributory(second)
        || is_page_fault(first) && (is_contributory(second) || is_page_fault(second));
    if double { Exception::DoubleFault } else { second }
}
