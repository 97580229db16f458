//! A CPU that does not start, on demand, so that a test sees it reported and left out: the boot archive's file
//! `absent-cpu` holds the APIC ID, in decimal, of one that the firmware's tables might name although it is not there.

use crate::boot_archive::Files;
use hal::acpi::Cpu;
use hal::boot::Machine;

const FILE: &str = "absent-cpu";

/// Adds the CPU that the boot archive names to those that the firmware has named, behind the first.
pub(crate) fn add_if_asked(machine: &mut Machine) {
    let text = Files::read(machine.archive).get(FILE).and_then(|bytes| core::str::from_utf8(bytes).ok());
    if let Some(apic_id) = text.and_then(|text| text.trim().parse().ok()) {
        let place = machine.platform.cpus.len().min(1);
        machine.platform.cpus.insert(place, Cpu { apic_id });
    }
}
