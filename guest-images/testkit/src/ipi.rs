//! Interrupts from CPU to CPU, through the interrupt command register.
//!
//! Source: SDM Vol. 3A, "Issuing Interprocessor Interrupts", "Determining IPI Destination"; for x2APIC, "ICR Operation in
//! x2APIC Mode" and "Logical Destination Mode in x2APIC Mode".

use core::sync::atomic::{Ordering::SeqCst, fence};

use crate::apic::{self, ICR_HIGH, ICR_LOW};
use crate::machine::cpu::{Msr, write_msr};

/// Delivery modes and flags of the low half.
const LOWEST_PRIORITY: u32 = 1 << 8;
const NMI: u32 = 4 << 8;
const INIT: u32 = 5 << 8;
const STARTUP: u32 = 6 << 8;
const LOGICAL: u32 = 1 << 11;
const PENDING: u32 = 1 << 12;
const ASSERT: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;
const TO_SELF: u32 = 1 << 18;
const TO_ALL: u32 = 2 << 18;
const TO_OTHERS: u32 = 3 << 18;
/// The x2APIC register that sends to self, by the offset it would have.
const SELF_IPI: u16 = 0x3f0;

/// Who gets an interrupt.
#[derive(Clone, Copy)]
pub(crate) enum Destination {
    /// The local APIC with this identifier.
    Physical(u32),
    /// Every local APIC, by the identifier that stands for all.
    Broadcast,
    /// Those that the message destination address matches: 8 bits in xAPIC mode, 32 in x2APIC mode.
    Logical(u32),
    /// The sender, by shorthand.
    Myself,
    /// Everybody, by shorthand.
    All,
    /// Everybody but the sender, by shorthand.
    Others,
}

/// What they get.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// The vector.
    Fixed(u8),
    /// One of them gets the vector.
    LowestPriority(u8),
    /// A non-maskable interrupt.
    Nmi,
    /// A reset to the wait for a startup IPI.
    Init,
    /// The message with which old machines ended an INIT; nothing happens.
    InitDeassert,
    /// Out of that wait, to the code at this page.
    Startup(u8),
}

/// Sends from this CPU.
pub(crate) fn send(destination: Destination, kind: Kind) {
    let (address, flags) = match destination {
        Destination::Physical(id) => (id, 0),
        Destination::Broadcast => (u32::MAX, 0),
        Destination::Logical(address) => (address, LOGICAL),
        Destination::Myself => (0, TO_SELF),
        Destination::All => (0, TO_ALL),
        Destination::Others => (0, TO_OTHERS),
    };
    let kind = match kind {
        Kind::Fixed(vector) => ASSERT | u32::from(vector),
        Kind::LowestPriority(vector) => ASSERT | LOWEST_PRIORITY | u32::from(vector),
        Kind::Nmi => ASSERT | NMI,
        Kind::Init => ASSERT | INIT,
        Kind::InitDeassert => LEVEL | INIT,
        Kind::Startup(page) => ASSERT | STARTUP | u32::from(page),
    };
    if apic::is_x2apic() {
        // This register write does not wait for stores that the receiver is to see.
        fence(SeqCst);
        write_msr(Msr::X2Apic(ICR_LOW), u64::from(address) << 32 | u64::from(flags | kind));
    } else {
        apic::write(ICR_HIGH, address << 24);
        apic::write(ICR_LOW, flags | kind);
        // The next one would overwrite it.
        while apic::read(ICR_LOW) & PENDING != 0 {}
    }
}

/// Sends `vector` to this CPU by the register that does nothing else; only in x2APIC mode.
pub(crate) fn send_by_self_register(vector: u8) {
    write_msr(Msr::X2Apic(SELF_IPI), u64::from(vector));
}

/// How an interrupt is sent to the CPU that sends it.
#[derive(Clone, Copy)]
pub(crate) enum SelfInterrupt {
    /// By vector.
    Fixed(u8),
    /// Non-maskable.
    Nmi,
}

/// Sends an interrupt to this CPU through the interrupt command register.
pub(crate) fn send_to_self(kind: SelfInterrupt) {
    let low = ASSERT
        | match kind {
            SelfInterrupt::Fixed(vector) => u32::from(vector),
            SelfInterrupt::Nmi => NMI,
        };
    if apic::is_x2apic() {
        write_msr(Msr::X2Apic(ICR_LOW), u64::from(apic::id()) << 32 | u64::from(low));
    } else {
        apic::write(ICR_HIGH, apic::id() << 24);
        apic::write(ICR_LOW, low);
    }
}
