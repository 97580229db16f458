//! Interrupt messages, as the IOAPIC and MSI sources send them to local APICs.
//!
//! SDM Vol. 3A, "Message Signalled Interrupts"; 82093AA IOAPIC datasheet, "I/O Redirection Table Registers".

use arch::Vector;

/// How a message is delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeliveryMode {
    /// To every processor of the destination.
    Fixed,
    /// To one processor of the destination, by priority.
    LowestPriority,
    /// System management interrupt.
    Smi,
    /// Non-maskable interrupt.
    Nmi,
    /// INIT.
    Init,
    /// Start-up IPI; only processors send it.
    StartUp,
    /// As if an 8259 drove INTR.
    ExtInt,
}

/// Edge or level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TriggerMode {
    /// Edge: one message, one interrupt.
    Edge,
    /// Level: the EOI is reported back.
    Level,
}

/// To whom a message goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destination {
    /// The processor with this APIC ID; 0xff (0xffff_ffff in x2APIC) is all.
    Physical(u32),
    /// The processors whose logical destination register matches this message destination address.
    Logical(u32),
}

/// One interrupt message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterruptMessage {
    /// To whom.
    pub destination: Destination,
    /// How.
    pub mode: DeliveryMode,
    /// Edge or level.
    pub trigger: TriggerMode,
    /// The vector, ignored by modes that have none.
    pub vector: Vector,
}
