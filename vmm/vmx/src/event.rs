//! Events as VMCS fields encode them: entry interruption information, exit interruption information, and the
//! event whose delivery an exit cut off.
//!
//! SDM Vol. 3C, "VM-Entry Controls for Event Injection" and "Information for VM Exits That Occur During Event
//! Delivery".

use arch::{Exception, Vector};
use vmm::Event;

/// The field holds an event.
pub(crate) const VALID: u32 = 1 << 31;
/// An error code goes with the event.
pub(crate) const HAS_ERROR_CODE: u32 = 1 << 11;
/// Bit 12 is undefined in exit fields and reserved in the entry field.
const COPIED: u32 = VALID | HAS_ERROR_CODE | 0x7ff;

const EXTERNAL_INTERRUPT: u32 = 0 << 8;
const NMI: u32 = 2 << 8;
const HARDWARE_EXCEPTION: u32 = 3 << 8;
const SOFTWARE_INTERRUPT: u32 = 4 << 8;
const PRIVILEGED_SOFTWARE_EXCEPTION: u32 = 5 << 8;
const SOFTWARE_EXCEPTION: u32 = 6 << 8;
const TYPE: u32 = 7 << 8;

/// The interruption information and error code that deliver `event`.
pub(crate) const fn encode(event: Event) -> (u32, Option<u32>) {
    match event {
        Event::Interrupt(Vector(vector)) => (VALID | EXTERNAL_INTERRUPT | vector as u32, None),
        Event::Nmi => (VALID | NMI | 2, None),
        Event::Exception(exception) => {
            let Vector(vector) = exception.vector();
            let code = exception.error_code();
            let flag = if code.is_some() { HAS_ERROR_CODE } else { 0 };
            (VALID | HARDWARE_EXCEPTION | flag | vector as u32, code)
        }
    }
}

/// The entry information that delivers again what `idt_vectoring` says was cut off.
pub(crate) const fn redeliver(idt_vectoring: u32) -> u32 {
    idt_vectoring & COPIED
}

/// Whether delivery of the event needs an instruction length.
pub(crate) const fn needs_length(info: u32) -> bool {
    matches!(info & TYPE, SOFTWARE_INTERRUPT | PRIVILEGED_SOFTWARE_EXCEPTION | SOFTWARE_EXCEPTION)
}

/// Whether the event is an NMI.
pub(crate) const fn is_nmi(info: u32) -> bool {
    info & TYPE == NMI
}

/// What an exit for "exception or NMI" reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reported {
    /// A host NMI.
    Nmi,
    /// A guest exception that is intercepted.
    Exception(Exception),
    /// Something that is not intercepted.
    Unknown,
}

/// Decodes exit interruption information.
pub(crate) const fn reported(info: u32, qualification: u64) -> Reported {
    if is_nmi(info) {
        return Reported::Nmi;
    }
    match info & 0xff {
        1 => Reported::Exception(Exception::Debug { dr6: qualification & 0x600f }),
        17 => Reported::Exception(Exception::AlignmentCheck),
        18 => Reported::Exception(Exception::MachineCheck),
        _ => Reported::Unknown,
    }
}

/// How two exceptions in a row combine (SDM Vol. 3A, "Interrupt 8—Double Fault Exception (#DF)").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Combined {
    /// The second is delivered; the first comes again when its instruction does.
    Second,
    /// A double fault.
    DoubleFault,
    /// The processor shuts down.
    Shutdown,
}

const fn is_contributory(vector: u32) -> bool {
    matches!(vector, 0 | 10..=13)
}

/// Combines an event that is being delivered, by its interruption information, with a new exception.
pub(crate) const fn combine(first: u32, second: Exception) -> Combined {
    let first_is_exception = first & TYPE == HARDWARE_EXCEPTION;
    let (old, new) = (first & 0xff, second.vector().0 as u32);
    if !first_is_exception {
        return Combined::Second;
    }
    if old == 8 {
        return if is_contributory(new) || new == 14 { Combined::Shutdown } else { Combined::Second };
    }
    let double =
        is_contributory(old) && is_contributory(new) || old == 14 && (is_contributory(new) || new == 14);
    if double { Combined::DoubleFault } else { Combined::Second }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_has_type_zero_and_no_error_code() {
        assert_eq!(encode(Event::Interrupt(Vector(0x30))), (0x8000_0030, None));
    }

    #[test]
    fn a_general_protection_fault_carries_its_code() {
        let event = Event::Exception(Exception::GeneralProtection(0x18));
        assert_eq!(encode(event), (0x8000_0b0d, Some(0x18)));
    }

    #[test]
    fn undefined_bit_12_is_not_delivered_again() {
        assert_eq!(redeliver(0x8000_1b0e), 0x8000_0b0e);
    }

    #[test]
    fn contributory_pairs_make_double_faults_and_a_third_shuts_down() {
        let general = 0x8000_0b0d;
        let page = 0x8000_0b0e;
        let double = 0x8000_0b08;
        let fault = Exception::PageFault { error_code: 0, address: 0 };
        assert_eq!(combine(general, Exception::DivideError), Combined::DoubleFault);
        assert_eq!(combine(general, fault), Combined::Second);
        assert_eq!(combine(page, fault), Combined::DoubleFault);
        assert_eq!(combine(double, fault), Combined::Shutdown);
        assert_eq!(combine(0x8000_0030, fault), Combined::Second, "an interrupt, then a fault");
    }
}
