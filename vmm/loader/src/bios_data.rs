//! What a PC's firmware leaves in low memory for whatever it boots. There is no such firmware, but kernels rely on some of
//! it: Xen finds out there how much memory is below 1 MiB, and asks the firmware's services for more. The services are
//! there to be called, and each of them answers that it does not know the function.
//!
//! "IBM Personal Computer AT Technical Reference", "ROM BIOS data areas" and "BIOS interrupts".

use crate::layout::{BIOS_DATA, BIOS_DATA_BYTES, BIOS_SERVICES, CONVENTIONAL_END};
use crate::{LoadError, copy};
use alloc::vec::Vec;
use arch::platform_layout::COM1;
use arch::{Gpa, KIB};
use memory::GuestMemory;

/// Ports of up to four serial ports, a word each.
const SERIAL_PORTS: Gpa = Gpa::new(0x400);
/// Installed equipment.
const EQUIPMENT: Gpa = Gpa::new(0x410);
/// KiB of memory below 640 KiB that programs may use.
const BASE_MEMORY_KIB: Gpa = Gpa::new(0x413);

/// Equipment: a floating-point unit, and one serial port.
const EQUIPMENT_WORD: u16 = 1 << 1 | 1 << 9;

/// The services: `iret`; `mov $0x86, %ah`; `push %bp; mov %sp, %bp; orw $1, 6(%bp); pop %bp; iret`, which sets the
/// caller's carry flag.
const SERVICES: [u8; 12] = [0xcf, 0xb4, 0x86, 0x55, 0x89, 0xe5, 0x83, 0x4e, 0x06, 0x01, 0x5d, 0xcf];
/// The segment of the services.
const SERVICES_SEGMENT: u16 = 0xf000;

/// What an interrupt in real mode leads to.
#[derive(Clone, Copy)]
#[repr(u16)]
enum Service {
    /// Nothing, as for interrupts of devices that nobody has set up.
    Return = 0,
    /// Failure, told by the carry flag and 0x86 in AH: the system services' way.
    NoSuchFunction = 1,
    /// Failure, told by the carry flag.
    Failure = 3,
}

impl Service {
    const fn of(vector: u16) -> Self {
        match vector {
            0x15 => Self::NoSuchFunction,
            0x10..=0x1f => Self::Failure,
            _ => Self::Return,
        }
    }
}

/// Writes all of it anew.
pub(crate) fn write(memory: &impl GuestMemory) -> Result<(), LoadError> {
    copy::zero(memory, BIOS_DATA, BIOS_DATA_BYTES)?;
    copy::write(memory, BIOS_SERVICES, &SERVICES)?;
    let first = u16::try_from(BIOS_SERVICES.get() - (u64::from(SERVICES_SEGMENT) << 4)).unwrap_or_default();
    let vectors: Vec<u8> = (0..=0xff)
        .flat_map(|vector| [first + Service::of(vector) as u16, SERVICES_SEGMENT])
        .flat_map(u16::to_le_bytes)
        .collect();
    copy::write(memory, BIOS_DATA, &vectors)?;
    let base_kib = u16::try_from(CONVENTIONAL_END.get() / KIB).unwrap_or(u16::MAX);
    for (at, word) in [(SERIAL_PORTS, COM1.0), (EQUIPMENT, EQUIPMENT_WORD), (BASE_MEMORY_KIB, base_kib)] {
        copy::write(memory, at, &word.to_le_bytes())?;
    }
    Ok(())
}
