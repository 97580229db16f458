//! Events as VMCS fields encode them: entry interruption information, exit interruption information, and the
//! event whose delivery an exit cut off.
//!
//! SDM Vol. 3C, "VM-Entry Controls for Event Injection" and "Information for VM Exits That Occur During Event
//! Delivery".

use arch::{Exception, Vector};
use vmm::{Event, EventKind, PendingEvent};

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

/// Whether the event is the debug exception of INT1.
pub(crate) const fn is_int1(info: u32) -> bool {
    info & (VALID | TYPE) == VALID | PRIVILEGED_SOFTWARE_EXCEPTION
}

/// The event of entry information, unless an instruction raises it again when it is not delivered.
pub(crate) const fn not_raised_again(info: u32) -> Option<Event> {
    match info & (VALID | TYPE) {
        VALID => Some(Event::Interrupt(vector(info))),
        kind if kind == VALID | NMI => Some(Event::Nmi),
        _ => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the vector is the low byte")]
const fn vector(info: u32) -> Vector {
    Vector(info as u8)
}

/// The event of entry information as plain data, with the error code and instruction length beside it.
pub(crate) fn pending(info: u32, code: u32, length: u32) -> Option<PendingEvent> {
    if info & VALID == 0 {
        return None;
    }
    let kind = match info & TYPE {
        EXTERNAL_INTERRUPT => EventKind::Interrupt,
        NMI => EventKind::Nmi,
        HARDWARE_EXCEPTION => EventKind::HardwareException,
        SOFTWARE_INTERRUPT => EventKind::SoftwareInterrupt,
        PRIVILEGED_SOFTWARE_EXCEPTION => EventKind::PrivilegedSoftwareException,
        SOFTWARE_EXCEPTION => EventKind::SoftwareException,
        // Types 1 and 7 are reserved and "other": never injected here.
        _ => return None,
    };
    Some(PendingEvent {
        kind,
        vector: vector(info),
        error_code: (info & HAS_ERROR_CODE != 0).then_some(code),
        // An instruction has 15 bytes at most.
        instruction_length: if needs_length(info) { u8::try_from(length).unwrap_or(15) } else { 0 },
    })
}

/// The entry information of a pending event.
pub(crate) const fn entry_info(event: PendingEvent) -> u32 {
    let kind = match event.kind {
        EventKind::Interrupt => EXTERNAL_INTERRUPT,
        EventKind::Nmi => NMI,
        EventKind::HardwareException => HARDWARE_EXCEPTION,
        EventKind::SoftwareInterrupt => SOFTWARE_INTERRUPT,
        EventKind::PrivilegedSoftwareException => PRIVILEGED_SOFTWARE_EXCEPTION,
        EventKind::SoftwareException => SOFTWARE_EXCEPTION,
    };
    let flag = if event.error_code.is_some() { HAS_ERROR_CODE } else { 0 };
    VALID | kind | flag | event.vector.0 as u32
}

/// The vector of an external interrupt that the exit acknowledged; none if it left the interrupt waiting.
pub(crate) const fn acknowledged(info: u32) -> Option<Vector> {
    if info & (VALID | TYPE) == VALID | EXTERNAL_INTERRUPT { Some(vector(info)) } else { None }
}

/// What an exit for "exception or NMI" reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reported {
    /// A host NMI.
    Nmi,
    /// A guest exception that is intercepted.
    Exception(Exception),
    /// A machine check, which is the host's.
    MachineCheck,
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
        18 => Reported::MachineCheck,
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
    fn pending_events_survive_as_plain_data() {
        for (info, code, length) in [
            (0x8000_0030, 0, 0),
            (0x8000_0202, 0, 0),
            (0x8000_0b0e, 6, 0),
            (0x8000_0480, 0, 2),
            (0x8000_0501, 0, 1),
            (0x8000_0603, 0, 1),
        ] {
            let event = pending(info, code, length).expect("an event");
            assert_eq!(entry_info(event), info);
            assert_eq!((event.error_code.unwrap_or(0), u32::from(event.instruction_length)), (code, length));
        }
        assert_eq!(pending(0x30, 0, 0), None, "not valid");
    }

    #[test]
    fn only_interrupts_and_nmis_are_lost_when_they_are_not_delivered() {
        assert_eq!(not_raised_again(0x8000_0030), Some(Event::Interrupt(Vector(0x30))));
        assert_eq!(not_raised_again(0x8000_0202), Some(Event::Nmi));
        for info in [0x8000_0b0e, 0x8000_0480, 0x8000_0603, 0x30, 0x202] {
            assert_eq!(not_raised_again(info), None, "{info:#x}");
        }
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
