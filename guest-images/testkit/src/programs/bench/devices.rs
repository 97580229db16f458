//! Clocks, PCI configuration and device memory: what a guest reads all the time, and what it draws on.
//!
//! The addresses are those of our PC, which the runner on KVM has, too. `bench: skip OPERATION` where nothing answers.

use super::line;
use crate::chipset;
use crate::console::report;
use crate::machine::cpu::{Mmio, in32, out8, out32};
use crate::machine::measure::{self, Element};

const PIT_COUNTER: u16 = 0x40;
const PIT_CONTROL: u16 = 0x43;
/// Channel 0, both bytes, mode 0: stands until a count is written.
const PIT_STAND: u8 = 0x30;
const PM_TIMER: u16 = 0x608;
const HPET_CONFIGURATION: u16 = 0x10;
const HPET_COUNTER: u16 = 0xf0;
const PCI_ADDRESS: u16 = 0xcf8;
const PCI_DATA: u16 = 0xcfc;
/// Configuration address of the first function's first register.
const PCI_FIRST: u32 = 1 << 31;
const NOTHING: u32 = u32::MAX;

/// Measures and prints.
pub(super) fn measure() {
    // From the greatest count: it does not end meanwhile.
    chipset::start_pit(0);
    line("pit-read", || measure::in_port(PIT_COUNTER));
    out8(PIT_CONTROL, PIT_STAND);

    let reads = [in32(PM_TIMER), in32(PM_TIMER)];
    line_if(reads != [NOTHING; 2], "pm-timer-read", || measure::in_port_wide(PM_TIMER));

    let has_hpet = Mmio::Hpet.read(0) != NOTHING;
    if has_hpet {
        Mmio::Hpet.write(HPET_CONFIGURATION, 1);
    }
    line_if(has_hpet, "hpet-read", || measure::mmio_read(Mmio::Hpet, HPET_COUNTER));
    if has_hpet {
        Mmio::Hpet.write(HPET_CONFIGURATION, 0);
    }

    out32(PCI_ADDRESS, PCI_FIRST);
    line_if(in32(PCI_DATA) != NOTHING, "pci-read-ports", || measure::pci_read(PCI_FIRST));
    let has_ecam = Mmio::PciFunction.read(0) != NOTHING;
    line_if(has_ecam, "pci-read-ecam", || measure::mmio_read(Mmio::PciFunction, 0));

    Mmio::Scratch.write(0, 1);
    let has_memory = Mmio::Scratch.read(0) == 1;
    line_if(has_memory, "rep-movsb-4k", || measure::copy_page(Element::Byte));
    line_if(has_memory, "rep-movsd-4k", || measure::copy_page(Element::DoubleWord));
    line_if(has_memory, "rep-movsq-4k", || measure::copy_page(Element::QuadWord));
}

fn line_if(is_there: bool, operation: &str, measure: fn() -> u64) {
    if is_there {
        line(operation, measure);
    } else {
        report!("bench: skip {operation}");
    }
}
