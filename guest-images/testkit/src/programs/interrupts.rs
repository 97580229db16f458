//! Interrupts that the CPU sends to itself, and the windows in which it takes them.
//!
//! Source: SDM Vol. 3A, "Advanced Programmable Interrupt Controller (APIC)"; Vol. 2, "STI", "HLT".

use super::{Verdict, expect};
use crate::apic::{IPI_VECTOR, NMI_VECTOR};
use crate::ipi::{SelfInterrupt, send_to_self};
use crate::machine::cpu::{disable_interrupts, enable_interrupts, set_task_priority};
use crate::machine::measure::{Window, interrupt_window, spin_until};
use crate::machine::trap::interrupts;

/// Rounds of a waiting loop before an interrupt is given up.
const PATIENCE: u64 = 1_000_000;

/// An NMI comes through with interrupts off, and a second one after the first handler's IRET.
pub(super) fn nmi_self() -> Verdict {
    disable_interrupts();
    for _ in 0..3 {
        let before = interrupts(NMI_VECTOR);
        send_to_self(SelfInterrupt::Nmi);
        for _ in 0..PATIENCE {
            if interrupts(NMI_VECTOR) != before {
                break;
            }
        }
        expect("NMI with interrupts off", interrupts(NMI_VECTOR), before + 1)?;
    }
    Ok(())
}

/// A fixed interrupt waits for the interrupt flag and is then taken once.
pub(super) fn self_ipi() -> Verdict {
    let before = interrupts(IPI_VECTOR);
    send_to_self(SelfInterrupt::Fixed(IPI_VECTOR));
    expect("not with interrupts off", interrupts(IPI_VECTOR), before)?;
    enable_interrupts();
    disable_interrupts();
    expect("taken", interrupts(IPI_VECTOR), before + 1)?;
    send_to_self(SelfInterrupt::Fixed(IPI_VECTOR));
    send_to_self(SelfInterrupt::Fixed(IPI_VECTOR));
    enable_interrupts();
    disable_interrupts();
    expect("two of one vector are one while it waits", interrupts(IPI_VECTOR), before + 2)?;
    send_to_self(SelfInterrupt::Fixed(IPI_VECTOR));
    send_to_self(SelfInterrupt::Fixed(IPI_VECTOR + 16));
    enable_interrupts();
    disable_interrupts();
    expect("both of two vectors", interrupts(IPI_VECTOR), before + 3)?;
    expect("the higher one, too", u64::from(interrupts(IPI_VECTOR + 16) > 0), 1u64)
}

/// The task priority holds back its class and lets it through when lowered.
pub(super) fn task_priority() -> Verdict {
    let before = interrupts(IPI_VECTOR);
    set_task_priority(u64::from(IPI_VECTOR >> 4));
    send_to_self(SelfInterrupt::Fixed(IPI_VECTOR));
    enable_interrupts();
    let held_back = interrupts(IPI_VECTOR);
    set_task_priority(0);
    let come = spin_until(IPI_VECTOR, || {}, 2).is_some() || interrupts(IPI_VECTOR) == before + 1;
    disable_interrupts();
    expect("held back", held_back, before)?;
    expect("let through", u64::from(come), 1u64)?;
    expect("once", interrupts(IPI_VECTOR), before + 1)
}

/// A pending interrupt is taken exactly where the manual says, each time.
pub(super) fn sti_blocking() -> Verdict {
    for (what, window) in [
        ("sti; nop", Window::Sti),
        ("sti; hlt", Window::StiHlt),
        ("sti; cpuid", Window::StiCpuid),
        ("popf", Window::PopF),
    ] {
        let before = interrupts(IPI_VECTOR);
        send_to_self(SelfInterrupt::Fixed(IPI_VECTOR));
        let distance = interrupt_window(window);
        expect(what, interrupts(IPI_VECTOR), before + 1)?;
        expect(what, distance.cast_unsigned(), 0u64)?;
    }
    Ok(())
}
